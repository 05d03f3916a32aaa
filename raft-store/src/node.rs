//! What the parts of a running store share: Raft, peers, storage, and what is known of the leader. No behaviour beyond
//! small questions. Made by `store`; used by `service`, `propose`, `bootstrap`, `autopilot`, `hand_over`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use wsgateway_cluster::bootstrap::{seed_list_hash, SeedListHash};
use wsgateway_cluster::{ClusterId, Identity, NodeId, PeerAddress};

use crate::disk::DiskError;
use crate::keys::raft_meta;
use crate::log_store::LogStore;
use crate::network::Peers;
use crate::raft_types::{LogId, Raft};
use crate::service::Incoming;
use crate::state_machine::View;
use crate::status::{LeaderContact, Metrics};
use crate::storage::Storage;
use crate::store::StoreOptions;
use crate::types::RaftStatus;

/// Without a sign of life for this long, a leader (or a leader's quorum) counts as lost for new requests: five
/// heartbeats. With the time to notice it, callers have their answer within two seconds.
pub const SILENCE_MAX: Duration = Duration::from_millis(1_500);

/// One running node.
pub struct Node {
    pub identity: Identity,
    pub options: StoreOptions,
    pub storage: Storage,
    pub raft: Raft,
    pub peers: Peers,
    pub log: LogStore,
    pub view: View,
    pub contact: LeaderContact,
    pub status: watch::Sender<RaftStatus>,
    /// What keeps this node from being in a cluster; empty once it is.
    pub waiting_for: watch::Sender<String>,
    /// The durable promise, as on disk.
    pub promised_to: Mutex<Option<NodeId>>,
    /// Held over a membership change: one at a time.
    pub membership_change: tokio::sync::Mutex<()>,
    /// This leader is leaving and takes no more writes.
    pub handing_over: AtomicBool,
    /// What this node was told when it was removed from the cluster.
    pub evicted: watch::Sender<Option<String>>,
    /// A snapshot that is being received.
    pub incoming: tokio::sync::Mutex<Option<Incoming>>,
}

impl Node {
    pub fn id(&self) -> NodeId {
        self.identity.node_id
    }

    /// openraft's view at its last change.
    pub fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow().clone()
    }

    pub fn committed(&self) -> Option<LogId> {
        self.log.committed()
    }

    /// The members with their addresses, as in the newest membership in the log; empty before this node is in a cluster.
    pub async fn members(&self) -> Result<BTreeMap<NodeId, String>, String> {
        let members = self.raft.with_raft_state(|state| {
            let effective = state.membership_state.effective();
            effective.nodes().map(|(id, node)| (*id, node.addr.clone())).collect()
        });
        members.await.map_err(|fatal| fatal.to_string())
    }

    /// Where to find a member.
    pub fn member_address(&self, metrics: &Metrics, id: NodeId) -> Option<PeerAddress> {
        let node = metrics.membership_config.membership().get_node(&id)?;
        Some(self.peers.address(id, &node.addr))
    }

    pub fn seed_list_hash(&self) -> SeedListHash {
        seed_list_hash(&self.options.seeds)
    }

    pub fn promised_to(&self) -> Option<NodeId> {
        *self.promised_to.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives the one promise, durably. One that was given before stays.
    pub async fn promise(&self, to: NodeId) -> Result<(), DiskError> {
        if self.promised_to().is_none() {
            self.storage.put_meta(raft_meta::PROMISE, &to).await?;
            *self.promised_to.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(to);
        }
        Ok(())
    }

    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.identity.cluster_id.get().copied()
    }

    /// Makes this node part of a cluster for good, durably.
    pub async fn set_cluster_id(&self, cluster_id: ClusterId) -> Result<(), DiskError> {
        self.storage.put_meta(raft_meta::CLUSTER_ID, &cluster_id.to_string()).await?;
        let _ = self.identity.cluster_id.set(cluster_id);
        Ok(())
    }
}
