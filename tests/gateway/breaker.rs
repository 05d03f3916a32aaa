//! One backend that is broken or hangs, and the others: its circuit breaker, its places, and that nobody else waits.

use std::time::{Duration, Instant};

use serde_json::{json, Value};
use tokio::task::JoinHandle;

use crate::document::{document, http, route, with};
use crate::sandbox::{shared, unique_path, Node};
use crate::service::{Behaviour, Service};
use crate::wait::{eventually, PATIENCE};
use crate::ws::Client;

fn once(service: &Service, path: &str) -> Value {
    with(http(service, path), "retry", json!({"attempts": 1}))
}

/// A gauge of the backend `custom/{backend}/0` or `default/…`; None: it is not shown.
async fn gauge(node: &Node, name: &str, endpoint: &str, backend: &str) -> Option<u64> {
    let metrics = node.admin().get("/metrics").await.expect(200).text();
    let start = format!("wsgateway_{name}{{endpoint=\"{endpoint}\",backend=\"{backend}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&start))?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value}")))
}

#[tokio::test]
async fn a_breaker_opens_fails_at_once_and_closes_when_the_service_is_back() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/broken", Behaviour::status(500));
    let backend = with(once(&service, "/broken"), "circuitBreaker", json!({"failures": 3, "openInMillis": 1000}));
    let routes = [route("default", &[backend]), route("error", &[http(&service, "/error")])];
    let endpoint = cluster.create(&document(&unique_path("breaker"), &routes)).await;
    let node = &cluster.nodes[0];
    let state = async || gauge(node, "backend_circuit", &endpoint.path, "default/default/0").await;
    // Several connections, so that several workers have a part in it.
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(node, &endpoint.path).await);
    }
    for client in &mut clients[..3] {
        client.send("1").await;
        client.error_frame("delivery_failed").await;
        assert_eq!(service.next("/error").await.json()["reason"], "refused");
    }
    let opened = Instant::now();
    assert_eq!(state().await, Some(2), "open");
    for client in &mut clients {
        client.send("2").await;
        client.error_frame("delivery_failed").await;
        let error = service.next("/error").await.json();
        assert_eq!((&error["reason"], &error["attempts"]), (&json!("circuit_open"), &json!(0)), "{error}");
        assert!(error["message"].as_str().unwrap().contains("circuit breaker is open"), "{error}");
    }
    assert!(opened.elapsed() < Duration::from_secs(1), "the scenario was too slow to see it open");
    assert_eq!(service.received("/broken").len(), 3, "nothing was sent");

    // Each node sees for itself.
    let mut elsewhere = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    elsewhere.send("3").await;
    elsewhere.error_frame("delivery_failed").await;
    assert_eq!(service.next("/error").await.json()["reason"], "refused");

    eventually("a half-open breaker", PATIENCE, async || (state().await == Some(1)).then_some(())).await;
    clients[3].send("4").await;
    clients[3].error_frame("delivery_failed").await;
    assert_eq!(service.next("/error").await.json()["reason"], "refused", "one is let through");
    assert_eq!(state().await, Some(2), "it failed: open again");

    service.behave("/broken", Behaviour::status(200));
    let back = Instant::now();
    let arrived = service.received("/broken").len();
    while service.received("/broken").len() == arrived {
        clients[0].send("5").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(back.elapsed() < Duration::from_secs(5), "not found within five seconds");
    }
    println!("the service was found {:?} after its return", back.elapsed());
    eventually("a closed breaker", PATIENCE, async || (state().await == Some(0)).then_some(())).await;
}

