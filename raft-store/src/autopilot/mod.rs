//! What keeps the cluster in shape without a person: the leader promotes healthy learners to voters, replaces voters that
//! are gone, forgets nodes that are, and finishes a membership change that a former leader left half done. Started by
//! `store`. What is to be done is decided in `promotion` and `removal`, which are pure; this is the IO around them.
//!
//! Invariants: one membership change at a time, and only with a quorum that has just answered; a node that is forgotten
//! is recorded as removed before, so that it is told when it comes back.

mod promotion;
mod removal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use openraft::{ChangeMembers, ServerState};
use tokio::time::{sleep, timeout};
use wsgateway_cluster::{NodeId, PeerAddress};

use crate::node::{Node, SILENCE_MAX};
use crate::rpc::{self, kind, PingAnswer};
use crate::status::Metrics;
use removal::{Seen, Step};

/// A learner that is this close to the end of the log can vote without holding up commits.
const PROMOTION_LAG_MAX: u64 = 100;
const PING_DEADLINE: Duration = Duration::from_millis(500);
/// A membership change that takes longer is left to Raft; the next round looks at what became of it.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// What a leader has seen of the others since it leads.
#[derive(Default)]
struct Watched {
    /// When each answered last; at first, when it was first looked for.
    answered: BTreeMap<NodeId, Instant>,
    /// When each was first seen among the members.
    joined: BTreeMap<NodeId, Instant>,
    healthy_since: BTreeMap<NodeId, Instant>,
    /// What each has said last that it understands.
    understood: BTreeMap<NodeId, u32>,
}

/// The leader's loop; idle on the others.
pub async fn run(weak: Weak<Node>) {
    let mut watched = Watched::default();
    loop {
        let Some(node) = weak.upgrade() else { return };
        let pause = node.options.autopilot_interval;
        if leads_with_quorum(&node.metrics()) {
            // Another one has to take this one out of the membership, if there is one.
            if node.is_removed(node.id()) && node.has_successor() {
                node.hand_over_leadership().await;
            } else if node.storage.is_low_on_room() {
                node.hand_over_leadership_for_want_of_room().await;
            } else {
                round(&node, &mut watched).await;
            }
        } else {
            watched = Watched::default();
        }
        drop(node);
        sleep(pause).await;
    }
}

fn leads_with_quorum(metrics: &Metrics) -> bool {
    metrics.state == ServerState::Leader
        && metrics.millis_since_quorum_ack.is_some_and(|millis| u128::from(millis) <= SILENCE_MAX.as_millis())
}

async fn round(node: &Node, watched: &mut Watched) {
    let answered = ping_all(node).await;
    let reached: BTreeSet<NodeId> = answered.keys().copied().collect();
    watched.understood.extend(answered);
    let Ok(_one_at_a_time) = node.membership_change.try_lock() else { return };
    // A node alone waits with it: those who come may be of an older program, and nothing needs it yet.
    if node.metrics().membership_config.membership().nodes().nth(1).is_some() {
        node.raise_cluster_version(&watched.understood).await;
    }
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
    watched.note(&metrics, &reached);
    let dead = watched.dead(node, &metrics, &reached);
    let mut healthy = watched.healthy(&metrics, node.options.promote_after);
    healthy.retain(|id| !dead.contains(id));
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    let staying = membership.nodes().filter(|(id, _)| !dead.contains(id)).count();
    let promoted = promotion::to_promote(staying, voters.len(), &healthy);
    if !promoted.is_empty() {
        tracing::info!(nodes = ?promoted, "promoting learners to voters");
        change(node, ChangeMembers::AddVoterIds(promoted)).await;
        return;
    }
    let learners = membership.learner_ids().collect();
    let me = node.id();
    let seen = Seen { me, voters: &voters, learners: &learners, healthy: &healthy, dead: &dead, reached: &reached };
    match removal::step(&seen) {
        None => {}
        Some(Step::Vote(by)) => {
            tracing::warn!(gone = ?dead, voters = ?by, "voters are gone: changing who votes");
            change(node, ChangeMembers::ReplaceAllVoters(by)).await;
        }
        Some(Step::Forget(gone)) => forget(node, &metrics, gone).await,
    }
}

impl Watched {
    fn note(&mut self, metrics: &Metrics, reached: &BTreeSet<NodeId>) {
        let membership = metrics.membership_config.membership();
        self.answered.retain(|id, _| membership.get_node(id).is_some());
        self.joined.retain(|id, _| membership.get_node(id).is_some());
        self.understood.retain(|id, _| membership.get_node(id).is_some());
        for (id, _) in membership.nodes() {
            self.joined.entry(*id).or_insert_with(Instant::now);
            let answered = self.answered.entry(*id).or_insert_with(Instant::now);
            if reached.contains(id) {
                *answered = Instant::now();
            }
        }
        self.healthy_since.retain(|id, _| reached.contains(id));
        for id in reached.iter().filter(|id| near_the_end(metrics, **id)) {
            self.healthy_since.entry(*id).or_insert_with(Instant::now);
        }
    }

