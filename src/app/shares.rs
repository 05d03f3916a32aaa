//! Gives the exchange of shares what it asks of other rooms.

use std::sync::Arc;

use wsgateway_cluster::membership::Membership;
use wsgateway_cluster::tcp::TcpTransport;
use wsgateway_cluster::Identity;
use wsgateway_raft_store::RaftStore;

use crate::config::registry::Registry;
use crate::throttle::{self, Shares, Surroundings};

pub(super) fn of_limits(
    identity: &Identity,
    registry: &Arc<Registry>,
    store: &RaftStore,
    membership: &Membership,
    transport: &Arc<TcpTransport>,
) -> Arc<Shares> {
    let (registry, store) = (registry.clone(), store.clone());
    Shares::new(Surroundings {
        node_id: identity.node_id,
        endpoints: Box::new(move || registry.all()),
        membership: Box::new(move || throttle::Membership {
            nodes: store.members().into_keys().collect(),
            voters: store.status().voters,
        }),
        gossip: membership.watch(),
        transport: transport.clone(),
    })
}