#[tokio::test]
async fn a_service_that_refuses_events_works() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/refuses", Behaviour::status(404));
    let backend = with(once(&service, "/refuses"), "circuitBreaker", json!({"failures": 1, "openInMillis": 60000}));
    let endpoint = cluster.create(&document(&unique_path("refuses"), &[route("default", &[backend])])).await;
    let mut client = Client::connect(&cluster.nodes[2], &endpoint.path).await;
    for event in 0..5 {
        client.send(&event.to_string()).await;
        client.error_frame("delivery_failed").await;
    }
    assert_eq!(service.received("/refuses").len(), 5);
    // One that says it is gone is not asked again.
    let gone = with(once(&service, "/gone"), "circuitBreaker", json!({"failures": 100, "openInMillis": 60000}));
    service.behave("/gone", Behaviour::status(410));
    let endpoint = cluster.create(&document(&unique_path("gone"), &[route("default", &[gone])])).await;
    let mut client = Client::connect(&cluster.nodes[2], &endpoint.path).await;
    for event in 0..3 {
        client.send(&event.to_string()).await;
        client.error_frame("delivery_failed").await;
    }
    assert_eq!(service.received("/gone").len(), 1);
    // A breaker that opens between two attempts ends them.
    let retried = with(http(&service, "/down"), "circuitBreaker", json!({"failures": 2, "openInMillis": 60000}));
    let retried = with(retried, "retry", json!({"attempts": 9, "backoffInMillis": 1}));
    service.behave("/down", Behaviour::status(503));
    let routes = [route("default", &[retried]), route("error", &[http(&service, "/error")])];
    let endpoint = cluster.create(&document(&unique_path("opens-between"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[2], &endpoint.path).await;
    client.send("1").await;
    client.error_frame("delivery_failed").await;
    let error = service.next("/error").await.json();
    assert_eq!((&error["attempts"], &error["status"]), (&json!(2), &json!(503)), "{error}");
    assert!(error["message"].as_str().unwrap().contains("circuit_open"), "{error}");
    assert_eq!(service.received("/down").len(), 2);
}

/// Sends `events` one after the other, each when the one before is answered; how long the answers took.
fn asks(mut client: Client, event: &'static str, events: usize) -> JoinHandle<(Client, Vec<Duration>)> {
    tokio::spawn(async move {
        let mut took = Vec::with_capacity(events);
        for _ in 0..events {
            let began = Instant::now();
            client.send(event).await;
            client.text().await;
            took.push(began.elapsed());
        }
        (client, took)
    })
}

/// The 99th percentile of what clients of the healthy backend wait for their replies.
async fn p99(clients: &mut Vec<Client>) -> Duration {
    const EVENTS: usize = 150;
    let asking: Vec<_> = clients.drain(..).map(|client| asks(client, r#"{"to":"fine"}"#, EVENTS)).collect();
    let mut all = Vec::new();
    for one in asking {
        let (client, took) = one.await.expect("replies");
        clients.push(client);
        all.extend(took);
    }
    all.sort();
    all[all.len() * 99 / 100]
}

/// Between two events of a client whose backend will hang.
const PACE: Duration = Duration::from_millis(10);

/// Clients that send to the backend that will hang, whatever comes of it, until they are told to stop. Paced: an event
/// that fails at once would otherwise be followed by thousands, which is another load than before.
fn pesters(mut client: Client, event: &'static str) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            client.send(event).await;
            client.text().await;
            tokio::time::sleep(PACE).await;
        }
    })
}

