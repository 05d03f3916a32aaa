//! Which events of a connection wait for each other: by connection, by key, not at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{document, http, kafka, route, with};
use crate::kafka::broker;
use crate::sandbox::{shared, unique_path, Cluster, Endpoint};
use crate::service::{Behaviour, Request, Service};
use crate::ws::Client;

const TAKES: Duration = Duration::from_millis(100);

async fn endpoint(cluster: &Cluster, settings: Value, backend: Value) -> Endpoint {
    let routes = [route("default", &[backend])];
    cluster.create(&with(document(&unique_path("ordering"), &routes), "settings", settings)).await
}

fn event(key: &Value, n: usize) -> String {
    json!({"order": key, "n": n}).to_string()
}

/// Requests to a service that takes `TAKES` for each: the most that were being answered at one moment.
fn most_at_once(calls: &[Request]) -> usize {
    let at_once =
        |call: &Request| calls.iter().filter(|other| other.at <= call.at && other.at + TAKES > call.at).count();
    calls.iter().map(at_once).max().unwrap_or(0)
}

#[tokio::test]
async fn by_key_the_same_key_is_in_order_and_others_go_on() {
    const KEYS: usize = 8;
    const EACH: usize = 4;
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/orders", Behaviour::status(200).after(TAKES));
    let settings = json!({"ordering": "key", "orderingKey": "$.order", "backendParallelism": KEYS});
    let endpoint = endpoint(cluster, settings, http(&service, "/orders")).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    // No key is a key as well, and so is null.
    let mut keys: Vec<Value> = (1..=KEYS - 3).map(|key| json!(key)).collect();
    keys.extend([json!("1"), json!(null), json!({"a": [1]})]);
    let began = Instant::now();
    for n in 0..EACH {
        for key in &keys {
            client.send(&event(key, n)).await;
        }
    }
    let calls = service.wait_for("/orders", KEYS * EACH).await;
    let took = began.elapsed();
    let mut by_key: BTreeMap<String, Vec<(usize, Instant)>> = BTreeMap::new();
    for call in &calls {
        let body = call.json();
        by_key.entry(body["order"].to_string()).or_default().push((body["n"].as_u64().expect("n") as usize, call.at));
    }
    assert_eq!(by_key.len(), KEYS, "1 is not \"1\": {by_key:?}");
    for (key, arrived) in &by_key {
        assert_eq!(arrived.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (0..EACH).collect::<Vec<_>>(), "key {key}");
        let gaps = arrived.windows(2).map(|pair| pair[1].1 - pair[0].1);
        assert!(gaps.min().is_some_and(|gap| gap >= TAKES), "key {key}: one was sent before the last was answered");
    }
    println!("{} events of {KEYS} keys, {TAKES:?} each: {took:?}, {} at once", calls.len(), most_at_once(&calls));
    assert!(took < TAKES * (KEYS * EACH) as u32 / 2, "{took:?}");
}

#[tokio::test]
async fn events_without_the_key_wait_for_each_other_and_a_slow_key_for_nobody() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave_in_turn("/mixed", [Behaviour::status(200).after(Duration::from_secs(2))]);
    let settings = json!({"ordering": "key", "orderingKey": "$.order", "backendParallelism": 2});
    let endpoint = endpoint(cluster, settings, http(&service, "/mixed")).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    let began = Instant::now();
    client.send(&event(&json!("slow"), 1)).await;
    // The others go by connections of their own: none of them may be the first to arrive.
    service.wait_for("/mixed", 1).await;
    for text in [r#"{"order":"slow","n":2}"#, r#"{"n":3}"#, "4", r#"{"order":"quick","n":5}"#] {
        client.send(text).await;
    }
    let calls = service.wait_for("/mixed", 5).await;
    let numbers: Vec<Value> = calls.iter().map(|call| call.json().get("n").cloned().unwrap_or(json!(4))).collect();
    assert_eq!(json!(numbers), json!([1, 3, 4, 5, 2]), "the second of the slow key waits, nobody else");
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert!(calls[3].at - calls[0].at < Duration::from_secs(2));
}

#[tokio::test]
async fn without_order_as_many_at_once_as_the_document_says() {
    const EVENTS: usize = 12;
    let cluster = shared().await;
    let service = Service::start().await;
    for (at_once, path) in [(4, "/four"), (1, "/one")] {
        service.behave(path, Behaviour::status(200).after(TAKES));
        let settings = json!({"ordering": "none", "backendParallelism": at_once});
        let endpoint = endpoint(cluster, settings, http(&service, path)).await;
        let mut client = Client::connect(&cluster.nodes[2], &endpoint.path).await;
        for n in 0..EVENTS {
            client.send(&n.to_string()).await;
        }
        let calls = service.wait_for(path, EVENTS).await;
        let most = most_at_once(&calls);
        println!("backendParallelism {at_once}: {most} at once");
        assert!(most <= at_once && (most > 1 || at_once == 1), "{most} at once instead of {at_once}");
        let mut bodies: Vec<usize> = calls.iter().map(|call| call.text().parse().expect("a number")).collect();
        bodies.sort_unstable();
        assert_eq!(bodies, (0..EVENTS).collect::<Vec<_>>(), "each event once");
    }
}

#[tokio::test]
async fn a_new_rule_does_not_overtake_the_events_of_the_old_one() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/changes", Behaviour::status(200).after(Duration::from_millis(400)));
    let none = json!({"ordering": "none", "backendParallelism": 2});
    let endpoint = endpoint(cluster, none, http(&service, "/changes")).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    for n in 0..4 {
        client.send(&n.to_string()).await;
    }
    service.wait_for("/changes", 1).await;
    let in_order = document(&endpoint.path, &[route("default", &[http(&service, "/changes")])]);
    cluster.nodes[0].admin().put(&format!("/api/v1/endpoints/{}", endpoint.id), &in_order).await.expect(200);
    cluster.wait_version(&endpoint.id, 2).await;
    for n in 4..7 {
        client.send(&n.to_string()).await;
    }
    let calls = service.wait_for("/changes", 7).await;
    let bodies: Vec<&str> = calls[4..].iter().map(Request::text).collect();
    assert_eq!(bodies, ["4", "5", "6"]);
    assert!(calls[5..].iter().all(|call| !call.overlapped), "one at a time after the change");
}

#[tokio::test]
async fn kafka_keeps_the_order_whatever_the_rule() {
    const EVENTS: usize = 50;
    let cluster = shared().await;
    let broker = broker().await;
    let topic = broker.topic("ordering").await;
    let settings = json!({"ordering": "none", "backendParallelism": 2});
    let endpoint = endpoint(cluster, settings, kafka(broker, &topic)).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    for n in 0..EVENTS {
        client.send(&n.to_string()).await;
    }
    // The connection is the key, so they are in one partition.
    for n in 0..EVENTS {
        assert_eq!(topic.next().await.body, n.to_string().as_bytes());
    }
}
