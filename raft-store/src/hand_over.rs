//! Leaving without a gap longer than needed: a leader hands its role to the voter that has the most of the log. Called
//! by the store's handle before a node stops.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use openraft::ServerState;
use tokio::time::sleep;
use wsgateway_cluster::{NodeId, PeerError};

use crate::election::is_majority;
use crate::node::Node;
use crate::rpc::kind;
use crate::status::Metrics;

const ELECT_DEADLINE: Duration = Duration::from_secs(1);
/// After this, leave without a successor: an ordinary election will find one.
const SUCCESSOR_DEADLINE: Duration = Duration::from_secs(3);
const ROOM_DEADLINE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);

impl Node {
    /// Returns when another node leads, or after a few seconds without one. Nothing happens on a node that does not
    /// lead or is the only voter.
    ///
    /// Voters refuse an election while they hear from a leader, for the longest election timeout. So: stop taking
    /// writes, stop the heartbeats, wait that long, ask the successor to stand.
    pub async fn hand_over_leadership(&self) {
        self.hand_over_leadership_to(|_| true).await;
    }

    /// The same, to one of some voters.
    pub async fn hand_over_leadership_to(&self, may_lead: impl Fn(NodeId) -> bool) {
        let Some(successor) = self.best_successor(&self.metrics(), &may_lead) else { return };
        tracing::info!(to = format!("{successor:016x}"), "handing over leadership");
        self.handing_over.store(true, Ordering::Relaxed);
        self.raft.runtime_config().heartbeat(false);
        sleep(self.options.election_max + PAUSE).await;
        let metrics = self.metrics();
        let successor = self.best_successor(&metrics, &may_lead).unwrap_or(successor);
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
        self.best_successor(&self.metrics(), &|_| true).is_some()
    }

    /// A leader whose disk is full makes one lead that has room. Returns at once unless a majority has.
    pub async fn hand_over_leadership_for_want_of_room(&self) {
        let metrics = self.metrics();
        let voters: Vec<NodeId> = metrics.membership_config.membership().voter_ids().collect();
        let asked = voters.iter().filter(|id| **id != metrics.id).map(|id| {
            let address = self.member_address(&metrics, *id);
            async move {
                let answer = self.peers.call(&address?, kind::ROOM, Bytes::new(), ROOM_DEADLINE).await;
                match answer {
                    Ok(_) => Some(*id),
                    // An older program does not know the question.
                    Err(PeerError::Remote(text)) if text.contains("is not known") => Some(*id),
                    Err(_) => None,
                }
            }
        });
        let with_room: BTreeSet<NodeId> = join_all(asked).await.into_iter().flatten().collect();
        // Who has none gives no vote: with fewer, there would be no leader at all.
        let configs = metrics.membership_config.membership().get_joint_config();
        if is_majority(configs, &with_room) {
            self.hand_over_leadership_to(|id| with_room.contains(&id)).await;
        }
    }

    /// The voter beside this leader with the most of the log. One that is to be removed is none.
    fn best_successor(&self, metrics: &Metrics, may_lead: &impl Fn(NodeId) -> bool) -> Option<NodeId> {
        if metrics.state != ServerState::Leader {
            return None;
        }
        let replication = metrics.replication.as_ref()?;
        let voters = metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id);
        let fit = voters.filter(|id| !self.is_removed(*id) && may_lead(*id));
        fit.max_by_key(|id| replication.get(id).copied().flatten())
    }
}
