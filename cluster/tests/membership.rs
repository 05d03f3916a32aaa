//! Gossip between nodes on loopback.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::identity;
use wsgateway_cluster::membership::{LocalFacts, Members, Membership, MembershipOptions, GOSSIP_INTERVAL};
use wsgateway_cluster::{ClusterId, NodeId};

const INTERVAL: Duration = Duration::from_millis(50);
const PLENTY: Duration = Duration::from_secs(15);

fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn start(node_id: NodeId, generation: u64, at: SocketAddr, seed: SocketAddr) -> Membership {
    Membership::start(options(node_id, generation, at, seed)).await.unwrap()
}

fn options(node_id: NodeId, generation: u64, at: SocketAddr, seed: SocketAddr) -> MembershipOptions {
    let mut identity = identity(node_id);
    identity.generation = generation;
    MembershipOptions {
        identity,
        gossip_listen: at,
        advertise: at,
        seeds: vec![seed.to_string()],
        cluster_label: "test".into(),
        interval: INTERVAL,
    }
}

async fn until(membership: &Membership, what: &str, wanted: impl Fn(&Members) -> bool) {
    let mut watch = membership.watch();
    let waited = tokio::time::timeout(PLENTY, watch.wait_for(|members| wanted(members))).await;
    if !matches!(waited, Ok(Ok(_))) {
        panic!("never came: {what}; there is {:#?}", membership.watch().borrow());
    }
}

fn live(members: &Members) -> Vec<NodeId> {
    members.values().filter(|peer| peer.live).map(|peer| peer.node_id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_each_other_and_notice_who_dies_restarts_or_leaves() {
    let addrs = [free_port(), free_port(), free_port()];
    // 0xab…: the id is hex on the wire.
    let ids = [1, 0xab00_0000_0000_0002, 3];
    let a = start(ids[0], 1, addrs[0], addrs[0]).await;
    let b = start(ids[1], 1, addrs[1], addrs[0]).await;
    let c = start(ids[2], 1, addrs[2], addrs[0]).await;
    let all = vec![1, 3, ids[1]];
    for node in [&a, &b, &c] {
        until(node, "three live nodes", |members| live(members) == all).await;
    }

    let facts = LocalFacts {
        cluster_addr: "10.0.0.2:7000".into(),
        admin_addr: "10.0.0.2:9000".into(),
        client_addr: "10.0.0.2:8080".into(),
        ready: true,
        version: "0.1.0".into(),
        applied_index: 42,
        active_connections: 1_000,
        cluster_id: Some(ClusterId(0xfeed)),
        name: "Bée".into(),
    };
    b.local_update(facts.clone()).await.unwrap();
    for node in [&a, &b, &c] {
        until(node, "the facts of b", |members| members[&ids[1]].facts == facts).await;
    }
    let too_much = LocalFacts { name: "x".repeat(2_000), ..facts.clone() };
    assert!(b.local_update(too_much).await.is_err());
    assert_eq!(b.watch().borrow()[&ids[1]].facts, facts);

    // Dies without a word.
    drop(b);
    until(&a, "b not live", |members| live(members) == [1, 3]).await;
    assert_eq!(a.watch().borrow()[&ids[1]].facts, facts, "still known");

    // Comes back somewhere else.
    let elsewhere = free_port();
    let b = start(ids[1], 2, elsewhere, addrs[0]).await;
    for node in [&a, &c] {
        until(node, "b in its second generation", |members| {
            let b = &members[&ids[1]];
            b.live && b.generation == 2 && b.gossip_addr == elsewhere && members.len() == 3
        })
        .await;
    }

    // Leaves and comes back to the same port.
    c.shutdown().await;
    until(&a, "c not live", |members| live(members) == [1, ids[1]]).await;
    let again = start(ids[2], 2, addrs[2], addrs[0]).await;
    until(&again, "the port is free again", |members| live(members) == all).await;
    drop((a, b));
}

/// With the real interval, in which silence alone would be noticed after seconds only.
#[tokio::test]
async fn a_goodbye_is_heard_at_once() {
    let addrs = [free_port(), free_port()];
    let with_interval = |id, at| {
        let mut options = options(id, 1, at, addrs[0]);
        options.interval = GOSSIP_INTERVAL;
        Membership::start(options)
    };
    let (a, b) = (with_interval(1, addrs[0]).await.unwrap(), with_interval(2, addrs[1]).await.unwrap());
    until(&a, "two live nodes", |members| live(members) == [1, 2]).await;
    let began = Instant::now();
    b.shutdown().await;
    until(&a, "b not live", |members| live(members) == [1]).await;
    assert!(began.elapsed() < GOSSIP_INTERVAL * 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn another_label_is_another_world() {
    let addrs = [free_port(), free_port()];
    let (one, mut two) = (options(1, 1, addrs[0], addrs[0]), options(2, 1, addrs[1], addrs[0]));
    two.cluster_label = "other".into();
    let (a, b) = (Membership::start(one).await.unwrap(), Membership::start(two).await.unwrap());
    tokio::time::sleep(INTERVAL * 10).await;
    assert_eq!((live(&a.watch().borrow()), live(&b.watch().borrow())), (vec![1], vec![2]));
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    assert!(Membership::start(options(1, 1, at, at)).await.is_err());
}
