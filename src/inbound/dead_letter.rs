//! The last resort of an event that a required backend has not taken: its route's dead letter backend gets it, with why.
//! It counts against the connection's window until that has answered, so letters are as bounded as events. A letter that
//! cannot be kept is counted and logged, and that is all: never a letter about a letter. Called by dispatch.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backends::event::rfc3339;
use crate::backends::{Backend, BackendPool, Begin, Delivered, Event, Failure, RouteFacts, Undelivered};
use crate::connections::connection::unix_millis;
use crate::model::dead_letter as names;
use crate::model::endpoint::{BackendKind, CompiledBackend};
use crate::model::kafka::{KafkaKey, KafkaSpec};
use crate::telemetry::metrics::{DeadLetterLabels, Metrics};

/// How long a letter, or an event that is sent again, is offered to a backend that has no room.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// Where a route's dead letters go, on one worker.
pub struct DeadLetters {
    spec: Arc<CompiledBackend>,
    backend: Rc<dyn Backend>,
    endpoint: String,
    route: String,
    metrics: Metrics,
}

impl DeadLetters {
    /// None: the backend is one that keeps nothing, which documents cannot ask for.
    pub fn new(
        spec: &Arc<CompiledBackend>,
        route: &RouteFacts,
        pool: &BackendPool,
        metrics: &Metrics,
    ) -> Option<DeadLetters> {
        Some(DeadLetters {
            backend: pool.backend(spec, route)?,
            spec: spec.clone(),
            endpoint: route.endpoint_path.clone(),
            route: route.route.clone(),
            metrics: metrics.clone(),
        })
    }

    /// Keeps the event that this backend has not taken.
    pub async fn keep(&self, event: &Event, by: &CompiledBackend, undelivered: &Undelivered) {
        let letter = Rc::new(self.letter(event, by, undelivered));
        let kept = deliver_patiently(&self.backend, &letter).await;
        let outcome = kept.as_ref().map_or_else(|failed| failed.failure.outcome(), |_| "kept");
        let labels = DeadLetterLabels { endpoint: self.endpoint.clone(), route: self.route.clone(), outcome };
        self.metrics.dead_letters.get_or_create(&labels).inc();
        if let Err(failed) = kept {
            tracing::warn!(
                endpoint = %self.endpoint, route = %self.route, event = %event.id, backend = %by.label,
                "a dead letter is lost: {failed}; the event had failed with: {undelivered}"
            );
        }
    }

    fn letter(&self, event: &Event, by: &CompiledBackend, undelivered: &Undelivered) -> Event {
        let reason: String = undelivered.failure.to_string().chars().take(names::REASON_CHARS_MAX).collect();
        let mut extensions = vec![
            (names::REASON, reason),
            (names::OUTCOME, undelivered.failure.outcome().to_owned()),
            (names::ATTEMPTS, undelivered.attempts.to_string()),
            (names::BACKEND, by.label.to_string()),
            (names::TIME, rfc3339(unix_millis())),
        ];
        if let Some(status) = undelivered.failure.status() {
            extensions.push((names::STATUS, status.to_string()));
        }
        let key = event.keys.get(by.index).and_then(Option::as_ref);
        if let Some(key) = key.filter(|key| key.len() <= names::KEY_BYTES_MAX) {
            extensions.push((names::KEY, key.clone()));
        }
        if !event.source.params.is_empty() {
            let params: serde_json::Map<_, _> =
                event.source.params.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            extensions.push((names::PARAMS, serde_json::Value::from(params).to_string()));
        }
        let mut letter = event.extended(extensions);
        letter.keys = record_keys(&self.spec, &event.body);
        letter
    }
}

/// The record key that a dead letter backend takes from a body.
pub(crate) fn record_keys(spec: &CompiledBackend, body: &[u8]) -> Vec<Option<String>> {
    if !matches!(&spec.kind, BackendKind::Kafka(KafkaSpec { key: KafkaKey::Path(_), .. })) {
        return Vec::new();
    }
    serde_json::from_slice(body).map(|tree| vec![spec.record_key(&tree)]).unwrap_or_else(|_| vec![None])
}

/// Delivers, and waits for room for a while.
pub(super) async fn deliver_patiently(backend: &Rc<dyn Backend>, event: &Rc<Event>) -> Result<Delivered, Undelivered> {
    let began = Instant::now();
    loop {
        match backend.clone().begin(event) {
            Begin::Started(delivery) => return delivery.await,
            Begin::Busy if began.elapsed() < ROOM_WITHIN => tokio::time::sleep(ROOM_PAUSE).await,
            Begin::Busy => return Err(Failure::NoPlace { millis: began.elapsed().as_millis() }.into()),
        }
    }
}
