//! What a node tells about itself: facts for gossip, and the figures of `/metrics` that are read when asked for.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;
use wsgateway_cluster::gossip::Refusals;
use wsgateway_cluster::membership::{LocalFacts, Members, Membership};
use wsgateway_cluster::tcp::TcpTransport;
use wsgateway_cluster::Identity;

use crate::config::store::ConfigStore;
use crate::connections::Hub;
use crate::model::throttling::{Limit, Scope};
use crate::settings::Settings;
use crate::wills::Keeper;

/// How often changed facts are given to gossip.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps this node's gossiped facts at what they are.
pub(super) async fn gossip_facts(
    settings: Settings,
    membership: Arc<Membership>,
    config: Arc<ConfigStore>,
    hub: Arc<Hub>,
    identity: Identity,
) {
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let status = config.raft().status();
        let facts = LocalFacts {
            cluster_addr: settings.cluster.advertised(),
            admin_addr: settings.admin.listen.to_string(),
            client_addr: settings.client.listen.to_string(),
            ready: config.is_configured() && !hub.is_draining(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            applied_index: status.applied_index.unwrap_or(0),
            active_connections: hub.open_connections.load(Ordering::Relaxed),
            cluster_id: identity.cluster_id.get().copied(),
            name: settings.node.name.clone(),
        };
        if let Err(err) = membership.local_update(facts).await {
            tracing::warn!("facts not gossiped: {err}");
        }
    }
}

/// Gauges of connections, Raft and gossip.
pub(super) struct NodeCollector {
    config: Arc<ConfigStore>,
    hub: Arc<Hub>,
    gossip: watch::Receiver<Arc<Members>>,
    gossip_refusals: Arc<Refusals>,
    links: Arc<TcpTransport>,
    keeper: Arc<Keeper>,
}

impl NodeCollector {
    pub(super) fn new(
        config: &Arc<ConfigStore>,
        hub: &Arc<Hub>,
        membership: &Membership,
        links: &Arc<TcpTransport>,
        keeper: Arc<Keeper>,
    ) -> NodeCollector {
        let (gossip, gossip_refusals) = (membership.watch(), membership.refusals());
        NodeCollector {
            config: config.clone(),
            hub: hub.clone(),
            gossip,
            gossip_refusals,
            links: links.clone(),
            keeper,
        }
    }

    fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        let raft = self.config.raft().status();
        let leads = raft.leader == Some(raft.node_id);
        let members = self.gossip.borrow();
        let live = members.values().filter(|peer| peer.live).count();
        vec![
            ("connections_open", "Open client connections", self.hub.open_connections.load(Ordering::Relaxed)),
            (
                "connections_away",
                "Of those, the ones without a socket whose client may come back",
                self.hub.away.load(Ordering::Relaxed),
            ),
            (
                "resume_bytes",
                "Kept for clients that may come back, of client.resume_bytes_max",
                self.hub.resume_budget.used() as u64,
            ),
            (
                "deliveries_pending",
                "Connections with unfinished deliveries, closed ones included",
                self.hub.deliveries.load(Ordering::Relaxed),
            ),
            (
                "wills_kept",
                "Other nodes' connections whose disconnect events are sent from here should their node die",
                self.keeper.kept() as u64,
            ),
            ("raft_is_leader", "1 on the leader", u64::from(leads)),
            ("raft_has_leader", "1 while a leader is heard that has a majority", u64::from(raft.leader.is_some())),
            (
                "disk_full",
                "1 while the data folder has no room for changes",
                u64::from(self.config.raft().is_low_on_room()),
            ),
            // A disk that does not tell is broken, and writes to it say so.
            ("disk_free_bytes", "Room on the disk of the data folder", self.config.raft().free_bytes().unwrap_or(0)),
            ("raft_term", "Raft term", raft.term),
            ("raft_last_log_index", "Last log index", raft.last_log_index.unwrap_or(0)),
            ("raft_committed_index", "Last committed log index known here", raft.committed_index.unwrap_or(0)),
            ("raft_applied_index", "Last applied log index", raft.applied_index.unwrap_or(0)),
            ("raft_snapshot_index", "Log index of the last snapshot", raft.snapshot_index.unwrap_or(0)),
            ("raft_voters", "Voters", raft.voters.len() as u64),
            ("raft_learners", "Learners", raft.learners.len() as u64),
            ("gossip_nodes_live", "Nodes that gossip says are live, this one included", live as u64),
            ("gossip_nodes_known", "Nodes that gossip knows, dead ones included", members.len() as u64),
            ("endpoints", "Endpoints served", self.config.registry().all().len() as u64),
            ("endpoints_degraded", "Endpoints not at their active version here", self.config.degraded().len() as u64),
        ]
    }
}

