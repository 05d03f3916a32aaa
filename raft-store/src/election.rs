//! When a voter stands for election. openraft's own timer is off (it can still elect when told to): it has no pre-vote,
//! so a node that was cut off, stopped or only deaf would raise the term again and again, and unseat a healthy leader
//! when it comes back. Started by `store`.
//!
//! The rule: stand when neither this voter nor a majority of the voters has heard from a leader for the longest election
//! timeout, which is also how long openraft's voters stand by a leader. If that does not hold for [`LEADERLESS_MAX`]
//! (say, because a leader is heard by others but cannot be of use), stand when a majority can be reached – not at once: a
//! voter that was cut off reaches the others a moment before their leader finds it again.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::Weak;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use openraft::ServerState;
use rand::Rng;
use tokio::time::sleep;
use wsgateway_cluster::NodeId;

use crate::node::Node;
use crate::rpc::{self, kind};
use crate::status::Metrics;

/// Between two looks at the clock.
const PAUSE: Duration = Duration::from_millis(50);
/// Without a leader for this long, other voters' leaders do not count any more.
const LEADERLESS_MAX: Duration = Duration::from_secs(10);
/// From reaching a majority again until a leader that the majority hears is taken to be of no use: links are opened again
/// and followers looked for within a second or two.
const FOUND_AGAIN_WITHIN: Duration = Duration::from_secs(3);

/// Every node's loop; idle on leaders and learners.
pub async fn run(weak: Weak<Node>) {
    // Since when a majority answers this voter, which hears no leader.
    let mut reached_since = None;
    loop {
        sleep(PAUSE).await;
        let Some(node) = weak.upgrade() else { return };
        if !wants_to_stand(&node) {
            reached_since = None;
            continue;
        }
        if is_only_voter(&node.metrics()) {
            stand(&node).await;
        } else {
            // Spread, so that two voters do not split the votes; and a process that was stopped for a while reads its
            // mail first, where the leader's heartbeats are.
            let spread = node.options.election_min.mul_f64(rand::rng().random_range(0.1..0.5));
            sleep(spread).await;
            if !wants_to_stand(&node) || !backed(&node, &mut reached_since).await || !wants_to_stand(&node) {
                continue;
            }
            stand(&node).await;
        }
        // The election has its time before the next one; whoever wins is heard of before that.
        let time_to_win = node.options.election_min;
        drop(node);
        sleep(time_to_win).await;
    }
}

async fn stand(node: &Node) {
    tracing::info!(silent_for = ?node.contact.silent_for(), "no leader: standing for election");
    if let Err(fatal) = node.raft.trigger().elect().await {
        tracing::error!(%fatal, "Raft has stopped");
    }
}

fn wants_to_stand(node: &Node) -> bool {
    let metrics = node.metrics();
    let membership = metrics.membership_config.membership();
    metrics.state != ServerState::Leader
        && !node.handing_over.load(Ordering::Relaxed)
        && membership.voter_ids().any(|id| id == metrics.id)
        && (is_only_voter(&metrics) || node.contact.silent_for() > node.options.election_max)
        // A system call: last. It could not write down its own vote.
        && !node.storage.is_low_on_room()
}

fn is_only_voter(metrics: &Metrics) -> bool {
    metrics.membership_config.membership().voter_ids().eq([metrics.id])
}

/// Asks all other voters for the silence that they hear, until enough have answered.
async fn backed(node: &Node, reached_since: &mut Option<Instant>) -> bool {
    let metrics = node.metrics();
    let configs = metrics.membership_config.membership().get_joint_config();
    let mut backing = BTreeSet::from([metrics.id]);
    let mut reached = backing.clone();
    let others = metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id);
    let mut pings: FuturesUnordered<_> = others
        .map(|id| {
            let address = node.member_address(&metrics, id);
            async move {
                let answer = node.peers.call(&address?, kind::PING, Bytes::new(), node.options.heartbeat).await;
                let answer = rpc::ping_answer(&answer.ok()?).ok()?;
                let silent_for = Duration::from_millis(answer.leader_silent_millis);
                Some((id, silent_for > node.options.election_max))
            }
        })
        .collect();
    while !is_majority(configs, &backing) {
        let Some(answered) = pings.next().await else {
            if !is_majority(configs, &reached) {
                *reached_since = None;
                return false;
            }
            let since = reached_since.get_or_insert_with(Instant::now);
            return node.contact.silent_for() > LEADERLESS_MAX && since.elapsed() > FOUND_AGAIN_WITHIN;
        };
        if let Some((id, hears_none)) = answered {
            reached.insert(id);
            if hears_none {
                backing.insert(id);
            }
        }
    }
    true
}

/// A majority of each configuration: of both, during a change.
pub fn is_majority(configs: &[BTreeSet<NodeId>], backing: &BTreeSet<NodeId>) -> bool {
    configs.iter().all(|voters| 2 * voters.intersection(backing).count() > voters.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_needed_in_both_configurations_of_a_change() {
        let set = |ids: &[NodeId]| ids.iter().copied().collect::<BTreeSet<_>>();
        assert!(is_majority(&[set(&[1])], &set(&[1])));
        assert!(!is_majority(&[set(&[1, 2])], &set(&[1])));
        assert!(is_majority(&[set(&[1, 2, 3])], &set(&[1, 3])));
        assert!(!is_majority(&[set(&[1]), set(&[1, 2, 3])], &set(&[1])));
        assert!(is_majority(&[set(&[1]), set(&[1, 2, 3])], &set(&[1, 2])));
        assert!(!is_majority(&[set(&[1, 2, 3])], &set(&[1, 4, 5])), "strangers do not count");
    }
}
