//! What gossip costs, and how fast it is, as clusters grow: many nodes in one process, on a clock that jumps from one
//! timer to the next. `docs/scaling.md` has the figures; `--nocapture` prints those of this run.
//!
//! Nodes are the real `Membership` over chitchat's transport in memory, with the seal's bytes counted on top. When they
//! start is drawn from a seed; whom they talk to is drawn by chitchat, which cannot be given one. So figures differ a
//! little between runs, and the bounds are about twice what was measured.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{ChannelTransport, RecvOutcome, SendOutcome, Socket, Transport};
use chitchat::{ChitchatEnvelope, ChitchatMessage};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{sleep, Instant};
use wsgateway_cluster::gossip::Refusals;
use wsgateway_cluster::membership::{LocalFacts, Members, Membership, MembershipOptions, GOSSIP_INTERVAL};
use wsgateway_cluster::{ClusterId, Identity, NodeId};

/// How often it is looked whether something has happened: the resolution of all times.
const STEP: Duration = Duration::from_millis(100);
/// Facts change once a second, each node's in a step of its own.
const STEPS_A_SECOND: usize = 10;
/// Of simulated time.
const PATIENCE: Duration = Duration::from_secs(120);
const LABEL: &str = "wsgateway";
/// Magic, format, label and its length, run, number and tag of `gossip::seal`.
const SEAL_BYTES: usize = 4 + 1 + 1 + LABEL.len() + 16 + 8 + 16;
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Of the moments at which nodes start, their ids and facts; `WSGATEWAY_SIMULATION_SEED` sets another one.
fn seed() -> u64 {
    std::env::var("WSGATEWAY_SIMULATION_SEED").map_or(7, |text| text.parse().expect("a seed is a number"))
}

fn identity(node_id: NodeId) -> Identity {
    Identity { node_id, generation: 1, name: format!("n{node_id}"), cluster_id: Arc::new(OnceLock::new()) }
}

/// What was sent since it was last reset, seals included.
#[derive(Clone, Debug, Default)]
struct Sent {
    bytes: usize,
    datagrams: usize,
    /// By kind of message.
    longest: BTreeMap<&'static str, usize>,
    /// Longer than a datagram with its seal, so lost.
    too_long: usize,
}

#[derive(Clone)]
struct Wire {
    channels: ChannelTransport,
    sent: Arc<Mutex<Sent>>,
}

struct End {
    socket: Box<dyn Socket>,
    sent: Arc<Mutex<Sent>>,
}

impl Wire {
    fn new() -> Wire {
        Wire { channels: ChannelTransport::with_mtu(DATAGRAM_BYTES_MAX - SEAL_BYTES), sent: Arc::default() }
    }

    fn take(&self) -> Sent {
        std::mem::take(&mut self.sent.lock().unwrap())
    }
}

#[async_trait]
impl Transport for Wire {
    async fn open(&self, listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.channels.open(listen).await?;
        Ok(Box::new(End { socket, sent: self.sent.clone() }))
    }
}

#[async_trait]
impl Socket for End {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.socket.local_addr()
    }

    async fn send(&mut self, to: SocketAddr, message: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let kind = match &message.message {
            ChitchatMessage::Syn { .. } => "syn",
            ChitchatMessage::SynAck { .. } => "syn-ack",
            ChitchatMessage::Ack { .. } => "ack",
            ChitchatMessage::BadCluster => "bad cluster",
        };
        let outcome = self.socket.send(to, message).await;
        let mut sent = self.sent.lock().unwrap();
        match &outcome {
            Ok(SendOutcome { num_bytes_sent }) => {
                let bytes = num_bytes_sent + SEAL_BYTES;
                sent.bytes += bytes;
                sent.datagrams += 1;
                let longest = sent.longest.entry(kind).or_default();
                *longest = bytes.max(*longest);
            }
            Err(_) => sent.too_long += 1,
        }
        outcome
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.socket.recv().await
    }
}

struct Cluster {
    wire: Wire,
    nodes: BTreeMap<NodeId, Membership>,
    facts: BTreeMap<NodeId, LocalFacts>,
    lots: StdRng,
    /// How long the nodes' names are: the only fact whose length is up to people.
    name_bytes: usize,
    started: u16,
    steps: usize,
}

impl Cluster {
    fn new(name_bytes: usize) -> Cluster {
        let (lots, wire) = (StdRng::seed_from_u64(seed()), Wire::new());
        Cluster { wire, nodes: BTreeMap::new(), facts: BTreeMap::new(), lots, name_bytes, started: 0, steps: 0 }
    }

