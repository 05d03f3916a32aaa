//! Where connections are found: one [`Worker`] per worker thread owns its connections and a timer wheel for them. The
//! node-wide [`Hub`] finds the sending side of any connection in a sharded map, and routes what concerns the connection
//! itself (describe, close, drain) to its worker through one bounded channel each. A connection's worker is part of its
//! id (`random % workers`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::BytesMut;
use rand::Rng;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Facts, Opening};
use super::fan_out::FanOuts;
use super::index::Index;
use super::labels::Joined;
use super::ledger::Budget;
use super::outlet::Outlet;
use super::receipts::Receipts;
use super::session::{ClientEvents, Session};
use super::socket::Driver;
use super::supervisor::Supervisors;
use crate::close_code;
use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{CloseCause, ConnectionView, Labelled, Labelling, PushOutcome};
use crate::model::live_endpoint::LiveEndpoint;

/// Requests that may wait for one worker; beyond it a push is answered 503 by its sender.
const WORKER_QUEUE_REQUESTS: usize = 4096;

/// Requests handled before the worker's other tasks get their turn.
const BATCH_REQUESTS: usize = 256;

/// Enough that pushes of many threads seldom meet while a connection opens or ends.
const OUTLET_SHARDS: usize = 64;

/// One slot a second; the longest interval a connection asks for is 60 s.
const WHEEL_SLOTS: usize = 64;

/// Connection keys are random already.
#[derive(Default)]
pub struct RandomKeyHasher(u64);

impl Hasher for RandomKeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = (key >> 64) as u64 ^ key as u64;
    }
}

pub(super) type OutletMap = HashMap<u128, Arc<Outlet>, BuildHasherDefault<RandomKeyHasher>>;
type ConnectionMap = HashMap<u128, Rc<Connection>, BuildHasherDefault<RandomKeyHasher>>;

/// What is asked of the worker that owns a connection.
pub enum WorkerRequest {
    Close {
        key: u128,
        cause: CloseCause,
        answer: oneshot::Sender<bool>,
    },
    Describe {
        key: u128,
        answer: oneshot::Sender<Option<ConnectionView>>,
    },
    /// Work that belongs on that worker's thread.
    Run(Box<dyn FnOnce() + Send>),
    /// Close every connection within this time, spread evenly.
    Drain {
        over: Duration,
    },
}

/// The owner of one worker thread's connections.
pub struct Worker {
    pub index: usize,
    pub hub: Arc<Hub>,
    connections: RefCell<ConnectionMap>,
    wheel: RefCell<Vec<Vec<u128>>>,
    now_slot: Cell<usize>,
    /// This worker's connections read into it, one after the other.
    pub(super) read_buffer: RefCell<BytesMut>,
}

impl Worker {
    pub(super) const READ_BYTES: usize = 64 * 1024;

    /// Makes the calling thread the next worker of `hub`. Must run on an actix worker thread.
    fn start(hub: Arc<Hub>) -> Rc<Worker> {
        let index = hub.attached.fetch_add(1, Ordering::Relaxed);
        let (sender, requests) = mpsc::channel(WORKER_QUEUE_REQUESTS);
        let worker = Rc::new(Worker {
            index,
            hub: hub.clone(),
            connections: RefCell::default(),
            wheel: RefCell::new(vec![Vec::new(); WHEEL_SLOTS]),
            now_slot: Cell::new(0),
            read_buffer: RefCell::new(BytesMut::with_capacity(Self::READ_BYTES)),
        });
        if hub.workers[index].set(sender).is_err() {
            unreachable!("indexes are given out once");
        }
        actix_rt::spawn(worker.clone().answer_requests(requests));
        actix_rt::spawn(worker.clone().turn_wheel());
        worker
    }

    /// A fresh id whose worker is this one.
    pub fn new_connection_id(&self) -> ConnectionId {
        let count = self.hub.workers.len() as u128;
        let random: u128 = rand::rng().random();
        let base = random.min(u128::MAX - count);
        ConnectionId {
            node: self.hub.node_id,
            generation: self.hub.generation,
            random: base - base % count + self.index as u128,
        }
    }

