//! A small sandbox for scenarios: several nodes in one process, over an in-process transport whose links can be cut.
#![allow(dead_code)] // every test file uses its own part of it

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerError, PeerTransport, Services};
use wsgateway_raft_store::types::{Authorship, Command, ProposeError, Reply};
use wsgateway_raft_store::{Disk, RaftStore, StoreError, StoreOptions};

/// All nodes by address, and the links that are cut.
#[derive(Clone, Default)]
pub struct Switchboard {
    inner: Arc<RwLock<Board>>,
}

#[derive(Default)]
struct Board {
    nodes: BTreeMap<String, (NodeId, Services)>,
    /// Addresses that hear nobody and whom nobody hears.
    cut: BTreeSet<String>,
    /// From whom nothing reaches whom.
    cut_one_way: BTreeSet<(String, String)>,
}

impl Switchboard {
    pub fn cut(&self, addr: &str) {
        self.inner.write().unwrap().cut.insert(addr.to_owned());
    }

    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.inner.write().unwrap().cut_one_way.insert((from.to_owned(), to.to_owned()));
    }

    pub fn heal(&self) {
        let mut board = self.inner.write().unwrap();
        board.cut.clear();
        board.cut_one_way.clear();
    }

    fn open(&self, from: &str, to: &str) -> bool {
        let board = self.inner.read().unwrap();
        let cut_off = board.cut.contains(from) || board.cut.contains(to);
        !cut_off && !board.cut_one_way.contains(&(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, addr: &str) {
        self.inner.write().unwrap().nodes.remove(addr);
    }

    fn find(&self, from: &str, to: &PeerAddress) -> Result<Option<Services>, PeerError> {
        if !self.open(from, &to.addr) {
            return Ok(None);
        }
        let board = self.inner.read().unwrap();
        let unreachable = || PeerError::Unreachable { addr: to.addr.clone(), reason: "nobody".into(), sent: false };
        let (id, services) = board.nodes.get(&to.addr).ok_or_else(unreachable)?;
        match to.node_id {
            Some(expected) if expected != *id => {
                Err(PeerError::Refused { addr: to.addr.clone(), reason: "another node".to_owned() })
            }
            _ => Ok(Some(services.clone())),
        }
    }
}

/// One node's end.
struct Line {
    addr: String,
    id: NodeId,
    board: Switchboard,
}

#[async_trait]
impl PeerTransport for Line {
    async fn call(
        &self,
        peer: &PeerAddress,
        _channel: Channel,
        kind: u16,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        let late = || PeerError::Timeout { addr: peer.addr.clone(), millis: deadline.as_millis() as u64 };
        // A cut link is silent, which is worse than one that is refused.
        let Some(services) = self.board.find(&self.addr, peer)? else {
            tokio::time::sleep(deadline).await;
            return Err(late());
        };
        let service = services.find(kind).ok_or(PeerError::Remote("no service".to_owned()))?;
        let answer = tokio::time::timeout(deadline, service.handle(self.id, kind, payload)).await;
        let answer = answer.map_err(|_| late())?.map_err(PeerError::Remote)?;
        // The answer goes the other way, which may be cut by now.
        if self.board.open(&peer.addr, &self.addr) {
            return Ok(answer);
        }
        tokio::time::sleep(deadline).await;
        Err(late())
    }

    fn forget(&self, _peer: &PeerAddress) {}

    async fn whois(&self, addr: &str) -> Result<NodeId, PeerError> {
        let peer = PeerAddress { node_id: None, addr: addr.to_owned() };
        if self.board.find(&self.addr, &peer)?.is_none() || !self.board.open(addr, &self.addr) {
            std::future::pending::<()>().await;
        }
        let board = self.board.inner.read().unwrap();
        board.nodes.get(addr).map(|(id, _)| *id).ok_or(PeerError::Remote("gone".to_owned()))
    }
}

/// A running node and its disk.
pub struct Node {
    pub addr: String,
    pub dir: TempDir,
    pub store: RaftStore,
    board: Switchboard,
}

/// Fast enough for tests, with the same proportions as in the product.
pub fn options(addr: &str, seeds: &[&str], expect: usize) -> StoreOptions {
    StoreOptions {
        seeds: seeds.iter().map(|seed| seed.to_string()).collect(),
        bootstrap_expect: expect,
        advertise: addr.to_owned(),
        promote_after: Duration::from_millis(200),
        autopilot_interval: Duration::from_millis(100),
        probe_interval: Duration::from_millis(50),
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(600),
        ..StoreOptions::default()
    }
}

/// RUST_LOG=info shows what went on in a scenario.
pub fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

pub async fn start(board: &Switchboard, dir: TempDir, options: StoreOptions) -> Node {
    let data_dir = dir.path().to_owned();
    start_in(board, &data_dir, dir, options).await
}

/// With the data in another folder than the one that the node keeps alive.
pub async fn start_in(board: &Switchboard, data_dir: &Path, dir: TempDir, options: StoreOptions) -> Node {
    show_logs();
    let disk = open(data_dir).await;
    let addr = options.advertise.clone();
    let store = start_store(board, disk, options).await.unwrap();
    Node { addr, dir, store, board: board.clone() }
}

pub async fn start_store(board: &Switchboard, disk: Disk, options: StoreOptions) -> Result<RaftStore, StoreError> {
    let addr = options.advertise.clone();
    let (id, services) = (disk.identity().node_id, Services::default());
    board.inner.write().unwrap().nodes.insert(addr.clone(), (id, services.clone()));
    let line = Arc::new(Line { addr, id, board: board.clone() });
    RaftStore::start(disk, line, &services, options).await
}

impl Node {
    pub fn id(&self) -> NodeId {
        self.store.identity().node_id
    }

    /// Stops the node and gives its disk back.
    pub async fn stop(self) -> TempDir {
        self.board.remove(&self.addr);
        self.store.shutdown().await;
        self.dir
    }
}

/// The last run may need a moment to let go of the disk.
pub async fn open(dir: &Path) -> Disk {
    let mut tries = 0;
    loop {
        match Disk::open(dir, "test") {
            Ok(disk) => return disk,
            Err(error) if tries > 100 => panic!("{error}"),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Three nodes that make one cluster, all of them voters.
pub async fn three(board: &Switchboard, change: impl Fn(&mut StoreOptions)) -> Vec<Node> {
    let seeds = ["a:1", "b:1", "c:1"];
    let mut nodes = Vec::new();
    for addr in seeds {
        let mut options = options(addr, &seeds, 3);
        change(&mut options);
        nodes.push(start(board, tempfile::tempdir().unwrap(), options).await);
    }
    for node in &nodes {
        until("three voters", || async { node.store.status().voters.len() == 3 }).await;
    }
    until("a leader", || async { leader(&nodes).is_some() }).await;
    nodes
}

/// The position of the node that leads with a quorum.
pub fn leader(nodes: &[Node]) -> Option<usize> {
    let leads = |node: &Node| {
        let status = node.store.status();
        status.role == "leader" && status.millis_since_quorum_ack.is_some_and(|millis| millis < 500)
    };
    nodes.iter().position(leads)
}

pub async fn until<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    within(what, Duration::from_secs(15), check).await;
}

pub async fn within<F: Future<Output = bool>>(what: &str, limit: Duration, check: impl Fn() -> F) {
    let started = Instant::now();
    while !check().await {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All nodes have applied the same and hold the same.
pub async fn converged(nodes: &[Node]) {
    let same = || async {
        let hashes: BTreeSet<_> = nodes.iter().map(|node| node.store.state_hash()).collect();
        hashes.len() == 1
    };
    within("equal state hashes", Duration::from_secs(5), same).await;
}

pub fn create(id: &str, key: &str) -> Command {
    let by = Authorship { author: "test".to_owned(), message: String::new(), at: 1 };
    let document = format!("{{\"id\":\"{id}\"}}");
    Command::Create { kind: "endpoint".to_owned(), id: id.to_owned(), key: key.to_owned(), document, by }
}

/// Proposes until there is an answer from the state machine.
pub async fn commit(store: &RaftStore, id: &str) -> Reply {
    let started = Instant::now();
    loop {
        match store.propose(format!("request-{id}"), create(id, &format!("/{id}"))).await {
            Ok(reply) => return reply,
            Err(ProposeError::Storage(error)) => panic!("{error}"),
            Err(error) => assert!(started.elapsed() < Duration::from_secs(15), "{error}"),
        }
    }
}

pub fn done(reply: &Reply) -> bool {
    matches!(reply, Reply::Done { .. })
}
