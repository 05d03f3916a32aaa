//! One message for connections on all nodes: every node is asked at once, and what could not be asked is said. Used by
//! the admin side and by sources.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use wsgateway_cluster::{membership, NodeId, PeerAddress, PeerError};

use super::{forward, Pushes};
use crate::model::delivery::{Selection, Tally};

/// Before a node that could not be reached is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What a message for many has reached, on all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    pub tally: Tally,
    /// That have answered, this one included.
    pub nodes: u64,
    /// Those whose connections, if they have any, may have missed it.
    pub unreachable: Vec<Unreached>,
}

/// A node that has not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// Its name; its id as long as nothing else is known.
    pub node: String,
    pub reason: String,
    /// It may have the message all the same.
    pub perhaps: bool,
}

impl Pushes {
    /// Sends one message to all that are selected, on every node. Nodes that have not got the request are asked again for
    /// as long as `patience` says; those that may have it are not, so that no client gets it twice.
    pub async fn push_many(&self, selection: &Selection, payload: Bytes, patience: Duration) -> Reached {
        let began = Instant::now();
        let request = match forward::many(selection, &payload) {
            Ok(request) => request,
            Err(reason) => return self.nobody(reason),
        };
        let mut left = self.peers();
        let (here, mut reached) =
            futures::join!(self.local.push_many(selection.clone(), payload), self.ask_all(&mut left, &request));
        match here {
            Ok(tally) => {
                reached.tally.add(&tally);
                reached.nodes += 1;
            }
            Err(reason) => {
                reached.unreachable.push(Unreached { node: self.name_of(self.local.node_id()), reason, perhaps: false })
            }
        }
        while !left.is_empty() && began.elapsed() < patience {
            tokio::time::sleep(RETRY_PAUSE).await;
            let again = self.ask_all(&mut left, &request).await;
            reached.tally.add(&again.tally);
            reached.nodes += again.nodes;
            reached.unreachable.extend(again.unreachable);
        }
        reached.unreachable.extend(left.into_iter().map(|peer| self.unreached(&peer.node, peer.reason, false)));
        reached
    }

    /// Asks all of `left` at once; those that are worth another try stay in it.
    async fn ask_all(&self, left: &mut Vec<Asked>, request: &Bytes) -> Reached {
        let mut reached = Reached::default();
        let asked = std::mem::take(left);
        let answers = join_all(asked.iter().map(|peer| forward::push_many(self, &peer.node, request.clone()))).await;
        for (mut peer, answer) in asked.into_iter().zip(answers) {
            let err = match answer {
                Ok(tally) => {
                    reached.tally.add(&tally);
                    reached.nodes += 1;
                    continue;
                }
                // Its connections have gone with it.
                Err(err) if forward::is_dead(self, peer.node.node_id, &err) => continue,
                Err(err) => err,
            };
            tracing::debug!("a message for many: {err}");
            peer.reason = err.to_string();
            match err {
                PeerError::Unreachable { sent: false, .. } | PeerError::QueueFull { .. } => left.push(peer),
                PeerError::Timeout { .. } | PeerError::Unreachable { .. } => {
                    reached.unreachable.push(self.unreached(&peer.node, peer.reason, true));
                }
                PeerError::Refused { .. } | PeerError::Remote(_) => {
                    reached.unreachable.push(self.unreached(&peer.node, peer.reason, false));
                }
            }
        }
        reached
    }

    fn nobody(&self, reason: String) -> Reached {
        let node = self.name_of(self.local.node_id());
        Reached { unreachable: vec![Unreached { node, reason, perhaps: false }], ..Reached::default() }
    }

    pub(super) fn unreached(&self, peer: &PeerAddress, reason: String, perhaps: bool) -> Unreached {
        Unreached { node: self.name_of(peer.node_id.unwrap_or_default()), reason, perhaps }
    }

    /// Every other node that may have connections.
    pub(super) fn peers(&self) -> Vec<Asked> {
        let peers = membership::peers_of(self.local.node_id(), &self.gossip.borrow(), (self.members)());
        peers.into_iter().map(|node| Asked { node, reason: String::new() }).collect()
    }

    /// What people call a node.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        membership::name_of(node, &self.gossip.borrow())
    }
}

/// A node on the way to its answer.
pub(super) struct Asked {
    pub node: PeerAddress,
    /// Why it has not answered yet.
    pub reason: String,
}
