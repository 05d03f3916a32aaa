//! Nodes that are members no more, for good: recorded in the replicated state, so that every node can say so to one that
//! comes back. Used by `autopilot` (records), `service` and `bootstrap` (refuse, and hear of it) and the store's handle.
//!
//! Recorded before the membership changes: a record without its change is made good by the next round of the leader, a
//! change without its record would let the node in again.

use std::time::{SystemTime, UNIX_EPOCH};

use wsgateway_cluster::NodeId;

use crate::disk::DiskError;
use crate::keys::raft_meta;
use crate::node::Node;
use crate::rpc::ProposeRequest;
use crate::types::{Authorship, Command, ProposeError};

/// The kind of the records; their id is the node's.
pub const KIND: &str = "removed-node";
/// Who is named as the author when nobody asked for it.
pub const AUTOPILOT: &str = "autopilot";

/// The id as in all texts.
pub fn hex(id: NodeId) -> String {
    format!("{id:016x}")
}

impl Node {
    pub fn is_removed(&self, id: NodeId) -> bool {
        self.view.head(KIND, &hex(id)).is_some()
    }

    /// What a removed node is told, as soon as it is out of the membership: before, the others still need its answers.
    pub fn farewell(&self, id: NodeId) -> Option<String> {
        let head = self.view.head(KIND, &hex(id))?;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        // A node that has just started does not know the members yet.
        if membership.get_node(&id).is_some() || membership.nodes().next().is_none() {
            return None;
        }
        let cluster = self.cluster_id().map(|id| id.to_string()).unwrap_or_default();
        let why = match self.view.version(KIND, &head.id, head.latest_version) {
            Ok(Some(version)) => format!(" by {}: {}", version.by.author, version.by.message),
            Ok(None) | Err(_) => String::new(),
        };
        Some(format!("node {} was removed from cluster {cluster}{why}", head.id))
    }

    /// Records that a node is removed, unless it is already.
    pub async fn record_removed(&self, id: NodeId, addr: &str, why: &str) -> Result<(), ProposeError> {
        if self.is_removed(id) {
            return Ok(());
        }
        let by = Authorship { author: AUTOPILOT.to_owned(), message: why.to_owned(), at: now() };
        // An id made of the node's would be answered, after a recovery, with what was removed in the cluster before.
        let request_id = format!("{:032x}", rand::random::<u128>());
        let request = ProposeRequest { request_id, command: record(id, addr, by), note: None };
        self.propose(request).await.map(|_| ())
    }

    /// This node was told that it is removed: it stops, and does not start again with this data.
    pub async fn evicted(&self, farewell: String) {
        match self.storage.put_meta(raft_meta::EVICTED, &farewell).await {
            Ok(()) => {}
            Err(error) => tracing::error!(%error, "that this node was removed cannot be noted"),
        }
        self.evicted.send_replace(Some(farewell));
    }
}

/// The command that records it. Rejected, and no harm, when it is recorded already.
pub fn record(id: NodeId, addr: &str, by: Authorship) -> Command {
    let document = serde_json::json!({"nodeId": hex(id), "clusterAddr": addr}).to_string();
    Command::Create { kind: KIND.to_owned(), id: hex(id), key: hex(id), document, by }
}

/// What a folder was told in an earlier run.
pub fn told_before(storage: &crate::storage::Storage) -> Result<Option<String>, DiskError> {
    storage.meta::<String>(raft_meta::EVICTED)
}

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is wrong, and the time of a record decides nothing.
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
