//! The handle: start, propose, read, watch, stop. The gateway's only way to the replicated state. Wires the other
//! modules together and holds no logic of its own.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use openraft::{Config, ServerState, SnapshotPolicy};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wsgateway_cluster::membership::Members;
use wsgateway_cluster::{kinds, Identity, NodeId, PeerTransport, Services};

use crate::disk::{Disk, DiskError};
use crate::keys::raft_meta;
use crate::log_store::LogStore;
use crate::network::Peers;
use crate::node::Node;
use crate::raft_types::{Raft, PROPOSAL_VERSION};
use crate::rpc::ProposeRequest;
use crate::service::StoreService;
use crate::state_machine::{StateMachine, View};
use crate::status::{status, LeaderContact};
use crate::types::{Audited, Authorship, Command, Head, ProposeError, RaftStatus, Reply, Version};
use crate::{autopilot, bootstrap, election, removed};

/// openraft's own limit; `network` has a deadline for each chunk instead.
const INSTALL_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// Ten heartbeats: what is shown to people should not flicker.
const LEADER_GONE_AFTER: Duration = Duration::from_secs(3);

/// How a store runs. The defaults are the product's; tests shorten them.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The static seed list, the same on all nodes.
    pub seeds: Vec<String>,
    /// With how many nodes a new cluster starts; 0: only join one.
    pub bootstrap_expect: usize,
    /// `host:port` where other nodes reach this one.
    pub advertise: String,
    /// How long a learner has to be healthy before it becomes a voter.
    pub promote_after: Duration,
    /// How long a member has to be silent, to the leader and in gossip, until it is removed for good.
    pub remove_dead_after: Duration,
    /// The same for a member in whose place another one answers: a wiped disk, a new machine at the old address.
    pub replaced_after: Duration,
    /// The newest version of a proposal that this node can apply: what the program can; less, to see what becomes of it.
    pub understands: u32,
    /// Whom gossip has heard of: who is live there is not removed.
    pub gossip: Option<watch::Receiver<Arc<Members>>>,
    /// Between two looks of the leader at the others.
    pub autopilot_interval: Duration,
    /// Between two rounds of probing the seeds, while not in a cluster.
    pub probe_interval: Duration,
    pub heartbeat: Duration,
    /// The time that an election has before the next one may begin.
    pub election_min: Duration,
    /// How long a voter stands by a leader that it does not hear any more.
    pub election_max: Duration,
    /// A snapshot is made after so many log entries.
    pub snapshot_every: u64,
    /// So many log entries are kept behind a snapshot, for followers that are only a little late.
    pub snapshot_keep: u64,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            seeds: Vec::new(),
            bootstrap_expect: 1,
            advertise: "127.0.0.1:7000".to_owned(),
            promote_after: Duration::from_secs(2),
            remove_dead_after: Duration::from_secs(600),
            replaced_after: Duration::from_secs(10),
            understands: PROPOSAL_VERSION,
            gossip: None,
            autopilot_interval: Duration::from_secs(1),
            probe_interval: Duration::from_millis(500),
            heartbeat: Duration::from_millis(300),
            election_min: Duration::from_millis(900),
            election_max: Duration::from_millis(1_800),
            snapshot_every: 5_000,
            snapshot_keep: 1_000,
        }
    }
}

/// Why a store cannot start or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("Raft's settings: {0}")]
    Settings(String),
    #[error("Raft has stopped: {0}")]
    Raft(String),
    #[error("{0}; its data is of no use any more: empty the data folder, and it joins as a new node")]
    Evicted(String),
}

/// Why a running store has come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// A failed write or sync, or a command that this program does not know: the process should exit at once, for this
    /// node acknowledges nothing any more.
    #[error("storage failed: {0}")]
    Failed(String),
    /// What it serves is its own business; it may leave in peace.
    #[error("{0}; its data is of no use any more: empty the data folder, and it joins as a new node")]
    Evicted(String),
}

