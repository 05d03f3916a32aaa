//! Nodes as a whole: asks one to leave in order, takes one out of the cluster for good. Both sides are here, the node that
//! asks and the one that leaves. Called by the admin side and by peers; imports the cluster's floors.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{ready, BoxFuture, FutureExt};
use tokio::sync::watch;
use wsgateway_cluster::membership::Members;
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerService, PeerTransport};
use wsgateway_raft_store::types::{Authorship, ProposeError, Rejection, Reply};
use wsgateway_raft_store::RaftStore;

/// Request kinds, within `wsgateway_cluster::kinds::GATEWAY`. Part of the wire format: never renumber.
pub const KINDS: RangeInclusive<u16> = 140..=149;
const DRAIN: u16 = 140;
/// A node notes that it has to leave, no more.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Never fewer voters than this (see the store's autopilot).
const VOTERS_MIN: usize = 3;

/// Why a node stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    #[error("there is no node {0} in this cluster")]
    NotFound(String),
    #[error(
        "node {id} is one of {voters} voters, and without it fewer than three nodes would be left to vote: start another \
         node first, and remove this one when the new one is there"
    )]
    Needed { id: String, voters: usize },
    #[error("node {id} cannot be asked: {reason}")]
    Unreachable { id: String, reason: String },
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("{0}")]
    Rejected(Rejection),
}

/// The nodes of the cluster that this one is in.
pub struct Nodes {
    store: RaftStore,
    transport: Arc<dyn PeerTransport>,
    gossip: watch::Receiver<Arc<Members>>,
    /// Set once somebody has asked this node to leave.
    leaving: watch::Sender<bool>,
}

impl Nodes {
    pub fn new(store: RaftStore, transport: Arc<dyn PeerTransport>, gossip: watch::Receiver<Arc<Members>>) -> Nodes {
        Nodes { store, transport, gossip, leaving: watch::Sender::new(false) }
    }

    /// Waits until somebody asks this node to leave.
    pub async fn asked_to_leave(&self) {
        let mut leaving = self.leaving.subscribe();
        // The sender is here as well: it does not close.
        let _closed = leaving.wait_for(|leaving| *leaving).await;
    }

    /// Has a node leave as SIGTERM does. Its membership stays: it may come back.
    pub async fn drain(&self, id: &str) -> Result<(), NodesError> {
        let (node_id, addr) = self.member(id).ok_or_else(|| NodesError::NotFound(id.to_owned()))?;
        if node_id == self.store.identity().node_id {
            self.leaving.send_replace(true);
            return Ok(());
        }
        let addr = self.gossip.borrow().get(&node_id).map_or(addr, |peer| peer.facts.cluster_addr.clone());
        let peer = PeerAddress { node_id: Some(node_id), addr };
        let asked = self.transport.call(&peer, Channel::Control, DRAIN, Bytes::new(), ANSWER_WITHIN).await;
        asked.map(|_| ()).map_err(|err| NodesError::Unreachable { id: id.to_owned(), reason: err.to_string() })
    }

    /// Takes a node out for good: the leader gives its vote to another one and forgets it; should it live, it is told
    /// and leaves. What is asked for again has happened already.
    pub async fn remove(&self, id: &str, by: Authorship, note: String) -> Result<(), NodesError> {
        self.store.linearize().await?;
        let Some((node_id, addr)) = self.member(id) else {
            let removed = parse(id).is_some_and(|node_id| self.store.is_removed(node_id));
            return if removed { Ok(()) } else { Err(NodesError::NotFound(id.to_owned())) };
        };
        self.check_dispensable(node_id)?;
        match self.store.remove_node(node_id, &addr, by, Some(note)).await? {
            Reply::Done { .. } | Reply::Rejected { rejection: Rejection::IdTaken { .. } } => Ok(()),
            Reply::Rejected { rejection } => Err(NodesError::Rejected(rejection)),
        }
    }

    fn check_dispensable(&self, id: NodeId) -> Result<(), NodesError> {
        let status = self.store.status();
        let gossip = self.gossip.borrow().clone();
        let me = self.store.identity().node_id;
        let lives = |other: &NodeId| *other == me || gossip.get(other).is_some_and(|peer| peer.live);
        let stays = |other: &NodeId| *other != id && lives(other) && !self.store.is_removed(*other);
        let others: BTreeSet<NodeId> = status.voters.iter().chain(&status.learners).copied().filter(stays).collect();
        match status.voters.contains(&id) && others.len() < VOTERS_MIN {
            true => Err(NodesError::Needed { id: format!("{id:016x}"), voters: status.voters.len() }),
            false => Ok(()),
        }
    }

    fn member(&self, id: &str) -> Option<(NodeId, String)> {
        let node_id = parse(id)?;
        self.store.members().remove(&node_id).map(|addr| (node_id, addr))
    }
}

/// As the API writes ids.
fn parse(id: &str) -> Option<NodeId> {
    let is_ours = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    NodeId::from_str_radix(id, 16).ok().filter(|_| is_ours)
}

impl PeerService for Nodes {
    fn handle(&self, from: NodeId, kind: u16, _payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let answer = match kind {
            DRAIN => {
                tracing::info!(by = format!("{from:016x}"), "asked to leave");
                self.leaving.send_replace(true);
                Ok(Bytes::new())
            }
            unknown => Err(format!("kind {unknown} is not known to this version of the gateway")),
        };
        ready(answer).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_the_api_writes() {
        assert_eq!(parse("00000000000000ff"), Some(255));
        for wrong in ["ff", "00000000000000FF", "+0000000000000ff", "00000000000000fg", "000000000000000ff", ""] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
