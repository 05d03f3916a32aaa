//! The contract of peer links: authenticated request and answer between nodes, over two channels, so that pushes
//! never delay heartbeats. Implementations: [`crate::tcp`] (production) and [`crate::memory`] (tests that cut links);
//! one suite in `tests/` runs on both. Callers: raft-store (Raft, joins, reads) and the gateway (pushes, queries).

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::identity::NodeId;
use crate::stream::{AcceptedStream, DialledStream};

/// What a connection to a peer is for: one of the two that requests travel on, or one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Channel {
    /// Raft, joins, reads, queries.
    Control,
    /// Forwarded pushes: coalesced, bounded, answered one by one.
    Push,
    /// No requests: what follows the handshake are the bytes of a [`TunnelService`]. Not for calls.
    Tunnel,
}

/// Where a peer listens, and who it must turn out to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerAddress {
    /// The id that the peer must prove in the handshake; `None` only while looking for unknown seeds.
    pub node_id: Option<NodeId>,
    /// `host:port` of its cluster listener.
    pub addr: String,
}

/// What can go wrong with a call. Says whose fault it is, so that a caller can decide on a retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No link, or it broke before the answer came. `sent` tells whether the request may have been executed.
    #[error("peer {addr} cannot be reached: {reason}")]
    Unreachable { addr: String, reason: String, sent: bool },
    /// The deadline passed; the request may have been executed.
    #[error("peer {addr} did not answer within {millis} ms")]
    Timeout { addr: String, millis: u64 },
    /// The bounded queue to this peer is full; the request was not sent.
    #[error("the queue to peer {addr} is full")]
    QueueFull { addr: String },
    /// The handshake failed: wrong secret, wrong cluster, not the expected node. Not worth a quick retry.
    #[error("peer {addr} was refused: {reason}")]
    Refused { addr: String, reason: String },
    /// The peer's service answered with an error.
    #[error("peer answered: {0}")]
    Remote(String),
}

impl PeerError {
    /// Nothing listens at the peer's address, or another node does: the process that was there is gone. Not so when its
    /// machine does not answer at all.
    pub fn proves_absence(&self) -> bool {
        match self {
            PeerError::Unreachable { reason, .. } => reason.contains("refused"),
            PeerError::Refused { reason, .. } => reason.contains("was expected there"),
            _ => false,
        }
    }
}

/// Sends requests to peers. Links are opened on demand, kept, and reopened with backoff.
#[async_trait]
pub trait PeerTransport: Send + Sync + 'static {
    /// One request, one answer. `kind` selects the peer's service (see [`Services`]). Fails fast with `Unreachable`
    /// when the link is known to be down, rather than waiting for the deadline.
    async fn call(
        &self,
        peer: &PeerAddress,
        channel: Channel,
        kind: u16,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError>;

    /// Drops links to a peer that moved or was removed.
    fn forget(&self, peer: &PeerAddress);

    /// A connection of its own to a peer, proven by the same handshake; the bytes on it are the peer's [`TunnelService`]'s.
    async fn open_tunnel(&self, peer: &PeerAddress) -> Result<DialledStream, PeerError> {
        Err(PeerError::Refused { addr: peer.addr.clone(), reason: "this transport has no tunnels".into() })
    }

    /// Who listens at this address, as proven in the handshake. For seeds of which only the address is known; call them
    /// with the id from then on.
    async fn whois(&self, addr: &str) -> Result<NodeId, PeerError> {
        Err(PeerError::Refused { addr: addr.into(), reason: "this transport cannot tell".into() })
    }
}

/// Answers requests of peers.
pub trait PeerService: Send + Sync + 'static {
    /// Called in the order in which frames arrived on a link; whatever must keep that order is done before returning.
    /// The returned future may finish in any order. An `Err` reaches the caller as [`PeerError::Remote`].
    fn handle(&self, from: NodeId, kind: u16, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// Takes the far ends of tunnels.
pub trait TunnelService: Send + Sync + 'static {
    /// Must not block; called on the runtime of the links.
    fn accept(&self, from: NodeId, io: AcceptedStream);
}

/// Request kinds by owner. Kinds are part of the wire format: never renumber.
pub mod kinds {
    use std::ops::RangeInclusive;
    /// Answered by the transport itself, with nothing.
    pub const PING: u16 = 0;
    /// Raft, bootstrap, joins, forwarded writes and reads: raft-store.
    pub const RAFT_STORE: RangeInclusive<u16> = 1..=99;
    /// Pushes and queries between gateways.
    pub const GATEWAY: RangeInclusive<u16> = 100..=199;
    /// The transport's own tests.
    pub const TESTS: RangeInclusive<u16> = 900..=999;
}

/// The table of local services, shared by all links of a node. A kind without a service answers an error.
#[derive(Clone, Default)]
pub struct Services {
    table: Arc<RwLock<Vec<Registered>>>,
    tunnels: Arc<OnceLock<Arc<dyn TunnelService>>>,
}

type Registered = (RangeInclusive<u16>, Arc<dyn PeerService>);

impl Services {
    pub fn register(&self, kinds: RangeInclusive<u16>, service: Arc<dyn PeerService>) {
        self.table.write().expect("no panic while held").push((kinds, service));
    }

    /// Once; tunnels that come before are closed.
    pub fn set_tunnels(&self, service: Arc<dyn TunnelService>) {
        let set = self.tunnels.set(service);
        debug_assert!(set.is_ok(), "set once");
    }

    pub(crate) fn tunnels(&self) -> Option<&Arc<dyn TunnelService>> {
        self.tunnels.get()
    }

    pub fn find(&self, kind: u16) -> Option<Arc<dyn PeerService>> {
        let table = self.table.read().expect("no panic while held");
        table.iter().find(|(kinds, _)| kinds.contains(&kind)).map(|(_, service)| service.clone())
    }
}