/// A running store. Cheap to clone.
#[derive(Clone)]
pub struct RaftStore {
    node: Arc<Node>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl RaftStore {
    /// Starts on the current tokio runtime, which must be a multi-thread one. Returns at once: finding or making a
    /// cluster goes on in the background (see [`RaftStore::waiting_for`]), and what is on disk can be read already.
    pub async fn start(
        disk: Disk,
        transport: Arc<dyn PeerTransport>,
        services: &Services,
        options: StoreOptions,
    ) -> Result<RaftStore, StoreError> {
        let identity = disk.identity();
        let storage = disk.storage();
        drop(disk);
        if let Some(farewell) = removed::told_before(&storage)? {
            return Err(StoreError::Evicted(farewell));
        }
        let log = LogStore::new(storage.clone())?;
        let machine = StateMachine::open(storage.clone())?;
        let view = machine.view();
        let peers = Peers::new(identity.node_id, transport);
        let config = Arc::new(raft_config(&options)?);
        let raft = Raft::new(identity.node_id, config, peers.clone(), log.clone(), machine).await;
        let raft = raft.map_err(|fatal| StoreError::Raft(fatal.to_string()))?;
        let promised_to = storage.meta::<NodeId>(raft_meta::PROMISE)?;
        let node = Arc::new(Node {
            identity,
            options,
            storage,
            raft,
            peers,
            log,
            view,
            contact: LeaderContact::new(),
            status: watch::Sender::default(),
            waiting_for: watch::Sender::new("starting".to_owned()),
            promised_to: Mutex::new(promised_to),
            membership_change: tokio::sync::Mutex::new(()),
            handing_over: AtomicBool::new(false),
            evicted: watch::Sender::default(),
            incoming: tokio::sync::Mutex::new(None),
        });
        services.register(kinds::RAFT_STORE, Arc::new(StoreService { node: Arc::downgrade(&node) }));
        let tasks = vec![
            tokio::spawn(follow_metrics(Arc::downgrade(&node), node.raft.metrics())),
            tokio::spawn(bootstrap::run(Arc::downgrade(&node))),
            tokio::spawn(autopilot::run(Arc::downgrade(&node))),
            tokio::spawn(election::run(Arc::downgrade(&node))),
        ];
        Ok(RaftStore { node, tasks: Arc::new(Mutex::new(tasks)) })
    }

    pub fn identity(&self) -> Identity {
        self.node.identity.clone()
    }

    /// Commits a command, from any node. Ends within about five seconds; without a leader, within two. A repeated
    /// `request_id` gets the first one's reply; with an empty one, a retry is a new command.
    pub async fn propose(&self, request_id: String, command: Command) -> Result<Reply, ProposeError> {
        self.propose_noted(request_id, command, None).await
    }

    /// As `propose`, and with its reply the note goes into the audit log: in the same step, so that there is no change
    /// without its note. A repeated request leaves none.
    pub async fn propose_noted(
        &self,
        request_id: String,
        command: Command,
        note: Option<String>,
    ) -> Result<Reply, ProposeError> {
        // Tries within this call must be recognised as one, whatever the caller thinks of retries.
        let request_id = match request_id.is_empty() {
            true => format!("{:032x}", rand::random::<u128>()),
            false => request_id,
        };
        self.node.propose(ProposeRequest { request_id, command, note }).await
    }

    pub(crate) fn view(&self) -> &View {
        &self.node.view
    }

    /// All documents of a kind as of the last applied command, by id.
    pub fn heads(&self, kind: &str) -> Vec<Head> {
        self.node.view.heads(kind)
    }

    pub fn head(&self, kind: &str, id: &str) -> Option<Head> {
        self.node.view.head(kind, id)
    }

    pub fn version(&self, kind: &str, id: &str, version: u64) -> Result<Option<Version>, StoreError> {
        Ok(self.node.view.version(kind, id, version)?)
    }

    /// All versions of a document, ascending.
    pub fn versions(&self, kind: &str, id: &str) -> Result<Vec<Version>, StoreError> {
        Ok(self.node.view.versions(kind, id)?)
    }

    /// The audit log, newest first, beginning below a log index, for as long as `visit` says to go on. Blocks on IO.
    pub fn audited(&self, below: u64, visit: impl FnMut(u64, Audited) -> bool) -> Result<(), StoreError> {
        Ok(self.node.view.audited(below, visit)?)
    }

    /// Waits until this node has applied all that was committed before the call; the log index of that.
    pub async fn linearize(&self) -> Result<u64, ProposeError> {
        self.node.linearize().await
    }

    /// The index of the last applied log entry. Changes after every applied batch; level-triggered.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.node.view.applied()
    }

    /// A leader that has fallen silent, or that has lost its majority, is none, even while openraft goes on naming it.
    pub fn status(&self) -> RaftStatus {
        let mut status = status(&self.node.metrics(), self.node.committed());
        if self.node.contact.silent_for() > LEADER_GONE_AFTER {
            status.leader = None;
        }
        status
    }

