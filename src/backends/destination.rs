//! What the workers of a node share about one backend of one endpoint: its places, its retry budget. Made when the first
//! worker asks, gone with the last that holds it; a new version whose backend is the same finds it as it was. Called by
//! pool and http; imports model and telemetry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::in_flight::{InFlight, Place};
use super::retry_budget::RetryBudget;
use super::{Failure, RouteFacts};
use crate::model::endpoint::{CompiledBackend, HttpSpec};
use crate::model::url_template::UrlTemplate;
use crate::telemetry::metrics::{BackendLabels, Metrics};

/// How long a request waits for a place. A service that answers is done with what waits long before; of one that hangs,
/// the events go the way of failures instead of piling up.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What a destination is known by. A version that changes none of it goes on with the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    endpoint: String,
    backend: String,
    url: UrlTemplate,
}

type Known = Mutex<HashMap<Key, Weak<Destination>>>;

/// All destinations of a node. Cheap to clone.
#[derive(Clone)]
pub struct Destinations {
    known: Arc<Known>,
    metrics: Metrics,
    leaving: Arc<watch::Sender<bool>>,
}

impl Destinations {
    pub fn new(metrics: Metrics) -> Destinations {
        Destinations { known: Arc::default(), metrics, leaving: Arc::new(watch::Sender::new(false)) }
    }

    /// The node leaves: nobody waits any longer before another attempt.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    pub fn of(&self, backend: &CompiledBackend, spec: &HttpSpec, route: &RouteFacts) -> Arc<Destination> {
        let key = Key {
            endpoint: route.endpoint_id.clone(),
            backend: backend.label.to_string(),
            url: spec.destination.clone(),
        };
        let mut known = lock(&self.known);
        if let Some(destination) = known.get(&key).and_then(Weak::upgrade) {
            // What earlier versions have under way counts against the new bound.
            destination.places.resize(spec.max_in_flight);
            return destination;
        }
        let counter = |outcome| {
            let (endpoint, backend) = (route.endpoint_path.clone(), backend.label.to_string());
            self.metrics.backend_retries.get_or_create(&BackendLabels { endpoint, backend, outcome }).clone()
        };
        let made = Arc::new(Destination {
            places: InFlight::new(spec.max_in_flight),
            budget: RetryBudget::new(0),
            started: Instant::now(),
            retried: counter("retried"),
            over_budget: counter("over_budget"),
            leaving: self.leaving.subscribe(),
            key: key.clone(),
            home: Arc::downgrade(&self.known),
        });
        known.insert(key, Arc::downgrade(&made));
        made
    }
}

fn lock(known: &Known) -> MutexGuard<'_, HashMap<Key, Weak<Destination>>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One backend of one endpoint, for all workers.
pub struct Destination {
    places: InFlight,
    budget: RetryBudget,
    started: Instant,
    retried: Counter,
    over_budget: Counter,
    leaving: watch::Receiver<bool>,
    key: Key,
    home: Weak<Known>,
}

impl Destination {
    fn now_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A place among the `maxInFlight`.
    pub async fn place(&self) -> Result<Place<'_>, Failure> {
        if let Some(place) = self.places.try_enter() {
            return Ok(place);
        }
        let waited = tokio::time::timeout(PLACE_WAIT_MAX, self.places.enter()).await;
        waited.map_err(|_elapsed| Failure::NoPlace { millis: PLACE_WAIT_MAX.as_millis() })
    }

    /// A first attempt is made.
    pub(super) fn first_attempt(&self) {
        self.budget.request();
    }

    /// Whether the budget has a retry left; takes it.
    pub(super) fn may_retry(&self) -> bool {
        let allowed = self.budget.take(self.now_millis());
        if allowed { &self.retried } else { &self.over_budget }.inc();
        allowed
    }

    pub(super) fn is_leaving(&self) -> bool {
        *self.leaving.borrow()
    }

    /// Waits, but not on a node that leaves.
    pub(super) async fn pause(&self, pause: Duration) {
        let mut leaving = self.leaving.clone();
        // That the sender is gone means that the node is, too.
        let _cut = tokio::time::timeout(pause, leaving.wait_for(|leaving| *leaving)).await;
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        let Some(known) = self.home.upgrade() else { return };
        let mut known = lock(&known);
        // Another worker may have made it anew meanwhile.
        if known.get(&self.key).is_some_and(|other| other.strong_count() == 0) {
            known.remove(&self.key);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::delivery_policy::{RetryAfter, RetryPolicy};
    use crate::model::endpoint::{BackendKind, HttpMethod};
    use crate::model::event::EventKind;

    pub fn policy(attempts: u32) -> RetryPolicy {
        RetryPolicy {
            attempts,
            backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(4),
            after: RetryAfter::Passing,
        }
    }

    pub fn destination(of: &Destinations, url: &str, max_in_flight: usize) -> Arc<Destination> {
        let spec = HttpSpec {
            method: HttpMethod::Post,
            destination: UrlTemplate::parse(url, |_| None).unwrap(),
            timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            headers: Vec::new(),
            max_in_flight,
            reply: false,
            retry: policy(3),
        };
        let route = RouteFacts {
            kind: EventKind::Message,
            endpoint_id: "ep".to_owned(),
            endpoint_path: "/a".to_owned(),
            route: "r".to_owned(),
            node: "n1".to_owned(),
        };
        let kind = BackendKind::Http(spec.clone());
        let backend = CompiledBackend { index: 0, kind, required: true, label: "default/r/0".into() };
        of.of(&backend, &spec, &route)
    }

    #[actix_rt::test]
    async fn workers_share_a_destination_while_anyone_has_it() {
        let all = Destinations::new(Metrics::default());
        let first = destination(&all, "http://a/", 2);
        let second = destination(&all, "http://a/", 2);
        let other = destination(&all, "http://b/", 2);
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other));
        let places = (first.place().await.unwrap(), second.place().await.unwrap());
        assert!(first.places.try_enter().is_none(), "two places for all workers together");
        drop(places);
        assert!(first.places.try_enter().is_some());
        drop((first, second));
        assert_eq!(lock(&all.known).len(), 1);
        drop(other);
        assert!(lock(&all.known).is_empty());
    }
}
