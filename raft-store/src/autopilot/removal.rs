//! Which voters are replaced and which nodes are forgotten. Pure.
//!
//! A voter that is gone gives its vote to a healthy learner. Without one its vote is dropped as long as three voters are
//! left: dead votes count for the majority that is needed, so five of which two are dead survive one loss, and so do
//! three. Three voters stay three: of two, each would be needed. Who has no vote and is gone is forgotten.

use std::collections::BTreeSet;

use wsgateway_cluster::NodeId;

/// Never fewer voters than this, once there are so many.
const VOTERS_MIN: usize = 3;

/// The members as the leader sees them.
pub struct Seen<'a> {
    pub me: NodeId,
    pub voters: &'a BTreeSet<NodeId>,
    pub learners: &'a BTreeSet<NodeId>,
    /// Learners that can vote at once.
    pub healthy: &'a BTreeSet<NodeId>,
    /// Members that will not come back, or shall not.
    pub dead: &'a BTreeSet<NodeId>,
    /// Members that have just answered; the leader itself is not asked.
    pub reached: &'a BTreeSet<NodeId>,
}

/// One change of the membership.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// From now on these vote; who voted before and is not among them becomes a learner.
    Vote(BTreeSet<NodeId>),
    /// These learners are members no more.
    Forget(BTreeSet<NodeId>),
}

pub fn step(seen: &Seen) -> Option<Step> {
    let living: BTreeSet<NodeId> = seen.voters.difference(seen.dead).copied().collect();
    let lost = seen.voters.len() - living.len();
    // Whoever is there has to agree, who shall go as well: a majority of the voters of today, and of tomorrow.
    let answers = |voters: &BTreeSet<NodeId>| {
        2 * voters.iter().filter(|id| **id == seen.me || seen.reached.contains(id)).count() > voters.len()
    };
    if lost > 0 && answers(seen.voters) {
        let spare = seen.healthy.difference(seen.dead).take(lost);
        let voters: BTreeSet<NodeId> = living.iter().chain(spare).copied().collect();
        let voters = odd(voters, seen);
        if voters.len() >= VOTERS_MIN && answers(&voters) {
            return Some(Step::Vote(voters));
        }
    }
    let gone: BTreeSet<NodeId> = seen.learners.intersection(seen.dead).copied().collect();
    (!gone.is_empty()).then_some(Step::Forget(gone))
}

