//! Kafka in trouble while clients send: a broker that is killed or stopped and comes back, one that freezes, records that are too
//! large, more than a producer may hold, a leader that moves. What was acknowledged as delivered is in the topic, once;
//! what was not is told to its sender; nothing is read from clients that cannot be passed on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use serde_json::{json, Value};

use crate::document::{document, http, kafka, route, with};
use crate::kafka::{config, Broker, Record, Topic};
use crate::sandbox::{own_cluster_turn, unique_path, Cluster, Endpoint, Plan};
use crate::service::Service;
use crate::wait::eventually;
use crate::ws::Client;

const DELIVERY_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Events of one client, by its own number of each.
#[derive(Default)]
struct Told {
    sent: u64,
    acknowledged: BTreeSet<u64>,
    failed: BTreeSet<u64>,
    /// Between two answers.
    longest_silence: Duration,
}

/// More than the window, so that some always wait unread.
const OUTSTANDING: u64 = 100;

/// Sends one event after the other until told to stop, then waits for every answer.
async fn load(mut client: Client, who: usize, pause: Duration, go_on: Arc<AtomicBool>) -> Told {
    let mut told = Told::default();
    let mut last = Instant::now();
    loop {
        let answered = (told.acknowledged.len() + told.failed.len()) as u64;
        let sending = go_on.load(Ordering::Relaxed);
        if sending && told.sent - answered < OUTSTANDING {
            client.send(&json!({"id": told.sent, "who": who}).to_string()).await;
            told.sent += 1;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            continue;
        }
        if !sending && told.sent == answered {
            return told;
        }
        let frame = client.json().await;
        told.longest_silence = told.longest_silence.max(last.elapsed());
        last = Instant::now();
        let id = frame["clientEventId"].as_u64().unwrap_or_else(|| panic!("no id in {frame}"));
        let first = match frame["type"].as_str() {
            Some("ack") => told.acknowledged.insert(id),
            Some("error") if frame["error"]["code"] == "delivery_failed" => told.failed.insert(id),
            _ => panic!("unexpected: {frame}"),
        };
        assert!(first, "told twice: {frame}");
    }
}

async fn nodes(count: usize) -> Cluster {
    let millis = DELIVERY_TIMEOUT.as_millis().to_string();
    let environment = vec![("WSGATEWAY__KAFKA__DELIVERY_TIMEOUT_MILLIS".into(), millis)];
    Cluster::start_with(count, Plan { environment, ..Plan::default() }).await
}

fn acknowledged(path: &str, routes: &[Value]) -> Value {
    with(document(path, routes), "ack", json!({"when": "delivered"}))
}

/// Acknowledged = received, once, in order; prints the figures.
fn check(what: &str, told: &[Told], records: &[Record]) {
    let mut ids = BTreeMap::<String, usize>::new();
    let mut received = vec![BTreeSet::new(); told.len()];
    let mut last = HashMap::<String, u64>::new();
    let mut overtaken = 0;
    for record in records {
        let event: Value = serde_json::from_slice(&record.body).expect("JSON");
        let attributes = record.attributes();
        *ids.entry(attributes.get("id").to_string()).or_default() += 1;
        received[event["who"].as_u64().expect("who") as usize].insert(event["id"].as_u64().expect("an id"));
        let before = last.insert(attributes.get("connectionid").to_string(), attributes.sequence());
        overtaken += usize::from(before.is_some_and(|before| before >= attributes.sequence()));
    }
    let twice = ids.values().filter(|count| **count > 1).count();
    let sum = |count: &dyn Fn(&Told) -> usize| told.iter().map(count).sum::<usize>();
    let lost: usize = told.iter().zip(&received).map(|(told, got)| told.acknowledged.difference(got).count()).sum();
    let stored_though_failed =
        told.iter().zip(&received).map(|(told, got)| told.failed.intersection(got).count()).sum::<usize>();
    let silence = told.iter().map(|told| told.longest_silence).max().unwrap_or_default();
    println!(
        "{what}: {} sent, {} acknowledged, {} failed, {} records; lost {lost}, twice {twice}, out of order {overtaken}, \
         failed and yet stored {stored_though_failed}; longest silence {silence:?}",
        sum(&|told| told.sent as usize),
        sum(&|told| told.acknowledged.len()),
        sum(&|told| told.failed.len()),
        records.len(),
    );
    assert_eq!((lost, twice, overtaken), (0, 0, 0), "{what}: lost, twice, out of order");
}

/// Three clients, each with a pause between its events.
async fn start_load(
    cluster: &Cluster,
    endpoint: &Endpoint,
    pause: Duration,
) -> (Arc<AtomicBool>, Vec<tokio::task::JoinHandle<Told>>) {
    let go_on = Arc::new(AtomicBool::new(true));
    let mut loads = Vec::new();
    for who in 0..3 {
        let client = Client::connect(&cluster.nodes[who % cluster.nodes.len()], &endpoint.path).await;
        loads.push(tokio::spawn(load(client, who, pause, go_on.clone())));
    }
    (go_on, loads)
}

