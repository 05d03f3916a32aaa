//! Topics whose records are messages for clients: to the connections and users that they name, on whichever node; once in
//! the usual run, again after a crash, never out of order; versions that come and go.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{document, http, route, with};
use crate::kafka::{broker, Broker, Topic};
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Endpoint, Node};
use crate::service::Service;
use crate::wait::{eventually, soon, PATIENCE};
use crate::ws::{Client, RawSocket};

/// A source that begins with what is there.
fn source(broker: &Broker, topic: &Topic, target: Value) -> Value {
    json!({"type": "kafka", "topic": topic.name, "group": format!("{}-group", topic.name), "target": target,
        "bootstrapServers": broker.bootstrap_servers, "autoOffsetReset": "earliest"})
}

/// Two users, with the keys `key-of-ann` and `key-of-bob`.
fn with_users(document: Value) -> Value {
    let key = |id: &str| json!({"id": id, "key": format!("key-of-{id}")});
    with(
        document,
        "authentication",
        json!({"mode": "apiKey", "keys": [key("ann"), key("bob")], "in": "query", "name": "k"}),
    )
}

/// A figure of one node; labels in the order that the node writes them.
async fn figure(node: &Node, name: &str, labels: &str) -> u64 {
    let metrics = node.admin().get("/metrics").await.text();
    let line = format!("wsgateway_{name}{{{labels}}} ");
    metrics.lines().find_map(|metric| metric.strip_prefix(&line)).map_or(0, |value| value.parse().expect("a number"))
}

async fn sum(nodes: &[Node], name: &str, labels: &str) -> u64 {
    let mut sum = 0;
    for node in nodes {
        sum += figure(node, name, labels).await;
    }
    sum
}

fn labels(endpoint: &Endpoint, topic: &Topic) -> String {
    format!("endpoint=\"{}\",source=\"{1}/{1}-group\"", endpoint.path, topic.name)
}

