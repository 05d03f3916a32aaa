//! Many pushes in one call: a line each, a result each, in order; what is wrong with a line is said in its place.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{all_routes_to, document};
use crate::http::{Admin, Answer};
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster};
use crate::service::Service;
use crate::ws::Client;

const NDJSON: &[(&str, &str)] = &[("content-type", "application/x-ndjson")];

async fn push(admin: &Admin, lines: &[String]) -> Answer {
    admin.call("POST", "/api/v1/push", NDJSON, lines.join("\n").as_bytes()).await
}

fn results(answer: Answer) -> Vec<Value> {
    let answer = answer.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line}"))).collect()
}

#[tokio::test]
async fn each_line_has_its_result_in_order() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("batch"), &all_routes_to(&service))).await;
    let (mut ann, first) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    let (mut bob, second) = Client::connect_known(&cluster.nodes[2], &endpoint.path, &service).await;
    let (gone, third) = Client::connect_known(&cluster.nodes[1], &endpoint.path, &service).await;
    gone.leave().await;
    service.next("/disconnect").await;
    let admin = cluster.nodes[1].admin();
    let group = unique_path("batched").trim_start_matches('/').to_owned();
    admin.call("PUT", &format!("/api/v1/groups/{group}/connections/{}", second.id), &[], b"").await.expect(204);
    let who = json!({"equal": {"path": "$.query.who", "value": first.name}});
    let lines = [
        format!(r#"{{"to": {{"connection": "{}"}}, "data": {{"n" : 1.0 }}}}"#, first.id),
        format!(r#"{{"data": [ ], "to": {{"connection": "{}"}}}}"#, second.id),
        format!(r#"{{"to": {{"connection": "{}"}}, "data": 1}}"#, third.id),
        json!({"to": {"endpoint": endpoint.id}, "data": "all"}).to_string(),
        String::new(),
        json!({"to": {"group": group}, "data": "group"}).to_string(),
        json!({"to": {"group": "nobody-there"}, "data": "group"}).to_string(),
        json!({"to": {"user": "nobody"}, "data": 1}).to_string(),
        json!({"to": {"endpoint": endpoint.id, "filter": who}, "data": "filtered"}).to_string(),
        format!(r#"{{"to": {{"connection": "{}"}}, "data": "last"}}"#, first.id),
        "{oops".to_owned(),
        json!({"to": {}, "data": 1}).to_string(),
        json!({"to": {"user": "a", "group": "b"}, "data": 1}).to_string(),
        json!({"to": {"connection": "short"}, "data": 1}).to_string(),
        json!({"to": {"endpoint": "ep-none"}, "data": 1}).to_string(),
        json!({"to": {"user": "a", "filter": {"equal": {"path": "a", "value": 1}}}, "data": 1}).to_string(),
        json!({"to": {"user": "a"}}).to_string(),
        json!({"to": {"user": "a"}, "data": "x".repeat(131_072)}).to_string(),
    ];
    let results = results(push(&admin, &lines).await);
    let many = |matched: u64| json!({"status": 202, "matched": matched, "queued": matched, "nodes": 3});
    let expected = [
        json!({"status": 202}),
        json!({"status": 202}),
        json!("gone"),
        many(2),
        many(1),
        many(0),
        many(0),
        many(1),
        json!({"status": 202}),
    ];
    for (number, expected) in expected.iter().enumerate().filter(|(_, expected)| expected.is_object()) {
        assert_eq!(results[number], *expected, "line {number}");
    }
    let codes: Vec<_> = results.iter().map(|result| result["code"].as_str().unwrap_or_default()).collect();
    assert_eq!(codes[2], "connection_gone");
    let wrong = [
        "invalid_line",
        "invalid_line",
        "invalid_line",
        "malformed_connection_id",
        "endpoint_not_found",
        "invalid_line",
        "invalid_line",
        "too_big",
    ];
    assert_eq!(codes[9..], wrong);
    assert_eq!(results[14]["status"], 400, "{}", results[14]);
    assert!(
        results[14]["detail"].as_str().is_some_and(|detail| detail.starts_with("to.filter.equal.path")),
        "{}",
        results[14]
    );
    assert_eq!(ann.text().await, r#"{"n" : 1.0 }"#, "byte for byte");
    assert_eq!(bob.text().await, "[ ]");
    for (client, messages) in [(&mut ann, vec!["all", "filtered", "last"]), (&mut bob, vec!["all", "group"])] {
        for message in messages {
            assert_eq!(client.json().await, message);
        }
        client.hears_nothing_for(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_batch_keeps_the_order_of_each_connection_and_is_fast() {
    const LINES: usize = 1_000;
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("batch-order"), &all_routes_to(&service))).await;
    let mut clients = Vec::new();
    for node in cluster.nodes.iter().chain(&cluster.nodes) {
        clients.push(Client::connect_known(node, &endpoint.path, &service).await);
    }
    let lines: Vec<String> = (0..LINES)
        .map(|number| json!({"to": {"connection": clients[number % 6].1.id}, "data": number}).to_string())
        .collect();
    let began = Instant::now();
    let results = results(push(&cluster.nodes[1].admin(), &lines).await);
    let took = began.elapsed();
    assert!(results.len() == LINES && results.iter().all(|result| result["status"] == 202));
    for (index, (client, _)) in clients.iter_mut().enumerate() {
        for number in (index..LINES).step_by(6) {
            assert_eq!(client.json().await, number);
        }
    }
    println!("{LINES} lines to six connections on three nodes in {took:?}");
    let one_more = vec![lines[0].clone(); LINES + 1];
    push(&cluster.nodes[1].admin(), &one_more).await.expect_problem(413, "too_big");
    let large = vec![json!({"to": {"user": "a"}, "data": "x".repeat(100_000)}).to_string(); 43];
    push(&cluster.nodes[1].admin(), &large).await.expect_problem(413, "too_big");
    push(&cluster.nodes[1].admin(), &[]).await.expect_problem(400, "invalid_line");
    clients[0].0.hears_nothing_for(Duration::from_millis(100)).await;
}

/// A node that hangs costs its own lines only, and not more time than a call may take.
#[tokio::test]
async fn lines_for_a_frozen_node_are_refused_in_their_place() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("batch-frozen"), &all_routes_to(&service))).await;
    let (mut lives, living) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    let (_frozen, frozen) = Client::connect_known(&cluster.nodes[1], &endpoint.path, &service).await;
    // Over a link that is open, nobody can tell that the node hangs.
    cluster.nodes[0].admin().push(&frozen.id, "0").await.expect(202);
    cluster.nodes[1].signal(libc::SIGSTOP);
    let to = |id: &str, data: u32| json!({"to": {"connection": id}, "data": data}).to_string();
    let lines: Vec<String> = (0..10).flat_map(|number| [to(&living.id, number), to(&frozen.id, number)]).collect();
    let began = Instant::now();
    let results = results(push(&cluster.nodes[0].admin(), &lines).await);
    let took = began.elapsed();
    cluster.nodes[1].signal(libc::SIGCONT);
    assert_eq!(results.len(), 20);
    assert!(took < Duration::from_secs(16), "{took:?}");
    assert_eq!((&results[0]["status"], &results[1]["code"]), (&json!(202), &json!("owner_unreachable")), "{results:?}");
    assert_eq!(results[19]["code"], "too_late", "{results:?}");
    let sent = results.iter().step_by(2).filter(|result| result["status"] == 202).count();
    for number in 0..sent {
        assert_eq!(lives.json().await, number);
    }
    println!("20 lines, half of them for a node that hangs: answered in {took:?}, {sent} were sent");
}
