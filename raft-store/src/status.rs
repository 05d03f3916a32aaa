//! How this node sees Raft, from openraft's metrics. Pure; called by `store` and `propose`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use openraft::{BasicNode, RaftMetrics, ServerState};

use crate::raft_types::LogId;
use crate::types::RaftStatus;

pub type Metrics = RaftMetrics<u64, BasicNode>;

/// The public view of the metrics.
pub fn status(metrics: &Metrics, committed: Option<LogId>) -> RaftStatus {
    let membership = metrics.membership_config.membership();
    let initialised = membership.nodes().next().is_some();
    let role = match metrics.state {
        _ if metrics.running_state.is_err() => "stopped",
        _ if !initialised => "uninitialised",
        ServerState::Leader => "leader",
        ServerState::Follower => "follower",
        ServerState::Candidate => "candidate",
        ServerState::Learner => "learner",
        ServerState::Shutdown => "stopped",
    };
    RaftStatus {
        node_id: metrics.id,
        leader: metrics.current_leader,
        term: metrics.current_term,
        role: role.to_owned(),
        last_log_index: metrics.last_log_index,
        committed_index: committed.map(|log_id| log_id.index),
        applied_index: metrics.last_applied.map(|log_id| log_id.index),
        snapshot_index: metrics.snapshot.map(|log_id| log_id.index),
        voters: membership.voter_ids().collect(),
        learners: membership.learner_ids().collect(),
        millis_since_quorum_ack: metrics.millis_since_quorum_ack,
    }
}

/// When a leader was last heard of; openraft keeps this to itself.
#[derive(Debug)]
pub struct LeaderContact {
    last: Mutex<Instant>,
}

impl LeaderContact {
    /// Counts from now on: a node that has just started gives the leader time to find it.
    pub fn new() -> LeaderContact {
        LeaderContact { last: Mutex::new(Instant::now()) }
    }

    /// A leader's message was accepted.
    pub fn heard(&self) {
        *self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Instant::now();
    }

    /// The last sign of life was so long ago; an older one than known already is ignored.
    pub fn heard_before(&self, ago: Duration) {
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(heard) = Instant::now().checked_sub(ago).filter(|heard| heard > &*last) {
            *last = heard;
        }
    }

    pub fn silent_for(&self) -> Duration {
        self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).elapsed()
    }
}