/// Waits until the group has given all three partitions to these nodes.
async fn assigned(nodes: &[Node], endpoint: &Endpoint, topic: &Topic) {
    let labels = labels(endpoint, topic);
    eventually("all partitions to be given to nodes", PATIENCE, async || {
        (sum(nodes, "source_partitions", &labels).await == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn records_reach_those_they_name_on_whichever_node() {
    let cluster = shared().await;
    let broker = broker().await;
    let service = Service::start().await;
    let (by_key, by_user, to_all) =
        (broker.topic("by-key").await, broker.topic("by-user").await, broker.topic("to-all").await);
    let mut secured = source(broker, &by_user, json!({"user": "$.value.for[*]"}));
    secured["bootstrapServers"] = broker.secured.sasl_ssl.as_str().into();
    secured["security"] = json!({"protocol": "SASL_SSL", "saslMechanism": "SCRAM-SHA-512", "username": "alice",
        "password": "alice-secret", "ca": broker.tls("ca.pem")});
    let sources = [
        source(broker, &by_key, json!({"connection": "$.key"})),
        secured,
        source(broker, &to_all, json!({"all": true})),
    ];
    let path = unique_path("sources");
    let wanted = with_users(with(
        document(&path, &[route("connect", &[http(&service, "/connect")])]),
        "sources",
        sources.to_vec().into(),
    ));
    let endpoint = cluster.create(&wanted).await;
    let read = cluster.nodes[1].admin().get(&format!("/api/v1/endpoints/{}", endpoint.id)).await.text();
    assert!(!read.contains("alice-secret") && read.contains("enc:redacted"), "{read}");
    let mut clients = Vec::new();
    for (node, user) in cluster.nodes.iter().zip(["ann", "bob", "ann"]) {
        let before = service.received("/connect").len();
        let client = Client::connect(node, &format!("{path}?k=key-of-{user}")).await;
        let calls = service.wait_for("/connect", before + 1).await;
        let id = calls[before].attributes().get("connectionid").to_string();
        clients.push((client, id));
    }
    let stranger_path = unique_path("stranger");
    let stranger = with_users(document(&stranger_path, &[]));
    cluster.create(&stranger).await;
    let mut stranger = Client::connect(&cluster.nodes[0], &format!("{stranger_path}?k=key-of-ann")).await;

    let writer = broker.writer();
    // One key, one partition: in order, byte for byte.
    let began = Instant::now();
    for number in 0..50 {
        for (_, id) in &clients {
            writer.write(&by_key.name, id, &[], Some(&format!("{{\"n\" : {number}.0 }}"))).await;
        }
    }
    for (client, _) in &mut clients {
        for number in 0..50 {
            assert_eq!(client.text().await, format!("{{\"n\" : {number}.0 }}"));
        }
    }
    println!("150 records to three connections on three nodes within {:?}, in order", began.elapsed());

    writer.write(&by_user.name, "x", &[], Some(r#"{"for":["ann"]}"#)).await;
    for index in [0, 2] {
        assert_eq!(clients[index].0.text().await, r#"{"for":["ann"]}"#, "every connection of ann");
    }
    writer.write(&by_user.name, "x", &[], Some(r#"{"for":["bob","nobody"]}"#)).await;
    assert_eq!(clients[1].0.text().await, r#"{"for":["bob","nobody"]}"#);
    writer.write(&to_all.name, "x", &[], Some("\"everybody\"")).await;
    for (client, _) in &mut clients {
        assert_eq!(client.text().await, "\"everybody\"");
    }
    stranger.hears_nothing_for(Duration::from_millis(300)).await;

    for (topic, counts) in [(&by_key, 150), (&by_user, 2), (&to_all, 1)] {
        let labels = format!("{},outcome=\"handed_over\"", labels(&endpoint, topic));
        let what = format!("{counts} records of {}", topic.name);
        eventually(&what, PATIENCE, async || {
            (sum(&cluster.nodes, "source_records_total", &labels).await == counts).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_cannot_be_delivered_is_counted_and_the_next_is_delivered() {
    let cluster = shared().await;
    let broker = broker().await;
    let service = Service::start().await;
    let topic = broker.topic("undeliverable").await;
    let path = unique_path("undeliverable");
    let wanted = document(&path, &[route("connect", &[http(&service, "/connect")])]);
    let sources = json!([source(broker, &topic, json!({"connection": "$.headers.to"}))]);
    let endpoint = cluster.create(&with(wanted, "sources", sources)).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &path, &service).await;
    let (gone, left) = Client::connect_known(&cluster.nodes[1], &path, &service).await;
    gone.leave().await;
    let large = format!("\"{}\"", "x".repeat(300_000));
    let writer = broker.writer();
    let (here, left) = (visit.id.as_str(), left.id.as_str());
    let cases = [
        (None, Some("1"), "source_records_total no_target"),
        (Some("no id"), Some("1"), "source_records_total no_target"),
        (Some(here), Some("{\"a\":"), "source_records_total invalid_json"),
        (Some(here), None, "source_records_total empty"),
        (Some(left), Some("1"), "source_messages_total gone"),
        (Some(here), Some(large.as_str()), "source_messages_total too_big"),
    ];
    for (to, value, _) in &cases {
        // One partition: each stands before the next.
        let headers: Vec<_> = to.iter().map(|to| ("to", *to)).collect();
        writer.write(&topic.name, "same", &headers, *value).await;
    }
    writer.write(&topic.name, "same", &[("to", &visit.id)], Some("\"at last\"")).await;
    assert_eq!(client.text().await, "\"at last\"");
    for (_, _, figure) in cases {
        let (name, outcome) = figure.split_once(' ').expect("a name and an outcome");
        let labels = format!("{},outcome=\"{outcome}\"", labels(&endpoint, &topic));
        let count = sum(&cluster.nodes, name, &labels).await;
        println!("{name} {outcome}: {count}");
        assert_eq!(count, if outcome == "no_target" { 2 } else { 1 }, "{figure}");
    }
}

/// More than waits at once: partitions are paused and go on, with nothing left out, twice or overtaken.
#[tokio::test]
async fn a_backlog_is_read_in_order() {
    const RECORDS: usize = 6_000;
    let cluster = shared().await;
    let broker = broker().await;
    let service = Service::start().await;
    let topic = broker.topic("backlog").await;
    let path = unique_path("backlog");
    let plain = document(&path, &[route("connect", &[http(&service, "/connect")])]);
    let endpoint = cluster.create(&plain).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &path, &service).await;
    let writer = broker.writer();
    for first in (0..RECORDS).step_by(500) {
        let numbers: Vec<String> = (first..first + 500).map(|number| number.to_string()).collect();
        let writes = numbers.iter().map(|number| writer.write(&topic.name, &visit.id, &[], Some(number)));
        soon("the broker", futures::future::join_all(writes)).await;
    }
    let sources = json!([source(broker, &topic, json!({"connection": "$.key"}))]);
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    cluster.nodes[1].admin().put(&uri, &with(plain, "sources", sources)).await.expect(200);
    assert_eq!(client.text().await, "0");
    let began = Instant::now();
    for number in 1..RECORDS {
        assert_eq!(client.text().await, number.to_string());
    }
    println!("a backlog of {RECORDS} records of one partition: read within {:?}", began.elapsed());
    client.hears_nothing_for(Duration::from_millis(200)).await;
}

/// A client that reads nothing, and keeps what it has: its partition waits a moment for each record, the others do not.
#[tokio::test]
async fn a_client_that_does_not_read_holds_up_its_partition_only() {
    let cluster = shared().await;
    let broker = broker().await;
    let service = Service::start().await;
    let topic = broker.topic("unread").await;
    let path = unique_path("unread");
    let mut wanted = document(&path, &[route("connect", &[http(&service, "/connect")])]);
    wanted["sources"] = json!([source(broker, &topic, json!({"connection": "$.headers.to"}))]);
    wanted["settings"] = json!({"outbox": {"maxBytes": 300_000, "maxMessages": 4, "whenFull": "dropNewest"}});
    let endpoint = cluster.create(&wanted).await;
    let (mut reader, visit) = Client::connect_known(&cluster.nodes[0], &path, &service).await;
    let _silent = RawSocket::connect(&cluster.nodes[1], &path, Some(4_096)).await;
    let silent = service.wait_for("/connect", 2).await[1].attributes().get("connectionid").to_string();
    assigned(&cluster.nodes, &endpoint, &topic).await;

    let writer = broker.writer();
    let large = format!("\"{}\"", "x".repeat(60_000));
    let full = format!("{},outcome=\"outbox_full\"", labels(&endpoint, &topic));
    let written = eventually("a full outbox", Duration::from_secs(40), async || {
        for _ in 0..10 {
            writer.write_to(&topic.name, Some(0), "k", &[("to", &silent)], Some(&large)).await;
        }
        // Each record that is given up takes its time: no more of them than are needed.
        tokio::time::sleep(Duration::from_millis(400)).await;
        (sum(&cluster.nodes, "source_messages_total", &full).await > 0).then_some(())
    });
    written.await;
    let began = Instant::now();
    for number in 0..100 {
        writer.write_to(&topic.name, Some(1), "k", &[("to", &visit.id)], Some(&number.to_string())).await;
    }
    for number in 0..100 {
        assert_eq!(reader.text().await, number.to_string());
    }
    let took = began.elapsed();
    let given_up = sum(&cluster.nodes, "source_messages_total", &full).await;
    println!(
        "beside a client that does not read: 100 records of another partition within {took:?}, {given_up} given up"
    );
    assert!(took < Duration::from_secs(4), "{took:?}");
    // Behind all of the silent client's records, in the same partition.
    writer.write_to(&topic.name, Some(0), "k", &[("to", &visit.id)], Some("\"behind\"")).await;
    assert_eq!(reader.text().await, "\"behind\"");
}

#[tokio::test]
async fn versions_start_keep_and_stop_sources() {
    let cluster = shared().await;
    let broker = broker().await;
    let (one, two) = (broker.topic("versions-1").await, broker.topic("versions-2").await);
    let all = |topic: &Topic| source(broker, topic, json!({"all": true}));
    let path = unique_path("versions");
    let endpoint = cluster.create(&document(&path, &[])).await;
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let admin = cluster.nodes[2].admin();
    let mut version = 1;
    let mut change = async |wanted: Value| {
        admin.put(&uri, &wanted).await.expect(200);
        version += 1;
        cluster.wait_version(&endpoint.id, version).await;
    };
    let with_sources = |sources: Value| with(document(&path, &[]), "sources", sources);
    let mut client = Client::connect(&cluster.nodes[0], &path).await;
    let writer = broker.writer();

    // Before there is a source; it begins with what is there.
    writer.write(&one.name, "k", &[], Some("1")).await;
    change(with_sources(json!([all(&one)]))).await;
    assert_eq!(client.text().await, "1");
    assigned(&cluster.nodes, &endpoint, &one).await;

    // The same source beside another one, and with an outbound template: not interrupted.
    let begun = |node: &Node| {
        node.log().lines().filter(|line| line.contains("source begins") && line.contains(&one.name)).count()
    };
    let mut more = with_sources(json!([all(&two), all(&one)]));
    more["transform"] = json!({"outbound": "{\"said\": {{ event }}}"});
    change(more).await;
    writer.write(&one.name, "k", &[], Some("2")).await;
    assert_eq!(client.json().await, json!({"said": 2}), "pushed messages go through the template, these too");
    writer.write(&two.name, "k", &[], Some("3")).await;
    assert_eq!(client.json().await, json!({"said": 3}));
    for node in &cluster.nodes {
        assert_eq!(begun(node), 1, "{}: the first source runs on", node.name);
    }

    // Without it: nothing comes. With it again: what was written meanwhile, and nothing twice.
    change(with_sources(json!([all(&two)]))).await;
    let stopped = labels(&endpoint, &one);
    eventually("no partition any more", PATIENCE, async || {
        (sum(&cluster.nodes, "source_partitions", &stopped).await == 0).then_some(())
    })
    .await;
    writer.write(&one.name, "k", &[], Some("4")).await;
    client.hears_nothing_for(Duration::from_millis(500)).await;
    change(with_sources(json!([all(&two), all(&one)]))).await;
    assert_eq!(client.text().await, "4");
    client.hears_nothing_for(Duration::from_millis(200)).await;

    // Deleted with its endpoint.
    assigned(&cluster.nodes, &endpoint, &two).await;
    cluster.nodes[0].admin().delete(&uri).await.expect(204);
    let stopped = labels(&endpoint, &two);
    eventually("no partition any more", PATIENCE, async || {
        let mut none = true;
        for node in &cluster.nodes {
            // Not even a zero, which would look like a source that nobody reads.
            none &= !node.admin().get("/metrics").await.text().contains(&format!("source_partitions{{{stopped}}}"));
        }
        none.then_some(())
    })
    .await;
}

/// A group that begins with what is written from now on; another node that takes over leaves nothing out.
#[tokio::test]
async fn a_node_that_dies_is_taken_over_from() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let broker = broker().await;
    let topic = broker.topic("taken-over").await;
    let path = unique_path("taken-over");
    let mut latest = source(broker, &topic, json!({"all": true}));
    latest["autoOffsetReset"] = "latest".into();
    let endpoint = cluster.create(&with(document(&path, &[]), "sources", json!([latest]))).await;
    assigned(&cluster.nodes, &endpoint, &topic).await;
    let mut client = Client::connect(&cluster.nodes[0], &path).await;
    let writer = broker.writer();
    // From when on it reads is the brokers' answer, a moment after the group's.
    let mut warm = 0;
    eventually("all partitions to be read", PATIENCE, async || {
        for key in ["a", "b", "c", "d", "e", "f"] {
            writer.write(&topic.name, key, &[], Some("\"warm\"")).await;
        }
        warm += 6;
        let mut heard = 0;
        while tokio::time::timeout(Duration::from_millis(300), client.text()).await.is_ok() {
            heard += 1;
        }
        (heard == 6).then_some(())
    })
    .await;

    let died = Instant::now();
    let mut heard = Vec::new();
    let mut longest = Duration::ZERO;
    for number in 0..300_u64 {
        if number == 100 {
            cluster.nodes[2].kill();
        }
        if number == 200 {
            // In order: its partitions are given up at once.
            cluster.nodes[1].signal(libc::SIGTERM);
        }
        writer.write(&topic.name, &format!("key-{}", number % 12), &[], Some(&number.to_string())).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let missing = |heard: &[u64]| 300 - heard.iter().collect::<BTreeSet<_>>().len();
    while missing(&heard) > 0 {
        let asked = Instant::now();
        let text = match tokio::time::timeout(Duration::from_secs(25), client.text()).await {
            Ok(text) => text,
            Err(_) => panic!("{} records were not delivered", missing(&heard)),
        };
        longest = longest.max(asked.elapsed());
        if let Ok(number) = text.parse() {
            heard.push(number);
        }
    }
    let distinct: BTreeSet<u64> = heard.iter().copied().collect();
    println!(
        "300 records, one node killed, one left: {} delivered, {} of them again; longest silence {longest:?}, all after {:?}",
        distinct.len(),
        heard.len() - distinct.len(),
        died.elapsed()
    );
    // Of one key, the first deliveries are in order.
    let mut seen = BTreeSet::new();
    let mut last = [None; 12];
    for number in heard.into_iter().filter(|number| seen.insert(*number)) {
        let last = &mut last[number as usize % 12];
        assert!(*last < Some(number), "{number} after {last:?}");
        *last = Some(number);
    }
}