    fn address(number: u16) -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        (Ipv4Addr::new(10, 20, high, low), 7_000).into()
    }

    /// One more node, at some moment of an interval, with the first three as its seeds.
    async fn start(&mut self) -> NodeId {
        let node_id: NodeId = self.lots.random();
        let at = Self::address(self.started);
        self.started += 1;
        let options = MembershipOptions {
            identity: identity(node_id),
            gossip_listen: at,
            advertise: at,
            seeds: (0..3).map(|number| Self::address(number).to_string()).collect(),
            cluster_label: LABEL.into(),
            secrets: Vec::new(),
            interval: GOSSIP_INTERVAL,
        };
        let node = Membership::start_on(&self.wire, Arc::new(Refusals::default()), options).await.unwrap();
        let name = (0..self.name_bytes).map(|_| char::from(self.lots.random_range(b'a'..=b'z'))).collect();
        let facts = LocalFacts {
            cluster_addr: at.to_string(),
            admin_addr: format!("{}:9000", at.ip()),
            client_addr: format!("{}:8080", at.ip()),
            admin_url: "http://10.0.0.100:9000".to_owned(),
            client_url: "ws://10.0.0.100:8080".to_owned(),
            ready: true,
            version: "0.1.0".into(),
            applied_index: 123_456,
            active_connections: self.lots.random_range(0..100_000),
            cluster_id: Some(ClusterId(0xfeed_0000_0000_0000_0000_0000_0000_cafe)),
            name,
        };
        node.local_update(facts.clone()).await.unwrap();
        self.nodes.insert(node_id, node);
        self.facts.insert(node_id, facts);
        node_id
    }

    async fn start_all(nodes: usize, name_bytes: usize) -> Cluster {
        let mut cluster = Cluster::new(name_bytes);
        for _ in 0..nodes {
            let pause = GOSSIP_INTERVAL.mul_f64(cluster.lots.random::<f64>() / nodes as f64 * 2.0);
            sleep(pause).await;
            cluster.start().await;
        }
        cluster
    }

    /// A step of time, in which a tenth of the nodes have other numbers of connections than before.
    async fn step(&mut self) {
        sleep(STEP).await;
        self.steps += 1;
        for (number, (node_id, node)) in self.nodes.iter().enumerate() {
            if number % STEPS_A_SECOND == self.steps % STEPS_A_SECOND {
                let facts = self.facts.get_mut(node_id).unwrap();
                facts.active_connections = self.lots.random_range(0..100_000);
                node.local_update(facts.clone()).await.unwrap();
            }
        }
    }

    /// Time in which nobody comes or goes.
    async fn pass(&mut self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            self.step().await;
            assert!(self.all_know_all(), "seed {}: one that lives is taken for dead", seed());
        }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Cluster) -> bool) -> Duration {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "seed {}, {} nodes: never {what}", seed(), self.nodes.len());
            self.step().await;
        }
        began.elapsed()
    }

    fn everywhere(&self, holds: impl Fn(&Members) -> bool) -> bool {
        self.nodes.values().all(|node| holds(&node.watch().borrow()))
    }

    /// Live nodes are those that run, with their facts, and no other.
    fn all_know_all(&self) -> bool {
        self.everywhere(|members| {
            let live = members.values().filter(|peer| peer.live);
            let named = live.filter(|peer| peer.facts.name.len() == self.name_bytes).map(|peer| &peer.node_id);
            named.eq(self.nodes.keys())
        })
    }
}

/// What one run has shown.
struct Figures {
    /// From the start of the last node until every node knows all of them.
    formed: Duration,
    /// Sent by a node in a second in which nobody comes or goes.
    bytes: f64,
    datagrams: f64,
    /// The digest of all nodes, with little else.
    digest: usize,
    /// From the start of one more node until it knows all, and all know it.
    joined: Duration,
    /// What it was told at once.
    welcome: usize,
    /// From the end of a node, without a word, until it is live nowhere.
    died: Duration,
    too_long: usize,
}

impl Figures {
    fn print(&self, nodes: usize, name_bytes: usize) {
        let Figures { formed, bytes, datagrams, digest, joined, welcome, died, too_long } = self;
        println!(
            "{nodes} nodes, names of {name_bytes} bytes, seed {}: all known after {formed:.1?}; {bytes:.0} bytes and \
             {datagrams:.1} datagrams a node and second, digest {digest} bytes; a new one known after {joined:.1?}, welcome \
             {welcome} bytes; a killed one dead after {died:.1?}; {too_long} datagrams too long",
            seed()
        );
    }
}

const WARM_UP: Duration = Duration::from_secs(15);
const QUIET: Duration = Duration::from_secs(10);

