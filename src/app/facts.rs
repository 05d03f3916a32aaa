//! What a node tells about itself: facts for gossip, and the figures of `/metrics` that are read when asked for.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::MetricType;
use tokio::sync::watch;
use wsgateway_cluster::gossip::Refusals;
use wsgateway_cluster::membership::{LocalFacts, Members, Membership};
use wsgateway_cluster::tcp::TcpTransport;
use wsgateway_cluster::Identity;

use crate::config::store::ConfigStore;
use crate::connections::connection::unix_millis;
use crate::connections::Hub;
use crate::model::throttling::{Limit, Scope};
use crate::settings::Settings;
use crate::telemetry::catalogue;
use crate::telemetry::history::memory_bytes;
use crate::telemetry::tail::Tail;
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
            admin_url: settings.admin.advertised_url(),
            client_url: settings.client.advertised_url(),
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
    tail: Arc<Tail>,
    spans: Arc<wsgateway_otlp::Counters>,
    started_unix_seconds: u64,
}

impl NodeCollector {
    pub(super) fn new(
        config: &Arc<ConfigStore>,
        hub: &Arc<Hub>,
        membership: &Membership,
        links: &Arc<TcpTransport>,
        keeper: Arc<Keeper>,
        (tail, spans): (Arc<Tail>, Arc<wsgateway_otlp::Counters>),
    ) -> NodeCollector {
        let (gossip, gossip_refusals) = (membership.watch(), membership.refusals());
        NodeCollector {
            config: config.clone(),
            hub: hub.clone(),
            gossip,
            gossip_refusals,
            links: links.clone(),
            keeper,
            tail,
            spans,
            started_unix_seconds: unix_millis() / 1000,
        }
    }

    fn gauges(&self) -> Vec<(&'static str, u64)> {
        let raft = self.config.raft().status();
        let leads = raft.leader == Some(raft.node_id);
        let members = self.gossip.borrow();
        let live = members.values().filter(|peer| peer.live).count();
        vec![
            ("connections_open", self.hub.open_connections.load(Ordering::Relaxed)),
            ("connections_away", self.hub.away.load(Ordering::Relaxed)),
            ("resume_bytes", self.hub.resume_budget.used() as u64),
            ("deliveries_pending", self.hub.deliveries.load(Ordering::Relaxed)),
            ("wills_kept", self.keeper.kept() as u64),
            ("raft_is_leader", u64::from(leads)),
            ("raft_has_leader", u64::from(raft.leader.is_some())),
            ("disk_full", u64::from(self.config.raft().is_low_on_room())),
            // A disk that does not tell is broken, and writes to it say so.
            ("disk_free_bytes", self.config.raft().free_bytes().unwrap_or(0)),
            ("raft_term", raft.term),
            ("raft_last_log_index", raft.last_log_index.unwrap_or(0)),
            ("raft_committed_index", raft.committed_index.unwrap_or(0)),
            ("raft_applied_index", raft.applied_index.unwrap_or(0)),
            ("raft_snapshot_index", raft.snapshot_index.unwrap_or(0)),
            ("raft_voters", raft.voters.len() as u64),
            ("raft_learners", raft.learners.len() as u64),
            ("gossip_nodes_live", live as u64),
            ("gossip_nodes_known", members.len() as u64),
            ("endpoints", self.config.registry().all().len() as u64),
            ("endpoints_degraded", self.config.degraded().len() as u64),
            ("tail_watches", self.tail.watches() as u64),
            ("memory_bytes", memory_bytes()),
            ("open_files", open_files()),
            ("start_time_seconds", self.started_unix_seconds),
        ]
    }
}

/// Open files and sockets; 0 where the system does not tell.
fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

fn gauges<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'static str,
) -> Result<MetricEncoder<'e>, std::fmt::Error> {
    encoder.encode_descriptor(name, catalogue::help(name), None, MetricType::Gauge)
}

fn counters<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'static str,
) -> Result<MetricEncoder<'e>, std::fmt::Error> {
    encoder.encode_descriptor(name, catalogue::help(name), None, MetricType::Counter)
}

impl NodeCollector {
    /// Datagrams of gossip that were not let in; every reason is there from the start.
    fn encode_gossip(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = counters(encoder, "gossip_refused")?;
        for (refusal, count) in self.gossip_refusals.counts() {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", refusal.as_str())])?)?;
        }
        Ok(())
    }

    /// Links that other nodes have opened to this one, and those that were not let in.
    fn encode_links(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = gauges(encoder, "cluster_links")?;
        let (plain, tls) = self.links.accepted_links();
        for (name, count) in [("false", plain), ("true", tls)] {
            ConstGauge::new(count).encode(family.encode_family(&[("tls", name)])?)?;
        }
        let mut family = counters(encoder, "cluster_links_refused")?;
        for (refusal, count) in self.links.refusals().counts() {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", refusal.as_str())])?)?;
        }
        Ok(())
    }

    fn encode_spans(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = counters(encoder, "trace_spans")?;
        let spans = &self.spans;
        for (outcome, count) in [
            ("exported", &spans.exported),
            ("queue_full", &spans.dropped_queue_full),
            ("failed", &spans.dropped_failed),
        ] {
            let count = ConstCounter::new(count.load(Ordering::Relaxed));
            count.encode(family.encode_family(&[("outcome", outcome)])?)?;
        }
        Ok(())
    }

    /// This node's parts of limits of scope cluster.
    fn encode_shares(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = gauges(encoder, "throttle_share")?;
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
        for (name, value) in self.gauges() {
            ConstGauge::new(value).encode(gauges(&mut encoder, name)?)?;
        }
        let mut family = gauges(&mut encoder, "build_info")?;
        ConstGauge::new(1u64).encode(family.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)?;
        let mut family = gauges(&mut encoder, "endpoint_connections")?;
        for endpoint in self.config.registry().all() {
            let path = endpoint.current().path.to_string();
            let gauge = ConstGauge::new(endpoint.connections.load(Ordering::Relaxed));
            gauge.encode(family.encode_family(&[("endpoint", path.as_str())])?)?;
        }
        let receipts = &self.hub.receipts;
        let counted = [
            ("pushes_expired", receipts.expired.load(Ordering::Relaxed)),
            ("pushes_repeated", receipts.repeated.load(Ordering::Relaxed)),
            ("wills_carried_out", self.keeper.carried_out()),
        ];
        for (name, count) in counted {
            ConstCounter::new(count).encode(counters(&mut encoder, name)?)?;
        }
        self.encode_gossip(&mut encoder)?;
        self.encode_links(&mut encoder)?;
        self.encode_spans(&mut encoder)?;
        self.encode_shares(&mut encoder)
    }
}
