//! Who owns a connection? Its id says so; no directory is asked.

use wsgateway_cluster::membership::Members;
use wsgateway_cluster::PeerAddress;

use crate::model::connection_id::ConnectionId;

/// Where a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Here,
    /// On another node, or it was.
    Peer(PeerAddress),
    /// Its owner has restarted since, or nobody knows such a node.
    Gone,
}

/// `me` is this node's id and boot generation. Peers decide themselves about generations of their own.
pub(super) fn locate(
    id: &ConnectionId,
    me: (u64, u64),
    gossip: &Members,
    member: &dyn Fn(u64) -> Option<String>,
) -> Location {
    if id.node == me.0 {
        return if id.generation == me.1 { Location::Here } else { Location::Gone };
    }
    let gossiped = gossip.get(&id.node).map(|peer| peer.facts.cluster_addr.clone()).filter(|addr| !addr.is_empty());
    match gossiped.or_else(|| member(id.node)) {
        Some(addr) => Location::Peer(PeerAddress { node_id: Some(id.node), addr }),
        None => Location::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: u64, generation: u64) -> ConnectionId {
        ConnectionId { node, generation, random: 7 }
    }

    #[test]
    fn decides_by_node_and_generation() {
        let none = |_| None;
        let member = |node| (node == 2).then(|| "127.0.0.1:7002".to_owned());
        let gossip = Members::new();
        assert_eq!(locate(&id(1, 3), (1, 3), &gossip, &none), Location::Here);
        assert_eq!(locate(&id(1, 2), (1, 3), &gossip, &none), Location::Gone, "before our restart");
        assert_eq!(locate(&id(9, 1), (1, 3), &gossip, &member), Location::Gone, "a node that nobody knows");
        let peer = PeerAddress { node_id: Some(2), addr: "127.0.0.1:7002".into() };
        assert_eq!(locate(&id(2, 1), (1, 3), &gossip, &member), Location::Peer(peer));
    }
}
