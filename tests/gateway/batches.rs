//! Many events in one request: what goes together and when, and what becomes of each event when a request fails as a whole
//! or in part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{document, http, route, with};
use crate::sandbox::{shared, unique_path, Endpoint, Node};
use crate::service::{Behaviour, Request, Service};
use crate::ws::Client;

fn batched(service: &Service, path: &str, batch: Value) -> Value {
    let retry = json!({"attempts": 3, "backoffInMillis": 5, "maxBackoffInMillis": 10});
    with(with(http(service, path), "batch", batch), "retry", retry)
}

/// An endpoint on the shared cluster with this backend and an error route; clients hear when an event is delivered.
async fn endpoint(service: &Service, backend: Value) -> Endpoint {
    let routes = [route("default", &[backend]), route("error", &[http(service, "/error")])];
    let document = with(document(&unique_path("batches"), &routes), "ack", json!({"when": "delivered"}));
    shared().await.create(&document).await
}

async fn connect(node: &Node, endpoint: &Endpoint, count: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        clients.push(Client::connect(node, &endpoint.path).await);
    }
    clients
}

/// The events of a request.
fn events(call: &Request) -> Vec<Value> {
    assert_eq!(call.header("content-type"), Some("application/cloudevents-batch+json"));
    assert!(call.headers.iter().all(|(name, _)| !name.starts_with("ce-")), "attributes stand in the body: {call:?}");
    let events = call.json().as_array().expect("a list").clone();
    for event in &events {
        assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("io.wsgateway.message")), "{event}");
        for name in ["id", "source", "time", "sequence", "connectionid", "endpointpath", "route", "node", "traceparent"]
        {
            assert!(event[name].as_str().is_some_and(|text| !text.is_empty()), "no {name} in {event}");
        }
    }
    events
}

fn all_events(calls: &[Request]) -> Vec<Value> {
    calls.iter().flat_map(events).collect()
}