#[tokio::test]
async fn one_of_two_backends_hangs() {
    const CAP: u64 = 4;
    const CLIENTS: usize = 8;
    // On two cores that also compile and run other tests, single milliseconds are noise; a backend that waited for the
    // other would be late by its time-out.
    const NOISE: Duration = Duration::from_millis(30);
    const TIMEOUT: u64 = 400;
    let cluster = shared().await;
    let node = &cluster.nodes[1];
    let service = Service::start().await;
    for path in ["/fine", "/hangs", "/hangs-unguarded"] {
        service.behave(path, Behaviour::status(200).body("{}"));
    }
    let to = |name: &str, breaker: Option<Value>| {
        let mut backend = once(&service, &format!("/{name}"));
        backend["reply"] = json!(true);
        backend["timeoutInMillis"] = json!(if name == "fine" { 10_000 } else { TIMEOUT });
        backend["maxInFlight"] = json!(CAP);
        if let Some(breaker) = breaker {
            backend["circuitBreaker"] = breaker;
        }
        json!({"type": "custom", "name": name, "key": name, "backends": [backend]})
    };
    let breaker = json!({"failures": 5, "openInMillis": 500});
    let routes = [to("fine", None), to("hangs", Some(breaker)), to("hangs-unguarded", None)];
    let document = with(document(&unique_path("hangs"), &routes), "routeSelector", json!("$.to"));
    let endpoint = cluster.create(&document).await;
    let (mut clients, mut pests) = (Vec::new(), Vec::new());
    for _ in 0..CLIENTS {
        clients.push(Client::connect(node, &endpoint.path).await);
        for event in [r#"{"to":"hangs"}"#, r#"{"to":"hangs-unguarded"}"#] {
            pests.push(pesters(Client::connect(node, &endpoint.path).await, event));
        }
    }
    p99(&mut clients).await; // connections are made, code is warm
    let before = p99(&mut clients).await;

    let since = Instant::now();
    for path in ["/hangs", "/hangs-unguarded"] {
        service.behave(path, Behaviour::status(200).body("{}").after(Duration::from_secs(60)));
    }
    let in_flight = async || gauge(node, "backend_in_flight", &endpoint.path, "custom/hangs-unguarded/0").await;
    let state = async || gauge(node, "backend_circuit", &endpoint.path, "custom/hangs/0").await;
    eventually("a full house", PATIENCE, async || (in_flight().await == Some(CAP)).then_some(())).await;
    eventually("an open breaker", PATIENCE, async || (state().await == Some(2)).then_some(())).await;
    let arrived = service.received("/hangs-unguarded").len() as u64;
    let mut during = p99(&mut clients).await;
    for _ in 0..2 {
        assert!(in_flight().await.is_some_and(|requests| requests <= CAP));
        during = during.min(p99(&mut clients).await);
    }
    let passed = since.elapsed();
    let sent = service.received("/hangs-unguarded").len() as u64 - arrived;
    let possible = CAP * (passed.as_millis() as u64 / TIMEOUT + 2);
    println!(
        "p99 of the healthy backend: {before:?} before, {during:?} while two hang ({:.2}x); the one without a breaker got \
         {sent} requests in {passed:?}, at most {possible} with {CAP} at once",
        during.as_secs_f64() / before.as_secs_f64()
    );
    assert!(during <= before.mul_f64(1.2) + NOISE, "{during:?} instead of {before:?}");
    assert!(sent <= possible, "{sent} requests, {possible} with {CAP} at once");

    for path in ["/hangs", "/hangs-unguarded"] {
        let arrived = service.received(path).len();
        service.behave(path, Behaviour::status(200).body("{}"));
        let back = Instant::now();
        // Every client sends its next event when the one before is answered, so these are many answers.
        service.wait_for(path, arrived + 200).await;
        println!("{path} serves again {:?} after its return", back.elapsed());
        assert!(back.elapsed() < Duration::from_secs(5));
    }
    pests.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_place_is_not_waited_for_without_end() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/hangs", Behaviour::status(200).after(Duration::from_secs(60)));
    let mut backend = once(&service, "/hangs");
    backend["timeoutInMillis"] = json!(20_000);
    backend["maxInFlight"] = json!(1);
    let routes = [route("default", &[backend]), route("error", &[http(&service, "/error")])];
    let endpoint = cluster.create(&document(&unique_path("no-place"), &routes)).await;
    let mut first = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    first.send("1").await;
    service.wait_for("/hangs", 1).await;
    let mut second = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    let asked = Instant::now();
    second.send("2").await;
    second.error_frame("delivery_failed").await;
    let waited = asked.elapsed();
    println!("gave up waiting for a place after {waited:?}");
    assert!(waited > Duration::from_secs(9) && waited < Duration::from_secs(14), "{waited:?}");
    let error = service.next("/error").await.json();
    assert_eq!((&error["reason"], &error["attempts"]), (&json!("no_place"), &json!(0)), "{error}");
    assert_eq!(service.received("/hangs").len(), 1);
}
