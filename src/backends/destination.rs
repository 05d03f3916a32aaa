//! What the workers of a node share about one backend of one endpoint: its places, its retry
//! budget, its circuit breaker. Made when the first
//! worker asks, gone with the last that holds it; a new version whose backend is the same finds it as it was. Called by
//! pool and http; imports model and telemetry.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use super::breaker::{Admission, Breaker, Change, Says, State};
use super::in_flight::{InFlight, Place};
use super::retry_budget::RetryBudget;
use super::{Failure, RouteFacts};
use crate::model::delivery_policy::BreakerPolicy;
use crate::model::endpoint::{CompiledBackend, HttpSpec};
use crate::model::url_template::UrlTemplate;
use crate::telemetry::catalogue;
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
        let known: Arc<Known> = Arc::default();
        metrics.register_collector(Box::new(DestinationCollector(known.clone())));
        Destinations { known, metrics, leaving: Arc::new(watch::Sender::new(false)) }
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
            breaker: Mutex::default(),
            endpoint_path: route.endpoint_path.clone(),
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
    /// With the numbers of the version that asked last.
    breaker: Mutex<Option<Arc<Breaker>>>,
    budget: RetryBudget,
    endpoint_path: String,
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

    /// The breaker with these numbers. Versions that agree on them share it.
    pub fn breaker(&self, policy: Option<BreakerPolicy>) -> Option<Arc<Breaker>> {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if breaker.as_ref().map(|known| known.policy()) != policy {
            *breaker = policy.map(|policy| Arc::new(Breaker::new(policy)));
        }
        breaker.clone()
    }

    /// Lets a request begin, when it has a place and the breaker is not open.
    pub async fn enter<'d>(&'d self, breaker: Option<&'d Breaker>) -> Result<Entered<'d>, Failure> {
        if let Some(breaker) = breaker {
            // Not worth waiting for a place.
            if breaker.state(self.now_millis()) == State::Open {
                self.admit(breaker).map(drop)?;
            }
        }
        let place = self.place().await?;
        // It may have opened meanwhile: then everybody who waits is through with it at once.
        let admission = breaker.map(|breaker| self.admit(breaker)).transpose()?;
        Ok(Entered { destination: self, admission, _place: place })
    }

    fn admit<'d>(&self, breaker: &'d Breaker) -> Result<Admission<'d>, Failure> {
        breaker.admit(self.now_millis()).map_err(|millis| Failure::CircuitOpen { millis })
    }

    fn log(&self, change: Change) {
        let Key { endpoint, backend, .. } = &self.key;
        match change {
            Change::Opened => tracing::warn!(%endpoint, %backend, "circuit breaker opened: its requests fail at once"),
            Change::OpenedAgain => tracing::debug!(%endpoint, %backend, "circuit breaker stays open"),
            Change::Closed => tracing::info!(%endpoint, %backend, "circuit breaker closed: it works again"),
        }
    }

    /// A place among the `maxInFlight`.
    async fn place(&self) -> Result<Place<'_>, Failure> {
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

/// A request under way.
pub struct Entered<'d> {
    destination: &'d Destination,
    admission: Option<Admission<'d>>,
    _place: Place<'d>,
}

impl Entered<'_> {
    /// What has become of it.
    pub fn ended(self, failure: Option<&Failure>) {
        let Some(admission) = self.admission else { return };
        let says = match failure {
            Some(Failure::Status { status: 410 }) => Says::Gone,
            Some(failure) if failure.is_of_the_destination() => Says::Fails,
            _ => Says::Works,
        };
        if let Some(change) = admission.tell(says, self.destination.now_millis()) {
            self.destination.log(change);
        }
    }
}

/// What `/metrics` shows of destinations, read when asked for.
struct DestinationCollector(Arc<Known>);

impl std::fmt::Debug for DestinationCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DestinationCollector")
    }
}

impl Collector for DestinationCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // Of two destinations of a backend that are both in use, requests are added up, and the worse state counts.
        let mut figures = BTreeMap::<(String, String), (u64, Option<u64>)>::new();
        // Not held any longer: whoever lets go of the last reference takes it too.
        let all: Vec<_> = lock(&self.0).values().filter_map(Weak::upgrade).collect();
        for destination in all {
            let labels = (destination.endpoint_path.clone(), destination.key.backend.clone());
            let (in_flight, state) = figures.entry(labels).or_default();
            *in_flight += destination.places.under_way() as u64;
            let breaker = destination.breaker.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let of_breaker = breaker.map(|breaker| match breaker.state(destination.now_millis()) {
                State::Closed => 0,
                State::HalfOpen => 1,
                State::Open => 2,
            });
            *state = (*state).max(of_breaker);
        }
        let kind = ConstGauge::new(0u64).metric_type();
        let help = catalogue::help;
        let mut family = encoder.encode_descriptor("backend_in_flight", help("backend_in_flight"), None, kind)?;
        for ((endpoint, backend), (in_flight, _)) in &figures {
            let labels = [("endpoint", endpoint.as_str()), ("backend", backend.as_str())];
            ConstGauge::new(*in_flight).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor("backend_circuit", help("backend_circuit"), None, kind)?;
        for ((endpoint, backend), (_, state)) in &figures {
            let Some(state) = state else { continue };
            let labels = [("endpoint", endpoint.as_str()), ("backend", backend.as_str())];
            ConstGauge::new(*state).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
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
            batch: None,
            signing: None,
            breaker: None,
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

    #[actix_rt::test]
    async fn an_open_breaker_takes_no_place() {
        let all = Destinations::new(Metrics::default());
        let breaker = Some(BreakerPolicy { failures: 1, open: Duration::from_secs(60) });
        let on = destination(&all, "http://a/", 1);
        let breaker = on.breaker(breaker);
        let enter = || on.enter(breaker.as_deref());
        let sent = enter().await.ok().unwrap();
        let timed_out = Failure::Timeout { millis: 1 };
        let times_out = async { sent.ended(Some(&timed_out)) };
        // The one that waited is through at once, and so is everybody behind it.
        let (waited, ()) = tokio::join!(enter(), times_out);
        for refused in [waited, enter().await] {
            assert!(matches!(refused, Err(Failure::CircuitOpen { millis: 1..=60_000 })));
        }
        assert_eq!(on.places.under_way(), 0);
        let mut text = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(DestinationCollector(all.known.clone())));
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "backend_in_flight{endpoint=\"/a\",backend=\"default/r/0\"} 0",
            "backend_circuit{endpoint=\"/a\",backend=\"default/r/0\"} 2",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
