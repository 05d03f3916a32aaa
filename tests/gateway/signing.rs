//! Signed requests: what a receiver checks with the secret, in each attempt, and through a document that was read and
//! sent back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac::{verify, Key, HMAC_SHA256};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{json, Value};

use crate::document::{document, http, route, with};
use crate::http::JSON;
use crate::sandbox::{shared, unique_path};
use crate::service::{Behaviour, Request, Service};
use crate::ws::Client;

/// As the specification tells receivers to do it: any of the signatures may be the one.
fn is_signed(request: &Request, key: &[u8]) -> bool {
    let header = |name: &str| request.header(name).unwrap_or_else(|| panic!("no {name} in {request:?}"));
    let seconds: u64 = header("webhook-timestamp").parse().expect("seconds");
    let sent = UNIX_EPOCH + Duration::from_secs(seconds);
    let age = SystemTime::now().duration_since(sent).unwrap_or_default();
    assert!(age < Duration::from_secs(60), "sent {age:?} ago");
    let signed = [format!("{}.{seconds}.", header("webhook-id")).as_bytes(), &request.body].concat();
    let key = Key::new(HMAC_SHA256, key);
    header("webhook-signature").split(' ').any(|signature| {
        let encoded = signature.strip_prefix("v1,").expect("a version");
        verify(&key, &signed, &STANDARD.decode(encoded).expect("base64")).is_ok()
    })
}

#[tokio::test]
async fn each_attempt_is_signed_with_each_secret_and_the_same_id() {
    const OLD: &[u8] = b"an old secret of 24 byte";
    let raw = "a-raw-secret-of-its-own-bytes";
    let encoded = |key: &[u8]| format!("whsec_{}", STANDARD.encode(key));
    let new = [7; 64];
    let cluster = shared().await;
    let service = Service::start().await;
    for (name, secret, keys) in [
        ("encoded", encoded(OLD), vec![OLD]),
        ("raw", raw.to_owned(), vec![raw.as_bytes()]),
        ("both", format!("{} {}", encoded(OLD), encoded(&new)), vec![OLD, &new[..]]),
    ] {
        let path = format!("/{name}");
        service.behave_in_turn(&path, [Behaviour::status(503)]);
        let backend = with(http(&service, &path), "signingSecret", json!(secret));
        let endpoint = cluster.create(&document(&unique_path("signed"), &[route("default", &[backend])])).await;
        let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
        client.send(r#"{"amount": 1.50, "to": "zoë"}"#).await;
        let calls = service.wait_for(&path, 2).await;
        for call in &calls {
            assert_eq!(call.header("webhook-id"), Some(call.attributes().get("id")));
            assert!(keys.iter().all(|key| is_signed(call, key)), "{name}: {call:?}");
            assert!(!is_signed(call, b"another secret of 24 byte"));
            let count = call.header("webhook-signature").expect("signatures").split(' ').count();
            assert_eq!(count, keys.len());
        }
        assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
        assert_eq!(calls[0].text(), r#"{"amount": 1.50, "to": "zoë"}"#);
    }
}

#[tokio::test]
async fn the_secret_stays_when_a_document_is_read_and_sent_back() {
    let secret = "the-secret-that-nobody-shall-read";
    let cluster = shared().await;
    let service = Service::start().await;
    let backend = with(http(&service, "/x"), "signingSecret", json!(secret));
    let endpoint = cluster.create(&document(&unique_path("signed-again"), &[route("default", &[backend])])).await;
    let admin = cluster.nodes[0].admin();
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let read = admin.get(&uri).await.expect(200);
    assert!(!read.text().contains(secret), "{}", read.text());
    let mut sent_back: Value = read.json()["document"].clone();
    assert_eq!(sent_back["routes"][0]["backends"][0]["signingSecret"], "enc:redacted");
    sent_back["name"] = json!("renamed");
    admin.call("PUT", &uri, JSON, sent_back.to_string().as_bytes()).await.expect(200);
    cluster.wait_version(&endpoint.id, 2).await;
    let mut client = Client::connect(&cluster.nodes[2], &endpoint.path).await;
    client.send("1").await;
    assert!(is_signed(&service.next("/x").await, secret.as_bytes()));

    let changed = with(http(&service, "/x"), "signingSecret", json!("another-secret-that-nobody-reads"));
    let changed = document(&endpoint.path, &[route("default", &[changed])]);
    let diff =
        admin.call("POST", &format!("{uri}/diff"), JSON, changed.to_string().as_bytes()).await.expect(200).text();
    assert!(diff.contains("signingSecret") && diff.contains("(hidden)") && !diff.contains("nobody"), "{diff}");
    let question = json!({"event": {}}).to_string();
    let explained = admin.call("POST", &format!("{uri}/explain"), JSON, question.as_bytes()).await.expect(200);
    assert_eq!(explained.json()["taken"][0]["requests"][0]["signed"], true, "{}", explained.text());
    assert!(!explained.text().contains(secret));
    // It follows the document to no other service.
    sent_back["routes"][0]["backends"][0]["destination"] = json!("http://127.0.0.1:1/elsewhere");
    let refused = admin.call("PUT", &uri, JSON, sent_back.to_string().as_bytes()).await;
    let problem = refused.expect_problem(400, "invalid_document");
    assert_eq!(problem["errors"][0]["path"], "routes[0].backends[0].signingSecret", "{problem}");
}
