//! Everything that can be wrong: documents, events, frames, handshakes, pushes. Each has its answer, and none of them
//! costs anybody else anything.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{all_routes_to, custom, document, http, route, with};
use crate::http::{call, JSON};
use crate::sandbox::{shared, unique_path, Cluster, Endpoint, Node};
use crate::service::Service;
use crate::wait::PATIENCE;
use crate::ws::{Client, RawSocket, CLOSE, TEXT};

#[tokio::test]
async fn a_wrong_document_is_refused_with_the_path_of_what_is_wrong() {
    let cluster = shared().await;
    let service = Service::start().await;
    let backend = http(&service, "/x");
    let default = || document(&unique_path("wrong"), &[route("default", std::slice::from_ref(&backend))]);
    let with_setting = |name: &str, value: Value| with(default(), "settings", json!({ name: value }));
    let with_expression =
        |expression: Value| document(&unique_path("wrong"), &[custom("c", expression, std::slice::from_ref(&backend))]);
    let mut without_destination = default();
    without_destination["routes"][0]["backends"][0].as_object_mut().expect("a backend").remove("destination");
    let mut unknown_in_backend = default();
    unknown_in_backend["routes"][0]["backends"][0]["colour"] = json!("red");

    let cases = [
        ("an unknown field", with(default(), "colour", json!("red")), "colour"),
        ("an unknown field deep inside", unknown_in_backend, "routes[0].backends[0].colour"),
        ("a missing field", without_destination, "routes[0].backends[0]"),
        ("a path without slash", document("chat", &[]), "path"),
        ("a broken path template", document("/chat/{room", &[]), "path"),
        (
            "a number below its range",
            with_setting("heartbeatIntervalInSeconds", json!(1)),
            "settings.heartbeatIntervalInSeconds",
        ),
        (
            "a number above its range",
            with_setting("heartbeatMaxMissingPingFrames", json!(11)),
            "settings.heartbeatMaxMissingPingFrames",
        ),
        ("text instead of a number", with_setting("maxMessageBytes", json!("1")), "settings.maxMessageBytes"),
        ("an unknown word", with_setting("ordering", json!("random")), "settings.ordering"),
        (
            "a broken JSONPath",
            with_expression(json!({ "equal": { "path": "$.[", "value": 1 } })),
            "routes[0].expression.equal.path",
        ),
        (
            "a broken regex",
            with_expression(json!({ "or": [{ "matches": { "path": "$.a", "value": "(" } }] })),
            "routes[0].expression.or[0].matches.value",
        ),
        (
            "an unknown operator",
            with_expression(json!({ "resembles": { "path": "$.a", "value": 1 } })),
            "routes[0].expression",
        ),
        (
            "a route type twice",
            document(&unique_path("wrong"), &[route("default", &[]), route("default", &[])]),
            "routes[1]",
        ),
    ];
    for (what, wrong, path) in cases {
        let answer = cluster.nodes[1].admin().post("/api/v1/endpoints", &wrong).await;
        let problem = answer.expect_problem(400, "invalid_document");
        let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("{what}: no errors in {problem}"));
        let at_path = |error: &&Value| error["path"].as_str().is_some_and(|at| at.starts_with(path));
        let error = errors.iter().find(at_path).unwrap_or_else(|| panic!("{what}: nothing about {path} in {problem}"));
        println!("{what}: {} – {}", error["path"], error["message"]);
    }
}