async fn end_load(go_on: &AtomicBool, loads: Vec<tokio::task::JoinHandle<Told>>) -> Vec<Told> {
    go_on.store(false, Ordering::Relaxed);
    let mut told = Vec::new();
    for load in loads {
        told.push(load.await.expect("every event is answered"));
    }
    told
}

/// Waits until each of the clients that `service` has heard of has as many events in flight as it may.
async fn windows_are_full(cluster: &Cluster, service: &Service) {
    for call in service.received("/connect") {
        let id = call.attributes().get("connectionid").to_string();
        let view = eventually("a full window", Duration::from_secs(2), async || {
            let view = cluster.nodes[0].admin().get(&format!("/api/v1/connections/{id}")).await.expect(200).json();
            (view["inFlight"] == 64).then_some(view)
        });
        let view = view.await;
        println!("frozen: {} in flight, {} read of what its client sends", view["inFlight"], view["eventsIn"]);
    }
}

/// Two endpoints, of which one writes through TLS and SASL, on every node of a cluster.
#[tokio::test]
async fn a_broker_that_stops_dies_or_freezes_loses_nothing_acknowledged() {
    let _turn = own_cluster_turn().await;
    let (broker, cluster) = (Broker::start("kafka-trouble").await, nodes(3).await);
    let service = Service::start().await;
    let mut writing = Vec::new();
    for (way, at) in [("plain", &broker.bootstrap_servers), ("TLS and SASL", &broker.secured.sasl_ssl)] {
        let topic = broker.topic("trouble").await;
        let mut backend = kafka(&broker, &topic);
        backend["bootstrapServers"] = at.as_str().into();
        if way != "plain" {
            backend["security"] = json!({"protocol": "SASL_SSL", "saslMechanism": "SCRAM-SHA-512", "username": "alice",
                "password": "alice-secret", "ca": broker.tls("ca.pem")});
        }
        let error = format!("/error-{}", writing.len());
        let routes = [
            route("connect", &[http(&service, "/connect")]),
            route("default", &[backend]),
            route("error", &[http(&service, &error)]),
        ];
        let endpoint = cluster.create(&acknowledged(&unique_path("trouble"), &routes)).await;
        let load = start_load(&cluster, &endpoint, Duration::ZERO).await;
        writing.push((way, error, topic, load));
    }
    let seconds = |seconds: f64| tokio::time::sleep(Duration::from_secs_f64(seconds));
    let memory = || cluster.nodes.iter().map(|node| node.resident_kib()).max().unwrap_or_default();
    seconds(1.0).await;
    let before = memory();
    broker.kill();
    seconds(DELIVERY_TIMEOUT.as_secs_f64() + 0.5).await;
    broker.restart().await;
    seconds(1.0).await;
    broker.stop().await;
    seconds(0.5).await;
    broker.restart().await;
    seconds(1.0).await;

    // Frozen: connections stop being read when their window is full.
    broker.signal(libc::SIGSTOP);
    windows_are_full(&cluster, &service).await;
    seconds(DELIVERY_TIMEOUT.as_secs_f64() + 0.5).await;
    broker.signal(libc::SIGCONT);
    seconds(1.0).await;
    let mut ended = Vec::new();
    for (way, error, topic, (go_on, loads)) in writing {
        ended.push((way, error, topic, end_load(&go_on, loads).await));
    }
    let after = memory();
    for (way, error, topic, told) in ended {
        // Read by a consumer that was not there when the broker was away: it need not find it again.
        let stored = Topic::at(config(&broker.bootstrap_servers), topic.name, 3);
        check(&format!("killed, stopped, frozen ({way})"), &told, &stored.rest(Duration::from_secs(3)).await);
        for told in &told {
            assert!(!told.failed.is_empty(), "what came in the gap has failed");
            assert!(told.acknowledged.last() > told.failed.last(), "and then it went on");
            // Half a second for a machine that is busy with three clients, a broker and three nodes.
            let most = DELIVERY_TIMEOUT + Duration::from_millis(500);
            assert!(told.longest_silence < most, "an answer took {:?}", told.longest_silence);
        }
        let failed: usize = told.iter().map(|told| told.failed.len()).sum();
        assert_eq!(service.received(&error).len(), failed, "the error route hears of each");
    }
    println!("memory of the largest node: {before} KiB before, {after} KiB after");
    assert!(after < before + 100 * 1024, "memory: {before} KiB, then {after} KiB");
}

