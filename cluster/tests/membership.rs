//! Gossip between nodes on loopback.

mod support;

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::identity;
use wsgateway_cluster::gossip::Refusal;
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
        secrets: Vec::new(),
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
        admin_url: "https://admin.example.com".into(),
        client_url: "wss://ws.example.com/base".into(),
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

const OLD: &[u8] = b"the old secret of the cluster";
const NEW: &[u8] = b"the new secret of the cluster";

async fn start_sealed(node_id: NodeId, at: SocketAddr, seed: SocketAddr, secrets: &[&[u8]]) -> Membership {
    Membership::start(sealed(node_id, 1, at, seed, secrets)).await.unwrap()
}

fn sealed(node_id: NodeId, generation: u64, at: SocketAddr, seed: SocketAddr, secrets: &[&[u8]]) -> MembershipOptions {
    let secrets = secrets.iter().map(|secret| secret.to_vec()).collect();
    MembershipOptions { secrets, ..options(node_id, generation, at, seed) }
}

fn refused(membership: &Membership) -> Vec<(Refusal, u64)> {
    membership.refusals().counts().filter(|(_, count)| *count > 0).collect()
}

async fn until_refused(membership: &Membership, refusal: Refusal, count: u64) {
    let deadline = Instant::now() + PLENTY;
    while membership.refusals().count(refusal) < count {
        assert!(Instant::now() < deadline, "never {count} of {refusal:?}: {:?}", refused(membership));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Stands in for a peer: what comes here is caught, and sent elsewhere when the test wants it.
struct Spy(tokio::net::UdpSocket);

impl Spy {
    async fn new() -> Spy {
        Spy(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn catch(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let caught = tokio::time::timeout(PLENTY, self.0.recv(&mut buffer)).await;
        let length = caught.expect("a datagram").unwrap();
        buffer.truncate(length);
        buffer
    }

    /// What is waiting here.
    async fn caught(&self) -> Vec<Vec<u8>> {
        let mut caught = Vec::new();
        self.send(b"the end", self.addr()).await;
        loop {
            let datagram = self.catch().await;
            if datagram == b"the end" {
                return caught;
            }
            caught.push(datagram);
        }
    }

    async fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.0.send_to(datagram, to).await.unwrap();
    }
}

#[tokio::test]
async fn who_shares_the_secret_is_heard_and_nobody_else() {
    let at = [(); 5].map(|()| free_port());
    let a = start_sealed(1, at[0], at[0], &[NEW]).await;
    let b = start_sealed(2, at[1], at[0], &[NEW]).await;
    let in_the_clear = start_sealed(3, at[2], at[0], &[]).await;
    let other_secret = start_sealed(4, at[3], at[0], &[OLD]).await;
    let mut labelled = sealed(5, 1, at[4], at[0], &[NEW]);
    labelled.cluster_label = "other".into();
    let other_label = Membership::start(labelled).await.unwrap();

    for node in [&a, &b] {
        until(node, "two live nodes", |members| live(members) == [1, 2]).await;
    }
    let facts = LocalFacts { name: "bee".into(), applied_index: 7, ..LocalFacts::default() };
    b.local_update(facts.clone()).await.unwrap();
    until(&a, "the facts of b", |members| members[&2].facts == facts).await;

    for refusal in [Refusal::Plaintext, Refusal::Key, Refusal::Label] {
        until_refused(&a, refusal, 10).await;
    }
    for (node, known) in [(&a, vec![1, 2]), (&b, vec![1, 2]), (&in_the_clear, vec![3]), (&other_secret, vec![4])] {
        let members = node.watch().borrow().clone();
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), known, "dead ones would be known too");
    }
    assert_eq!(live(&other_label.watch().borrow()), [5]);
    assert_eq!(refused(&b), [], "nobody has written to it");
    assert!(refused(&a)
        .iter()
        .all(|(refusal, _)| [Refusal::Plaintext, Refusal::Key, Refusal::Label].contains(refusal)));
}

#[tokio::test]
async fn a_datagram_that_was_caught_is_answered_once_and_altered_ones_never() {
    let (spy, at) = (Spy::new().await, [free_port(), free_port()]);
    let a = start_sealed(1, at[0], spy.addr(), &[OLD, NEW]).await;
    let b = start_sealed(2, at[1], at[1], &[NEW, OLD]).await;
    let syn = spy.catch().await;
    drop(a);

    let bits = [0x01, 0x80];
    let mut sent = 0;
    for at_byte in 0..syn.len() {
        for bit in bits {
            let mut altered = syn.clone();
            altered[at_byte] ^= bit;
            spy.send(&altered, at[1]).await;
            sent += 1;
        }
        let all = || b.refusals().counts().map(|(_, count)| count).sum::<u64>();
        let deadline = Instant::now() + PLENTY;
        while all() < sent {
            assert!(Instant::now() < deadline, "byte {at_byte} of {} was not refused: {:?}", syn.len(), refused(&b));
            tokio::task::yield_now().await;
        }
    }
    let told = refused(&b).into_iter().map(|(refusal, _)| refusal).collect::<Vec<_>>();
    assert_eq!(told, [Refusal::Foreign, Refusal::Version, Refusal::Label, Refusal::Key]);

    assert_eq!(live(&b.watch().borrow()), [2]);
    let by_b = |datagram: &Vec<u8>| datagram[10..26] != syn[10..26];
    assert!(!spy.caught().await.iter().any(by_b), "an answer to an altered one");
    spy.send(&syn, at[1]).await;
    let answer = spy.catch().await;
    for times in 1..=5 {
        spy.send(&syn, at[1]).await;
        until_refused(&b, Refusal::Replay, times).await;
    }
    // Nor is the answer taken by its own sender.
    spy.send(&answer, at[1]).await;
    until_refused(&b, Refusal::Own, 1).await;
    assert_eq!(spy.caught().await, Vec::<Vec<u8>>::new(), "no second answer");
}

#[tokio::test]
async fn garbage_of_all_sizes_does_not_end_gossip() {
    let (spy, at) = (Spy::new().await, [free_port(), free_port()]);
    let a = start_sealed(1, at[0], at[0], &[NEW]).await;
    let head = [b"WSGG\x01\x04test".as_slice(), &[7; 24]].concat();
    let sizes = (0..=600).chain([1_400, 1_500, 9_000, 65_506, 65_507]);
    let mut sent = 0;
    for size in sizes {
        let mut random = vec![0; size];
        rand::fill(&mut random[..]);
        let mut of_chitchat = random.clone();
        let mut of_ours = random.clone();
        let magic = 45_139_u16.to_le_bytes();
        of_chitchat.iter_mut().zip(magic).for_each(|(byte, magic)| *byte = magic);
        of_ours.iter_mut().zip(&head).for_each(|(byte, head)| *byte = *head);
        for garbage in [random, of_chitchat, of_ours] {
            spy.send(&garbage, at[0]).await;
            sent += 1;
        }
        let all = || a.refusals().counts().map(|(_, count)| count).sum::<u64>();
        let deadline = Instant::now() + PLENTY;
        while all() < sent {
            assert!(Instant::now() < deadline, "of {size} bytes, not all were refused: {:?}", refused(&a));
            tokio::task::yield_now().await;
        }
    }
    let ended = tokio::time::timeout(Duration::ZERO, a.terminated()).await;
    assert!(ended.is_err(), "{ended:?}");
    let b = start_sealed(2, at[1], at[0], &[NEW]).await;
    for node in [&a, &b] {
        until(node, "two live nodes", |members| live(members) == [1, 2]).await;
    }
}

/// What is authentic and still no message: of a later version, say.
#[tokio::test]
async fn a_peer_that_talks_nonsense_does_not_end_gossip() {
    let (spy, at) = (Spy::new().await, [free_port(), free_port()]);
    let a = start_sealed(1, at[0], at[0], &[NEW]).await;
    for (number, nonsense) in [b"".as_slice(), b"x", &[7; 2_000], &45_139_u16.to_le_bytes()].into_iter().enumerate() {
        spy.send(&support::sealed_by_another_program(NEW, "test", number as u64, nonsense), at[0]).await;
        until_refused(&a, Refusal::Content, number as u64 + 1).await;
    }
    let b = start_sealed(2, at[1], at[0], &[NEW]).await;
    until(&a, "two live nodes", |members| live(members) == [1, 2]).await;
    assert_eq!((refused(&a), refused(&b)), (vec![(Refusal::Content, 4)], vec![]));
}

/// See docs/operations.md: one restart of each node for each step, and no step before the one before is everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_rotated_while_nodes_see_each_other() {
    let at = [(); 3].map(|()| free_port());
    let mut nodes = Vec::new();
    for (number, addr) in at.into_iter().enumerate() {
        nodes.push(start_sealed(number as NodeId + 1, addr, at[0], &[OLD]).await);
    }
    let mut generation = 1;
    for step in [vec![OLD, NEW], vec![NEW, OLD], vec![NEW]] {
        generation += 1;
        for number in 0..nodes.len() {
            for node in &nodes {
                until(node, "all live", |members| live(members) == [1, 2, 3]).await;
            }
            // Started again with itself and another one as seeds, as nodes are.
            let seed = at[(number + 1) % 3];
            nodes.remove(number).shutdown().await;
            let again =
                Membership::start(sealed(number as NodeId + 1, generation, at[number], seed, &step)).await.unwrap();
            nodes.insert(number, again);
            for node in &nodes {
                until(node, "the restarted one", |members| {
                    let restarted = &members[&(number as NodeId + 1)];
                    restarted.live && restarted.generation == generation
                })
                .await;
                assert_eq!(node.refusals().count(Refusal::Key), 0, "{step:?}, node {}", number + 1);
            }
        }
    }
    // A node that has missed two steps is out, which shows that the above can fail.
    let late = start_sealed(4, free_port(), at[0], &[OLD]).await;
    until_refused(&nodes[0], Refusal::Key, 3).await;
    assert_eq!(live(&late.watch().borrow()), [4]);
}