    /// openraft's view at every change of it; a silent leader is still in it.
    pub fn watch_status(&self) -> watch::Receiver<RaftStatus> {
        self.node.status.subscribe()
    }

    /// What keeps this node from being in a cluster; empty once it is. For readiness and logs.
    pub fn waiting_for(&self) -> watch::Receiver<String> {
        self.node.waiting_for.subscribe()
    }

    /// The applied log index, and a hash of the whole state at that index: the same on all nodes. Reads all of the
    /// state once per index; blocks on IO.
    pub fn state_hash(&self) -> (u64, String) {
        self.node.view.state_hash().unwrap_or_else(|error| (0, format!("unreadable: {error}")))
    }

    /// All members with their cluster addresses.
    pub fn members(&self) -> BTreeMap<NodeId, String> {
        let metrics = self.node.metrics();
        let members = metrics.membership_config.membership().nodes();
        members.map(|(id, node)| (*id, node.addr.clone())).collect()
    }

    /// Waits until Raft has stopped or this node was told that it is a member no more.
    pub async fn ended(&self) -> Ended {
        let mut evicted = self.node.evicted.subscribe();
        let mut metrics = self.node.raft.metrics();
        tokio::select! {
            told = evicted.wait_for(Option::is_some) => {
                Ended::Evicted(told.ok().and_then(|told| told.clone()).unwrap_or_else(|| "removed".to_owned()))
            }
            stopped = metrics.wait_for(|metrics| metrics.running_state.is_err()) => {
                let reason = stopped.ok().and_then(|metrics| metrics.running_state.clone().err());
                Ended::Failed(reason.map_or_else(|| "stopped".to_owned(), |fatal| fatal.to_string()))
            }
        }
    }

    /// Whether the disk is so full that this node takes part in no change.
    pub fn is_low_on_room(&self) -> bool {
        self.node.storage.is_low_on_room()
    }

    /// What may still be written to the disk of the data folder, in bytes.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        self.node.storage.free_bytes()
    }

    pub fn is_removed(&self, id: NodeId) -> bool {
        self.node.is_removed(id)
    }

    /// Records that a node is a member no more; the leader then takes it out of the membership as soon as it may. The
    /// node itself is told, and stops.
    pub async fn remove_node(
        &self,
        id: NodeId,
        addr: &str,
        by: Authorship,
        note: Option<String>,
    ) -> Result<Reply, ProposeError> {
        // No id made of the node's: after a recovery it would be answered with what was removed in the cluster before.
        self.propose_noted(String::new(), removed::record(id, addr, by), note).await
    }

    /// If this node leads: makes another voter lead. Takes about two seconds, in which writes answer "no leader".
    pub async fn hand_over_leadership(&self) {
        self.node.hand_over_leadership().await;
    }

    /// Stops Raft and the background tasks. Reading goes on to work; the disk closes with the last handle.
    pub async fn shutdown(&self) {
        // What waits for room on a full disk has not been acknowledged.
        self.node.storage.stop_waiting_for_room();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            let _ = task.await;
        }
        if let Err(error) = self.node.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop in order");
        }
    }
}

fn raft_config(options: &StoreOptions) -> Result<Config, StoreError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "wsgateway".to_owned(),
        // `election` decides when, with a pre-vote.
        enable_elect: false,
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election_min),
        election_timeout_max: millis(options.election_max),
        install_snapshot_timeout: millis(INSTALL_SNAPSHOT_TIMEOUT),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        max_in_snapshot_log_to_keep: options.snapshot_keep,
        // Above the distance between two snapshots, or a follower could be late again right after getting one.
        replication_lag_threshold: options.snapshot_every + options.snapshot_keep,
        ..Config::default()
    };
    config.validate().map_err(|error| StoreError::Settings(error.to_string()))
}

/// Keeps the status and the leader's own sign of life up to date.
async fn follow_metrics(node: Weak<Node>, mut metrics: watch::Receiver<crate::status::Metrics>) {
    loop {
        let now = metrics.borrow_and_update().clone();
        let Some(node) = node.upgrade() else { return };
        if now.state == ServerState::Leader {
            if let Some(millis) = now.millis_since_quorum_ack {
                node.contact.heard_before(Duration::from_millis(millis));
            }
        }
        let status = status(&now, node.committed());
        node.status.send_if_modified(|before| {
            let changed = *before != status;
            *before = status;
            changed
        });
        drop(node);
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
