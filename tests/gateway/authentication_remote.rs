//! Authentication that others decide: the bearer check URL and the authorizer, both played by a service that answers as
//! the test tells it. Good answers, every bad one, silence – and what an open connection hears of a change of mind.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{all_routes_to, custom, document, http, route, with};
use crate::sandbox::{shared, unique_path, Endpoint};
use crate::service::{Behaviour, Service};
use crate::wait::eventually;
use crate::ws::{own_address, Client, Refused};

fn bearer(service: &Service, path: &str) -> Value {
    json!({"mode": "bearer", "authorizationServerUrl": service.url(path), "tokenQuery": "token"})
}

async fn endpoint(theme: &str, service: &Service, authentication: Value) -> Endpoint {
    let document = with(document(&unique_path(theme), &all_routes_to(service)), "authentication", authentication);
    let document = with(document, "settings", json!({"subprotocols": ["chat"]}));
    shared().await.create(&document).await
}

async fn connect(target: &str, headers: &[(&str, &str)]) -> Result<Client, Refused> {
    Client::try_connect_from(&own_address(), &shared().await.nodes[0], target, headers).await
}

async fn with_token(target: &str, token: &str) -> Result<Client, Refused> {
    connect(target, &[("authorization", &format!("Bearer {token}"))]).await
}

fn says(status: u16, body: Value) -> Behaviour {
    Behaviour::status(status).body(&body.to_string())
}

#[tokio::test]
async fn a_token_is_found_in_each_place_and_shows_up_nowhere() {
    let service = Service::start().await;
    let endpoint = endpoint("token", &service, bearer(&service, "/check")).await;
    service.behave("/check", says(200, json!({"sub": "ann-7c1f", "role": "tester"})));
    let token = "secret-token-6f1a0c";
    let in_protocol = format!("bearer.{token}-p, chat");
    for (suffix, target, header) in [
        ("-h", endpoint.path.clone(), ("authorization", format!("bearer {token}-h"))),
        ("-q", format!("{}?a=1&token={token}-q", endpoint.path), ("x-none", "1".to_owned())),
        ("-p", endpoint.path.clone(), ("sec-websocket-protocol", in_protocol)),
    ] {
        let client = connect(&target, &[(header.0, &header.1)]).await.expect(suffix);
        let echoed = client.handshake.iter().find(|(name, _)| name == "sec-websocket-protocol");
        assert_eq!(echoed.map(|(_, value)| value.as_str()), (suffix == "-p").then_some("chat"));
        let check = service.next("/check").await;
        assert_eq!(
            (check.method.as_str(), check.json()),
            ("POST", json!({"access_token": format!("{token}{suffix}")}))
        );
        assert_eq!(check.header("content-type"), Some("application/json"));
        let call = service.next("/connect").await;
        assert_eq!(call.attributes().get("userid"), "ann-7c1f");
        assert_eq!(call.json()["claims"], json!({"sub": "ann-7c1f", "role": "tester"}));
        assert!(!call.text().contains(token), "{}", call.text());
        client.leave().await;
        let gone = service.next("/disconnect").await;
        assert!(!gone.text().contains(token) && gone.json()["claims"]["role"] == "tester", "{}", gone.text());
    }
    let refused = connect(&endpoint.path, &[]).await.err().expect("no token");
    assert_eq!(refused.why(), (401, "unauthenticated".into()));
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    for node in &shared().await.nodes {
        assert!(!node.log().contains(token), "{}", node.name);
        let metrics = node.admin().get("/metrics").await.expect(200).text();
        assert!(!metrics.contains(token) && !metrics.contains("ann-7c1f"), "{}", node.name);
    }
}