async fn measure(nodes: usize, name_bytes: usize) -> Figures {
    let mut cluster = Cluster::start_all(nodes, name_bytes).await;
    let formed = cluster.until("does everybody know everybody", Cluster::all_know_all).await;
    cluster.pass(WARM_UP).await;

    let mut too_long = cluster.wire.take().too_long;
    cluster.pass(QUIET).await;
    let quiet = cluster.wire.take();
    let node_seconds = nodes as f64 * QUIET.as_secs_f64();

    cluster.start().await;
    let joined = cluster.until("is a new node known everywhere", Cluster::all_know_all).await;
    let joining = cluster.wire.take();

    let victim = *cluster.nodes.keys().nth(nodes / 2).unwrap();
    drop(cluster.nodes.remove(&victim));
    let died = cluster.until("is a killed node dead everywhere, and no other", Cluster::all_know_all).await;
    too_long += quiet.too_long + joining.too_long + cluster.wire.take().too_long;
    let longest = |sent: &Sent, kind| sent.longest.get(kind).copied().unwrap_or_default();
    let figures = Figures {
        formed,
        bytes: quiet.bytes as f64 / node_seconds,
        datagrams: quiet.datagrams as f64 / node_seconds,
        digest: longest(&quiet, "syn"),
        joined,
        welcome: longest(&joining, "syn-ack"),
        died,
        too_long,
    };
    figures.print(nodes, name_bytes);
    figures
}

/// The most that figures may be.
struct Bounds {
    formed_secs: u64,
    bytes: f64,
    digest: usize,
    joined_secs: u64,
    welcome: usize,
    died_secs: u64,
}

fn assert_within(bounds: &Bounds, figures: &Figures) {
    let Figures { formed, bytes, datagrams, digest, joined, welcome, died, too_long } = figures;
    let within = |what: &str, found: f64, most: f64| {
        assert!(found > 0.0 && found <= most, "seed {}: {what} is {found}, and {most} at most", seed());
    };
    within("bytes a node and second", *bytes, bounds.bytes);
    // Three peers and sometimes a seed, three datagrams each.
    within("datagrams a node and second", *datagrams, 12.0);
    within("the digest", *digest as f64, bounds.digest as f64);
    within("the welcome", *welcome as f64, bounds.welcome as f64);
    within("seconds until all know all", formed.as_secs_f64(), bounds.formed_secs as f64);
    within("seconds until a new node is known", joined.as_secs_f64(), bounds.joined_secs as f64);
    within("seconds until a killed node is dead", died.as_secs_f64(), bounds.died_secs as f64);
    assert_eq!(*too_long, 0, "seed {}: datagrams are lost for their length", seed());
}

/// A name like those of pods.
const USUAL_NAME: usize = 40;
/// What of `FACTS_BYTES_MAX` the other facts leave.
const LONGEST_NAME: usize = 700;

#[tokio::test(start_paused = true)]
async fn three_nodes() {
    let bounds = Bounds { formed_secs: 8, bytes: 2_000.0, digest: 400, joined_secs: 8, welcome: 1_200, died_secs: 15 };
    assert_within(&bounds, &measure(3, USUAL_NAME).await);
}

#[tokio::test(start_paused = true)]
async fn ten_nodes() {
    let bounds = Bounds { formed_secs: 8, bytes: 5_000.0, digest: 700, joined_secs: 10, welcome: 2_200, died_secs: 15 };
    assert_within(&bounds, &measure(10, USUAL_NAME).await);
}

#[tokio::test(start_paused = true)]
async fn fifty_nodes() {
    let bounds =
        Bounds { formed_secs: 10, bytes: 15_000.0, digest: 2_000, joined_secs: 12, welcome: 8_500, died_secs: 20 };
    assert_within(&bounds, &measure(50, USUAL_NAME).await);
}

/// Facts as long as they may be: a newcomer is told all of them in datagrams that carry, seal included.
#[tokio::test(start_paused = true)]
async fn long_names() {
    let bounds =
        Bounds { formed_secs: 8, bytes: 6_000.0, digest: 1_200, joined_secs: 10, welcome: 25_000, died_secs: 18 };
    assert_within(&bounds, &measure(25, LONGEST_NAME).await);
}

/// Larger clusters than there is time for in every run: `WSGATEWAY_SIMULATION_NODES=100,200`. Nothing without it.
#[tokio::test(start_paused = true)]
async fn as_many_as_asked_for() {
    let asked = std::env::var("WSGATEWAY_SIMULATION_NODES").unwrap_or_default();
    for nodes in asked.split(',').filter(|text| !text.is_empty()) {
        let nodes = nodes.trim().parse().expect("numbers of nodes, with commas between them");
        for name_bytes in [USUAL_NAME, LONGEST_NAME] {
            let figures = measure(nodes, name_bytes).await;
            assert_eq!(figures.too_long, 0, "seed {}, {nodes} nodes: datagrams are lost for their length", seed());
        }
    }
}
