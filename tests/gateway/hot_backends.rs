//! New versions of an endpoint find what they share with the old ones: connections to services, Kafka producers, the
//! count of what is under way. What nobody uses any more ends, and nothing under way with it.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{document, http, kafka, route};
use crate::http::{Admin, JSON};
use crate::kafka::broker;
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster};
use crate::service::{Behaviour, Service};
use crate::wait::{eventually, PATIENCE};
use crate::ws::Client;

/// Two rounds of a sweep, the time for which unused producers are kept, and a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

async fn put(cluster: &Cluster, id: &str, version: u64, document: &Value) {
    let target = format!("/api/v1/endpoints/{id}");
    cluster.nodes[0].admin().call("PUT", &target, JSON, document.to_string().as_bytes()).await.expect(200);
    cluster.wait_version(id, version).await;
}

#[tokio::test]
async fn a_version_that_keeps_its_service_keeps_the_connection_to_it() {
    let service = Service::start().await;
    let path = unique_path("hot");
    let backend = http(&service, "/events");
    let endpoint = shared().await.create(&document(&path, &[route("default", std::slice::from_ref(&backend))])).await;
    let mut client = Client::connect(&shared().await.nodes[0], &path).await;
    client.send("1").await;
    service.next("/events").await;
    assert_eq!(service.accepted(), 1);
    for version in 2..=4 {
        let mut changed = backend.clone();
        changed["additionalHeaders"] = json!({"x-version": version.to_string()});
        changed["destination"] = json!(format!("{}?v={version}", service.url("/events")));
        let custom =
            json!({"type": "custom", "name": "n", "expression": {"exists": {"path": "$.n"}}, "backends": [backend]});
        put(shared().await, &endpoint.id, version, &document(&path, &[custom, route("default", &[changed])])).await;
        client.send("2").await;
        let request = service.next("/events").await;
        assert_eq!(request.header("x-version"), Some(version.to_string().as_str()));
        client.send("{\"n\":1}").await;
        service.next("/events").await;
    }
    assert_eq!(service.accepted(), 1, "three versions, one TCP connection");
}

#[tokio::test]
async fn connections_to_a_service_end_with_the_last_version_that_calls_it() {
    let (old, new) = (Service::start().await, Service::start().await);
    let path = unique_path("left");
    let to = |service: &Service| document(&path, &[route("default", &[http(service, "/events")])]);
    let endpoint = shared().await.create(&to(&old)).await;
    let mut client = Client::connect(&shared().await.nodes[1], &path).await;
    // Idle from here on: it must not keep the old version's backends.
    let mut idle = Client::connect(&shared().await.nodes[1], &path).await;
    for client in [&mut client, &mut idle] {
        client.send("1").await;
        old.next("/events").await;
    }
    assert!(old.open() >= 1);
    put(shared().await, &endpoint.id, 2, &to(&new)).await;
    client.send("2").await;
    assert_eq!(new.next("/events").await.text(), "2");
    eventually("the old service is let go", ENDS_WITHIN, async || (old.open() == 0).then_some(())).await;
    assert!(new.open() >= 1);
    idle.send("3").await;
    assert_eq!(new.next("/events").await.text(), "3");
    shared().await.nodes[0].admin().delete(&format!("/api/v1/endpoints/{}", endpoint.id)).await.expect(204);
    eventually("the new one too", ENDS_WITHIN, async || (new.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_version_does_not_double_what_a_hung_service_has_under_way() {
    const MAX: usize = 4;
    let service = Service::start().await;
    service.behave("/hangs", Behaviour::status(200).after(Duration::from_millis(1500)));
    let path = unique_path("hung");
    let mut backend = http(&service, "/hangs");
    backend["maxInFlight"] = json!(MAX);
    let endpoint = shared().await.create(&document(&path, &[route("default", std::slice::from_ref(&backend))])).await;
    let node = &shared().await.nodes[0];
    let mut clients = Vec::new();
    for version in 2..=4 {
        for _ in 0..MAX {
            let mut client = Client::connect(node, &path).await;
            client.send("1").await;
            clients.push(client);
        }
        eventually("some under way", PATIENCE, async || (service.most_in_flight("/hangs") >= 1).then_some(())).await;
        backend["additionalHeaders"] = json!({"x-version": version.to_string()});
        let next = document(&path, &[route("default", std::slice::from_ref(&backend))]);
        put(shared().await, &endpoint.id, version, &next).await;
    }
    let received = service.wait_for("/hangs", clients.len()).await;
    let versions = received.iter().filter(|request| request.header("x-version").is_some()).count();
    let most = service.most_in_flight("/hangs");
    println!("{} events over four versions, {versions} by later ones: at most {most} under way", received.len());
    assert!((1..=MAX).contains(&most) && versions > 0, "{most} under way at once, {versions} by later versions");
}

async fn producers(admin: &Admin) -> (u64, u64) {
    let metrics = admin.get("/metrics").await.expect(200).text();
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    };
    (value("wsgateway_kafka_producers "), value("wsgateway_kafka_producers_opened_total "))
}

#[tokio::test]
async fn producers_are_shared_by_versions_and_end_without_loss() {
    const EVENTS: usize = 300;
    let broker = broker().await;
    let topic = broker.topic("hot").await;
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let path = unique_path("hot-kafka");
    let with_retries = |retries: u32, name: &str| {
        let mut backend = kafka(broker, &topic);
        backend["retriesNr"] = json!(retries);
        backend["headers"] = json!({"x-version": name});
        document(&path, &[route("default", &[backend])])
    };
    let endpoint = cluster.create(&with_retries(7, "a")).await;
    let admin = cluster.nodes[0].admin();
    let mut client = Client::connect(&cluster.nodes[0], &path).await;
    client.send("0").await;
    topic.next().await;
    assert_eq!(producers(&admin).await, (1, 1));
    put(&cluster, &endpoint.id, 2, &with_retries(7, "b")).await;
    client.send("0").await;
    assert!(topic.next().await.headers.contains(&("x-version".into(), "b".into())));
    assert_eq!(producers(&admin).await, (1, 1), "the same producer");

    // Another one, while events flow.
    for n in 0..EVENTS {
        client.send(&n.to_string()).await;
        if n == EVENTS / 2 {
            put(&cluster, &endpoint.id, 3, &with_retries(8, "c")).await;
        }
    }
    let mut left: std::collections::BTreeSet<String> = (0..EVENTS).map(|n| n.to_string()).collect();
    while !left.is_empty() {
        let record = topic.next().await;
        assert!(left.remove(&String::from_utf8_lossy(&record.body).into_owned()), "twice or never sent: {record:?}");
    }
    eventually("the old producer to end", ENDS_WITHIN, async || (producers(&admin).await == (1, 2)).then_some(()))
        .await;
    admin.delete(&format!("/api/v1/endpoints/{}", endpoint.id)).await.expect(204);
    eventually("the last one to end", ENDS_WITHIN, async || (producers(&admin).await == (0, 2)).then_some(())).await;
}