#[tokio::test]
async fn claims_can_be_routed_by() {
    let service = Service::start().await;
    service.behave("/check", says(200, json!({"username": "ann", "realm": {"roles": ["a", "admin"]}})));
    let is_admin = json!({"equal": {"path": "$.claims.realm.roles[*]", "value": "admin", "source": "connection"}});
    let routes =
        [custom("admins", is_admin, &[http(&service, "/admins")]), route("default", &[http(&service, "/others")])];
    let document = with(document(&unique_path("claims"), &routes), "authentication", bearer(&service, "/check"));
    let endpoint = shared().await.create(&document).await;
    let mut admin = with_token(&endpoint.path, "one").await.expect("a good token");
    admin.send("{}").await;
    assert_eq!(service.next("/admins").await.attributes().get("userid"), "ann");
    service.behave("/check", says(200, json!({"username": "bob", "realm": {"roles": ["a"]}})));
    let mut other = with_token(&endpoint.path, "two").await.expect("a good token");
    other.send("{}").await;
    assert_eq!(service.next("/others").await.attributes().get("userid"), "bob");
}

#[tokio::test]
async fn every_answer_about_a_token_has_its_meaning() {
    let service = Service::start().await;
    let endpoint = endpoint("answers", &service, bearer(&service, "/check")).await;
    let late = (unix_seconds() - 10) as f64;
    let claims = |bytes: usize| json!({"sub": "u", "big": "x".repeat(bytes)});
    for (name, answer, expected) in [
        ("yes", says(200, json!({"sub": "u"})), None),
        ("nothing said", Behaviour::status(204), None),
        ("no JSON", Behaviour::status(200).body("fine"), None),
        ("a list", says(201, json!([1])), None),
        ("large", says(200, claims(15_000)), None),
        ("no", says(401, json!({"sub": "u"})), Some((401, "unauthenticated"))),
        ("forbidden", Behaviour::status(403), Some((401, "unauthenticated"))),
        ("not found", Behaviour::status(404), Some((401, "unauthenticated"))),
        ("ended", says(200, json!({"sub": "u", "exp": late})), Some((401, "unauthenticated"))),
        ("overloaded", Behaviour::status(429), Some((503, "authentication_unavailable"))),
        ("broken", Behaviour::status(500), Some((503, "authentication_unavailable"))),
        ("too large", says(200, claims(17_000)), Some((503, "authentication_unavailable"))),
        ("far too large", says(200, claims(80_000)), Some((503, "authentication_unavailable"))),
        (
            "a user that is a book",
            says(200, json!({"sub": "u".repeat(1025)})),
            Some((503, "authentication_unavailable")),
        ),
        ("hung up", Behaviour::hang_up(), Some((503, "authentication_unavailable"))),
    ] {
        service.behave("/check", answer);
        let answered = with_token(&endpoint.path, &format!("token {name}").replace(' ', "-")).await;
        match (answered, expected) {
            (Ok(_), None) => {}
            (Err(refused), Some((status, code))) => {
                assert_eq!(refused.why(), (status, code.to_owned()), "{name}");
                assert_eq!(refused.header("retry-after").is_some(), status == 503, "{name}");
            }
            (answered, _) => panic!("{name}: {:?}", answered.err()),
        }
    }
    // An answer that sends elsewhere is not followed.
    service.behave("/check", Behaviour::status(307).header("location", &service.url("/elsewhere")));
    let refused = with_token(&endpoint.path, "redirected").await.err().expect("neither yes nor no");
    assert_eq!(refused.status, 503);
    assert!(service.received("/elsewhere").is_empty());
}

fn unix_seconds() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

