//! What `/metrics` shows. Labels are endpoint paths, route and backend names and outcomes, never a connection or user
//! id. Hot paths keep the counters they use ([`prometheus_client`]'s are reference-counted) and look nothing up.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds; half a millisecond to ten seconds, the range between a service next door and a time-out.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.5, 10.0];

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

/// The metrics of one node. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<std::sync::Mutex<Registry>>,
    pub connections_opened: Family<EndpointLabels, Counter>,
    pub connections_closed: Family<CloseLabels, Counter>,
    pub connections_cut: Family<CutLabels, Counter>,
    pub handshakes_refused: Family<RefusalLabels, Counter>,
    pub sockets_refused: Family<CutLabels, Counter>,
    pub tls_not_after: Family<ListenerLabels, Gauge>,
    pub tls_reloads: Family<ListenerOutcomeLabels, Counter>,
    pub authentications: Family<AuthenticationLabels, Counter>,
    pub authentication_calls: Family<AuthenticationCallLabels, Histogram, fn() -> Histogram>,
    pub events_in: Family<EventLabels, Counter>,
    pub events_out: Family<EndpointLabels, Counter>,
    pub outbox_dropped: Family<DropLabels, Counter>,
    pub resumes: Family<ResumeLabels, Counter>,
    pub backend_seconds: Family<BackendLabels, Histogram, fn() -> Histogram>,
    pub backend_retries: Family<BackendLabels, Counter>,
    pub pushes: Family<PushLabels, Counter>,
    pub broadcasts: Family<BroadcastLabels, Counter>,
    pub broadcast_messages: Family<BroadcastMessageLabels, Counter>,
    pub broadcast_nodes_missed: Counter,
    pub throttled: Family<ThrottleLabels, Counter>,
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
            connections_opened: Family::default(),
            connections_closed: Family::default(),
            connections_cut: Family::default(),
            handshakes_refused: Family::default(),
            sockets_refused: Family::default(),
            tls_not_after: Family::default(),
            tls_reloads: Family::default(),
            authentications: Family::default(),
            authentication_calls: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            events_in: Family::default(),
            events_out: Family::default(),
            outbox_dropped: Family::default(),
            resumes: Family::default(),
            backend_seconds: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            backend_retries: Family::default(),
            pushes: Family::default(),
            broadcasts: Family::default(),
            broadcast_messages: Family::default(),
            broadcast_nodes_missed: Counter::default(),
            throttled: Family::default(),
            admin_refused: Family::default(),
            source_records: Family::default(),
            source_messages: Family::default(),
            source_errors: Family::default(),
            source_partitions: Family::default(),
            dead_letters: Family::default(),
            kafka_producers: Gauge::default(),
            kafka_producers_opened: Counter::default(),
        };
        registry.register("connections_opened", "Connections upgraded", metrics.connections_opened.clone());
        registry.register(
            "authentications",
            "Credentials looked at, by mode and outcome",
            metrics.authentications.clone(),
        );
        registry.register(
            "authentication_call_seconds",
            "Calls to authentication servers, by purpose and outcome",
            metrics.authentication_calls.clone(),
        );
        registry.register("connections_closed", "Connections ended, by close code", metrics.connections_closed.clone());
        let help = "Connections that the gateway closed for what the client did, by reason";
        registry.register("connections_cut", help, metrics.connections_cut.clone());
        registry.register(
            "handshakes_refused",
            "Handshakes answered otherwise than 101",
            metrics.handshakes_refused.clone(),
        );
        registry.register(
            "events_in",
            "Events from clients and of connections, by route and outcome",
            metrics.events_in.clone(),
        );
        registry.register("events_out", "Messages taken for clients", metrics.events_out.clone());
        registry.register("backend_seconds", "Time until a backend answered an event", metrics.backend_seconds.clone());
        let help = "Attempts after the first one, and those that the retry budget did not allow";
        registry.register("backend_retries", help, metrics.backend_retries.clone());
        registry.register("pushes", "Pushes to connections, by result", metrics.pushes.clone());
        let help = "Handshakes and messages refused, dropped or answered with a close, by the limit that was exceeded";
        registry.register("throttled", help, metrics.throttled.clone());
        registry.register(
            "admin_refused",
            "Requests to the admin API without the right token, and refused writes",
            metrics.admin_refused.clone(),
        );
        metrics.register_listeners(&mut registry);
        metrics.register_outboxes(&mut registry);
        metrics.register_broadcasts(&mut registry);
        metrics.register_sources(&mut registry);
        let help = "Events that a backend had not taken for good, by what became of them";
        registry.register("dead_letters", help, metrics.dead_letters.clone());
        registry.register("kafka_producers", "Kafka producers of this node", metrics.kafka_producers.clone());
        let help = "Kafka producers made by this node";
        registry.register("kafka_producers_opened", help, metrics.kafka_producers_opened.clone());
        *metrics.lock() = registry;
        metrics
    }
}

impl Metrics {
    fn register_listeners(&self, registry: &mut Registry) {
        let help = "Sockets of clients closed before a handshake could be answered, by reason";
        registry.register("client_sockets_refused", help, self.sockets_refused.clone());
        let help = "When the listener's certificate ends, Unix seconds";
        registry.register("tls_certificate_not_after_seconds", help, self.tls_not_after.clone());
        let help = "Changes of a listener's certificate files, by what became of them";
        registry.register("tls_reloads", help, self.tls_reloads.clone());
    }

    fn register_outboxes(&self, registry: &mut Registry) {
        let help = "Messages that a full outbox has dropped (oldest, coalesced) or refused (newest)";
        registry.register("outbox_dropped", help, self.outbox_dropped.clone());
        let help = "Clients that came back with a resume token, by what became of it";
        registry.register("resumes", help, self.resumes.clone());
    }

    fn register_broadcasts(&self, registry: &mut Registry) {
        registry.register("broadcasts", "Pushes to users, groups and endpoints, by result", self.broadcasts.clone());
        let help = "Messages of such pushes for single connections on all nodes, by what became of them";
        registry.register("broadcast_messages", help, self.broadcast_messages.clone());
        let help = "Nodes that such a push could not be handed to";
        registry.register("broadcast_nodes_missed", help, self.broadcast_nodes_missed.clone());
    }

    fn register_sources(&self, registry: &mut Registry) {
        registry.register("source_records", "Records that sources have read, by outcome", self.source_records.clone());
        let help = "Messages of sources for connections, by what became of them";
        registry.register("source_messages", help, self.source_messages.clone());
        registry.register("source_errors", "What brokers have told sources is wrong", self.source_errors.clone());
        registry.register(
            "source_partitions",
            "Partitions that a source's group has given to this node",
            self.source_partitions.clone(),
        );
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
