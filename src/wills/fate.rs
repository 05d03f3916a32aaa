//! Who keeps a node's wills, and whether a node is dead. Pure.

use std::collections::BTreeMap;

use wsgateway_cluster::membership::Members;
use wsgateway_cluster::{NodeId, PeerError};

/// The keeper of a node: of the other members that live, the one that it rates highest. All nodes rate alike, and when one
/// comes or goes few nodes have another keeper.
pub(super) fn keeper_of(node: NodeId, gossip: &Members, members: &BTreeMap<NodeId, String>) -> Option<NodeId> {
    let living = members.keys().filter(|id| **id != node && gossip.get(id).is_some_and(|peer| peer.live));
    living.copied().max_by_key(|id| (rating(node, *id), *id))
}

/// SplitMix64's finalizer over both ids.
fn rating(node: NodeId, candidate: NodeId) -> u64 {
    let mut mixed = node.rotate_left(32) ^ candidate.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What is known of a node without asking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Lives,
    /// That life is over.
    Dead,
    /// Nobody has heard of it lately: its address has to be asked.
    Silent,
}

pub(super) fn known(node: NodeId, generation: u64, gossip: &Members, removed: bool) -> Known {
    let peer = gossip.get(&node);
    match peer {
        Some(peer) if peer.generation > generation => Known::Dead,
        // One that is removed and lives is on its way out, and tells itself.
        Some(peer) if peer.live => Known::Lives,
        _ if removed => Known::Dead,
        _ => Known::Silent,
    }
}

/// The second witness: its machine says that nothing listens at its address, or another node does. A machine that does not
/// answer at all may be cut off with its connections alive.
pub(super) fn is_witness(answer: &Result<bytes::Bytes, PeerError>) -> bool {
    answer.as_ref().is_err_and(PeerError::proves_absence)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use wsgateway_cluster::membership::{LocalFacts, PeerFacts};

    fn gossip(peers: &[(NodeId, u64, bool)]) -> Members {
        let peer = |(node_id, generation, live): &(NodeId, u64, bool)| PeerFacts {
            node_id: *node_id,
            generation: *generation,
            gossip_addr: "127.0.0.1:1".parse().unwrap(),
            live: *live,
            facts: LocalFacts::default(),
        };
        peers.iter().map(|it| (it.0, peer(it))).collect()
    }

    fn members(ids: impl IntoIterator<Item = NodeId>) -> BTreeMap<NodeId, String> {
        ids.into_iter().map(|id| (id, String::new())).collect()
    }

    #[test]
    fn a_keeper_is_another_member_that_lives() {
        let heard = gossip(&[(1, 1, true), (2, 1, true), (3, 1, false), (4, 1, true)]);
        assert_eq!(keeper_of(1, &heard, &members([1, 2, 3])), Some(2), "3 is not live, 4 no member");
        assert_eq!(keeper_of(2, &heard, &members([1, 2, 3])), Some(1));
        assert_eq!(keeper_of(1, &heard, &members([1])), None);
        assert_eq!(keeper_of(1, &gossip(&[]), &members([1, 2, 3])), None);
    }

    #[test]
    fn keepers_are_spread_and_few_change_when_one_goes() {
        let ids: Vec<NodeId> = (1..=40).map(|n| rating(n, 77)).collect();
        let all = gossip(&ids.iter().map(|id| (*id, 1, true)).collect::<Vec<_>>());
        let of = |gossip: &Members| -> Vec<_> {
            ids.iter().map(|id| keeper_of(*id, gossip, &members(ids.iter().copied())).unwrap()).collect()
        };
        let before = of(&all);
        assert!(before.iter().collect::<BTreeSet<_>>().len() > 15, "{before:?}");
        let gone = before[0];
        let mut without = all.clone();
        without.remove(&gone);
        let moved = before.iter().zip(of(&without)).filter(|(before, after)| *before != after).count();
        assert_eq!(moved, before.iter().filter(|keeper| **keeper == gone).count());
    }

    #[test]
    fn what_is_known_without_asking() {
        let heard = gossip(&[(1, 5, true), (2, 5, false)]);
        assert_eq!((known(1, 5, &heard, false), known(1, 5, &heard, true)), (Known::Lives, Known::Lives));
        assert_eq!(known(1, 4, &heard, false), Known::Dead, "it has started anew since");
        assert_eq!(known(2, 5, &heard, false), Known::Silent);
        assert_eq!(known(2, 4, &heard, false), Known::Dead);
        assert_eq!(known(3, 1, &heard, false), Known::Silent);
        assert_eq!(known(3, 1, &heard, true), Known::Dead);
    }
}
