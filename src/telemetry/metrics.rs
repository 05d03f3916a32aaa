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
use super::configured::Configured;
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
    /// A number, or `3xxx` or `4xxx`; see [`CloseLabels::new`].
    pub code: String,
}

impl CloseLabels {
    /// Codes that clients and services choose freely are told by their range: there would be thousands of series.
    pub fn new(endpoint: String, code: u16, chosen_here: bool) -> CloseLabels {
        let code = match code {
            3000..=3999 if !chosen_here => "3xxx".to_owned(),
            4000..=4999 if !chosen_here => "4xxx".to_owned(),
            code => code.to_string(),
        };
        CloseLabels { endpoint, code }
    }
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
    /// Empty: no route took it.
    pub route: String,
    /// Of the route: names are unique among those of one type only.
    pub r#type: &'static str,
    pub outcome: &'static str,
}

impl EventLabels {
    /// `route`: its type and its name.
    pub fn new(endpoint: &str, route: Option<(&'static str, &str)>, outcome: &'static str) -> EventLabels {
        let (r#type, route) = route.unwrap_or_default();
        EventLabels { endpoint: endpoint.to_owned(), route: route.to_owned(), r#type, outcome }
    }

    /// As backends' labels begin.
    pub fn type_and_route(&self) -> String {
        if self.route.is_empty() {
            String::new()
        } else {
            format!("{}/{}", self.r#type, self.route)
        }
    }
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
    pub outbox_dropped: Readable<DropLabels, Counter>,
    pub resumes: Readable<ResumeLabels, Counter>,
    pub backend_seconds: Readable<BackendLabels, Latency>,
    pub backend_retries: Readable<BackendLabels, Counter>,
    pub pushes: Family<PushLabels, Counter>,
    pub broadcasts: Family<BroadcastLabels, Counter>,
    pub broadcast_messages: Family<BroadcastMessageLabels, Counter>,
    pub broadcast_nodes_missed: Counter,
    pub throttled: Readable<ThrottleLabels, Counter>,
    pub admin_refused: Family<AdminRefusalLabels, Counter>,
    pub source_records: Readable<SourceOutcomeLabels, Counter>,
    pub source_messages: Readable<SourceOutcomeLabels, Counter>,
    pub source_errors: Readable<SourceLabels, Counter>,
    pub source_partitions: Readable<SourceLabels, Gauge>,
    pub dead_letters: Readable<DeadLetterLabels, Counter>,
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
            outbox_dropped: Readable::default(),
            resumes: Readable::default(),
            backend_seconds: Readable::default(),
            backend_retries: Readable::default(),
            pushes: Family::default(),
            broadcasts: Family::default(),
            broadcast_messages: Family::default(),
            broadcast_nodes_missed: Counter::default(),
            throttled: Readable::default(),
            admin_refused: Family::default(),
            source_records: Readable::default(),
            source_messages: Readable::default(),
            source_errors: Readable::default(),
            source_partitions: Readable::default(),
            dead_letters: Readable::default(),
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
        register(&mut registry, "backend_retries", metrics.backend_retries.family());
        register(&mut registry, "pushes", metrics.pushes.clone());
        register(&mut registry, "throttled", metrics.throttled.family());
        register(&mut registry, "admin_refused", metrics.admin_refused.clone());
        metrics.register_listeners(&mut registry);
        metrics.register_outboxes(&mut registry);
        metrics.register_broadcasts(&mut registry);
        metrics.register_sources(&mut registry);
        register(&mut registry, "dead_letters", metrics.dead_letters.family());
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
        register(registry, "outbox_dropped", self.outbox_dropped.family());
        register(registry, "resumes", self.resumes.family());
    }

    fn register_broadcasts(&self, registry: &mut Registry) {
        register(registry, "broadcasts", self.broadcasts.clone());
        register(registry, "broadcast_messages", self.broadcast_messages.clone());
        register(registry, "broadcast_nodes_missed", self.broadcast_nodes_missed.clone());
    }

    fn register_sources(&self, registry: &mut Registry) {
        register(registry, "source_records", self.source_records.family());
        register(registry, "source_messages", self.source_messages.family());
        register(registry, "source_errors", self.source_errors.family());
        register(registry, "source_partitions", self.source_partitions.family());
    }

    /// Lets go of what counts for endpoints, routes, backends and sources that are gone. What the history adds up it retires
    /// itself ([`super::history::History::retire`]).
    pub fn retire(&self, known: &Configured) {
        self.outbox_dropped.retire(|labels| !known.endpoint(&labels.endpoint), |_, _| {});
        self.resumes.retire(|labels| !known.endpoint(&labels.endpoint), |_, _| {});
        self.backend_retries.retire(|labels| !known.backend(&labels.endpoint, &labels.backend), |_, _| {});
        self.dead_letters.retire(|labels| !known.route_of_any_type(&labels.endpoint, &labels.route), |_, _| {});
        self.source_records.retire(|labels| !known.source(&labels.endpoint, &labels.source), |_, _| {});
        self.source_messages.retire(|labels| !known.source(&labels.endpoint, &labels.source), |_, _| {});
        self.source_errors.retire(|labels| !known.source(&labels.endpoint, &labels.source), |_, _| {});
        // At once, by whoever reads the source; after a panic of that, here.
        self.source_partitions.retire(|labels| !known.source(&labels.endpoint, &labels.source), |_, _| {});
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_makes_series_by_choosing_close_codes() {
        let code = |code, chosen_here| CloseLabels::new("/a".to_owned(), code, chosen_here).code;
        assert_eq!(
            (code(1000, false), code(1005, false), code(3000, false)),
            ("1000".into(), "1005".into(), "3xxx".into())
        );
        assert_eq!((code(4999, false), code(4408, true)), ("4xxx".into(), "4408".into()));
    }
}
