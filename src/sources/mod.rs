//! Kafka topics whose records are messages for clients: one consumer per source and node, all nodes of a cluster in one
//! consumer group. `consumer → partition → hand_over`: a consumer reads, a task per partition hands one record after the
//! other to the connections it names, wherever they are, and stores its offset then. Nothing here runs on a thread that
//! carries connections. Called by app; imports model, settings and telemetry. The clients are behind [`Clients`].

mod consumer;
mod hand_over;
mod partition;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{Recipients, Tally};
use crate::model::egress::EgressRules;
use crate::model::source::SourceSpec;
use crate::telemetry::metrics::{Metrics, SourceLabels, SourceOutcomeLabels};

/// How long the end of a consumer is waited for: its records under way and its goodbye to the group.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at whether all that is wanted still runs.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What became of one message for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// In its socket or its outbox.
    Queued,
    /// Its outbox is full: worth another try.
    Full,
    /// Its node cannot be reached, or has too much to do: worth another try.
    Unreachable,
    /// It will not be delivered; a metric label.
    Never(&'static str),
}

/// The clients of all nodes.
pub trait Clients: Send + Sync + 'static {
    fn to_connection(&self, id: ConnectionId, message: Bytes) -> BoxFuture<'static, Handed>;
    /// Nodes that cannot be reached are tried again for as long as `patience` says; how many were not is the second part
    /// of the answer.
    fn to_many(
        &self,
        endpoint: Arc<str>,
        to: Recipients,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, (Tally, u64)>;
}

/// A source that is to run: of the active version of an endpoint.
#[derive(Clone)]
pub struct Wanted {
    pub endpoint: Arc<str>,
    /// A metric label.
    pub path: Arc<str>,
    pub spec: Arc<SourceSpec>,
}

impl PartialEq for Wanted {
    fn eq(&self, other: &Wanted) -> bool {
        self.endpoint == other.endpoint && self.path == other.path && self.spec == other.spec
    }
}

/// What the room asks of others.
pub struct Surroundings {
    pub clients: Arc<dyn Clients>,
    /// What is wanted now.
    pub wanted: Box<dyn Fn() -> Vec<Wanted> + Send + Sync>,
    /// `kafka.bootstrap_servers` of the node's settings.
    pub default_brokers: Option<String>,
    /// Where this node may call.
    pub egress: Arc<EgressRules>,
    pub metrics: Metrics,
}

/// The counters of one source.
#[derive(Clone)]
struct SourceMetrics {
    metrics: Metrics,
    labels: SourceLabels,
}

impl SourceMetrics {
    fn new(metrics: &Metrics, wanted: &Wanted) -> SourceMetrics {
        SourceMetrics { metrics: metrics.clone(), labels: SourceMetrics::labels(wanted) }
    }

    fn labels(wanted: &Wanted) -> SourceLabels {
        SourceLabels { endpoint: wanted.path.to_string(), source: wanted.spec.label() }
    }

    fn with(&self, outcome: &'static str) -> SourceOutcomeLabels {
        SourceOutcomeLabels { endpoint: self.labels.endpoint.clone(), source: self.labels.source.clone(), outcome }
    }

    /// Records read, by whether they named somebody.
    fn record(&self, outcome: &'static str) {
        self.metrics.source_records.get_or_create(&self.with(outcome)).inc();
    }

    /// Messages for connections, by what became of them.
    fn messages(&self, outcome: &'static str, count: u64) {
        if count > 0 {
            self.metrics.source_messages.get_or_create(&self.with(outcome)).inc_by(count);
        }
    }

    fn errors(&self) -> Counter {
        self.metrics.source_errors.get_or_create(&self.labels).clone()
    }

    fn set_partitions(&self, count: usize) {
        self.metrics.source_partitions.get_or_create(&self.labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

struct Running {
    wanted: Wanted,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_WITHIN, self.task).await.is_err() {
            tracing::warn!(endpoint = %self.wanted.path, source = %self.wanted.spec.label(), "a source does not end in time");
        }
    }

    fn labels(&self) -> SourceLabels {
        SourceMetrics::labels(&self.wanted)
    }
}

/// Keeps the running sources at what is wanted: looks whenever `changed` says so (level-triggered: what is wanted is read
/// then), until `stop`; then ends them all. A source that did not change goes on undisturbed.
pub async fn run(around: Surroundings, changed: Arc<Notify>, stop: CancellationToken) {
    let around = Arc::new(around);
    let mut running: Vec<Running> = Vec::new();
    loop {
        let mut wanted = (around.wanted)();
        let (kept, ended): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|running| wanted.contains(&running.wanted) && !running.task.is_finished());
        running = kept;
        let gone: Vec<SourceLabels> = ended.iter().map(Running::labels).collect();
        // Before others begin: a changed source is a member of the same group.
        futures::future::join_all(ended.into_iter().map(Running::end)).await;
        for labels in gone {
            let goes_on = |wanted: &Wanted| SourceMetrics::labels(wanted) == labels;
            if !wanted.iter().any(goes_on) {
                // A gauge of what is not there any more would stay at its last value.
                around.metrics.source_partitions.retire(|gone| *gone == labels, |_, _| {});
            }
        }
        wanted.retain(|wanted| !running.iter().any(|running| running.wanted == *wanted));
        for wanted in wanted {
            tracing::info!(endpoint = %wanted.path, source = %wanted.spec.label(), "source begins");
            let stop = stop.child_token();
            let task = tokio::spawn(consumer::run(around.clone(), wanted.clone(), stop.clone()));
            running.push(Running { wanted, stop, task });
        }
        tokio::select! {
            () = changed.notified() => {}
            // One that has ended by itself is begun again.
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.cancelled() => break,
        }
    }
    futures::future::join_all(running.into_iter().map(Running::end)).await;
}