#[tokio::test]
async fn too_large_and_too_much() {
    let _turn = own_cluster_turn().await;
    let (broker, cluster) = (Broker::start("kafka-full").await, nodes(1).await);
    let service = Service::start().await;

    // Larger than the client library takes, and larger than the topic takes; others go on.
    let small = broker.topic_with("small", &[("max.message.bytes", "20000")]).await;
    for (limit, topic) in [(1_200_000, &broker.topic("large").await), (30_000, &small)] {
        let routes = [route("default", &[kafka(&broker, topic)]), route("error", &[http(&service, "/too-large")])];
        let wanted =
            with(acknowledged(&unique_path("large"), &routes), "settings", json!({"maxMessageBytes": 4_000_000}));
        let endpoint = cluster.create(&wanted).await;
        let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
        let sent = Instant::now();
        client.send(&json!({"id": 1, "text": "x".repeat(limit)}).to_string()).await;
        client.error_frame("delivery_failed").await;
        let told = service.next("/too-large").await.json();
        println!("{limit} bytes: {} (after {:?})", told["message"], sent.elapsed());
        assert!(told["message"].as_str().expect("a message").contains("MessageSizeTooLarge"), "{}", told["message"]);
        client.send(r#"{"id":2}"#).await;
        assert_eq!(client.json().await["clientEventId"], 2);
        assert_eq!(topic.next().await.body, br#"{"id":2}"#);
    }

    // More than a producer holds, while the broker is frozen.
    let topic = broker.topic("full").await;
    let settings = json!({"maxInFlight": 128, "maxMessageBytes": 131_072});
    let wanted =
        with(acknowledged(&unique_path("full"), &[route("default", &[kafka(&broker, &topic)])]), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&cluster.nodes[0], &endpoint.path).await);
    }
    clients[0].send(&large_event(0, 0)).await;
    assert_eq!(clients[0].json().await["type"], "ack", "the producer is there");
    let before = cluster.nodes[0].resident_kib();
    broker.signal(libc::SIGSTOP);
    let frozen = Instant::now();
    let sending = clients.into_iter().enumerate().map(|(who, client)| tokio::spawn(flood(client, who)));
    let sending: Vec<_> = sending.collect();
    let mut most = before;
    while frozen.elapsed() < DELIVERY_TIMEOUT + Duration::from_millis(500) {
        most = most.max(cluster.nodes[0].resident_kib());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    broker.signal(libc::SIGCONT);
    let mut told = Vec::new();
    for flood in sending {
        told.push(flood.await.expect("every event is answered"));
    }
    check("more than a producer holds", &told, &topic.rest(Duration::from_millis(1_500)).await);
    let grown = (most - before) / 1024;
    println!("memory: grown by {grown} MiB at most, of {} MiB that were sent", (CLIENTS * EVENTS * EVENT_BYTES) >> 20);
    // 64 MiB in the producer, the buffers of the events in flight, and what an allocator keeps.
    let in_flight = (CLIENTS * EVENTS * EVENT_BYTES.next_power_of_two()) >> 20;
    assert!(grown < 64 + in_flight as u64 + 32, "memory has grown by {grown} MiB");
    assert!(told.iter().any(|told| !told.failed.is_empty()));
}

const CLIENTS: usize = 12;
const EVENTS: usize = 100;
const EVENT_BYTES: usize = 100_000;

fn large_event(who: usize, id: usize) -> String {
    json!({"id": id, "who": who, "text": "x".repeat(EVENT_BYTES)}).to_string()
}

/// Sends everything, then reads every answer.
async fn flood(mut client: Client, who: usize) -> Told {
    let mut told = Told { sent: EVENTS as u64, ..Told::default() };
    if who == 0 {
        told.acknowledged.insert(0);
    }
    for id in usize::from(who == 0)..EVENTS {
        client.send(&large_event(who, id)).await;
    }
    while told.acknowledged.len() + told.failed.len() < EVENTS {
        let frame = client.json().await;
        let id = frame["clientEventId"].as_u64().unwrap_or_else(|| panic!("no id in {frame}"));
        let _first = match frame["type"].as_str() {
            Some("ack") => told.acknowledged.insert(id),
            _ => told.failed.insert(id),
        };
    }
    told
}

/// One broker cannot show a leader that moves: librdkafka's own mock of a cluster does.
#[tokio::test]
async fn a_leader_that_moves_loses_nothing_acknowledged() {
    const PARTITIONS: i32 = 3;
    let _turn = own_cluster_turn().await;
    let brokers = MockCluster::new(3).expect("a mock cluster");
    brokers.create_topic("moving", PARTITIONS, 3).expect("a topic");
    let servers = brokers.bootstrap_servers();
    let cluster = nodes(1).await;
    let backend = json!({"type": "kafka", "topic": "moving", "bootstrapServers": servers});
    let endpoint = cluster.create(&acknowledged(&unique_path("moving"), &[route("default", &[backend])])).await;
    // The mock keeps 5 MiB of a partition: not more than that is sent.
    let (go_on, loads) = start_load(&cluster, &endpoint, Duration::from_millis(1)).await;
    for step in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        for partition in 0..PARTITIONS {
            let leader = (step + partition) % 3 + 1;
            brokers.partition_leader("moving", partition, Some(leader)).expect("a leader");
        }
    }
    let told = end_load(&go_on, loads).await;
    let topic = Topic::at(config(&servers), "moving".to_string(), PARTITIONS);
    check("a leader that moves", &told, &topic.rest(Duration::from_millis(1_500)).await);
    assert!(told.iter().all(|told| told.acknowledged.len() > 100), "it went on");
}
