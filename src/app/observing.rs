//! The view inside of this node and of the cluster, wired to what they look at.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use tokio::runtime::Runtime;
use wsgateway_cluster::membership::Membership;
use wsgateway_cluster::tcp::TcpTransport;
use wsgateway_cluster::Services;

use crate::config::store::ConfigStore;
use crate::connections::Hub;
use crate::observe::{self, Observer, Own, OwnEndpoint, PeerObservations, Surroundings};
use crate::telemetry::Metrics;

/// Begins to take samples, answers other nodes that look, and looks at them.
pub(super) fn start(
    config: &Arc<ConfigStore>,
    hub: &Arc<Hub>,
    transport: &Arc<TcpTransport>,
    membership: &Arc<Membership>,
    (metrics, connections_max): (&Metrics, u64),
    (services, cluster): (&Services, &Runtime),
) -> Arc<Observer> {
    let (counted, known) = (hub.clone(), config.clone());
    let around = Surroundings {
        node_id: hub.node_id,
        connections_max,
        connections: Box::new(move || counted.open_connections.load(Ordering::Relaxed)),
        endpoints: Box::new(move || endpoints(&known)),
    };
    let own = Own::new(metrics.clone(), around);
    services.register(observe::KINDS, Arc::new(PeerObservations(own.clone())));
    cluster.spawn(own.clone().run());
    let known = config.clone();
    let members = Box::new(move || if known.is_configured() { known.raft().members() } else { BTreeMap::new() });
    Observer::new(own, transport.clone(), membership.watch(), members)
}

fn endpoints(config: &ConfigStore) -> Vec<OwnEndpoint> {
    let degraded = config.degraded();
    let mut live: BTreeMap<String, _> =
        config.registry().all().into_iter().map(|live| (live.id().to_owned(), live)).collect();
    let not_served = degraded.keys().filter(|id| !live.contains_key(*id));
    let mut endpoints: Vec<OwnEndpoint> =
        not_served.map(|id| OwnEndpoint { id: id.clone(), live: None, degraded: true }).collect();
    while let Some((id, served)) = live.pop_first() {
        endpoints.push(OwnEndpoint { degraded: degraded.contains_key(&id), live: Some(served), id });
    }
    endpoints
}