    /// Takes over an upgraded socket: registers the connection and starts its driver.
    pub fn open(self: &Rc<Self>, mut opening: Opening, events: impl FnOnce(Rc<Connection>) -> Box<dyn ClientEvents>) {
        let endpoint = opening.endpoint.clone();
        let early = std::mem::take(&mut opening.early);
        let connection = Connection::new(opening, self.clone());
        let key = connection.facts.id.random;
        self.connections.borrow_mut().insert(key, connection.clone());
        let mut shard = self.hub.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(key, connection.outlet.clone());
        drop(shard);
        if let Some(user) = &connection.facts.user {
            self.hub.users.insert(user, key, &connection.outlet);
        }
        for group in &connection.facts.groups {
            self.hub.join(key, group, &connection.outlet);
        }
        self.hub.open_connections.fetch_add(1, Ordering::Relaxed);
        endpoint.connections.fetch_add(1, Ordering::Relaxed);
        // An idle or duration limit may be shorter than the heartbeat's interval.
        self.schedule(key, connection.tick());
        let supervisor = self.hub.supervisors.of(&endpoint);
        let session = Session::new(connection.clone(), events(connection.clone()), supervisor);
        if self.hub.is_draining() {
            connection.close(CloseCause::gateway(close_code::RESTARTING));
        }
        actix_rt::spawn(Driver::new(connection, session, early));
    }

    /// The driver has ended.
    pub(super) fn forget(&self, connection: &Connection) {
        let key = connection.facts.id.random;
        if self.connections.borrow_mut().remove(&key).is_some() {
            self.hub.shard(key).write().unwrap_or_else(PoisonError::into_inner).remove(&key);
            if let Some(user) = &connection.facts.user {
                self.hub.users.remove(user, key);
            }
            connection.outlet.end_confirmations();
            for group in connection.outlet.labels().end() {
                self.hub.groups.remove(&group, key);
            }
            self.hub.open_connections.fetch_sub(1, Ordering::Relaxed);
            connection.endpoint.connections.fetch_sub(1, Ordering::Relaxed);
            connection.leave_place();
        }
    }

    pub(super) fn find(&self, key: u128) -> Option<Rc<Connection>> {
        self.connections.borrow().get(&key).cloned()
    }

    fn close(&self, key: u128, cause: CloseCause) -> bool {
        let Some(connection) = self.find(key) else { return false };
        let open = !connection.is_closing();
        connection.close(cause);
        open
    }

    fn describe(&self, key: u128) -> Option<ConnectionView> {
        let connection = self.find(key).filter(|connection| !connection.is_closing())?;
        Some(connection.outlet.view(&self.hub.node_name))
    }

    async fn answer_requests(self: Rc<Self>, mut requests: mpsc::Receiver<WorkerRequest>) {
        let mut batch = Vec::with_capacity(BATCH_REQUESTS);
        while requests.recv_many(&mut batch, BATCH_REQUESTS).await > 0 {
            for request in batch.drain(..) {
                self.answer(request);
            }
            tokio::task::yield_now().await;
        }
    }

    /// An asker that has given up meanwhile is no error.
    fn answer(self: &Rc<Self>, request: WorkerRequest) {
        match request {
            WorkerRequest::Close { key, cause, answer } => drop(answer.send(self.close(key, cause))),
            WorkerRequest::Describe { key, answer } => drop(answer.send(self.describe(key))),
            WorkerRequest::Run(work) => work(),
            WorkerRequest::Drain { over } => drop(actix_rt::spawn(self.clone().drain(over))),
        }
    }

    /// Closes this worker's connections one after the other, so that their clients do not come back all at once.
    async fn drain(self: Rc<Self>, over: Duration) {
        let keys: Vec<u128> = self.connections.borrow().keys().copied().collect();
        let step = over / keys.len().max(1) as u32;
        let started = tokio::time::Instant::now();
        for (done, key) in keys.into_iter().enumerate() {
            self.close(key, CloseCause::gateway(close_code::RESTARTING));
            tokio::time::sleep_until(started + step * (done as u32 + 1)).await;
        }
    }