#[tokio::test]
async fn a_server_that_is_silent_or_gone_lets_nobody_in() {
    let service = Service::start().await;
    service.behave("/check", Behaviour::status(200).after(Duration::from_secs(30)));
    let silent = endpoint("silent", &service, bearer(&service, "/check")).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    let url = format!("http://{nobody}/check");
    let gone = endpoint("gone", &service, json!({"mode": "bearer", "authorizationServerUrl": url})).await;
    let started = std::time::Instant::now();
    for path in [&silent.path, &gone.path] {
        let refused = with_token(path, "token").await.err().expect("nobody can say");
        assert_eq!(refused.why(), (503, "authentication_unavailable".into()));
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(service.received("/connect").is_empty());
}

#[tokio::test]
async fn a_yes_is_remembered_for_a_while_and_a_storm_asks_once() {
    let service = Service::start().await;
    service.behave("/check", says(200, json!({"sub": "ann"})).after(Duration::from_millis(200)));
    let cached = with(bearer(&service, "/check"), "cacheInSeconds", json!(60));
    let endpoint = endpoint("storm", &service, cached).await;
    let node = &shared().await.nodes[0];
    let storm = (0..30).map(|_| async {
        let headers = [("authorization", "Bearer one-token-for-all")];
        Client::try_connect_from(&own_address(), node, &endpoint.path, &headers).await.expect("a good token")
    });
    let clients = futures::future::join_all(storm).await;
    with_token(&endpoint.path, "one-token-for-all").await.expect("still");
    assert_eq!(service.received("/check").len(), 1, "one question for {} clients", clients.len() + 1);
    // A no is remembered too, for seconds.
    service.behave("/check", Behaviour::status(401));
    for _ in 0..5 {
        with_token(&endpoint.path, "one-bad-token").await.err().expect("a bad token");
    }
    assert_eq!(service.received("/check").len(), 2);
}

#[tokio::test]
async fn a_token_that_is_withdrawn_closes_its_connections() {
    let service = Service::start().await;
    service.behave("/check", says(200, json!({"sub": "ann"})));
    let rechecked = with(bearer(&service, "/check"), "recheckInSeconds", json!(1));
    let endpoint = endpoint("withdrawn", &service, rechecked).await;
    let mut client = with_token(&endpoint.path, "token").await.expect("a good token");
    service.wait_for("/check", 2).await;
    // A server that is down for a moment closes nothing.
    service.behave("/check", Behaviour::status(503));
    let before = service.received("/check").len();
    service.wait_for("/check", before + 1).await;
    client.hears_nothing_for(Duration::from_millis(500)).await;
    service.behave("/check", Behaviour::status(401));
    assert_eq!(client.closed().await, 4401);
    let end = service.next("/disconnect").await.json();
    assert_eq!((&end["code"], &end["initiator"]), (&json!(4401), &json!("gateway")), "{end}");
}

#[tokio::test]
async fn a_token_that_ends_ends_its_connections() {
    let service = Service::start().await;
    let endpoint = endpoint("ends", &service, bearer(&service, "/check")).await;
    service.behave("/check", says(200, json!({"sub": "ann", "exp": unix_seconds() + 2})));
    let mut client = with_token(&endpoint.path, "token").await.expect("a good token");
    assert_eq!(client.closed().await, 4401);
    assert_eq!(service.received("/check").len(), 1, "its end was known");
}

#[tokio::test]
async fn checks_ask_about_the_new_token() {
    let service = Service::start().await;
    let mut rule = bearer(&service, "/check");
    rule["refresh"] = json!(true);
    rule["recheckInSeconds"] = json!(1);
    let endpoint = endpoint("exchanged", &service, rule).await;
    service.behave("/check", says(200, json!({"sub": "ann"})));
    let mut client = with_token(&endpoint.path, "first").await.expect("a good token");
    client.send(r#"{"type":"refresh","token":"second"}"#).await;
    let frame = client.json().await;
    assert_eq!((&frame["type"], &frame["expiresAt"]), (&json!("refreshed"), &Value::Null));
    let asked = service.received("/check").len();
    let again = eventually("another check", Duration::from_secs(5), async || {
        let all = service.received("/check");
        (all.len() > asked + 1).then(|| all[asked + 1].text().to_owned())
    });
    assert!(again.await.contains("second"));
    service.behave("/check", Behaviour::status(401));
    assert_eq!(client.closed().await, 4401, "revoked");
}

#[tokio::test]
async fn an_authorizer_sees_the_handshake_and_says_who_it_is() {
    let service = Service::start().await;
    let rule = json!({"mode": "authorizer", "url": service.url("/authorize"), "tokenQuery": "ticket"});
    let mut document = document(&unique_path("authorizer"), &all_routes_to(&service));
    document["path"] = json!(format!("{}/{{room}}", document["path"].as_str().expect("a path")));
    let document = with(document, "authentication", rule);
    let endpoint = shared().await.create(&document).await;
    service.behave(
        "/authorize",
        says(200, json!({"userId": "ann", "claims": {"plan": "gold"}, "groups": ["staff"], "more": 1})),
    );
    let base = endpoint.path.replace("{room}", "a%20b");
    let headers = [("cookie", "session=s3cret"), ("authorization", "Custom s3cret"), ("x-own", "1")];
    let client = connect(&format!("{base}?ticket=t1cket&q=1"), &headers).await.expect("the authorizer says yes");
    let question = service.next("/authorize").await.json();
    assert_eq!(question["path"], base);
    assert_eq!(question["params"], json!({"room": "a b"}));
    assert_eq!(question["query"], json!({"ticket": "t1cket", "q": "1"}));
    for (name, value) in headers {
        assert_eq!(question["headers"][name], value, "{question}");
    }
    assert!(question["sourceIp"].as_str().is_some_and(|ip| ip.starts_with("127.77.")), "{question}");
    let call = service.next("/connect").await;
    assert_eq!(call.attributes().get("userid"), "ann");
    let description = call.json();
    assert_eq!((&description["claims"], &description["query"]), (&json!({"plan": "gold"}), &json!({"q": "1"})));
    assert!(!call.text().contains("s3cret") && !call.text().contains("t1cket"), "{description}");
    client.leave().await;

    for (answer, expected) in [
        (Behaviour::status(204), None),
        (Behaviour::status(401), Some((401, "unauthenticated"))),
        (Behaviour::status(403), Some((403, "forbidden"))),
        (Behaviour::status(302), Some((503, "authentication_unavailable"))),
        (Behaviour::status(500), Some((503, "authentication_unavailable"))),
        (Behaviour::hang_up(), Some((503, "authentication_unavailable"))),
        (Behaviour::status(200).body("yes"), Some((503, "authentication_unavailable"))),
        (says(200, json!({"userId": 7})), Some((503, "authentication_unavailable"))),
        (says(200, json!({"groups": vec!["g"; 65]})), Some((503, "authentication_unavailable"))),
        (says(200, json!({"claims": {"exp": 1}})), Some((401, "unauthenticated"))),
    ] {
        let about = format!("{answer:?}");
        service.behave("/authorize", answer);
        let answered = connect(&base, &[]).await;
        let found = answered.as_ref().err().map(Refused::why);
        assert_eq!(found, expected.map(|(status, code)| (status, code.to_owned())), "{about}");
    }
}

#[tokio::test]
async fn an_authorizer_that_changes_its_mind_closes_the_connection() {
    let service = Service::start().await;
    let rule = json!({"mode": "authorizer", "url": service.url("/authorize"), "recheckInSeconds": 1});
    let endpoint = endpoint("mind", &service, rule).await;
    service.behave("/authorize", says(200, json!({"userId": "ann"})));
    let (mut refused, mut renamed) =
        (connect(&endpoint.path, &[]).await.expect("yes"), connect(&endpoint.path, &[]).await.expect("yes"));
    service.wait_for("/authorize", 4).await;
    service.behave("/authorize", says(200, json!({"userId": "bob"})));
    assert_eq!(renamed.closed().await, 4401, "it is someone else now");
    assert_eq!(refused.closed().await, 4401);
    service.behave("/authorize", says(200, json!({"userId": "ann"})));
    refused = connect(&endpoint.path, &[]).await.expect("yes");
    service.behave("/authorize", Behaviour::status(403));
    assert_eq!(refused.closed().await, 4401);
    eventually("both disconnect events", Duration::from_secs(5), async || {
        (service.received("/disconnect").len() == 3).then_some(())
    })
    .await;
}
