//! What keeps the cluster in shape without a person: the leader promotes healthy learners to voters and finishes a
//! membership change that a former leader left half done. Started by `store`. Removing dead nodes is not here yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use openraft::{ChangeMembers, ServerState};
use tokio::time::{sleep, timeout};
use wsgateway_cluster::NodeId;

use crate::node::{Node, SILENCE_MAX};
use crate::rpc::kind;
use crate::status::Metrics;

/// A learner that is this close to the end of the log can vote without holding up commits.
const PROMOTION_LAG_MAX: u64 = 100;
const PING_DEADLINE: Duration = Duration::from_millis(500);
/// A membership change that takes longer is left to Raft; the next round looks at what became of it.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// The leader's loop; idle on the others.
pub async fn promote_learners(weak: Weak<Node>) {
    let mut healthy_since = BTreeMap::new();
    loop {
        let Some(node) = weak.upgrade() else { return };
        let pause = node.options.autopilot_interval;
        if leads_with_quorum(&node.metrics()) {
            round(&node, &mut healthy_since).await;
        } else {
            healthy_since.clear();
        }
        drop(node);
        sleep(pause).await;
    }
}

fn leads_with_quorum(metrics: &Metrics) -> bool {
    metrics.state == ServerState::Leader
        && metrics.millis_since_quorum_ack.is_some_and(|millis| u128::from(millis) <= SILENCE_MAX.as_millis())
}

async fn round(node: &Node, healthy_since: &mut BTreeMap<NodeId, Instant>) {
    let reachable = reachable_learners(node).await;
    let Ok(_one_at_a_time) = node.membership_change.try_lock() else { return };
    // Looked at only now: what was true before the lock may have been changed by its holder.
    let metrics = node.metrics();
    if !leads_with_quorum(&metrics) {
        return;
    }
    let membership = metrics.membership_config.membership();
    if let [_, .., last] = membership.get_joint_config().as_slice() {
        let last = last.clone();
        tracing::info!(voters = ?last, "finishing a membership change that was left half done");
        change(node, ChangeMembers::ReplaceAllVoters(last)).await;
        return;
    }
    let near_the_end = |id: &NodeId| {
        let matched = metrics.replication.as_ref().and_then(|replication| replication.get(id).copied().flatten());
        let last = metrics.last_log_index.unwrap_or(0);
        matched.is_some_and(|matched| matched.index + PROMOTION_LAG_MAX >= last)
    };
    healthy_since.retain(|id, _| reachable.contains(id));
    for id in reachable.iter().filter(|id| near_the_end(id)) {
        healthy_since.entry(*id).or_insert_with(Instant::now);
    }
    let healthy: BTreeSet<NodeId> = healthy_since
        .iter()
        .filter(|(id, since)| near_the_end(id) && since.elapsed() >= node.options.promote_after)
        .map(|(id, _)| *id)
        .collect();
    let voters = membership.voter_ids().count();
    let promoted = to_promote(membership.nodes().count(), voters, &healthy);
    if !promoted.is_empty() {
        tracing::info!(nodes = ?promoted, "promoting learners to voters");
        change(node, ChangeMembers::AddVoterIds(promoted)).await;
    }
}

async fn change(node: &Node, change: ChangeMembers<u64, openraft::BasicNode>) {
    match timeout(CHANGE_DEADLINE, node.raft.change_membership(change, true)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a membership change failed"),
        Err(_) => tracing::warn!("a membership change has not ended within {CHANGE_DEADLINE:?}"),
    }
}

async fn reachable_learners(node: &Node) -> BTreeSet<NodeId> {
    let metrics = node.metrics();
    let learners: Vec<NodeId> = metrics.membership_config.membership().learner_ids().collect();
    let pings = learners.into_iter().map(|id| {
        let address = node.member_address(&metrics, id);
        async move {
            let answer = node.peers.call(&address?, kind::PING, Bytes::new(), PING_DEADLINE).await;
            answer.is_ok().then_some(id)
        }
    });
    join_all(pings).await.into_iter().flatten().collect()
}

/// Which learners become voters: as many as lead to the greatest odd number of voters that is reachable now, five at
/// most, three below five nodes. An even number would need one answer more and survive not one failure more.
fn to_promote(nodes: usize, voters: usize, healthy: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let most = match nodes {
        5.. => 5,
        3.. => 3,
        _ => 1,
    };
    for wanted in [5_usize, 3].into_iter().filter(|wanted| *wanted <= most && *wanted > voters) {
        if voters + healthy.len() >= wanted {
            return healthy.iter().copied().take(wanted - voters).collect();
        }
    }
    BTreeSet::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [NodeId; 0] = [];

    fn promoted(nodes: usize, voters: usize, healthy: &[NodeId]) -> Vec<NodeId> {
        to_promote(nodes, voters, &healthy.iter().copied().collect()).into_iter().collect()
    }

    #[test]
    fn voters_stay_odd() {
        assert_eq!(promoted(1, 1, &[]), NONE);
        assert_eq!(promoted(2, 1, &[2]), NONE, "two voters survive no more than one");
        assert_eq!(promoted(3, 1, &[2]), NONE, "the third is not healthy yet");
        assert_eq!(promoted(3, 1, &[2, 3]), [2, 3]);
        assert_eq!(promoted(3, 2, &[3]), [3]);
        assert_eq!(promoted(4, 3, &[4]), NONE);
        assert_eq!(promoted(5, 3, &[4]), NONE);
        assert_eq!(promoted(5, 3, &[4, 5]), [4, 5]);
        assert_eq!(promoted(5, 1, &[2, 3, 4]), [2, 3], "three now, five when all are healthy");
        assert_eq!(promoted(5, 1, &[2, 3, 4, 5]), [2, 3, 4, 5]);
        assert_eq!(promoted(9, 5, &[6, 7, 8, 9]), NONE);
    }
}