#[tokio::test]
async fn what_waits_goes_together_and_the_first_waits_for_nobody() {
    const CLIENTS: usize = 40;
    const EACH: usize = 3;
    let service = Service::start().await;
    service.behave("/all", Behaviour::status(200).after(Duration::from_millis(100)));
    let endpoint = endpoint(&service, batched(&service, "/all", json!({"maxEvents": 8}))).await;
    let node = &shared().await.nodes[0];
    let mut clients = connect(node, &endpoint, CLIENTS).await;
    let began = Instant::now();
    clients[0].send(r#"{"first": 1.50}"#).await;
    let first = service.next("/all").await;
    println!("an event that meets an idle service arrived after {:?}", first.at - began);
    assert!(first.text().ends_with(r#""data":{"first": 1.50}}]"#), "byte by byte: {}", first.text());
    assert_eq!(clients[0].json().await["status"], "delivered");
    for n in 0..EACH {
        for client in &mut clients {
            client.send(&n.to_string()).await;
        }
    }
    for client in &mut clients {
        for _ in 0..EACH {
            assert_eq!(client.json().await["status"], "delivered");
        }
    }
    let calls = service.received("/all");
    let sizes: Vec<usize> = calls.iter().map(|call| events(call).len()).collect();
    println!("{} events in {} requests: {sizes:?}", CLIENTS * EACH + 1, calls.len());
    assert!(sizes.iter().all(|size| *size <= 8));
    assert!(calls.len() <= CLIENTS * EACH / 2, "{} requests", calls.len());
    let all = all_events(&calls);
    let ids: BTreeSet<&str> = all.iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!((all.len(), ids.len()), (CLIENTS * EACH + 1, CLIENTS * EACH + 1), "each event once");
    let mut by_connection: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in &all[1..] {
        let n = event["data"].as_u64().expect("a number");
        by_connection.entry(event["connectionid"].as_str().expect("an id")).or_default().push(n);
    }
    assert!(by_connection.values().all(|events| *events == [0, 1, 2]), "in order: {by_connection:?}");
}

#[tokio::test]
async fn a_delay_is_only_waited_for_when_the_policy_asks_and_a_full_batch_does_not_wait() {
    let service = Service::start().await;
    let batch = json!({"maxEvents": 3, "maxDelayMillis": 700});
    let ordered_by_none = json!({"ordering": "none"});
    let routes = [route("default", &[batched(&service, "/delayed", batch)])];
    let document = with(document(&unique_path("batches"), &routes), "settings", ordered_by_none);
    let endpoint = shared().await.create(&document).await;
    let mut client = Client::connect(&shared().await.nodes[1], &endpoint.path).await;
    let began = Instant::now();
    client.send("1").await;
    client.send("2").await;
    let first = service.next("/delayed").await;
    let waited = first.at - began;
    println!("two of at most three events waited {waited:?} of 700 ms");
    assert_eq!(events(&first).len(), 2);
    assert!(waited >= Duration::from_millis(690) && waited < Duration::from_secs(4), "{waited:?}");
    let began = Instant::now();
    for n in 3..=5 {
        client.send(&n.to_string()).await;
    }
    let second = service.next("/delayed").await;
    assert_eq!(events(&second).len(), 3, "events of one connection too, when they need no order");
    assert!(second.at - began < Duration::from_millis(600), "it was full");
}

#[tokio::test]
async fn bytes_bound_a_batch_and_a_large_event_goes_alone() {
    let service = Service::start().await;
    service.behave("/bytes", Behaviour::status(200).after(Duration::from_millis(50)));
    let endpoint = endpoint(&service, batched(&service, "/bytes", json!({"maxEvents": 100, "maxBytes": 4000}))).await;
    let mut clients = connect(&shared().await.nodes[2], &endpoint, 20).await;
    for (n, client) in clients.iter_mut().enumerate() {
        let text = "x".repeat(if n == 7 { 10_000 } else { 700 });
        client.send(&json!({"n": n, "text": text}).to_string()).await;
    }
    for client in &mut clients {
        assert_eq!(client.json().await["status"], "delivered");
    }
    let calls = service.received("/bytes");
    assert_eq!(all_events(&calls).len(), 20);
    for call in &calls {
        assert!(
            call.body.len() <= 4000 || events(call).len() == 1,
            "{} events in {}",
            events(call).len(),
            call.body.len()
        );
    }
    assert!(calls.iter().any(|call| events(call).len() > 1));
}

/// What clients 0, 1, 2 … hear of their one event: true, it was delivered.
async fn outcomes(clients: &mut [Client]) -> Vec<bool> {
    let mut outcomes = Vec::new();
    for client in clients {
        let frame = client.json().await;
        let delivered = frame["status"] == "delivered";
        assert!(delivered || frame["error"]["code"] == "delivery_failed", "{frame}");
        outcomes.push(delivered);
    }
    outcomes
}

#[tokio::test]
async fn a_failure_in_part_is_each_events_own() {
    const CLIENTS: usize = 24;
    let service = Service::start().await;
    let seen: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    // Of three events one is taken, one is taken at the second attempt, one is never taken.
    service.decide("/part", move |request| {
        let mut seen = seen.lock().unwrap();
        let batch = request.json();
        let results = batch.as_array().expect("a list").iter().map(|event| {
            let id = event["id"].as_str().expect("an id").to_owned();
            let times = seen.entry(id.clone()).or_default();
            *times += 1;
            let status = match event["data"]["n"].as_u64().expect("n") % 3 {
                0 => 200,
                1 if *times == 1 => 503,
                1 => 204,
                _ => 422,
            };
            json!({"id": id, "status": status})
        });
        let listed: Vec<Value> = results.filter(|result| result["status"] != 200).collect();
        Behaviour::status(200).body(&json!(listed).to_string()).after(Duration::from_millis(30))
    });
    let endpoint = endpoint(&service, batched(&service, "/part", json!({"maxEvents": 10}))).await;
    let mut clients = connect(&shared().await.nodes[0], &endpoint, CLIENTS).await;
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&json!({"n": n}).to_string()).await;
    }
    let expected: Vec<bool> = (0..CLIENTS).map(|n| n % 3 != 2).collect();
    assert_eq!(outcomes(&mut clients).await, expected);
    let errors = service.wait_for("/error", CLIENTS / 3).await;
    for error in errors.iter().map(Request::json) {
        assert_eq!(error["event"]["n"].as_u64().expect("n") % 3, 2, "{error}");
        assert_eq!((&error["attempts"], &error["status"]), (&json!(1), &json!(422)), "{error}");
    }
    let mut attempts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for event in all_events(&service.received("/part")) {
        let n = event["data"]["n"].as_u64().expect("n");
        attempts.entry(n).or_default().push(event["attempt"].as_u64().unwrap_or(1));
    }
    for (n, attempts) in &attempts {
        assert_eq!(*attempts, if n % 3 == 1 { vec![1, 2] } else { vec![1] }, "event {n}");
    }
    println!(
        "{CLIENTS} events in {} requests, a third each taken, tried again, refused",
        service.received("/part").len()
    );
}

#[tokio::test]
async fn one_bad_event_fails_alone() {
    const CLIENTS: usize = 20;
    let service = Service::start().await;
    service.decide("/poison", |request| {
        let bad = request.text().contains("\"n\":13}");
        Behaviour::status(if bad { 400 } else { 200 }).after(Duration::from_millis(20))
    });
    let endpoint = endpoint(&service, batched(&service, "/poison", json!({"maxEvents": 100}))).await;
    let mut clients = connect(&shared().await.nodes[1], &endpoint, CLIENTS).await;
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&json!({"n": n}).to_string()).await;
    }
    let expected: Vec<bool> = (0..CLIENTS).map(|n| n != 13).collect();
    assert_eq!(outcomes(&mut clients).await, expected);
    let error = service.next("/error").await.json();
    assert_eq!((&error["event"]["n"], &error["status"]), (&json!(13), &json!(400)), "{error}");
    println!("a bad event among {CLIENTS} was found with {} requests", service.received("/poison").len());
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_is_sent_again_or_fails_event_by_event() {
    const CLIENTS: usize = 10;
    let service = Service::start().await;
    let node = &shared().await.nodes[2];
    let once = json!({"attempts": 1});
    for (name, first, retry, delivered, attempts, reason) in [
        ("again", vec![Behaviour::status(503); 2], None, true, 0, ""),
        ("hung-up", vec![Behaviour::hang_up(); 2], None, true, 0, ""),
        ("never", vec![Behaviour::status(503); 1000], None, false, 3, "refused"),
        ("once", vec![Behaviour::status(500); 1000], Some(once), false, 1, "refused"),
        ("forbidden", vec![Behaviour::status(403); 1000], None, false, 1, "refused"),
        ("unclear", vec![Behaviour::status(200).body("[1]"); 1000], None, false, 1, "bad_reply"),
    ] {
        let path = format!("/{name}");
        service.behave_in_turn(&path, first);
        let mut backend = batched(&service, &path, json!({"maxEvents": 50, "maxDelayMillis": 200}));
        if let Some(retry) = retry {
            backend["retry"] = retry;
        }
        let endpoint = endpoint(&service, backend).await;
        let mut clients = connect(node, &endpoint, CLIENTS).await;
        let told = service.received("/error").len();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(&json!({"n": n}).to_string()).await;
        }
        assert_eq!(outcomes(&mut clients).await, [delivered; CLIENTS], "{name}");
        let calls = service.received(&path);
        assert!(calls.len() < CLIENTS, "{name}: {} requests", calls.len());
        if delivered {
            let ids: BTreeSet<String> = all_events(&calls).iter().map(|event| event["id"].to_string()).collect();
            assert_eq!(ids.len(), CLIENTS, "{name}: the same ids again");
            continue;
        }
        let errors = service.wait_for("/error", told + CLIENTS).await;
        for error in errors[told..].iter().map(Request::json) {
            assert_eq!((&error["attempts"], &error["reason"]), (&json!(attempts), &json!(reason)), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn order_holds_while_batches_fail() {
    const EVENTS: usize = 20;
    let service = Service::start().await;
    let turns = (0..400).map(|n| match n % 4 {
        1 => Behaviour::status(503),
        3 => Behaviour::hang_up(),
        _ => Behaviour::status(200).after(Duration::from_millis(2)),
    });
    service.behave_in_turn("/in-order", turns);
    let mut backend = batched(&service, "/in-order", json!({"maxEvents": 4}));
    backend["retry"]["attempts"] = json!(20);
    let endpoint = endpoint(&service, backend).await;
    let mut clients = connect(&shared().await.nodes[0], &endpoint, 5).await;
    for n in 0..EVENTS {
        for client in &mut clients {
            client.send(&n.to_string()).await;
        }
    }
    for client in &mut clients {
        for _ in 0..EVENTS {
            assert_eq!(client.json().await["status"], "delivered");
        }
    }
    let mut latest: BTreeMap<String, u64> = BTreeMap::new();
    for call in service.received("/in-order") {
        let events = events(&call);
        let connections: BTreeSet<String> = events.iter().map(|event| event["connectionid"].to_string()).collect();
        assert_eq!(connections.len(), events.len(), "one event of a connection in a request");
        for event in events {
            let n = event["data"].as_u64().expect("a number");
            let before = latest.insert(event["connectionid"].to_string(), n);
            assert!(before.is_none_or(|before| n == before || n == before + 1), "{n} after {before:?}");
        }
    }
    assert!(latest.values().all(|n| *n == EVENTS as u64 - 1), "{latest:?}");
}
