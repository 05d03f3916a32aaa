//! Peer links inside one process, which tests can cut, slow down and heal. For tests of every floor; nothing in production
//! uses it. May import `identity`, `transport` and the way `tcp` calls services, so that both behave alike.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::identity::{Identity, NodeId};
use crate::tcp::{call_service, payload_bytes_max};
use crate::transport::{kinds, Channel, PeerAddress, PeerError, PeerTransport, Services};

/// Requests waiting on one link in one direction; beyond, callers get `QueueFull`.
const LINK_MESSAGES_MAX: usize = 8_192;
const WHOIS_TIMEOUT: Duration = Duration::from_secs(3);

/// The wires between all nodes of a test. Addresses are any strings.
pub struct MemoryNetwork {
    runtime: Handle,
    state: Mutex<State>,
    /// Raised by every cut and every node that leaves, so that calls under way notice.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<String, Node>,
    /// `(from, to)`: requests and answers in this direction are lost.
    cuts: HashSet<(String, String)>,
    delay: Duration,
    /// Counts joins, so that a node that left and came back is told from its former self.
    lives: u64,
}

#[derive(Clone)]
struct Node {
    identity: Identity,
    services: Services,
    life: u64,
}

/// One node's end of a [`MemoryNetwork`].
pub struct MemoryTransport {
    network: Arc<MemoryNetwork>,
    addr: String,
    me: Node,
    links: Mutex<HashMap<LinkKey, mpsc::Sender<Request>>>,
}

/// To whom, in which of its lives, on which channel.
type LinkKey = (String, u64, Channel);

struct Request {
    due: Instant,
    kind: u16,
    payload: Bytes,
    answer: oneshot::Sender<Result<Bytes, PeerError>>,
}

impl MemoryNetwork {
    /// A network without nodes or cuts. Handlers run on the tokio runtime in which this is called.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { runtime: Handle::current(), state: Mutex::default(), changes: watch::channel(0).0 })
    }

    /// Puts a node on the network; one that is at this address already is replaced, as by a restart.
    pub fn join(self: &Arc<Self>, addr: &str, identity: Identity, services: Services) -> Arc<MemoryTransport> {
        let mut state = self.lock();
        state.lives += 1;
        let me = Node { identity, services, life: state.lives };
        state.nodes.insert(addr.to_owned(), me.clone());
        drop(state);
        self.changed();
        Arc::new(MemoryTransport { network: self.clone(), addr: addr.to_owned(), me, links: Mutex::default() })
    }

    /// Takes a node off the network, as by a crash: nothing reaches it, and its own calls fail.
    pub fn leave(&self, addr: &str) {
        self.lock().nodes.remove(addr);
        self.changed();
    }

    /// Cuts both directions between two addresses. Calls under way fail too.
    pub fn cut(&self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Loses everything from one address to another: its requests, and its answers to the other's requests.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.lock().cuts.insert((from.to_owned(), to.to_owned()));
        self.changed();
    }

    /// Undoes all cuts.
    pub fn heal_all(&self) {
        self.lock().cuts.clear();
        self.changed();
    }

    /// How long every request and every answer travels from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    fn delay(&self) -> Duration {
        self.lock().delay
    }

    /// Who is at an address, if the way there is open.
    fn reach(&self, from: &str, to: &str) -> Result<Node, &'static str> {
        let state = self.lock();
        if state.cuts.contains(&(from.to_owned(), to.to_owned())) {
            return Err("the link is cut");
        }
        state.nodes.get(to).cloned().ok_or("nobody is there")
    }

    /// The way from one address to another is open and the node there is still in the same life.
    fn still_open(&self, from: &str, to: &str, life: u64) -> bool {
        self.reach(from, to).is_ok_and(|node| node.life == life)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryTransport {
    /// What a handshake would check.
    fn meet(&self, peer: &PeerAddress) -> Result<Node, PeerError> {
        let unreachable = |reason| self.unreachable(&peer.addr, reason, false);
        let there = self.network.reach(&self.addr, &peer.addr).map_err(unreachable)?;
        if !self.network.still_open(&peer.addr, &self.addr, self.me.life) {
            return Err(unreachable("no answer comes through"));
        }
        let refused = |reason| Err(PeerError::Refused { addr: peer.addr.clone(), reason });
        let is = there.identity.node_id;
        if let Some(expected) = peer.node_id.filter(|expected| *expected != is) {
            return refused(format!("node {expected:016x} was expected there, but it is node {is:016x}"));
        }
        match (self.me.identity.cluster_id.get(), there.identity.cluster_id.get()) {
            (Some(mine), Some(theirs)) if mine != theirs => {
                refused(format!("the nodes belong to different clusters: {mine} and {theirs}"))
            }
            _ => Ok(there),
        }
    }

    /// Puts a request on the link, making the link if need be. The order of calls is the order of `handle`.
    fn submit(&self, to: &str, there: &Node, channel: Channel, request: Request) -> Result<(), PeerError> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|(addr, life, _), _| addr != to || *life == there.life);
        let link = links.entry((to.to_owned(), there.life, channel)).or_insert_with(|| {
            let (sender, requests) = mpsc::channel(LINK_MESSAGES_MAX);
            let wire = Wire { network: self.network.clone(), from: self.addr.clone(), to: to.to_owned() };
            let carrying = wire.carry(self.me.clone(), there.clone(), requests);
            self.network.runtime.spawn(carrying);
            sender
        });
        link.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PeerError::QueueFull { addr: to.to_owned() },
            mpsc::error::TrySendError::Closed(_) => self.unreachable(to, "the link is closed", false),
        })
    }

    /// Waits for the answer, or for the end of the link.
    async fn wait(
        &self,
        to: &str,
        life: u64,
        mut answer: oneshot::Receiver<Result<Bytes, PeerError>>,
    ) -> Result<Bytes, PeerError> {
        let mut changes = self.network.changes.subscribe();
        loop {
            let there = self.network.still_open(&self.addr, to, life);
            if !there || !self.network.still_open(to, &self.addr, self.me.life) {
                return Err(self.unreachable(to, "the link broke", true));
            }
            tokio::select! {
                biased;
                answer = &mut answer => {
                    return answer.unwrap_or_else(|_| Err(self.unreachable(to, "the link broke", true)));
                }
                _ = changes.changed() => {}
            }
        }
    }

    fn unreachable(&self, addr: &str, reason: &str, sent: bool) -> PeerError {
        PeerError::Unreachable { addr: addr.to_owned(), reason: reason.to_owned(), sent }
    }
}

