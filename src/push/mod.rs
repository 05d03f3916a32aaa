//! Messages of services to connections, on whichever node those are: `locate → (forward) → deliver`. Called by the admin
//! side and by peers; imports model and the cluster floor. This node's own connections are behind [`LocalConnections`].

mod deliver;
mod forward;
mod locate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{join_all, BoxFuture};
use tokio::sync::watch;
use wsgateway_cluster::membership::Members;
use wsgateway_cluster::{PeerAddress, PeerTransport};

use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{CloseCause, ConnectionView, PushOutcome, Recipients, Tally};
pub use deliver::PeerPushes;
use locate::{locate, Location};

/// What became of a request on a connection, as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// 410
    #[error("the connection is gone")]
    Gone,
    /// 429
    #[error("the connection's outbox is full")]
    OutboxFull,
    /// 413
    #[error("the message is larger than the connection's outbox")]
    TooBig,
    /// 422
    #[error("the endpoint's outbound template failed: {0}")]
    TransformFailed(String),
    /// 503: alive, as far as is known, but it cannot be asked now. Nothing was sent, unless it says that this is unknown.
    #[error("the node that owns the connection cannot be reached: {0}")]
    OwnerUnreachable(String),
    /// 503
    #[error("overloaded: {0}")]
    Overloaded(String),
}

impl PushError {
    /// A metric label.
    pub fn result(&self) -> &'static str {
        match self {
            PushError::Gone => "gone",
            PushError::OutboxFull => "outbox_full",
            PushError::TooBig => "too_big",
            PushError::TransformFailed(_) => "transform_failed",
            PushError::OwnerUnreachable(_) => "owner_unreachable",
            PushError::Overloaded(_) => "overloaded",
        }
    }
}

fn outcome(outcome: PushOutcome) -> Result<(), PushError> {
    match outcome {
        PushOutcome::Queued => Ok(()),
        PushOutcome::Full => Err(PushError::OutboxFull),
        PushOutcome::TooBig => Err(PushError::TooBig),
        PushOutcome::Gone => Err(PushError::Gone),
        PushOutcome::TransformFailed(reason) => Err(PushError::TransformFailed(reason)),
    }
}

/// Before a node that could not be reached is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Cluster addresses of Raft's members: a second opinion on who is there, for nodes that gossip has not heard of.
pub type MemberAddresses = Box<dyn Fn(u64) -> Option<String> + Send + Sync>;

/// The connections that this node owns, by the random part of their ids. An `Err` says why they cannot be asked now.
pub trait LocalConnections: Send + Sync + 'static {
    fn node_id(&self) -> u64;
    /// Boot generation: ids of an older one are gone for good.
    fn generation(&self) -> u64;
    /// In the connection's socket or outbox when this returns.
    fn push(&self, key: u128, payload: &[u8]) -> PushOutcome;
    /// The same for several connections of an endpoint.
    fn push_many(&self, endpoint: &str, to: &Recipients, payload: &[u8]) -> Tally;
    /// Whether an open connection was closed by this.
    fn close(&self, key: u128, cause: CloseCause) -> BoxFuture<'static, Result<bool, String>>;
    fn describe(&self, key: u128) -> BoxFuture<'static, Result<Option<ConnectionView>, String>>;
}

/// Finds connections over the cluster and talks to them.
pub struct Pushes {
    local: Arc<dyn LocalConnections>,
    transport: Arc<dyn PeerTransport>,
    gossip: watch::Receiver<Arc<Members>>,
    members: MemberAddresses,
}

impl Pushes {
    pub fn new(
        local: Arc<dyn LocalConnections>,
        transport: Arc<dyn PeerTransport>,
        gossip: watch::Receiver<Arc<Members>>,
        members: MemberAddresses,
    ) -> Arc<Pushes> {
        Arc::new(Pushes { local, transport, gossip, members })
    }

    fn locate(&self, id: &ConnectionId) -> Location {
        let gossip = self.gossip.borrow();
        locate(id, (self.local.node_id(), self.local.generation()), &gossip, &self.members)
    }

    /// Sends one message to one connection. `Ok`: in its socket or its outbox.
    pub async fn push(&self, id: &ConnectionId, payload: Bytes) -> Result<(), PushError> {
        match self.locate(id) {
            Location::Here => outcome(self.local.push(id.random, &payload)),
            Location::Gone => Err(PushError::Gone),
            Location::Peer(peer) => forward::push(self, &peer, id, &payload).await.and_then(outcome),
        }
    }

    /// Sends one message to several connections of an endpoint, on every node that gossip says is live. Nodes that cannot
    /// be reached are tried again for as long as `patience` says; how many were not is the second part of the answer.
    pub async fn push_many(&self, endpoint: &str, to: &Recipients, payload: Bytes, patience: Duration) -> (Tally, u64) {
        let began = Instant::now();
        let here = deliver::push_many(self.local.clone(), endpoint.to_owned(), to.clone(), payload.clone()).await;
        let mut tally = here.unwrap_or_else(|err| {
            tracing::error!("{err}");
            Tally::default()
        });
        let mut left = self.live_peers();
        while !left.is_empty() {
            let calls = left.iter().map(|peer| forward::push_many(self, peer, endpoint, to, &payload));
            let answers = join_all(calls).await;
            let mut unreached = Vec::new();
            for (peer, answer) in left.into_iter().zip(answers) {
                match answer {
                    Ok(reached) => tally.add(&reached),
                    Err(err) => {
                        tracing::debug!("a message for several connections: {err}");
                        unreached.push(peer);
                    }
                }
            }
            if unreached.is_empty() || began.elapsed() > patience {
                return (tally, unreached.len() as u64);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            // A node that has died meanwhile has taken its connections with it.
            let live = self.live_peers();
            left = unreached.into_iter().filter(|peer| live.contains(peer)).collect();
        }
        (tally, 0)
    }

    /// Every other node that may have connections.
    fn live_peers(&self) -> Vec<PeerAddress> {
        let gossip = self.gossip.borrow();
        let others = gossip.values().filter(|peer| peer.live && peer.node_id != self.local.node_id());
        let others = others.filter(|peer| !peer.facts.cluster_addr.is_empty());
        let address = |addr: &String, node| PeerAddress { node_id: Some(node), addr: addr.clone() };
        others.map(|peer| address(&peer.facts.cluster_addr, peer.node_id)).collect()
    }

    /// Closes one connection.
    pub async fn close(&self, id: &ConnectionId, cause: CloseCause) -> Result<(), PushError> {
        let closed = match self.locate(id) {
            Location::Here => self.local.close(id.random, cause).await.map_err(PushError::Overloaded)?,
            Location::Gone => false,
            Location::Peer(peer) => forward::close(self, &peer, id, &cause).await?,
        };
        if closed {
            Ok(())
        } else {
            Err(PushError::Gone)
        }
    }

    /// Describes one connection.
    pub async fn describe(&self, id: &ConnectionId) -> Result<ConnectionView, PushError> {
        let view = match self.locate(id) {
            Location::Here => self.local.describe(id.random).await.map_err(PushError::Overloaded)?,
            Location::Gone => None,
            Location::Peer(peer) => forward::describe(self, &peer, id).await?,
        };
        view.ok_or(PushError::Gone)
    }
}
