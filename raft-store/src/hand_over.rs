//! Leaving without a gap longer than needed: a leader hands its role to the voter that has the most of the log. Called
//! by the store's handle before a node stops.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::ServerState;
use tokio::time::sleep;
use wsgateway_cluster::NodeId;

use crate::node::Node;
use crate::rpc::kind;
use crate::status::Metrics;

const ELECT_DEADLINE: Duration = Duration::from_secs(1);
/// After this, leave without a successor: an ordinary election will find one.
const SUCCESSOR_DEADLINE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

impl Node {
    /// Returns when another node leads, or after a few seconds without one. Nothing happens on a node that does not
    /// lead or is the only voter.
    ///
    /// Voters refuse an election while they hear from a leader, for the longest election timeout. So: stop taking
    /// writes, stop the heartbeats, wait that long, ask the successor to stand.
    pub async fn hand_over_leadership(&self) {
        let Some(successor) = self.best_successor(&self.metrics()) else { return };
        tracing::info!(to = format!("{successor:016x}"), "handing over leadership");
        self.handing_over.store(true, Ordering::Relaxed);
        self.raft.runtime_config().heartbeat(false);
        sleep(self.options.election_max + PAUSE).await;
        let metrics = self.metrics();
        let successor = self.best_successor(&metrics).unwrap_or(successor);
        if let Some(address) = self.member_address(&metrics, successor) {
            if let Err(error) = self.peers.call(&address, kind::ELECT, Bytes::new(), ELECT_DEADLINE).await {
                tracing::warn!(%error, "the successor cannot be asked");
            }
        }
        let asked = Instant::now();
        while self.metrics().state == ServerState::Leader && asked.elapsed() < SUCCESSOR_DEADLINE {
            sleep(PAUSE).await;
        }
        self.raft.runtime_config().heartbeat(true);
        self.handing_over.store(false, Ordering::Relaxed);
    }

    pub fn has_successor(&self) -> bool {
        self.best_successor(&self.metrics()).is_some()
    }

    /// The voter beside this leader with the most of the log. One that is to be removed is none.
    fn best_successor(&self, metrics: &Metrics) -> Option<NodeId> {
        if metrics.state != ServerState::Leader {
            return None;
        }
        let replication = metrics.replication.as_ref()?;
        let voters = metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id);
        voters.filter(|id| !self.is_removed(*id)).max_by_key(|id| replication.get(id).copied().flatten())
    }
}
