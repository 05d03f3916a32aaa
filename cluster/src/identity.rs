//! Who a node is: ids, boot generation, cluster id. Plain data; where it is kept on disk is the raft-store's
//! business (one RocksDB holds everything durable). May be used by every floor; imports nothing of this crate.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

/// A node's permanent id: random, made at the first start on an empty disk, never reused. A wiped disk is a new node.
pub type NodeId = u64;

/// The id of a cluster, made once by the node that initialised it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a node knows about itself. Cheap to clone; the cluster id is shared, since it becomes known while running.
#[derive(Clone, Debug)]
pub struct Identity {
    pub node_id: NodeId,
    /// Bumped and synced at every start: a connection id of an older generation is gone for good.
    pub generation: u64,
    /// A label for people; nothing is decided by it.
    pub name: String,
    /// Unset until this node has initialised a cluster or joined one; never changes afterwards.
    pub cluster_id: Arc<OnceLock<ClusterId>>,
}