    /// Learners that have been healthy for long enough.
    fn healthy(&self, metrics: &Metrics, for_so_long: Duration) -> BTreeSet<NodeId> {
        let learners = metrics.membership_config.membership().learner_ids();
        let since = |id: &NodeId| self.healthy_since.get(id).is_some_and(|since| since.elapsed() >= for_so_long);
        learners.filter(|id| since(id) && near_the_end(metrics, *id)).collect()
    }

    /// Members that will not come back: removed by a person; or silent for the time of the settings; or silent, and
    /// a member that has come since answers where they were (two that have exchanged addresses were here before).
    /// Whoever is heard of by gossip is silent to this leader only.
    fn dead(&self, node: &Node, metrics: &Metrics, reached: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let members: BTreeMap<NodeId, &str> = metrics
            .membership_config
            .membership()
            .nodes()
            .map(|(id, member)| (*id, member.addr.as_str()))
            .filter(|(id, _)| *id != node.id())
            .collect();
        let heard_elsewhere = |id: &NodeId| {
            let gossip = node.options.gossip.as_ref().map(|gossip| gossip.borrow().clone());
            gossip.is_some_and(|members| members.get(id).is_some_and(|peer| peer.live))
        };
        let in_its_place = |id: &NodeId, addr: &str| {
            let heard = self.answered.get(id);
            let came_since =
                |other: &NodeId| self.joined.get(other).zip(heard).is_some_and(|(came, heard)| came > heard);
            let mut others = members.iter().filter(|(other, _)| reached.contains(other) && came_since(other));
            others.any(|(other, its)| other != id && *its == addr)
        };
        let is_gone = |id: &NodeId, addr: &str| {
            let silent = self.answered.get(id).map_or(Duration::ZERO, Instant::elapsed);
            let long_enough = silent >= node.options.remove_dead_after
                || silent >= node.options.replaced_after && in_its_place(id, addr);
            long_enough && !heard_elsewhere(id)
        };
        let gone = members.iter().filter(|(id, addr)| node.is_removed(**id) || is_gone(id, addr));
        gone.map(|(id, _)| *id).collect()
    }
}

fn near_the_end(metrics: &Metrics, id: NodeId) -> bool {
    let matched = metrics.replication.as_ref().and_then(|replication| replication.get(&id).copied().flatten());
    let last = metrics.last_log_index.unwrap_or(0);
    matched.is_some_and(|matched| matched.index + PROMOTION_LAG_MAX >= last)
}

/// Takes learners out of the membership for good, each with its record first.
async fn forget(node: &Node, metrics: &Metrics, gone: BTreeSet<NodeId>) {
    for id in &gone {
        let addr = metrics.membership_config.membership().get_node(id).map(|member| member.addr.clone());
        let addr = addr.unwrap_or_default();
        tracing::warn!(node = format!("{id:016x}"), %addr, "removing a node that is gone");
        if let Err(error) = node.record_removed(*id, &addr, "it was gone for too long").await {
            tracing::warn!(%error, "the removal of a node cannot be recorded now");
            return;
        }
    }
    change(node, ChangeMembers::RemoveNodes(gone.clone())).await;
    for id in gone {
        node.peers.forget(id);
    }
}

/// Voters that are none any more stay as learners; `forget` is another step.
async fn change(node: &Node, change: ChangeMembers<u64, openraft::BasicNode>) {
    match timeout(CHANGE_DEADLINE, node.raft.change_membership(change, true)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a membership change failed"),
        Err(_) => tracing::warn!("a membership change has not ended within {CHANGE_DEADLINE:?}"),
    }
}

/// Who answers now, of all other members, and what it understands.
async fn ping_all(node: &Node) -> BTreeMap<NodeId, u32> {
    let metrics = node.metrics();
    let members: Vec<NodeId> = metrics.membership_config.membership().nodes().map(|(id, _)| *id).collect();
    let pings = members.into_iter().filter(|id| *id != node.id()).map(|id| {
        let address = node.member_address(&metrics, id);
        async move { Some((id, ping(node, &address?).await.ok()?.understands)) }
    });
    join_all(pings).await.into_iter().flatten().collect()
}

/// Whether a node is there, and what it understands.
pub async fn ping(node: &Node, peer: &PeerAddress) -> Result<PingAnswer, String> {
    let answer = node.peers.call(peer, kind::PING, Bytes::new(), PING_DEADLINE).await;
    rpc::ping_answer(&answer.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}
