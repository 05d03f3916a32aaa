//! Limits of the whole cluster: shares follow the connections and what is tried, also when nodes die. Figures are
//! printed; see ADR 0014.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use tokio::task::JoinSet;

use crate::document::{document, http, route, with};
use crate::handshake::to;
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Endpoint, Node};
use crate::service::Service;
use crate::throttling::throttled_count;
use crate::wait::{eventually, PATIENCE};
use crate::ws::{Client, Received};

fn echoing(throttling: Value) -> Value {
    let echo = json!({ "type": "echo" });
    with(document(&unique_path("cluster-limit"), &[route("default", &[echo])]), "throttling", throttling)
}

/// A node's part of a limit.
async fn share(node: &Node, endpoint: &Endpoint, limit: &str) -> f64 {
    let wanted = format!("wsgateway_throttle_share{{endpoint=\"{}\",limit=\"{limit}\"}} ", endpoint.path);
    let metrics = node.admin().get("/metrics").await.expect(200).text();
    let found = metrics.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok());
    found.unwrap_or_else(|| panic!("no {wanted}in {metrics}"))
}

/// Clients that send all the time, each so many messages a second, and count what comes back. Ends with the value.
#[derive(Default)]
struct Flood {
    passed: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Flood {
    async fn add(&mut self, node: &Node, endpoint: &Endpoint, clients: usize, per_second: u64, key: &str) {
        for _ in 0..clients {
            let client = Client::try_connect(node, &endpoint.path, &[("x-api-key", key)]).await.expect("accepted");
            self.clients.spawn(send_and_count(client, per_second, Arc::clone(&self.passed)));
        }
    }

    /// Messages that came back a second, over this time.
    async fn rate(&self, over: Duration) -> f64 {
        let (before, began) = (self.passed.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(over).await;
        (self.passed.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64()
    }
}

/// Until its socket ends.
async fn send_and_count(mut client: Client, per_second: u64, passed: Arc<AtomicU64>) {
    let mut ticks = tokio::time::interval(Duration::from_nanos(1_000_000_000 / per_second));
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if !client.try_send("1").await {
                    return;
                }
            }
            received = client.receive() => match received {
                Received::Text(_) => drop(passed.fetch_add(1, Ordering::Relaxed)),
                _ => return,
            },
        }
    }
}

#[track_caller]
fn near(rate: f64, expected: f64, percent: f64, what: &str) {
    println!("{what}: {rate:.1} a second, the limit is {expected}");
    let off = (rate - expected).abs() / expected * 100.0;
    assert!(off <= percent, "{what}: {rate:.1} a second is {off:.1}% off {expected}");
}