#[tokio::test]
async fn what_is_no_document_at_all_is_refused() {
    let cluster = shared().await;
    let admin = cluster.nodes[0].admin();
    for text in ["{", "", "[]", "{\"path\":\"/x\",}", "\u{1}"] {
        let answer = admin.call("POST", "/api/v1/endpoints", JSON, text.as_bytes()).await;
        assert_eq!(answer.status, 400, "{text:?}: {}", answer.text());
        assert!(answer.header("content-type").unwrap_or_default().starts_with("application/problem+json"));
        assert!(answer.json()["code"].is_string() && answer.json()["detail"].is_string());
    }
    let taken = cluster.create(&document(&unique_path("taken"), &[])).await;
    admin.post("/api/v1/endpoints", &document(&taken.path, &[])).await.expect_problem(409, "path_taken");
    admin.get("/api/v1/endpoints/no-such-id").await.expect_problem(404, "endpoint_not_found");
    admin.get("/api/v1/nothing-here").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn an_invalid_event_gets_an_error_frame_and_the_error_route_and_costs_nothing_else() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("invalid"), &all_routes_to(&service))).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    let invalid = ["{", "hello", "{\"a\":1,}", "01", "[1 2]", "\"\u{1}\"", "", "{} {}", "NaN", "'a'"];
    for text in invalid {
        client.send(text).await;
        let frame = client.error_frame("invalid_json").await;
        assert_eq!(frame["connectionId"], visit.id.as_str(), "{frame}");
        let call = service.next("/error").await;
        let event = call.json();
        assert_eq!(event["code"], "invalid_json", "{event}");
        assert!(event["message"].is_string() && event["eventId"] == frame["eventId"], "{event} {frame}");
        call.attributes().check("error", &endpoint.id, &endpoint.path, &visit.id);
    }
    client.send(r#"{"still":"here"}"#).await;
    assert_eq!(service.next("/default").await.text(), r#"{"still":"here"}"#);
    println!("{} invalid events: an error frame and an error event each, the connection stays", invalid.len());
}

#[tokio::test]
async fn frames_that_are_not_accepted_close_with_their_code() {
    let cluster = shared().await;
    let service = Service::start().await;
    let limit = 4_096;
    let settings = json!({ "maxMessageBytes": limit });
    let wanted = with(document(&unique_path("frames"), &all_routes_to(&service)), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let node = &cluster.nodes[1];

    let mut client = Client::connect(node, &endpoint.path).await;
    client.send(&format!("\"{}\"", "x".repeat(limit - 2))).await;
    assert_eq!(service.next("/default").await.body.len(), limit, "a message of exactly the limit passes");
    client.send(&format!("\"{}\"", "x".repeat(limit - 1))).await;
    assert_eq!(client.closed().await, 1009, "one byte more");

    let mut raw = RawSocket::connect(node, &endpoint.path, None).await;
    raw.send_frame(TEXT, true, b"\"", Some(1 << 40)).await;
    assert_eq!(raw.closed(PATIENCE).await, 1009, "on the frame's header, without waiting for its payload");

    let mut raw = RawSocket::connect(node, &endpoint.path, None).await;
    raw.send_frame(TEXT, false, &[b' '; 3_000], None).await;
    raw.send_frame(0, true, &[b' '; 3_000], None).await;
    assert_eq!(raw.closed(PATIENCE).await, 1009, "fragments count together");

    let mut client = Client::connect(node, &endpoint.path).await;
    client.send_binary(b"{}").await;
    assert_eq!(client.closed().await, 1003, "binary");

    let mut raw = RawSocket::connect(node, &endpoint.path, None).await;
    raw.send_frame(TEXT, true, b"\"\xff\"", None).await;
    assert_eq!(raw.closed(PATIENCE).await, 1007, "not UTF-8");

    let mut raw = RawSocket::connect(node, &endpoint.path, None).await;
    raw.send_frame(3, true, b"{}", None).await;
    assert_eq!(raw.closed(PATIENCE).await, 1002, "an opcode that does not exist");

    let mut raw = RawSocket::connect(node, &endpoint.path, None).await;
    raw.send_frame(CLOSE, true, &[0x03], None).await;
    assert_eq!(raw.closed(PATIENCE).await, 1002, "half a close code");

    let mut raw = RawSocket::connect(node, &endpoint.path, None).await;
    raw.send_frame(TEXT, false, b"{\"frag", None).await;
    raw.send_frame(0, false, b"ments\":", None).await;
    raw.send_frame(0, true, b"3}", None).await;
    assert_eq!(service.next("/default").await.text(), r#"{"fragments":3}"#, "fragments are put together");
    println!("1009, 1003, 1007 and 1002 where they belong");
}

#[tokio::test]
async fn the_client_port_speaks_websocket_only() {
    let cluster = shared().await;
    let endpoint = cluster.create(&document(&unique_path("only"), &[])).await;
    let node = &cluster.nodes[2];
    for method in ["GET", "POST", "DELETE"] {
        let answer = call(node.client, method, &endpoint.path, &[], b"").await.expect("an answer");
        assert_eq!(answer.status, 426, "{method}: {}", answer.text());
        assert!(answer.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
    }
    let refused = Client::try_connect(node, "/no-such-endpoint", &[]).await.err().expect("refused");
    assert_eq!(refused.status, 404);
    let admin_on_client_port = call(node.client, "GET", "/api/v1/endpoints", &[], b"").await.expect("an answer");
    assert!(matches!(admin_on_client_port.status, 404 | 426), "the admin API is not on the client port");
    let version = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "8")];
    let mut headers = version.to_vec();
    headers.push(("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="));
    let answer = call(node.client, "GET", &endpoint.path, &headers, b"").await.expect("an answer");
    assert!(answer.status == 426 || answer.status == 400, "an old WebSocket version: {}", answer.status);
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
}

#[tokio::test]
async fn pushes_to_nobody_or_of_nothing_are_refused() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("pushes"), &all_routes_to(&service))).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    for node in &cluster.nodes {
        let admin = node.admin();
        for malformed in ["x", "not-a-connection-id", "%00", "1234567890"] {
            let answer = admin.push(malformed, "{}").await;
            assert_eq!(answer.status, 400, "{malformed}: {}", answer.text());
        }
        for wrong in ["{", "", "hello", "{} {}"] {
            let answer = admin.push(&visit.id, wrong).await;
            assert_eq!(answer.status, 400, "{wrong:?}: {}", answer.text());
        }
        let huge = format!("\"{}\"", "x".repeat(2_000_000));
        admin.push(&visit.id, &huge).await.expect(413);
        let unknown = admin.push(&changed_at_the_end(&visit.id), "{}").await;
        assert_eq!(unknown.status, 410, "a well-formed id of nobody: {}", unknown.text());
    }
    cluster.nodes[2].admin().push(&visit.id, r#"{"after":"all that"}"#).await.expect(202);
    assert_eq!(client.text().await, r#"{"after":"all that"}"#, "nothing of the refused reached the client");

    client.leave().await;
    service.next("/disconnect").await;
    for node in &cluster.nodes {
        node.admin().push(&visit.id, "{}").await.expect(410);
        node.admin().get(&format!("/api/v1/connections/{}", visit.id)).await.expect(410);
        node.admin().delete(&format!("/api/v1/connections/{}", visit.id)).await.expect(410);
    }
}

/// Another valid id: the last characters are random bits, and `A` and `B` differ in bits that count in base64url as well
/// as in hexadecimal.
fn changed_at_the_end(id: &str) -> String {
    let (head, tail) = id.split_at(id.len() - 8);
    let tail: String = tail.chars().map(|c| if c == 'a' { 'b' } else { 'a' }).collect();
    head.to_string() + &tail
}

#[tokio::test]
async fn a_missing_key_is_401_and_the_right_one_gives_an_identity() {
    let cluster = shared().await;
    let service = Service::start().await;
    let authentication = json!({ "mode": "apiKey", "keys": [{ "id": "alice", "key": "s3cret-of-alice" }] });
    let wanted = with(document(&unique_path("keys"), &all_routes_to(&service)), "authentication", authentication);
    let endpoint = cluster.create(&wanted).await;
    let node = &cluster.nodes[1];
    for headers in [vec![], vec![("x-api-key", "guess")], vec![("x-api-key", "")]] {
        let refused = Client::try_connect(node, &endpoint.path, &headers).await.err().expect("refused");
        assert_eq!(refused.status, 401, "with {headers:?}");
    }
    let headers = [("x-api-key", "s3cret-of-alice")];
    let mut client = Client::try_connect(node, &endpoint.path, &headers).await.expect("the right key opens");
    let connect = service.next("/connect").await;
    assert_eq!(connect.attributes().get("userid"), "alice");
    assert_eq!(connect.json()["user"], "alice");
    assert!(!connect.text().contains("s3cret"), "keys are never passed on: {}", connect.text());
    client.send("1").await;
    assert_eq!(service.next("/default").await.attributes().find("userid"), Some("alice"));
    assert_eq!(service.received("/connect").len(), 1, "refused handshakes make no events");
    for node in &cluster.nodes {
        let read = node.admin().get(&format!("/api/v1/endpoints/{}", endpoint.id)).await.expect(200);
        assert!(!read.text().contains("s3cret"), "keys are never returned: {}", read.text());
        assert!(!node.log().contains("s3cret"), "keys are never logged");
    }
}

#[tokio::test]
async fn filters_refuse_with_403() {
    let cluster = shared().await;
    let node = &cluster.nodes[0];
    let same_origin = format!("http://{}", node.client);
    let cases: &[(Value, &[(&str, u16)])] = &[
        (
            json!({ "allowedOrigins": ["https://good.example"] }),
            &[
                ("https://good.example", 101),
                ("https://evil.example", 403),
                ("null", 403),
                (&same_origin, 101),
                ("", 101),
            ],
        ),
        (json!({ "blacklistIps": ["127.0.0.0/8"] }), &[("", 403)]),
        (json!({ "whitelistIps": ["10.0.0"] }), &[("", 403)]),
        (json!({ "whitelistIps": ["127.0.0"] }), &[("", 101)]),
        (json!({ "whitelistHosts": ["example.com"] }), &[("", 403)]),
        (json!({ "whitelistHosts": ["127.0.0.1"] }), &[("", 101)]),
    ];
    for (filters, origins) in cases {
        let wanted = with(document(&unique_path("filters"), &[]), "filters", filters.clone());
        let endpoint = cluster.create(&wanted).await;
        for (origin, expected) in *origins {
            assert_eq!(handshake(node, &endpoint, origin).await, *expected, "{filters} and Origin {origin:?}");
        }
    }
}

async fn handshake(node: &Node, endpoint: &Endpoint, origin: &str) -> u16 {
    let headers: Vec<(&str, &str)> = if origin.is_empty() { vec![] } else { vec![("origin", origin)] };
    match Client::try_connect(node, &endpoint.path, &headers).await {
        Ok(_) => 101,
        Err(refused) => refused.status,
    }
}

#[tokio::test]
async fn an_id_of_an_older_generation_is_gone() {
    let _turn = crate::sandbox::own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("older"), &all_routes_to(&service))).await;
    let node = &cluster.nodes[0];
    let (_client, visit) = Client::connect_known(node, &endpoint.path, &service).await;
    node.admin().push(&visit.id, "1").await.expect(202);
    node.kill();
    node.restart().await;
    node.admin().push(&visit.id, "2").await.expect(410);
    // The same address, node and disk: the new connection is another one.
    cluster.wait_version(&endpoint.id, 1).await;
    let (_client, second) = Client::connect_known(node, &endpoint.path, &service).await;
    assert_ne!(visit.id, second.id);
    tokio::time::timeout(Duration::from_secs(1), node.admin().push(&second.id, "3"))
        .await
        .expect("in time")
        .expect(202);
}