/// What is said between two nodes while the second one says that it has another name.
async fn overheard(secrets: &[&[u8]], name: &str) -> Vec<Vec<u8>> {
    let (for_a, for_b, at) = (Spy::new().await, Spy::new().await, [free_port(), free_port()]);
    let mut of_a = sealed(1, 1, at[0], for_b.addr(), secrets);
    let mut of_b = sealed(2, 1, at[1], for_a.addr(), secrets);
    (of_a.advertise, of_b.advertise) = (for_a.addr(), for_b.addr());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let note = heard.clone();
    let relay = tokio::spawn(async move {
        loop {
            let (datagram, by, to) = tokio::select! {
                from_b = for_a.catch() => (from_b, &for_b, at[0]),
                from_a = for_b.catch() => (from_a, &for_a, at[1]),
            };
            by.send(&datagram, to).await;
            note.lock().unwrap().push(datagram);
        }
    });
    let (a, b) = (Membership::start(of_a).await.unwrap(), Membership::start(of_b).await.unwrap());
    until(&a, "two live nodes", |members| live(members) == [1, 2]).await;
    let facts = LocalFacts { name: name.into(), ..a.watch().borrow()[&2].facts.clone() };
    b.local_update(facts.clone()).await.unwrap();
    until(&a, "the name of b", |members| members[&2].facts == facts).await;
    relay.abort();
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    heard
}

