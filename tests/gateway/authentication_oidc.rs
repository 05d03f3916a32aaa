//! Tokens of a real OpenID provider: discovery, both common algorithms, audience and scopes, keys that are rotated while
//! clients come and go, and expiry.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, with};
use crate::oidc::{keys_turn, provider};
use crate::sandbox::{shared, unique_path, Endpoint};
use crate::service::Service;
use crate::ws::{own_address, Client, Refused};

async fn endpoint(theme: &str, service: &Service, more: Value) -> Endpoint {
    let mut rule = json!({"mode": "jwt", "issuer": provider().await.issuer(), "audience": "gateway"});
    for (name, value) in more.as_object().expect("fields") {
        rule[name] = value.clone();
    }
    let document = with(document(&unique_path(theme), &all_routes_to(service)), "authentication", rule);
    shared().await.create(&document).await
}

async fn connect(node: usize, endpoint: &Endpoint, token: &str) -> Result<Client, Refused> {
    let header = format!("Bearer {token}");
    let node = &shared().await.nodes[node];
    Client::try_connect_from(&own_address(), node, &endpoint.path, &[("authorization", &header)]).await
}

fn is_refused(answered: Result<Client, Refused>, about: &str) {
    let refused = answered.err().unwrap_or_else(|| panic!("{about}: accepted"));
    assert_eq!(refused.why(), (401, "unauthenticated".into()), "{about}");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer error=\"invalid_token\""), "{about}");
}

#[tokio::test]
async fn tokens_of_a_real_provider_are_accepted_for_what_they_are() {
    let (service, provider, _turn) = (Service::start().await, provider().await, keys_turn().await);
    let scoped = endpoint("oidc", &service, json!({"requiredScopes": ["events"]})).await;
    for (node, algorithm) in ["RS256", "ES256"].into_iter().enumerate() {
        let token = provider.jwt(algorithm, "events%20read", 60).await;
        connect(node, &scoped, &token).await.expect(algorithm);
        let call = service.next("/connect").await;
        assert_eq!(call.attributes().get("userid"), "service");
        let claims = &call.json()["claims"];
        assert_eq!((&claims["role"], &claims["aud"]), (&json!("tester"), &json!("gateway")), "{claims}");
        assert!(!call.text().contains(&token));
    }
    let read_only = provider.jwt("RS256", "read", 60).await;
    is_refused(connect(0, &scoped, &read_only).await, "without the scope");
    let token = provider.jwt("RS256", "events", 60).await;
    let elsewhere = endpoint("oidc", &service, json!({"audience": ["a", "b"]})).await;
    is_refused(connect(0, &elsewhere, &token).await, "for another audience");
    let pinned = endpoint("oidc", &service, json!({"algorithms": ["ES256"]})).await;
    is_refused(connect(0, &pinned, &token).await, "signed in another way");
    let by_url = json!({"jwksUrl": format!("{}/jwks", provider.issuer())});
    let by_url = endpoint("oidc", &service, by_url).await;
    connect(1, &by_url, &token).await.expect("the keys are there too");
    let stranger = endpoint(
        "oidc",
        &service,
        json!({"issuer": "https://stranger.example", "jwksUrl": format!("{}/jwks", provider.issuer())}),
    );
    is_refused(connect(1, &stranger.await, &token).await, "of another issuer");
    let opaque = provider.opaque("events", 60).await;
    is_refused(connect(1, &scoped, &opaque).await, "not a JWT");
}

#[tokio::test]
async fn keys_are_rotated_while_clients_come_and_go() {
    let (service, provider, _turn) = (Service::start().await, provider().await, keys_turn().await);
    let endpoint = endpoint("rotation", &service, json!({"recheckInSeconds": 2})).await;
    let old = provider.jwt("RS256", "events", 300).await;
    let mut by_old = connect(0, &endpoint, &old).await.expect("the first key");
    // Keys are not fetched for every unknown one, so that what follows is about a key that appears later.
    tokio::time::sleep(Duration::from_secs(5)).await;
    provider.new_keys(true).await;
    let new = provider.jwt("RS256", "events", 300).await;
    let mut by_new = connect(0, &endpoint, &new).await.expect("a key that has just appeared");
    connect(0, &endpoint, &old).await.expect("the old key is still published");
    by_old.hears_nothing_for(Duration::from_millis(2500)).await;
    // Withdrawn: who was let in by it is closed, and nobody else is.
    provider.new_keys(false).await;
    assert_eq!(by_old.closed().await, 4401);
    assert_eq!(by_new.closed().await, 4401);
    is_refused(connect(0, &endpoint, &old).await, "a withdrawn key");
    let newest = provider.jwt("ES256", "events", 300).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut by_newest = connect(0, &endpoint, &newest).await.expect("the newest key");
    by_newest.hears_nothing_for(Duration::from_millis(2500)).await;
}

#[tokio::test]
async fn a_token_that_expires_closes_its_connection() {
    let (service, provider, _turn) = (Service::start().await, provider().await, keys_turn().await);
    let endpoint = endpoint("expiry", &service, json!({"leewayInSeconds": 0})).await;
    let token = provider.jwt("RS256", "events", 3).await;
    let mut client = connect(1, &endpoint, &token).await.expect("still good");
    let opened = std::time::Instant::now();
    assert_eq!(client.closed().await, 4401);
    assert!(opened.elapsed() < Duration::from_secs(5), "{:?}", opened.elapsed());
    is_refused(connect(1, &endpoint, &token).await, "expired");
}