/// An even number needs one answer more and survives not one failure more. Who does not answer goes first; the leader
/// keeps its vote.
fn odd(mut voters: BTreeSet<NodeId>, seen: &Seen) -> BTreeSet<NodeId> {
    if voters.len().is_multiple_of(2) {
        let spare = voters.iter().filter(|id| **id != seen.me).max_by_key(|id| (!seen.reached.contains(id), **id));
        spare.copied().map(|id| voters.remove(&id));
    }
    voters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[NodeId]) -> BTreeSet<NodeId> {
        ids.iter().copied().collect()
    }

    /// Who is dead does not answer.
    fn after(voters: &[NodeId], learners: &[NodeId], healthy: &[NodeId], dead: &[NodeId]) -> Option<Step> {
        let (voters, learners, healthy, dead) = (set(voters), set(learners), set(healthy), set(dead));
        let reached = voters.union(&learners).copied().filter(|id| !dead.contains(id)).collect();
        step(&Seen { me: 1, voters: &voters, learners: &learners, healthy: &healthy, dead: &dead, reached: &reached })
    }

    #[test]
    fn who_shall_go_and_lives_still_counts_for_the_majority() {
        let (voters, spare, gone) = (set(&[1, 2, 3, 4, 5]), set(&[6]), set(&[2, 3, 4]));
        let reached = set(&[2, 3, 4, 5, 6]);
        let seen = Seen { me: 1, voters: &voters, learners: &spare, healthy: &spare, dead: &gone, reached: &reached };
        assert_eq!(step(&seen), Some(Step::Vote(set(&[1, 5, 6]))));
        let none = set(&[]);
        assert_eq!(step(&Seen { reached: &none, ..seen }), None, "not a majority of today");
    }

    #[test]
    fn who_is_silent_loses_its_vote_before_who_answers() {
        let (voters, none, dead, reached) = (set(&[1, 2, 3, 4, 5]), set(&[]), set(&[3]), set(&[2, 5]));
        let seen = Seen { me: 1, voters: &voters, learners: &none, healthy: &none, dead: &dead, reached: &reached };
        assert_eq!(step(&seen), Some(Step::Vote(set(&[1, 2, 5]))));
    }

    #[test]
    fn a_healthy_learner_takes_the_place_of_a_dead_voter() {
        assert_eq!(after(&[1, 2, 3], &[4], &[4], &[3]), Some(Step::Vote(set(&[1, 2, 4]))));
        assert_eq!(after(&[1, 2, 3], &[3, 4], &[], &[]), None, "nobody is dead");
        assert_eq!(after(&[1, 2, 3], &[4], &[], &[3]), None, "the learner is not healthy yet");
        assert_eq!(after(&[1, 2, 3], &[4], &[4], &[3, 4]), Some(Step::Forget(set(&[4]))), "nor is a dead one");
        assert_eq!(after(&[1, 2, 3, 4, 5], &[6, 7], &[6, 7], &[2, 3]), Some(Step::Vote(set(&[1, 4, 5, 6, 7]))));
    }

    #[test]
    fn three_voters_stay_three_and_five_become_three() {
        assert_eq!(after(&[1, 2, 3], &[], &[], &[3]), None);
        assert_eq!(after(&[1, 2, 3, 4, 5], &[], &[], &[5]), Some(Step::Vote(set(&[1, 2, 3]))), "four would be even");
        assert_eq!(after(&[1, 2, 3, 4, 5], &[], &[], &[4, 5]), Some(Step::Vote(set(&[1, 2, 3]))));
        assert_eq!(after(&[1, 2, 3, 4, 5], &[6], &[6], &[4, 5]), Some(Step::Vote(set(&[1, 2, 3]))));
        assert_eq!(after(&[1], &[], &[], &[]), None);
        assert_eq!(after(&[1, 2], &[], &[], &[2]), None, "no majority is left");
    }

    #[test]
    fn nothing_changes_without_a_majority() {
        assert_eq!(after(&[1, 2, 3], &[4, 5], &[4, 5], &[2, 3]), None);
        assert_eq!(after(&[1, 2, 3, 4, 5], &[6], &[6], &[3, 4, 5]), None);
    }

    #[test]
    fn the_leader_keeps_its_vote() {
        let (voters, none, dead, reached) = (set(&[5, 6, 7, 8, 9]), set(&[]), set(&[5]), set(&[6, 7, 8]));
        let seen = Seen { me: 9, voters: &voters, learners: &none, healthy: &none, dead: &dead, reached: &reached };
        assert_eq!(step(&seen), Some(Step::Vote(set(&[6, 7, 9]))));
    }

    #[test]
    fn a_dead_learner_is_forgotten() {
        assert_eq!(after(&[1, 2, 3], &[4, 5], &[5], &[4]), Some(Step::Forget(set(&[4]))));
    }

    /// Whatever is gone, or is to go and lives, as long as a majority answers: in the end nobody of those is a member where
    /// there is somebody in its place, there are never fewer than three voters, and promotion does not undo it.
    #[test]
    fn steps_come_to_an_end() {
        for nodes in 3..8_u64 {
            for dead in 0..1_u64 << (nodes - 1) {
                for lives in [false, true] {
                    let dead = (2..=nodes).filter(|id| dead >> (id - 2) & 1 == 1).collect();
                    settles(nodes, &dead, lives);
                }
            }
        }
    }

    fn settles(nodes: u64, dead: &BTreeSet<NodeId>, lives: bool) {
        let all: BTreeSet<NodeId> = (1..=nodes).collect();
        let what = format!("{nodes} nodes, gone {dead:?}, answering {lives}");
        let reached: BTreeSet<NodeId> = all.iter().copied().filter(|id| lives || !dead.contains(id)).collect();
        let mut voters: BTreeSet<NodeId> = all.iter().copied().take(if nodes >= 5 { 5 } else { 3 }).collect();
        if 2 * voters.intersection(&reached).count() <= voters.len() {
            return;
        }
        let mut learners: BTreeSet<NodeId> = all.difference(&voters).copied().collect();
        for steps in 0.. {
            assert!(steps < 10, "{what}");
            let healthy: BTreeSet<NodeId> = learners.intersection(&reached).copied().collect();
            let healthy = healthy.difference(dead).copied().collect();
            let staying = voters.union(&learners).filter(|id| !dead.contains(id)).count();
            let promoted = super::super::promotion::to_promote(staying, voters.len(), &healthy);
            if !promoted.is_empty() {
                learners.retain(|id| !promoted.contains(id));
                voters.extend(promoted);
                continue;
            }
            let seen = Seen { me: 1, voters: &voters, learners: &learners, healthy: &healthy, dead, reached: &reached };
            match step(&seen) {
                None => break,
                Some(Step::Vote(next)) => {
                    learners = voters.union(&learners).copied().filter(|id| !next.contains(id)).collect();
                    voters = next;
                }
                Some(Step::Forget(gone)) => learners.retain(|id| !gone.contains(id)),
            }
            assert!(voters.len() >= VOTERS_MIN && voters.contains(&1), "{voters:?} of {what}");
        }
        let staying = nodes as usize - dead.len();
        assert!(staying < VOTERS_MIN || voters.is_disjoint(dead), "{voters:?} of {what}");
        assert!(learners.is_disjoint(dead), "{what}");
    }
}
