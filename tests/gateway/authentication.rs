//! Authentication by what the endpoint document itself holds: users with passwords, API keys. Where credentials may
//! stand, what becomes of them, and what guessing gets.

use serde_json::{json, Value};

use crate::document::{all_routes_to, custom, document, http, route, with};
use crate::sandbox::{shared, unique_path, Endpoint};
use crate::service::Service;
use crate::ws::{own_address, Client, Refused};

/// Base64 of `user:password`, as a header.
fn basic(credentials: &str) -> (&'static str, String) {
    use base64::Engine;
    ("authorization", format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials)))
}

async fn endpoint(theme: &str, service: &Service, authentication: Value) -> Endpoint {
    let document = with(document(&unique_path(theme), &all_routes_to(service)), "authentication", authentication);
    shared().await.create(&document).await
}

async fn try_with(source: &str, node: usize, target: &str, header: (&str, &str)) -> Result<Client, Refused> {
    Client::try_connect_from(source, &shared().await.nodes[node], target, &[header]).await
}

#[tokio::test]
async fn basic_users_connect_with_their_passwords_and_nobody_else_does() {
    let service = Service::start().await;
    let authentication = json!({"mode": "basic", "username": "ann", "password": "first:password", "users": [
        {"username": "bob", "password": "wörd two"}]});
    let endpoint = endpoint("basic", &service, authentication).await;
    let source = own_address();
    for (node, (user, password)) in
        [("ann", "first:password"), ("bob", "wörd two"), ("bob", "wörd two")].iter().enumerate()
    {
        let (name, value) = basic(&format!("{user}:{password}"));
        let client = try_with(&source, node, &endpoint.path, (name, &value)).await.expect("the password is right");
        let connect = service.next("/connect").await;
        assert_eq!(connect.attributes().get("userid"), *user);
        let description = connect.json();
        assert_eq!((&description["user"], &description["claims"]), (&json!(user), &Value::Null));
        assert!(!connect.text().contains(&value[6..]) && description["headers"].get("authorization").is_none());
        client.leave().await;
    }
    for wrong in ["ann:first", "ann:", "bob:first:password", "eve:first:password", ":", "Ann:first:password"] {
        let (name, value) = basic(wrong);
        let refused = try_with(&source, 0, &endpoint.path, (name, &value)).await.err().expect(wrong);
        assert_eq!(refused.why(), (401, "unauthenticated".into()), "{wrong}");
        assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"wsgateway\", charset=\"UTF-8\""));
    }
    for nothing in
        [("x-nothing", "1"), ("authorization", "Bearer YW5uOmZpcnN0OnBhc3N3b3Jk"), ("authorization", "Basic %")]
    {
        let refused = try_with(&source, 0, &endpoint.path, nothing).await.err().expect("no password");
        assert_eq!(refused.why(), (401, "unauthenticated".into()), "{nothing:?}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_does_not_use_the_password_that_a_browser_remembers() {
    let cluster = shared().await;
    let users = json!({"mode": "basic", "username": "ann", "password": "first-password"});
    let default = with(document(&unique_path("basic-origin"), &[]), "authentication", users.clone());
    let open = with(document(&unique_path("basic-origin"), &[]), "authentication", users);
    let open = with(open, "filters", json!({"allowedOrigins": ["*"]}));
    let (default, open) = (cluster.create(&default).await, cluster.create(&open).await);
    let (node, (name, value)) = (&cluster.nodes[0], basic("ann:first-password"));
    let connect =
        async |path: &str, origin: &str| Client::try_connect(node, path, &[(name, &value), ("origin", origin)]).await;
    let own = format!("http://{}", node.client);
    connect(&default.path, &own).await.expect("the same origin");
    let foreign = connect(&default.path, "https://evil.example").await.err().expect("a foreign origin");
    assert_eq!(foreign.why(), (403, "filtered".into()));
    connect(&open.path, "https://evil.example").await.expect("the document allows it");
}

#[tokio::test]
async fn api_keys_are_found_where_the_document_says_and_are_never_told() {
    let service = Service::start().await;
    let key = "a-key-of-sufficient-length";
    let keys = |place: &str, name: Value| json!({"mode": "apiKey", "in": place, "name": name, "keys": [{"id": "robot", "key": key}]});
    let source = own_address();
    let bearer = format!("chat, bearer.{key}");
    for (place, name, header, query) in [
        ("header", Value::Null, ("x-api-key", key), String::new()),
        ("header", json!("X-Own"), ("x-own", key), String::new()),
        ("query", json!("k"), ("x-other", "1"), format!("?k={key}&a=1")),
        ("subprotocol", Value::Null, ("sec-websocket-protocol", bearer.as_str()), String::new()),
    ] {
        let document =
            with(document(&unique_path("key"), &all_routes_to(&service)), "authentication", keys(place, name));
        let document = with(document, "settings", json!({"subprotocols": ["chat"]}));
        let endpoint = shared().await.create(&document).await;
        let target = format!("{}{query}", endpoint.path);
        let client = try_with(&source, 1, &target, header).await.expect(place);
        let echoed = client.handshake.iter().find(|(name, _)| name == "sec-websocket-protocol");
        let expected = (place == "subprotocol").then_some("chat");
        assert_eq!(echoed.map(|(_, value)| value.as_str()), expected, "only the real one");
        let connect = service.next("/connect").await;
        assert_eq!(connect.attributes().get("userid"), "robot");
        assert!(!connect.text().contains(key), "{place}: {}", connect.text());
        let missing = try_with(&source, 1, &endpoint.path, ("x-none", "1")).await.err().expect("no key");
        assert_eq!(missing.why(), (401, "unauthenticated".into()), "{place}");
    }
    for node in &shared().await.nodes {
        assert!(!node.log().contains(key), "{}", node.name);
    }
}

#[tokio::test]
async fn the_user_can_be_routed_by() {
    let service = Service::start().await;
    let is_ann = json!({"equal": {"path": "$.user", "value": "ann", "source": "connection"}});
    let routes = [custom("ann", is_ann, &[http(&service, "/ann")]), route("default", &[http(&service, "/others")])];
    let users = json!({"mode": "basic", "users": [
        {"username": "ann", "password": "first-password"}, {"username": "bob", "password": "second-password"}]});
    let document = with(document(&unique_path("by-user"), &routes), "authentication", users);
    let endpoint = shared().await.create(&document).await;
    for (user, password, path) in [("ann", "first-password", "/ann"), ("bob", "second-password", "/others")] {
        let (name, value) = basic(&format!("{user}:{password}"));
        let mut client = try_with(&own_address(), 2, &endpoint.path, (name, &value)).await.expect(user);
        client.send("{}").await;
        assert_eq!(service.next(path).await.attributes().get("userid"), user);
    }
}

#[tokio::test]
async fn guessing_is_slowed_down_for_the_address_that_guesses_and_for_no_other() {
    let service = Service::start().await;
    let keys = json!({"mode": "apiKey", "keys": [{"id": "robot", "key": "a-key-of-sufficient-length"}]});
    let by_key = endpoint("guess", &service, keys).await;
    let users = json!({"mode": "basic", "username": "ann", "password": "first-password"});
    let by_password = endpoint("guess", &service, users).await;
    let right = ("x-api-key", "a-key-of-sufficient-length");
    let guesser = own_address();
    for guess in 0..5 {
        let refused = try_with(&guesser, 0, &by_key.path, ("x-api-key", &format!("guess-{guess}"))).await;
        assert_eq!(refused.err().expect("a guess").status, 401);
        // What shows nothing guesses nothing, and what is right does not make up for a guess.
        assert_eq!(try_with(&guesser, 0, &by_key.path, ("x-none", "1")).await.err().expect("no key").status, 401);
        try_with(&guesser, 0, &by_key.path, right).await.expect("the right key");
    }
    // Many at once get no further than one after the other.
    let at_once = (0..12).map(|guess| {
        let (name, value) = basic(&format!("ann:guess-{guess}"));
        let (path, guesser) = (by_password.path.clone(), guesser.clone());
        async move { try_with(&guesser, 0, &path, (name, &value)).await.err().expect("a guess").status }
    });
    let statuses = futures::future::join_all(at_once).await;
    let looked_at = statuses.iter().filter(|status| **status == 401).count();
    assert!((5..=7).contains(&looked_at), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");

    let refused = try_with(&guesser, 0, &by_key.path, right).await.err().expect("even the right key");
    assert_eq!(refused.why(), (429, "too_many_failures".into()));
    let seconds: u64 = refused.header("retry-after").expect("when to come back").parse().expect("seconds");
    assert!((30..=60).contains(&seconds), "{seconds}");
    try_with(&own_address(), 0, &by_key.path, right).await.expect("another address");

    let metrics = shared().await.nodes[0].admin().get("/metrics").await.expect(200).text();
    for series in [
        "wsgateway_authentications_total{mode=\"apiKey\",outcome=\"wrong\"}",
        "wsgateway_authentications_total{mode=\"apiKey\",outcome=\"missing\"}",
        "wsgateway_authentications_total{mode=\"apiKey\",outcome=\"too_many\"}",
        "wsgateway_authentications_total{mode=\"basic\",outcome=\"wrong\"}",
    ] {
        assert!(metrics.contains(series), "{series}");
    }
}

#[tokio::test]
async fn a_password_is_hashed_once_and_not_at_every_reconnect() {
    let service = Service::start().await;
    // Three times as dear as the gateway's own hashes, so that the difference is beyond doubt.
    let hash = {
        use argon2::password_hash::PasswordHasher;
        let params = argon2::Params::new(64 * 1024, 4, 1, None).expect("parameters");
        let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        argon2.hash_password(b"dear-password").expect("a hash").to_string()
    };
    let endpoint = endpoint("dear", &service, json!({"mode": "basic", "username": "ann", "passwordHash": hash})).await;
    let ((name, value), source) = (basic("ann:dear-password"), own_address());
    let mut took = Vec::new();
    for _ in 0..6 {
        let started = std::time::Instant::now();
        try_with(&source, 0, &endpoint.path, (name, &value)).await.expect("the password is right");
        took.push(started.elapsed());
    }
    let fastest = took[1..].iter().min().expect("more than one");
    assert!(*fastest * 3 < took[0], "{took:?}");
}