impl NodeCollector {
    /// Datagrams of gossip that were not let in; every reason is there from the start.
    fn encode_gossip(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Datagrams on the port of gossip that were not let in, by reason";
        let kind = ConstCounter::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor("gossip_refused", help, None, kind)?;
        for (refusal, count) in self.gossip_refusals.counts() {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", refusal.as_str())])?)?;
        }
        Ok(())
    }

    /// Links that other nodes have opened to this one, and those that were not let in.
    fn encode_links(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Open links that other nodes have opened to this one, with and without TLS";
        let kind = ConstGauge::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor("cluster_links", help, None, kind)?;
        let (plain, tls) = self.links.accepted_links();
        for (name, count) in [("false", plain), ("true", tls)] {
            ConstGauge::new(count).encode(family.encode_family(&[("tls", name)])?)?;
        }
        let help = "Links between nodes that were not let in, by reason";
        let kind = ConstCounter::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor("cluster_links_refused", help, None, kind)?;
        for (refusal, count) in self.links.refusals().counts() {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", refusal.as_str())])?)?;
        }
        Ok(())
    }

    /// This node's parts of limits of scope cluster.
    fn encode_shares(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "The part of a limit of scope cluster that this node gives, 0 to 1";
        let kind = ConstGauge::new(0f64).metric_type();
        let mut family = encoder.encode_descriptor("throttle_share", help, None, kind)?;
        for endpoint in self.config.registry().all() {
            let current = endpoint.current();
            let Some(limits) = current.throttling.as_ref().filter(|limits| limits.scope == Scope::Cluster) else {
                continue;
            };
            let parts = &endpoint.throttle.parts;
            let divided = [
                (Limit::MaxConnections, limits.max_connections.is_some(), &parts.connections),
                (Limit::ConnectionsPerSecond, limits.connections_per_second.is_some(), &parts.connection_rate),
                (Limit::MessagesPerSecond, limits.messages_per_second.is_some(), &parts.message_rate),
            ];
            for (limit, _, part) in divided.into_iter().filter(|(_, is_set, _)| *is_set) {
                let labels = [("endpoint", current.path.as_ref()), ("limit", limit.as_str())];
                ConstGauge::new(part.get()).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeCollector")
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in self.gauges() {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let help = "Open client connections by endpoint";
        let kind = ConstGauge::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor("endpoint_connections", help, None, kind)?;
        for endpoint in self.config.registry().all() {
            let path = endpoint.current().path.to_string();
            let gauge = ConstGauge::new(endpoint.connections.load(Ordering::Relaxed));
            gauge.encode(family.encode_family(&[("endpoint", path.as_str())])?)?;
        }
        let receipts = &self.hub.receipts;
        let counted = [
            ("pushes_expired", "Messages not sent within their time to live", receipts.expired.load(Ordering::Relaxed)),
            (
                "pushes_repeated",
                "Pushes answered from an earlier one of the same key",
                receipts.repeated.load(Ordering::Relaxed),
            ),
            (
                "wills_carried_out",
                "Connections of dead nodes whose disconnect events were sent from here",
                self.keeper.carried_out(),
            ),
        ];
        for (name, help, count) in counted {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        self.encode_gossip(&mut encoder)?;
        self.encode_links(&mut encoder)?;
        self.encode_shares(&mut encoder)
    }
}