#[tokio::test]
async fn a_message_rate_holds_over_uneven_nodes_and_when_they_die() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let limits = json!({"messagesPerSecond": {"rate": 300, "burst": 30}, "onExceeded": "drop"});
    let endpoint = cluster.create(&echoing(limits)).await;
    let mut flood = Flood::default();
    for (node, clients) in cluster.nodes.iter().zip([16, 2, 2]) {
        flood.add(node, &endpoint, clients, 120, "").await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    near(flood.rate(Duration::from_secs(3)).await, 300.0, 15.0, "connections 80/10/10");
    let mut shares = Vec::new();
    for node in &cluster.nodes {
        shares.push(share(node, &endpoint, "messagesPerSecond").await);
    }
    println!("shares {shares:?}");
    assert!(shares[0] > 0.65 && shares[1] < 0.2 && shares[2] < 0.2, "shares follow the connections: {shares:?}");
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 0.05, "{shares:?}");

    cluster.nodes[0].kill();
    let killed = Instant::now();
    eventually("the dead node's share to move", Duration::from_secs(30), async || {
        let (b, c) = (
            share(&cluster.nodes[1], &endpoint, "messagesPerSecond").await,
            share(&cluster.nodes[2], &endpoint, "messagesPerSecond").await,
        );
        (b > 0.4 && c > 0.4).then_some(())
    })
    .await;
    println!("a killed node's share had moved after {:?}", killed.elapsed());
    near(flood.rate(Duration::from_secs(2)).await, 300.0, 15.0, "two nodes of three");

    // One of three cannot know whether the others are dead: it keeps the share that it has.
    cluster.nodes[1].kill();
    eventually("the last node to miss the other", Duration::from_secs(30), async || {
        let seen = cluster.nodes[2].admin().get("/metrics").await.expect(200).text();
        seen.contains("wsgateway_gossip_nodes_live 1\n").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let kept = share(&cluster.nodes[2], &endpoint, "messagesPerSecond").await;
    near(flood.rate(Duration::from_secs(2)).await, 300.0 * kept, 15.0, "the last node");
    assert!((0.35..0.65).contains(&kept), "{kept}");
}

/// Connects as long as it is let in, `at_once` tries in a row; keeps the clients.
async fn fill(node: &Node, endpoint: &Endpoint, tries: usize, clients: &mut Vec<Client>) {
    for _ in 0..tries {
        match Client::try_connect(node, &endpoint.path, &[]).await {
            Ok(client) => clients.push(client),
            Err(refused) => assert_eq!(refused.status, 429),
        }
    }
}

#[tokio::test]
async fn places_for_connections_go_where_they_are_wanted() {
    const MAX: usize = 30;
    let cluster = shared().await;
    let endpoint = cluster.create(&echoing(json!({ "maxConnections": MAX }))).await;
    let mut clients = Vec::new();
    fill(&cluster.nodes[0], &endpoint, MAX, &mut clients).await;
    println!("{} of {MAX} got in at once on one node of three", clients.len());
    assert!(clients.len() >= 8, "an equal share at first: {}", clients.len());
    let began = Instant::now();
    eventually("all places on one node", PATIENCE, async || {
        fill(&cluster.nodes[0], &endpoint, 5, &mut clients).await;
        (clients.len() >= MAX).then_some(())
    })
    .await;
    println!("all {MAX} places were on one node after {:?}", began.elapsed());
    assert_eq!(clients.len(), MAX);
    for node in &cluster.nodes {
        let answer = to(node).at(&endpoint.path).await.answer;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("5")), "{}", node.name);
        assert!(throttled_count(node, &endpoint, "maxConnections").await > 0, "{}", node.name);
    }
    // Who leaves makes room on every node.
    for client in clients.split_off(MAX - 6) {
        client.leave().await;
    }
    let left = Instant::now();
    let mut elsewhere = Vec::new();
    eventually("the places of those who left", PATIENCE, async || {
        fill(&cluster.nodes[1], &endpoint, 2, &mut elsewhere).await;
        fill(&cluster.nodes[2], &endpoint, 1, &mut elsewhere).await;
        (elsewhere.len() >= 6).then_some(())
    })
    .await;
    println!("six places had moved to the other nodes after {:?}", left.elapsed());
    assert_eq!(elsewhere.len(), 6, "the limit is of all nodes together");
}

