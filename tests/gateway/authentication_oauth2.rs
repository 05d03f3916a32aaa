//! Tokens that only their server can read: introspection by a real OpenID provider, found through its metadata or by its
//! URL, and revocation while the client is connected.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, with};
use crate::oidc::provider;
use crate::sandbox::{shared, unique_path, Endpoint};
use crate::service::{Behaviour, Service};
use crate::ws::{own_address, Client, Refused};

async fn rule(more: Value) -> Value {
    let issuer = provider().await.issuer();
    let mut rule = json!({"mode": "oauth2", "issuer": issuer, "clientId": "gateway", "clientSecret": "gateway-secret"});
    for (name, value) in more.as_object().expect("fields") {
        rule[name] = value.clone();
    }
    rule
}

async fn endpoint(service: &Service, rule: Value) -> Endpoint {
    let document = with(document(&unique_path("oauth2"), &all_routes_to(service)), "authentication", rule);
    shared().await.create(&document).await
}

async fn connect(node: usize, target: &str, token: &str) -> Result<Client, Refused> {
    let header = format!("Bearer {token}");
    let node = &shared().await.nodes[node];
    Client::try_connect_from(&own_address(), node, target, &[("authorization", &header)]).await
}

#[tokio::test]
async fn a_real_provider_is_asked_about_tokens() {
    let (service, provider) = (Service::start().await, provider().await);
    let introspection = format!("{}/token/introspection", provider.issuer());
    let found = endpoint(&service, rule(json!({"requiredScopes": ["events"], "tokenQuery": "t"})).await).await;
    let told = endpoint(&service, rule(json!({"introspectionUrl": introspection})).await).await;
    let token = provider.opaque("events", 60).await;
    for (node, path) in [(0, &found.path), (1, &found.path), (2, &told.path)] {
        connect(node, path, &token).await.expect("a good token");
        let call = service.next("/connect").await;
        assert_eq!(call.attributes().get("userid"), "service");
        let claims = &call.json()["claims"];
        assert_eq!((&claims["role"], &claims["scope"]), (&json!("tester"), &json!("events")), "{claims}");
        assert!(!call.text().contains(&token));
    }
    let node = &shared().await.nodes[0];
    Client::connect(node, &format!("{}?t={token}", found.path)).await;
    let unscoped = provider.opaque("read", 60).await;
    for (about, wrong) in [("made up", "made-up"), ("without the scope", unscoped.as_str())] {
        let refused = connect(0, &found.path, wrong).await.err().unwrap_or_else(|| panic!("{about}: accepted"));
        assert_eq!(refused.why(), (401, "unauthenticated".into()), "{about}");
    }
    // The gateway's own credentials are wrong: that says nothing about the token.
    let stranger = endpoint(&service, rule(json!({"clientSecret": "another-secret"})).await).await;
    let refused = connect(0, &stranger.path, &token).await.err().expect("nobody can say");
    assert_eq!(refused.why(), (503, "authentication_unavailable".into()));
    for node in &shared().await.nodes {
        assert!(!node.log().contains(&token) && !node.log().contains("gateway-secret"), "{}", node.name);
    }
    let read = node.admin().get(&format!("/api/v1/endpoints/{}", found.id)).await.expect(200);
    assert!(!read.text().contains("gateway-secret"), "{}", read.text());
}

#[tokio::test]
async fn a_revoked_token_closes_its_connections_and_opens_none() {
    let (service, provider) = (Service::start().await, provider().await);
    let endpoint = endpoint(&service, rule(json!({"recheckInSeconds": 1, "cacheInSeconds": 1})).await).await;
    let (token, other) = (provider.opaque("events", 60).await, provider.opaque("events", 60).await);
    let mut client = connect(0, &endpoint.path, &token).await.expect("a good token");
    let mut staying = connect(1, &endpoint.path, &other).await.expect("a good token");
    provider.revoke(&token).await;
    assert_eq!(client.closed().await, 4401);
    assert_eq!(connect(0, &endpoint.path, &token).await.err().expect("revoked").status, 401);
    staying.hears_nothing_for(std::time::Duration::from_millis(1500)).await;
}

/// By the defaults of the document, whatever the phase of the checks.
#[tokio::test]
async fn a_revocation_reaches_open_connections_within_a_minute() {
    const WITHIN: Duration = Duration::from_secs(60);
    let (service, provider) = (Service::start().await, provider().await);
    let endpoint = endpoint(&service, rule(json!({})).await).await;
    let mut clients = Vec::new();
    for node in 0..3 {
        let token = provider.opaque("events", 600).await;
        clients.push((connect(node, &endpoint.path, &token).await.expect("a good token"), token));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let each = clients.into_iter().map(|(mut client, token)| async move {
        provider.revoke(&token).await;
        let revoked = Instant::now();
        assert_eq!(client.closed_within(WITHIN).await, 4401);
        revoked.elapsed()
    });
    let took = futures::future::join_all(each).await;
    println!("revoked tokens of three open connections: closed after {took:?}");
}

#[tokio::test]
async fn a_token_that_ends_ends_its_connections() {
    let (service, provider) = (Service::start().await, provider().await);
    let endpoint = endpoint(&service, rule(json!({})).await).await;
    let token = provider.opaque("events", 3).await;
    let given = Instant::now();
    let mut client = connect(2, &endpoint.path, &token).await.expect("still good");
    assert_eq!(client.closed().await, 4401);
    println!("a token of 3 s: closed {:?} after it was given", given.elapsed());
}

#[tokio::test]
async fn only_active_is_yes() {
    let service = Service::start().await;
    let rule = rule(json!({"introspectionUrl": service.url("/introspect")})).await;
    let endpoint = endpoint(&service, rule).await;
    for (about, answer, expected) in [
        ("active", Behaviour::status(200).body(r#"{"active": true, "username": "ann"}"#), None),
        ("not active", Behaviour::status(200).body(r#"{"active": false, "username": "ann"}"#), Some(401)),
        ("nearly", Behaviour::status(200).body(r#"{"active": "true"}"#), Some(401)),
        ("nothing", Behaviour::status(200).body("{}"), Some(401)),
        ("ended", Behaviour::status(200).body(r#"{"active": true, "exp": 1000000000}"#), Some(401)),
        ("no object", Behaviour::status(200).body("[true]"), Some(503)),
        ("created", Behaviour::status(201).body(r#"{"active": true}"#), Some(503)),
        ("unknown client", Behaviour::status(401), Some(503)),
        ("hung up", Behaviour::hang_up(), Some(503)),
    ] {
        service.behave("/introspect", answer);
        let answered = connect(0, &endpoint.path, &about.replace(' ', "-")).await;
        assert_eq!(answered.err().map(|refused| refused.status), expected, "{about}");
    }
    let asked = service.next("/introspect").await;
    assert_eq!(asked.text(), "token=active&token_type_hint=access_token");
    assert_eq!(asked.header("authorization"), Some("Basic Z2F0ZXdheTpnYXRld2F5LXNlY3JldA=="));
}
