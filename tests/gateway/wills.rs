//! When a node dies, another one tells the services of its connections: each once, with all that was known, and nobody who
//! lives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::document::{all_routes_to, document, route};
use crate::hostile::metric;
use crate::sandbox::{own_cluster_turn, unique_path, Cluster, Node};
use crate::service::{Request, Service};
use crate::wait::eventually;
use crate::ws::Client;

/// Gossip has to notice it, and its address is asked then.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);
/// Whatever else might come would have come by then.
const QUIET: Duration = Duration::from_secs(5);
/// Larger than the number of any event.
const SEQUENCE_UNKNOWN: u64 = 9_007_199_254_740_991;

fn ids(events: &[Request]) -> Vec<String> {
    let mut ids: Vec<String> = events.iter().map(|it| it.attributes().get("connectionid").to_owned()).collect();
    ids.sort();
    ids
}

async fn connect(node: &Node, path: &str, service: &Service, count: usize) -> (Vec<Client>, BTreeSet<String>) {
    let (mut clients, mut ids) = (Vec::new(), BTreeSet::new());
    for _ in 0..count {
        let (client, visit) = Client::connect_known(node, path, service).await;
        clients.push(client);
        ids.insert(visit.id);
    }
    (clients, ids)
}

/// Waits until the wills of so many connections are with other nodes.
async fn wait_kept(nodes: &[&Node], count: u64) {
    eventually(&format!("{count} wills with other nodes"), Duration::from_secs(10), async || {
        let mut kept = 0;
        for node in nodes {
            kept += metric(node, "wills_kept", &[]).await;
        }
        (kept == count).then_some(())
    })
    .await;
}

async fn told(service: &Service, count: usize) -> Vec<Request> {
    eventually(&format!("{count} disconnect events"), NOTICED_WITHIN, async || {
        let told = service.received("/disconnect");
        (told.len() >= count).then_some(told)
    })
    .await
}

#[tokio::test]
async fn services_hear_of_the_connections_of_a_killed_node_once() {
    const CLIENTS: usize = 12;
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("wills"), &all_routes_to(&service))).await;
    // Nobody wants to hear of these.
    let echo = [route("default", &[serde_json::json!({"type": "echo"})])];
    let silent = cluster.create(&document(&unique_path("silent"), &echo)).await;
    let _silent = Client::connect(&cluster.nodes[0], &silent.path).await;
    let (mut lost, lost_ids) = connect(&cluster.nodes[0], &endpoint.path, &service, CLIENTS + 1).await;
    let (mut others, _) = connect(&cluster.nodes[1], &endpoint.path, &service, 2).await;
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    wait_kept(&all, CLIENTS as u64 + 3).await;

    // Who has left in order is not told of again.
    lost.pop().expect("a client").leave().await;
    let left = told(&service, 1).await;
    wait_kept(&all, CLIENTS as u64 + 2).await;
    let connects = service.received("/connect");
    cluster.nodes[0].kill();
    let killed = Instant::now();
    let events = told(&service, CLIENTS + 1).await;
    println!("{CLIENTS} connections of a killed node were told of after {:?}", killed.elapsed());
    assert_eq!(ids(&events).into_iter().collect::<BTreeSet<_>>(), lost_ids, "those and no others");
    for event in &events[1..] {
        let attributes = event.attributes();
        assert_eq!(attributes.get("type"), "io.wsgateway.disconnect");
        assert_eq!((attributes.sequence(), attributes.get("route")), (SEQUENCE_UNKNOWN, "disconnect"));
        let body = event.json();
        let reason = "the node of the connection is gone";
        assert_eq!(
            (&body["code"], &body["reason"], &body["initiator"]),
            (&1006.into(), &reason.into(), &"gateway".into())
        );
        assert!(body["eventsIn"].is_null() && body["eventsOut"].is_null() && body["durationMillis"].is_u64(), "{body}");
        let connect = connects.iter().map(Request::json).find(|it| it["connectionId"] == body["connectionId"]);
        for (name, value) in connect.expect("its connect event").as_object().expect("an object") {
            assert_eq!(&body[name], value, "{name} is as it was");
        }
    }

    // It comes back, and remembers nothing of them.
    cluster.nodes[0].restart().await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(service.received("/disconnect").len(), events.len(), "each once");
    for client in &mut others {
        client.send("1").await;
    }
    service.wait_for("/default", 2).await;
    let event_ids: BTreeSet<String> = events.iter().map(|it| it.attributes().get("id").to_owned()).collect();
    assert_eq!((event_ids.len(), left.len()), (CLIENTS + 1, 1));
    wait_kept(&all, 2).await;
}

#[tokio::test]
async fn a_node_that_is_back_at_once_has_its_former_life_told_and_one_that_hangs_or_leaves_has_not() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("lives"), &all_routes_to(&service))).await;
    let all: Vec<&Node> = cluster.nodes.iter().collect();
    let (_lost, lost) = connect(&cluster.nodes[0], &endpoint.path, &service, 3).await;
    let (mut frozen, frozen_ids) = connect(&cluster.nodes[1], &endpoint.path, &service, 3).await;
    wait_kept(&all, 6).await;

    cluster.nodes[0].kill();
    cluster.nodes[0].restart().await;
    let events = told(&service, 3).await;
    assert_eq!(ids(&events).into_iter().collect::<BTreeSet<_>>(), lost);

    // Frozen for longer than gossip waits. What it keeps for others is safe with the others again.
    cluster.nodes[1].signal(libc::SIGSTOP);
    eventually("gossip to miss the frozen node", NOTICED_WITHIN, async || {
        (metric(&cluster.nodes[0], "gossip_nodes_live", &[]).await == 2).then_some(())
    })
    .await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(service.received("/disconnect").len(), 3, "a node that does not answer may be cut off and alive");
    cluster.nodes[1].signal(libc::SIGCONT);
    for id in &frozen_ids {
        eventually("a push to a client of the node that was frozen", NOTICED_WITHIN, async || {
            (cluster.nodes[2].admin().push(id, "1").await.status == 202).then_some(())
        })
        .await;
    }
    for client in &mut frozen {
        assert_eq!(client.text().await, "1");
    }

    // Who leaves in order tells for itself, and nobody after it.
    wait_kept(&all, 3).await;
    cluster.nodes[1].signal(libc::SIGTERM);
    cluster.nodes[1].wait_exit(Duration::from_secs(30)).await;
    let events = told(&service, 6).await;
    eventually("nobody's wills to be kept", NOTICED_WITHIN, async || {
        let kept =
            metric(&cluster.nodes[0], "wills_kept", &[]).await + metric(&cluster.nodes[2], "wills_kept", &[]).await;
        (kept == 0).then_some(())
    })
    .await;
    assert!(events[3..].iter().all(|event| event.json()["code"] == 1012), "told by itself");
    tokio::time::sleep(QUIET).await;
    assert_eq!(service.received("/disconnect").len(), 6, "each once");
}
