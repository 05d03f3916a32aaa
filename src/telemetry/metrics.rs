//! What `/metrics` shows. Labels are endpoint paths, route and backend names and outcomes, never a connection or user
//! id. Hot paths keep the counters they use ([`prometheus_client`]'s are reference-counted) and look nothing up.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use super::catalogue;
use super::latency::Latency;
use super::readable::Readable;
use super::tail::Tail;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndpointLabels {
    pub endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabels {
    pub endpoint: String,
    pub code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CutLabels {
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabels {
    pub listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerOutcomeLabels {
    pub listener: &'static str,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    pub status: u32,
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    pub endpoint: String,
    pub route: String,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendLabels {
    pub endpoint: String,
    pub backend: String,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ThrottleLabels {
    pub endpoint: String,
    pub limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DropLabels {
    pub endpoint: String,
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResumeLabels {
    pub endpoint: String,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PushLabels {
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BroadcastLabels {
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BroadcastMessageLabels {
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AdminRefusalLabels {
    pub status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AuthenticationLabels {
    pub mode: &'static str,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AuthenticationCallLabels {
    pub purpose: &'static str,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabels {
    pub endpoint: String,
    /// topic/group
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceOutcomeLabels {
    pub endpoint: String,
    /// topic/group
    pub source: String,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeadLetterLabels {
    pub endpoint: String,
    pub route: String,
    pub outcome: &'static str,
}

/// `name` without `_total`, which the registry adds.
fn register(registry: &mut Registry, name: &'static str, metric: impl Metric) {
    registry.register(name, catalogue::help(name), metric);
}

/// The metrics of one node. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<std::sync::Mutex<Registry>>,
    /// Whoever counts what passes also says it to those that watch.
    pub tail: Arc<Tail>,
    pub connections_opened: Readable<EndpointLabels, Counter>,
    pub connections_closed: Readable<CloseLabels, Counter>,
    pub connections_cut: Family<CutLabels, Counter>,
    pub handshakes_refused: Readable<RefusalLabels, Counter>,
    pub sockets_refused: Family<CutLabels, Counter>,
    pub tls_not_after: Family<ListenerLabels, Gauge>,
    pub tls_reloads: Family<ListenerOutcomeLabels, Counter>,
    pub authentications: Family<AuthenticationLabels, Counter>,
    pub authentication_calls: Family<AuthenticationCallLabels, Latency>,
    pub events_in: Readable<EventLabels, Counter>,
    pub events_out: Readable<EndpointLabels, Counter>,
    pub outbox_dropped: Family<DropLabels, Counter>,
    pub resumes: Family<ResumeLabels, Counter>,
    pub backend_seconds: Readable<BackendLabels, Latency>,
    pub backend_retries: Family<BackendLabels, Counter>,
    pub pushes: Family<PushLabels, Counter>,
    pub broadcasts: Family<BroadcastLabels, Counter>,
    pub broadcast_messages: Family<BroadcastMessageLabels, Counter>,
    pub broadcast_nodes_missed: Counter,
    pub throttled: Readable<ThrottleLabels, Counter>,
    pub admin_refused: Family<AdminRefusalLabels, Counter>,
    pub source_records: Family<SourceOutcomeLabels, Counter>,
    pub source_messages: Family<SourceOutcomeLabels, Counter>,
    pub source_errors: Family<SourceLabels, Counter>,
    pub source_partitions: Family<SourceLabels, Gauge>,
    pub dead_letters: Family<DeadLetterLabels, Counter>,
    pub kafka_producers: Gauge,
    pub kafka_producers_opened: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("wsgateway");
        let metrics = Metrics {
            registry: Arc::default(),
            tail: Arc::default(),
            connections_opened: Readable::default(),
            connections_closed: Readable::default(),
            connections_cut: Family::default(),
            handshakes_refused: Readable::default(),
            sockets_refused: Family::default(),
            tls_not_after: Family::default(),
            tls_reloads: Family::default(),
            authentications: Family::default(),
            authentication_calls: Family::default(),
            events_in: Readable::default(),
            events_out: Readable::default(),
            outbox_dropped: Family::default(),
            resumes: Family::default(),
            backend_seconds: Readable::default(),
            backend_retries: Family::default(),
            pushes: Family::default(),
            broadcasts: Family::default(),
            broadcast_messages: Family::default(),
            broadcast_nodes_missed: Counter::default(),
            throttled: Readable::default(),
            admin_refused: Family::default(),
            source_records: Family::default(),
            source_messages: Family::default(),
            source_errors: Family::default(),
            source_partitions: Family::default(),
            dead_letters: Family::default(),
            kafka_producers: Gauge::default(),
            kafka_producers_opened: Counter::default(),
        };
        register(&mut registry, "connections_opened", metrics.connections_opened.family());
        register(&mut registry, "authentications", metrics.authentications.clone());
        register(&mut registry, "authentication_call_seconds", metrics.authentication_calls.clone());
        register(&mut registry, "connections_closed", metrics.connections_closed.family());
        register(&mut registry, "connections_cut", metrics.connections_cut.clone());
        register(&mut registry, "handshakes_refused", metrics.handshakes_refused.family());
        register(&mut registry, "events_in", metrics.events_in.family());
        register(&mut registry, "events_out", metrics.events_out.family());
        register(&mut registry, "backend_seconds", metrics.backend_seconds.family());
        register(&mut registry, "backend_retries", metrics.backend_retries.clone());
        register(&mut registry, "pushes", metrics.pushes.clone());
        register(&mut registry, "throttled", metrics.throttled.family());
        register(&mut registry, "admin_refused", metrics.admin_refused.clone());
        metrics.register_listeners(&mut registry);
        metrics.register_outboxes(&mut registry);
        metrics.register_broadcasts(&mut registry);
        metrics.register_sources(&mut registry);
        register(&mut registry, "dead_letters", metrics.dead_letters.clone());
        register(&mut registry, "kafka_producers", metrics.kafka_producers.clone());
        register(&mut registry, "kafka_producers_opened", metrics.kafka_producers_opened.clone());
        *metrics.lock() = registry;
        metrics
    }
}

impl Metrics {
    fn register_listeners(&self, registry: &mut Registry) {
        register(registry, "client_sockets_refused", self.sockets_refused.clone());
        register(registry, "tls_certificate_not_after_seconds", self.tls_not_after.clone());
        register(registry, "tls_reloads", self.tls_reloads.clone());
    }

    fn register_outboxes(&self, registry: &mut Registry) {
        register(registry, "outbox_dropped", self.outbox_dropped.clone());
        register(registry, "resumes", self.resumes.clone());
    }

    fn register_broadcasts(&self, registry: &mut Registry) {
        register(registry, "broadcasts", self.broadcasts.clone());
        register(registry, "broadcast_messages", self.broadcast_messages.clone());
        register(registry, "broadcast_nodes_missed", self.broadcast_nodes_missed.clone());
    }

    fn register_sources(&self, registry: &mut Registry) {
        register(registry, "source_records", self.source_records.clone());
        register(registry, "source_messages", self.source_messages.clone());
        register(registry, "source_errors", self.source_errors.clone());
        register(registry, "source_partitions", self.source_partitions.clone());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds figures that are read when asked for (open connections, Raft, gossip).
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.lock().register_collector(collector);
    }

    /// OpenMetrics text.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        encode(&mut out, &self.lock())?;
        Ok(out)
    }
}