/// A name alone is too short for chitchat's compression, so that it would be readable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_facts_is_readable_on_the_way() {
    let shows = |datagrams: &[Vec<u8>], text: &[u8]| {
        datagrams.iter().any(|datagram| datagram.windows(text.len()).any(|bytes| bytes == text))
    };
    let in_the_clear = overheard(&[], "meadow").await;
    let under_seal = overheard(&[NEW], "meadow").await;
    assert!(shows(&in_the_clear, b"meadow"), "the test would not find what is there");
    assert!(!shows(&under_seal, b"meadow"));
    assert!(under_seal.len() > 3 && under_seal.iter().all(|datagram| datagram.starts_with(b"WSGG\x01\x04test")));
    // Nothing but the head is the same in any two.
    let head = b"WSGG\x01\x04test".len() + 16 + 8;
    let ends: HashSet<_> = under_seal.iter().map(|datagram| &datagram[head..head + 8]).collect();
    assert_eq!(ends.len(), under_seal.len());
}

#[tokio::test]
async fn secrets_that_links_would_not_take_are_refused() {
    let at = free_port();
    for secrets in [vec![OLD, NEW, b"a third"], vec![b""], vec![OLD, b""]] {
        assert!(Membership::start(sealed(1, 1, at, at, &secrets)).await.is_err(), "{secrets:?}");
    }
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let in_the_clear = MembershipOptions { gossip_listen: everywhere, ..sealed(1, 1, at, at, &[]) };
    assert!(Membership::start(in_the_clear).await.err().unwrap().to_string().contains("needs a cluster secret"));
    let under_seal = MembershipOptions { gossip_listen: everywhere, ..sealed(1, 1, at, at, &[NEW]) };
    assert!(Membership::start(under_seal).await.is_ok());
    let long = MembershipOptions { cluster_label: "x".repeat(256), ..sealed(1, 1, at, at, &[NEW]) };
    assert!(Membership::start(long).await.err().unwrap().to_string().contains("at most 255"));
}