    pub(super) fn schedule(&self, key: u128, after: Duration) {
        // Rounded up to whole slots, at least one ahead of the slot that is being worked on.
        let slots = (after.as_millis().div_ceil(1000) as usize).clamp(1, WHEEL_SLOTS - 1);
        self.wheel.borrow_mut()[(self.now_slot.get() + slots) % WHEEL_SLOTS].push(key);
    }

    async fn turn_wheel(self: Rc<Self>) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            let slot = (self.now_slot.get() + 1) % WHEEL_SLOTS;
            self.now_slot.set(slot);
            let due = std::mem::take(&mut self.wheel.borrow_mut()[slot]);
            for key in due {
                if let Some(connection) = self.find(key) {
                    self.schedule(key, connection.tick());
                }
            }
        }
    }
}

thread_local! {
    /// A worker thread belongs to one node for its whole life, so this is no global of the process.
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

/// All workers of a node.
pub struct Hub {
    pub node_id: u64,
    pub generation: u64,
    pub node_name: String,
    pub supervisors: Supervisors,
    workers: Vec<OnceLock<mpsc::Sender<WorkerRequest>>>,
    attached: AtomicUsize,
    /// The sending sides of all connections: a push takes its shard's lock for one look-up.
    pub(super) outlets: Vec<RwLock<OutletMap>>,
    /// Those of connections that have a user.
    pub(super) users: Index,
    /// Those of connections that are in groups.
    pub(super) groups: Index,
    pub(super) fan_outs: FanOuts,
    pub receipts: Receipts,
    pub open_connections: AtomicU64,
    /// Of those, the ones whose client has lost its socket and may come back.
    pub away: AtomicU64,
    /// For what is kept for such clients.
    pub resume_budget: Arc<Budget>,
    /// Deliveries to backends that are under way, of connections that may be gone already.
    pub deliveries: AtomicU64,
    /// Sockets whose handshake is under way.
    pub handshakes: AtomicU64,
    /// Within which time connections end, once the node leaves.
    draining: OnceLock<Duration>,
    leaving: CancellationToken,
}

/// A request could not be handed to the worker: it has more waiting than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker that owns the connection is overloaded")]
pub struct Overloaded;

impl Hub {
    pub fn new(
        node_id: u64,
        generation: u64,
        node_name: String,
        workers: usize,
        supervisors: Supervisors,
        resume_budget: Arc<Budget>,
    ) -> Arc<Hub> {
        Arc::new(Hub {
            node_id,
            generation,
            node_name,
            supervisors,
            workers: (0..workers).map(|_| OnceLock::new()).collect(),
            attached: AtomicUsize::new(0),
            outlets: (0..OUTLET_SHARDS).map(|_| RwLock::default()).collect(),
            users: Index::of_users(),
            groups: Index::of_groups(),
            fan_outs: FanOuts::default(),
            receipts: Receipts::default(),
            open_connections: AtomicU64::new(0),
            away: AtomicU64::new(0),
            resume_budget,
            deliveries: AtomicU64::new(0),
            handshakes: AtomicU64::new(0),
            draining: OnceLock::new(),
            leaving: CancellationToken::new(),
        })
    }

    /// The calling worker thread's worker, made at the first call.
    pub fn this_worker(self: &Arc<Self>) -> Rc<Worker> {
        WORKER.with(|slot| slot.borrow_mut().get_or_insert_with(|| Worker::start(self.clone())).clone())
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Waits until the node leaves, and then for a moment within the time that its connections have: what ends by this
    /// ends spread out.
    pub async fn own_moment_to_leave(&self) {
        self.leaving.cancelled().await;
        let over = self.draining.get().copied().unwrap_or_default();
        tokio::time::sleep(over.mul_f64(rand::random())).await;
    }

    /// The index of a connection's worker.
    pub fn worker_of(&self, key: u128) -> usize {
        (key % self.workers.len() as u128) as usize
    }

    fn sender(&self, key: u128) -> Option<&mpsc::Sender<WorkerRequest>> {
        self.workers[self.worker_of(key)].get()
    }

    fn shard(&self, key: u128) -> &RwLock<OutletMap> {
        &self.outlets[(key >> 64) as usize % OUTLET_SHARDS]
    }

    pub(super) fn outlet(&self, key: u128) -> Option<Arc<Outlet>> {
        self.shard(key).read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Connections of this node, part by part; `None` after the last part.
    pub fn part_of_connections(&self, number: usize) -> Option<Vec<(Arc<Facts>, Arc<LiveEndpoint>)>> {
        let shard = self.outlets.get(number)?.read().unwrap_or_else(PoisonError::into_inner);
        Some(shard.values().map(|outlet| (outlet.facts.clone(), outlet.endpoint.clone())).collect())
    }

    pub fn is_open(&self, key: u128) -> bool {
        self.outlet(key).is_some_and(|outlet| outlet.is_open())
    }

    /// Pushes to a connection of this node, from any thread: transformed if its endpoint says so, then written on the
    /// spot, or queued in its outbox.
    pub fn push(&self, key: u128, payload: &[u8]) -> PushOutcome {
        self.outlet(key).map_or(PushOutcome::Gone, |outlet| outlet.deliver(payload))
    }

    /// Changes what a connection of this node is called, from any thread.
    pub fn label(&self, key: u128, change: &Labelling) -> Labelled {
        let Some(outlet) = self.outlet(key).filter(|outlet| outlet.is_open()) else { return Labelled::Gone };
        match change {
            Labelling::Join(group) => match self.join(key, group, &outlet) {
                Joined::New | Joined::Already => Labelled::Done,
                Joined::TooMany => Labelled::TooMany,
                Joined::Ended => Labelled::Gone,
            },
            Labelling::Leave(group) => {
                let mut labels = outlet.labels();
                if labels.leave(group) {
                    self.groups.remove(group, key);
                }
                if labels.is_ended() {
                    Labelled::Gone
                } else {
                    Labelled::Done
                }
            }
            // It was checked where it came in.
            Labelling::Tag(tags) => match serde_json::from_str(tags).is_ok_and(|tags| outlet.labels().tag(tags)) {
                true => Labelled::Done,
                false => Labelled::Gone,
            },
        }
    }

    /// The connection's own lock is held while the index changes: who leaves is not left behind in it.
    fn join(&self, key: u128, group: &str, outlet: &Arc<Outlet>) -> Joined {
        let mut labels = outlet.labels();
        let joined = labels.join(group);
        if joined == Joined::New {
            self.groups.insert(group, key, outlet);
        }
        joined
    }

    /// Whether an open connection was closed by this.
    pub async fn close(&self, key: u128, cause: CloseCause) -> Result<bool, Overloaded> {
        let (answer, receiver) = oneshot::channel();
        self.hand_over(key, WorkerRequest::Close { key, cause, answer })?;
        Ok(receiver.await.unwrap_or(false))
    }

    /// Has something done on the worker of a connection; what cannot be handed over is dropped.
    pub fn run_on_worker_of(&self, key: u128, work: Box<dyn FnOnce() + Send>) -> Result<(), Overloaded> {
        self.hand_over(key, WorkerRequest::Run(work))
    }

    pub async fn describe(&self, key: u128) -> Result<Option<ConnectionView>, Overloaded> {
        let (answer, receiver) = oneshot::channel();
        self.hand_over(key, WorkerRequest::Describe { key, answer })?;
        Ok(receiver.await.unwrap_or(None))
    }

    fn hand_over(&self, key: u128, request: WorkerRequest) -> Result<(), Overloaded> {
        // A worker that has not started owns nothing: dropping the request answers "gone".
        let Some(sender) = self.sender(key) else { return Ok(()) };
        match sender.try_send(request) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Overloaded),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Stops accepting and closes every connection within `over`.
    pub async fn drain(&self, over: Duration) {
        // A second time changes nothing.
        let _first = self.draining.set(over);
        self.leaving.cancel();
        for worker in self.workers.iter().filter_map(OnceLock::get) {
            // An error means that the worker's thread has ended, and its connections with it.
            let _ended = worker.send(WorkerRequest::Drain { over }).await;
        }
    }
}
