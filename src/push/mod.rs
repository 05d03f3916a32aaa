//! Messages of services to connections, on whichever node those are: `locate → (forward) → deliver`, and to many at once
//! (`many`). Called by the admin side, by sources and by peers; imports model and the cluster floor. This node's own connections are behind [`LocalConnections`].

mod deliver;
mod forward;
mod locate;
mod many;
mod query;
mod tunnel;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;
use wsgateway_cluster::membership::Members;
use wsgateway_cluster::PeerTransport;

use crate::model::connection_id::ConnectionId;
use crate::model::connection_query::{ConnectionPage, ConnectionQuery};
use crate::model::delivery::{CloseCause, ConnectionView, Labelled, Labelling, PushOutcome, Selection, Tally};
use crate::model::limits::GROUPS_MAX;
use crate::model::receipt::{Confirm, PushOptions, Receipt};
use crate::model::resume::{Claim, NotResumed};
pub use deliver::PeerPushes;
use locate::{locate, Location};
pub use many::{Reached, Unreached};
pub use query::Listed;
pub use tunnel::{Arrivals, Brought, Opening, TunnelEnds};

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
    /// 409
    #[error("the connection is in {GROUPS_MAX} groups already")]
    TooManyGroups,
    /// 504
    #[error("it is in the outbox, but was not written to the client's socket in time; it may yet be")]
    NotWritten,
    /// 504
    #[error("it was written to the client's socket, but the client did not confirm it in time")]
    NotConfirmed,
    /// 504
    #[error("its time to live was over before it could be sent; it will not be")]
    Expired,
    /// 429
    #[error("the client owes as many confirmations as it may")]
    TooManyUnconfirmed,
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
            PushError::TooManyGroups => "too_many_groups",
            PushError::NotWritten => "not_written",
            PushError::NotConfirmed => "not_confirmed",
            PushError::Expired => "expired",
            PushError::TooManyUnconfirmed => "too_many_unconfirmed",
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

/// Half of what a link answers at once: the other half is for pushes that do not wait.
const WAITING_MAX: usize = 512;

/// Cluster addresses of Raft's members, by node: a second opinion on who is there, for nodes that gossip has not heard of.
/// None as long as this node does not know the cluster, and so cannot say of any node that it is not there.
pub type MemberAddresses = Box<dyn Fn() -> BTreeMap<u64, String> + Send + Sync>;

/// The connections that this node owns, by the random part of their ids. An `Err` says why they cannot be asked now.
pub trait LocalConnections: Send + Sync + 'static {
    fn node_id(&self) -> u64;
    /// Boot generation: ids of an older one are gone for good.
    fn generation(&self) -> u64;
    /// In the connection's socket or outbox when this returns.
    fn push(&self, key: u128, payload: &[u8]) -> PushOutcome;
    /// The same; what more is wanted is waited for.
    fn push_with(&self, key: u128, payload: Bytes, options: PushOptions) -> BoxFuture<'static, Receipt>;
    /// The same for all of them that are selected.
    fn push_many(&self, selection: Selection, payload: Bytes) -> BoxFuture<'static, Result<Tally, String>>;
    fn label(&self, key: u128, change: &Labelling) -> Labelled;
    /// Whether there is a connection that this claim is for.
    fn examine(&self, claim: &Claim) -> Result<(), NotResumed>;
    fn query(&self, query: ConnectionQuery) -> BoxFuture<'static, Result<ConnectionPage, String>>;
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
    /// Forwarded pushes whose confirmation is waited for.
    waiting: AtomicUsize,
}

/// Counts one while it lasts.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pushes {
    pub fn new(
        local: Arc<dyn LocalConnections>,
        transport: Arc<dyn PeerTransport>,
        gossip: watch::Receiver<Arc<Members>>,
        members: MemberAddresses,
    ) -> Arc<Pushes> {
        Arc::new(Pushes { local, transport, gossip, members, waiting: AtomicUsize::new(0) })
    }

    fn locate(&self, id: &ConnectionId) -> Result<Location, PushError> {
        let gossip = self.gossip.borrow();
        let me = (self.local.node_id(), self.local.generation());
        match locate(id, me, &gossip, &|node| (self.members)().remove(&node)) {
            Location::Gone if id.node != me.0 && (self.members)().is_empty() => {
                Err(PushError::OwnerUnreachable("this node is not part of the cluster yet".to_owned()))
            }
            located => Ok(located),
        }
    }

    /// Sends one message to one connection. `Ok`: in its socket or its outbox.
    pub async fn push(&self, id: &ConnectionId, payload: Bytes) -> Result<(), PushError> {
        match self.locate(id)? {
            Location::Here => outcome(self.local.push(id.random, &payload)),
            Location::Gone => Err(PushError::Gone),
            Location::Peer(peer) => forward::push(self, &peer, id, &payload).await.and_then(outcome),
        }
    }

    /// The same with wishes; the answer says how far it has come.
    pub async fn push_with(
        &self,
        id: &ConnectionId,
        payload: Bytes,
        options: PushOptions,
    ) -> Result<Confirm, PushError> {
        let receipt = match self.locate(id)? {
            Location::Here => self.local.push_with(id.random, payload, options).await,
            Location::Gone => return Err(PushError::Gone),
            Location::Peer(peer) => {
                let _waiting = self.wait_for(options.confirm)?;
                forward::push_with(self, &peer, id, &payload, options).await?
            }
        };
        match receipt {
            Receipt::Outcome(queued) => outcome(queued).map(|()| Confirm::Queued),
            Receipt::Written => Ok(Confirm::Written),
            Receipt::Confirmed => Ok(Confirm::Client),
            Receipt::NotWritten => Err(PushError::NotWritten),
            Receipt::NotConfirmed => Err(PushError::NotConfirmed),
            Receipt::Expired => Err(PushError::Expired),
            Receipt::TooManyUnconfirmed => Err(PushError::TooManyUnconfirmed),
        }
    }

    /// One more that waits, if there may be one.
    fn wait_for(&self, confirm: Confirm) -> Result<Option<Waiting<'_>>, PushError> {
        if confirm == Confirm::Queued {
            return Ok(None);
        }
        let waiting = Waiting(&self.waiting);
        match self.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            true => Ok(Some(waiting)),
            false => Err(PushError::Overloaded("too many pushes wait for confirmations on other nodes".to_owned())),
        }
    }

    /// Changes what one connection is called.
    pub async fn label(&self, id: &ConnectionId, change: &Labelling) -> Result<(), PushError> {
        let labelled = match self.locate(id)? {
            Location::Here => self.local.label(id.random, change),
            Location::Gone => Labelled::Gone,
            Location::Peer(peer) => forward::label(self, &peer, id, change).await?,
        };
        match labelled {
            Labelled::Done => Ok(()),
            Labelled::TooMany => Err(PushError::TooManyGroups),
            Labelled::Gone => Err(PushError::Gone),
        }
    }

    /// Closes one connection.
    pub async fn close(&self, id: &ConnectionId, cause: CloseCause) -> Result<(), PushError> {
        let closed = match self.locate(id)? {
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
        let view = match self.locate(id)? {
            Location::Here => self.local.describe(id.random).await.map_err(PushError::Overloaded)?,
            Location::Gone => None,
            Location::Peer(peer) => forward::describe(self, &peer, id).await?,
        };
        view.ok_or(PushError::Gone)
    }
}
