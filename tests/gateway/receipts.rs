//! What a sender hears of a push: written, confirmed by the client, once only, not after its time; and what it hears when
//! that does not come true.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, with};
use crate::http::{Admin, Answer};
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Endpoint};
use crate::service::Service;
use crate::wait::{eventually, PATIENCE};
use crate::ws::{Client, RawSocket};

async fn endpoint(service: &Service, theme: &str) -> Endpoint {
    shared().await.create(&document(&unique_path(theme), &all_routes_to(service))).await
}

async fn push(admin: &Admin, id: &str, query: &str, headers: &[(&str, &str)], message: &Value) -> Answer {
    let target = format!("/api/v1/connections/{id}?{query}");
    admin.call("POST", &target, headers, message.to_string().as_bytes()).await
}

/// A client that reads nothing; its outbox keeps what it has. Something waits in it when this answers.
async fn stuck(service: &Service, node: usize) -> (RawSocket, String) {
    let cluster = shared().await;
    let settings = json!({"outbox": {"maxBytes": 400_000, "maxMessages": 50, "whenFull": "dropNewest"}});
    let wanted = with(document(&unique_path("stuck"), &all_routes_to(service)), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let before = service.received("/connect").len();
    let socket = RawSocket::connect(&cluster.nodes[node], &endpoint.path, Some(4_096)).await;
    let id = service.wait_for("/connect", before + 1).await[before].attributes().get("connectionid").to_owned();
    let admin = cluster.nodes[node].admin();
    let filler = json!("x".repeat(100_000));
    eventually("a socket that takes nothing more", PATIENCE, async || {
        push(&admin, &id, "", &[], &filler).await.expect(202);
        let described = admin.get(&format!("/api/v1/connections/{id}")).await.expect(200).json();
        described["pendingBytes"].as_u64().filter(|pending| *pending > 0)
    })
    .await;
    (socket, id)
}

#[tokio::test]
async fn written_and_confirmed_by_the_client() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = endpoint(&service, "receipts").await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    for node in &cluster.nodes {
        let answer = push(&node.admin(), &visit.id, "confirm=written", &[], &json!({"a": 1})).await.expect(200);
        assert_eq!(answer.json(), json!({"status": "written"}));
        assert_eq!(client.text().await, r#"{"a":1}"#, "as it is");
        let admin = node.admin();
        let message = json!([1, "é"]);
        let pushing = push(&admin, &visit.id, "confirm=client&timeoutSeconds=5", &[], &message);
        let confirming = async {
            let frame = client.json().await;
            assert_eq!((&frame["type"], &frame["data"]), (&json!("message"), &message), "{frame}");
            // Not the confirmation: an event like any other.
            client.send(r#"{"type":"ack","id":"0123456789abcdef"}"#).await;
            client.send(&json!({"type": "ack", "id": frame["id"]}).to_string()).await;
        };
        let (answer, ()) = tokio::join!(pushing, confirming);
        assert_eq!(answer.expect(200).json(), json!({"status": "confirmed"}));
        assert_eq!(service.next("/default").await.text(), r#"{"type":"ack","id":"0123456789abcdef"}"#);
    }
    // Said once more, there is nothing that it confirms.
    client.send(r#"{"type":"ack","id":"fedcba9876543210"}"#).await;
    assert!(service.next("/default").await.text().contains("fedcba"));
    assert_eq!(service.received("/default").len(), 4, "confirmations are no events");
}

#[tokio::test]
async fn what_is_not_confirmed_is_not_said_to_be() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = endpoint(&service, "unconfirmed").await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[1], &endpoint.path, &service).await;
    let admin = cluster.nodes[2].admin();
    let began = Instant::now();
    let silent = push(&admin, &visit.id, "confirm=client&timeoutSeconds=1", &[], &json!(1)).await;
    silent.expect_problem(504, "not_confirmed");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // Its word comes late, and is still no event.
    let frame = client.json().await;
    client.send(&json!({"type": "ack", "id": frame["id"]}).to_string()).await;
    client.send("\"an event\"").await;
    assert_eq!(service.next("/default").await.text(), "\"an event\"");

    // It goes instead of confirming.
    let message = json!(2);
    let pushing = push(&admin, &visit.id, "confirm=client&timeoutSeconds=10", &[], &message);
    let leaving = async {
        client.json().await;
        client.leave().await;
    };
    let (answer, ()) = tokio::join!(pushing, leaving);
    answer.expect_problem(410, "connection_gone");
    push(&admin, &visit.id, "confirm=written", &[], &json!(3)).await.expect_problem(410, "connection_gone");

    for (query, field) in [
        ("confirm=read", "confirm"),
        ("confirm=written&timeoutSeconds=0", "timeoutSeconds"),
        ("timeoutSeconds=31", "timeoutSeconds"),
        ("ttlSeconds=0", "ttlSeconds"),
        ("ttlSeconds=86401", "ttlSeconds"),
        ("colour=red", "colour"),
    ] {
        let problem = push(&admin, &visit.id, query, &[], &json!(1)).await.expect_problem(400, "invalid_query");
        assert_eq!(problem["errors"][0]["path"], field, "{problem}");
    }
    push(&admin, &visit.id, "", &[("idempotency-key", "")], &json!(1))
        .await
        .expect_problem(400, "invalid_idempotency_key");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_told_of() {
    let cluster = shared().await;
    let service = Service::start().await;
    let (_socket, id) = stuck(&service, 0).await;
    let admin = cluster.nodes[1].admin();
    let waits = push(&admin, &id, "confirm=written&timeoutSeconds=1", &[], &json!("waits")).await;
    waits.expect_problem(504, "not_written");
    let began = Instant::now();
    let over = push(&admin, &id, "confirm=written&timeoutSeconds=9&ttlSeconds=1", &[], &json!("too old")).await;
    over.expect_problem(504, "expired");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let large = json!("x".repeat(100_000));
    let full = eventually("a full outbox", PATIENCE, async || {
        let answer = push(&admin, &id, "confirm=written&timeoutSeconds=1", &[], &large).await;
        (answer.status != 504).then_some(answer)
    });
    full.await.expect_problem(429, "outbox_full");
    let closing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.nodes[2].admin().delete(&format!("/api/v1/connections/{id}")).await.expect(204);
    };
    let message = json!("last");
    let (answer, ()) = tokio::join!(push(&admin, &id, "confirm=written", &[], &message), closing);
    answer.expect_problem(410, "connection_gone");
}

/// What has waited for too long is dropped and counted, what has not is sent.
#[tokio::test]
async fn a_message_does_not_outlive_its_time() {
    let cluster = shared().await;
    let service = Service::start().await;
    let (mut socket, id) = stuck(&service, 2).await;
    let node = &cluster.nodes[2];
    let expired = async || {
        let metrics = node.admin().get("/metrics").await.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("wsgateway_pushes_expired_total "));
        line.expect("the counter").parse::<u64>().expect("a number")
    };
    let before = expired().await;
    let admin = cluster.nodes[0].admin();
    push(&admin, &id, "ttlSeconds=1", &[], &json!("short")).await.expect(202);
    push(&admin, &id, "ttlSeconds=600", &[], &json!("long")).await.expect(202);
    push(&admin, &id, "", &[], &json!("for ever")).await.expect(202);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut read = Vec::new();
    while read.last().map(Vec::as_slice) != Some(b"\"for ever\"") {
        let (_, payload) = tokio::time::timeout(PATIENCE, socket.read_frame()).await.expect("a frame in time");
        read.push(payload);
    }
    let texts: Vec<_> =
        read.iter().filter(|payload| payload.len() < 100).map(|text| String::from_utf8_lossy(text)).collect();
    assert_eq!(texts, ["\"long\"", "\"for ever\""]);
    assert_eq!(expired().await, before + 1);
}

#[tokio::test]
async fn a_repeated_push_is_sent_once() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = endpoint(&service, "once").await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    let key: &[(&str, &str)] = &[("idempotency-key", "order-1")];
    // Through whichever node, also at once.
    let nodes: Vec<_> = cluster.nodes.iter().map(|node| node.admin()).collect();
    let message = json!({"order": 1});
    let pushes = (0..9).map(|number| push(&nodes[number % 3], &visit.id, "", key, &message));
    for answer in futures::future::join_all(pushes).await {
        assert_eq!(answer.expect(202).json(), json!({"status": "queued"}));
    }
    assert_eq!(client.text().await, r#"{"order":1}"#);
    // Another message, or another key, is another push.
    push(&nodes[1], &visit.id, "", key, &json!({"order": 2})).await.expect(202);
    assert_eq!(client.text().await, r#"{"order":2}"#);
    push(&nodes[1], &visit.id, "", &[("idempotency-key", "order-3")], &message).await.expect(202);
    assert_eq!(client.text().await, r#"{"order":1}"#);
    // Who repeats a push that waits for the client waits for the same.
    let confirmed = futures::future::join_all(
        (0..3).map(|number| push(&nodes[number], &visit.id, "confirm=client", &[("idempotency-key", "c")], &message)),
    );
    let confirming = async {
        let frame = client.json().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send(&json!({"type": "ack", "id": frame["id"]}).to_string()).await;
    };
    let (answers, ()) = tokio::join!(confirmed, confirming);
    for answer in answers {
        assert_eq!(answer.expect(200).json(), json!({"status": "confirmed"}));
    }
    client.hears_nothing_for(Duration::from_millis(150)).await;
    let metrics = nodes[0].get("/metrics").await.text();
    assert!(metrics.lines().any(|line| line.starts_with("wsgateway_pushes_repeated_total ")), "{metrics}");

    // What was refused may be tried again.
    let (_silent, id) = stuck(&service, 1).await;
    let large = json!("x".repeat(100_000));
    let key: &[(&str, &str)] = &[("idempotency-key", "large")];
    let full = eventually("a full outbox", PATIENCE, async || {
        let answer = push(&nodes[0], &id, "", &[], &large).await;
        (answer.status == 429).then_some(())
    });
    full.await;
    push(&nodes[2], &id, "", key, &large).await.expect_problem(429, "outbox_full");
    push(&nodes[0], &id, "", key, &large).await.expect_problem(429, "outbox_full");
}

#[tokio::test]
async fn a_node_that_hangs_confirms_nothing() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("hangs"), &all_routes_to(&service))).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[2], &endpoint.path, &service).await;
    let admin = cluster.nodes[0].admin();
    let key: &[(&str, &str)] = &[("idempotency-key", "k")];
    // Over a link that is open, nobody can tell that the node hangs.
    push(&admin, &visit.id, "confirm=written", &[], &json!(0)).await.expect(200);
    assert_eq!(client.json().await, 0);
    cluster.nodes[2].signal(libc::SIGSTOP);
    let answer = push(&admin, &visit.id, "confirm=written&timeoutSeconds=1", key, &json!(1)).await;
    let detail = answer.expect_problem(503, "owner_unreachable")["detail"].to_string();
    assert!(detail.contains("unknown"), "{detail}");
    cluster.nodes[2].signal(libc::SIGCONT);
    // With its key the call may be repeated, whether the first has arrived or not.
    let again = eventually("the node to answer again", PATIENCE, async || {
        let answer = push(&admin, &visit.id, "confirm=written&timeoutSeconds=1", key, &json!(1)).await;
        (answer.status != 503).then_some(answer)
    });
    assert_eq!(again.await.expect(200).json(), json!({"status": "written"}));
    assert_eq!(client.json().await, 1);
    client.hears_nothing_for(Duration::from_millis(200)).await;
    cluster.nodes[2].kill();
    eventually("the dead node to be known as such", Duration::from_secs(20), async || {
        let answer = push(&admin, &visit.id, "confirm=client&timeoutSeconds=1", &[], &json!(2)).await;
        assert!(matches!(answer.status, 410 | 503), "{}", answer.status);
        (answer.status == 410).then_some(())
    })
    .await;
}