#[tokio::test]
async fn a_storm_on_all_nodes_stays_within_the_limit() {
    const MAX: usize = 60;
    let cluster = shared().await;
    let endpoint = cluster.create(&echoing(json!({ "maxConnections": MAX }))).await;
    let mut clients = Vec::new();
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(6) {
        for (node, tries) in cluster.nodes.iter().zip([8, 3, 1]) {
            fill(node, &endpoint, tries, &mut clients).await;
        }
        most = most.max(clients.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{} of {MAX} after a storm of six seconds, {most} at most", clients.len());
    assert!(clients.len() >= MAX * 9 / 10, "{} of {MAX}", clients.len());
    // One more may slip in on a node in the very moment in which it gives up places.
    assert!(most <= MAX + 1, "{most} of {MAX}");
}

#[tokio::test]
async fn a_connection_rate_holds_over_nodes() {
    let cluster = shared().await;
    let endpoint = cluster.create(&echoing(json!({"connectionsPerSecond": {"rate": 20, "burst": 20}}))).await;
    let accepted = Arc::new(AtomicU64::new(0));
    let storm = async |node: &Node, per_second: u64| {
        let mut ticks = tokio::time::interval(Duration::from_millis(1000 / per_second));
        loop {
            ticks.tick().await;
            if to(node).outcome(&endpoint.path).await.0 == 101 {
                accepted.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let measure = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (before, began) = (accepted.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(Duration::from_secs(4)).await;
        (accepted.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64()
    };
    let rate = tokio::select! {
        rate = measure => rate,
        () = storm(&cluster.nodes[0], 60) => unreachable!(),
        () = storm(&cluster.nodes[1], 10) => unreachable!(),
        () = storm(&cluster.nodes[2], 5) => unreachable!(),
    };
    near(rate, 20.0, 20.0, "connections");
}

#[tokio::test]
async fn an_identity_on_several_nodes_has_one_rate() {
    let cluster = shared().await;
    let keys = json!({"mode": "apiKey", "keys": [
        {"id": "ann", "key": "ann-s-long-api-key"}, {"id": "bob", "key": "bob-s-long-api-key"}]});
    let limits = json!({"perIdentity": {"rate": 60, "burst": 6}, "onExceeded": "drop"});
    let endpoint = cluster.create(&with(echoing(limits), "authentication", keys)).await;
    let (mut ann, mut bob) = (Flood::default(), Flood::default());
    ann.add(&cluster.nodes[0], &endpoint, 2, 60, "ann-s-long-api-key").await;
    ann.add(&cluster.nodes[1], &endpoint, 1, 60, "ann-s-long-api-key").await;
    bob.add(&cluster.nodes[2], &endpoint, 1, 120, "bob-s-long-api-key").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let over = Duration::from_secs(3);
    let (of_ann, of_bob) = tokio::join!(ann.rate(over), bob.rate(over));
    near(of_ann, 60.0, 15.0, "ann on two nodes");
    near(of_bob, 60.0, 15.0, "bob on one");
}

#[tokio::test]
async fn each_limit_with_each_answer_over_the_cluster() {
    let cluster = shared().await;
    let identity = json!({"key": "ip", "rate": 0.01, "burst": 4});
    let rate = json!({"rate": 0.01, "burst": 4});
    // Fewer than all messages pass on one node: at least one, at most the whole burst.
    let limits =
        [("perConnection", &rate, 4..=4), ("perIdentity", &identity, 1..=4), ("messagesPerSecond", &rate, 1..=4)];
    for (limit, value, passing) in limits {
        for on_exceeded in ["reject", "drop", "close"] {
            let service = Service::start().await;
            let limits = json!({"scope": "cluster", "onExceeded": on_exceeded, limit: value});
            let mut wanted = echoing(limits);
            wanted["routes"].as_array_mut().expect("routes").push(route("error", &[http(&service, "/error")]));
            let endpoint = cluster.create(&wanted).await;
            let node = &cluster.nodes[1];
            let mut client = Client::connect(node, &endpoint.path).await;
            for n in 0..10 {
                let taken = client.try_send(&n.to_string()).await;
                assert!(taken || on_exceeded == "close", "{limit} {on_exceeded}");
            }
            let (mut passed, mut rejected) = (0, 0);
            loop {
                match tokio::time::timeout(Duration::from_millis(300), client.receive()).await {
                    Ok(Received::Text(text)) if text.contains("\"throttled\"") => rejected += 1,
                    Ok(Received::Text(_)) => passed += 1,
                    Ok(Received::Close(code)) => {
                        assert_eq!((on_exceeded, code), ("close", 1008));
                        break;
                    }
                    Ok(other) => panic!("{limit} {on_exceeded}: {other:?}"),
                    Err(_) if on_exceeded == "close" => panic!("{limit}: not closed"),
                    Err(_) => break,
                }
            }
            assert!(passing.contains(&passed), "{limit} {on_exceeded}: {passed} passed");
            let count = throttled_count(node, &endpoint, limit).await;
            match on_exceeded {
                "reject" => {
                    assert_eq!((rejected, count), (10 - passed, 10 - passed), "{limit}");
                    service.wait_for("/error", rejected as usize).await;
                }
                "drop" => assert_eq!((rejected, count), (0, 10 - passed), "{limit}"),
                _ => assert_eq!((rejected, count), (0, 1), "{limit}"),
            }
        }
    }
}