/// One direction of one link.
struct Wire {
    network: Arc<MemoryNetwork>,
    from: String,
    to: String,
}

impl Wire {
    async fn carry(self, me: Node, there: Node, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            tokio::time::sleep_until(request.due).await;
            if !self.network.still_open(&self.from, &self.to, there.life) {
                // Lost; the caller has noticed the cut itself.
                continue;
            }
            let handling = call_service(&there.services, me.identity.node_id, request.kind, request.payload);
            let (network, from, to, life) = (self.network.clone(), self.from.clone(), self.to.clone(), me.life);
            tokio::spawn(async move {
                let answer = handling.await.map_err(PeerError::Remote);
                tokio::time::sleep(network.delay()).await;
                if network.still_open(&to, &from, life) {
                    // Nobody listens any more when the call was given up.
                    let _ = request.answer.send(answer);
                }
            });
        }
    }
}

#[async_trait]
impl PeerTransport for MemoryTransport {
    async fn call(
        &self,
        peer: &PeerAddress,
        channel: Channel,
        kind: u16,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        let there = self.meet(peer)?;
        let most = payload_bytes_max(channel);
        if payload.len() > most {
            let reason = format!("a payload of {} bytes is over the limit of {most}", payload.len());
            return Err(PeerError::Refused { addr: peer.addr.clone(), reason });
        }
        let (answer, receiver) = oneshot::channel();
        let request = Request { due: Instant::now() + self.network.delay(), kind, payload, answer };
        self.submit(&peer.addr, &there, channel, request)?;
        match tokio::time::timeout(deadline, self.wait(&peer.addr, there.life, receiver)).await {
            Ok(answer) => answer,
            Err(_) => {
                let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
                Err(PeerError::Timeout { addr: peer.addr.clone(), millis })
            }
        }
    }

    fn forget(&self, peer: &PeerAddress) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).retain(|(addr, _, _), _| *addr != peer.addr);
    }

    async fn whois(&self, addr: &str) -> Result<NodeId, PeerError> {
        let peer = PeerAddress { node_id: None, addr: addr.to_owned() };
        let there = self.meet(&peer)?;
        self.call(&peer, Channel::Control, kinds::PING, Bytes::new(), WHOIS_TIMEOUT).await?;
        Ok(there.identity.node_id)
    }
}
