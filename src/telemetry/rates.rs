//! What goes through each endpoint, route and backend now: differences between readings of the same counters over about
//! ten seconds. Filled once in two seconds; read by the picture of routes, here and from other nodes.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};

use super::history::error_code;
use super::latency::{self, Counts, BUCKETS};
use super::metrics::Metrics;
use super::readable::Readable;

/// Between two readings.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// So many intervals are looked at together.
const INTERVALS: usize = 5;

/// Counts of one endpoint within the time that is looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointCounts {
    pub opened: u64,
    pub closed: u64,
    pub events_out: u64,
    pub throttled: u64,
    /// By `type/name`; events that no route took are under the empty one. Programs before had the name alone.
    pub routes: BTreeMap<String, RouteCounts>,
    /// By the backend's label.
    pub backends: BTreeMap<String, BackendCounts>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteCounts {
    /// Those that failed included.
    pub events: u64,
    pub errors: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendCounts {
    pub requests: u64,
    pub failed: u64,
    pub latency: Counts,
}

impl Default for BackendCounts {
    fn default() -> Self {
        BackendCounts { requests: 0, failed: 0, latency: [0; BUCKETS] }
    }
}

impl EndpointCounts {
    /// As many as there would be within `factor` times the time.
    pub fn scaled(mut self, factor: f64) -> EndpointCounts {
        let scale = |count: &mut u64| *count = (*count as f64 * factor).round() as u64;
        [&mut self.opened, &mut self.closed, &mut self.events_out, &mut self.throttled].into_iter().for_each(scale);
        for route in self.routes.values_mut() {
            scale(&mut route.events);
            route.errors.values_mut().for_each(scale);
        }
        for backend in self.backends.values_mut() {
            scale(&mut backend.requests);
            scale(&mut backend.failed);
            backend.latency.iter_mut().for_each(scale);
        }
        self
    }

    pub fn add(&mut self, other: &EndpointCounts) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.events_out += other.events_out;
        self.throttled += other.throttled;
        for (name, counts) in &other.routes {
            let route = self.routes.entry(name.clone()).or_default();
            route.events += counts.events;
            for (code, count) in &counts.errors {
                *route.errors.entry(code.clone()).or_default() += count;
            }
        }
        for (label, counts) in &other.backends {
            let backend = self.backends.entry(label.clone()).or_default();
            backend.requests += counts.requests;
            backend.failed += counts.failed;
            latency::add(&mut backend.latency, &counts.latency);
        }
    }
}

/// All counters at one time, in the places that their families keep them in.
#[derive(Default)]
struct Reading {
    opened: Vec<u64>,
    closed: Vec<u64>,
    events_in: Vec<u64>,
    events_out: Vec<u64>,
    throttled: Vec<u64>,
    /// None: of one that is retired.
    backends: Vec<Option<Counts>>,
}

impl Reading {
    fn take(metrics: &Metrics) -> Reading {
        Reading {
            opened: metrics.connections_opened.read(Counter::get),
            closed: metrics.connections_closed.read(Counter::get),
            events_in: metrics.events_in.read(Counter::get),
            events_out: metrics.events_out.read(Counter::get),
            throttled: metrics.throttled.read(Counter::get),
            backends: metrics.backend_seconds.read(|took| Some(took.counts())),
        }
    }
}

/// A node's rates; see the module.
pub struct Rates(Mutex<VecDeque<(Instant, Reading)>>);

impl Rates {
    pub fn new(metrics: &Metrics) -> Rates {
        Rates(Mutex::new(VecDeque::from([(Instant::now(), Reading::take(metrics))])))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, Reading)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a reading.
    pub fn tick(&self, metrics: &Metrics, now: Instant) {
        let reading = Reading::take(metrics);
        let mut readings = self.lock();
        readings.push_back((now, reading));
        while readings.len() > INTERVALS + 1 {
            readings.pop_front();
        }
    }

    /// What came since the oldest reading, by the endpoint's path, and how long that is. Only of the wanted paths, and
    /// nothing of those without traffic.
    pub fn counts(
        &self,
        metrics: &Metrics,
        wanted: impl Fn(&str) -> bool,
    ) -> (Duration, BTreeMap<String, EndpointCounts>) {
        let readings = self.lock();
        let mut found = Found { wanted, by_path: BTreeMap::new() };
        let Some((at, before)) = readings.front() else { return (Duration::ZERO, found.by_path) };
        changes(&metrics.connections_opened, &before.opened, |labels, came| {
            found.change(&labels.endpoint, |counts| counts.opened += came);
        });
        changes(&metrics.connections_closed, &before.closed, |labels, came| {
            found.change(&labels.endpoint, |counts| counts.closed += came);
        });
        changes(&metrics.events_out, &before.events_out, |labels, came| {
            found.change(&labels.endpoint, |counts| counts.events_out += came);
        });
        changes(&metrics.throttled, &before.throttled, |labels, came| {
            found.change(&labels.endpoint, |counts| counts.throttled += came);
        });
        changes(&metrics.events_in, &before.events_in, |labels, came| {
            found.change(&labels.endpoint, |counts| {
                let route = counts.routes.entry(labels.type_and_route()).or_default();
                route.events += came;
                if let Some(code) = error_code(labels.outcome) {
                    *route.errors.entry(code.to_owned()).or_default() += came;
                }
            });
        });
        metrics.backend_seconds.each(|place, labels, took| {
            let before = before.backends.get(place).copied().flatten().unwrap_or([0; BUCKETS]);
            let came = latency::since(&took.counts(), &before);
            let requests: u64 = came.iter().sum();
            if requests > 0 {
                found.change(&labels.endpoint, |counts| {
                    let backend = counts.backends.entry(labels.backend.clone()).or_default();
                    backend.requests += requests;
                    backend.failed += if labels.outcome == "delivered" { 0 } else { requests };
                    latency::add(&mut backend.latency, &came);
                });
            }
        });
        (at.elapsed(), found.by_path)
    }
}

struct Found<W> {
    wanted: W,
    by_path: BTreeMap<String, EndpointCounts>,
}

impl<W: Fn(&str) -> bool> Found<W> {
    fn change(&mut self, path: &str, change: impl FnOnce(&mut EndpointCounts)) {
        if !(self.wanted)(path) {
            return;
        }
        match self.by_path.get_mut(path) {
            Some(counts) => change(counts),
            None => change(self.by_path.entry(path.to_owned()).or_default()),
        }
    }
}

/// Calls `each` for every member that has counted since `before`.
fn changes<L: Clone + Hash + Eq>(family: &Readable<L, Counter>, before: &[u64], mut each: impl FnMut(&L, u64)) {
    family.each(|place, labels, counter| {
        // Members that came since are behind the others.
        let came = counter.get().saturating_sub(before.get(place).copied().unwrap_or(0));
        if came > 0 {
            each(labels, came);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{BackendLabels, EndpointLabels, EventLabels};

    #[test]
    fn counts_what_came_within_the_last_readings_by_endpoint_route_and_backend() {
        let metrics = Metrics::default();
        let event = |path: &str, route: &str, outcome, count| {
            let labels = EventLabels::new(path, (!route.is_empty()).then_some(("default", route)), outcome);
            metrics.events_in.get_or_create(&labels).inc_by(count);
        };
        event("/a", "default", "delivered", 1000);
        let rates = Rates::new(&metrics);
        event("/a", "default", "delivered", 5);
        event("/a", "default", "failed", 2);
        event("/a", "", "no_route", 1);
        event("/b", "default", "delivered", 1);
        metrics.events_out.get_or_create(&EndpointLabels { endpoint: "/a".into() }).inc_by(4);
        let labels = |outcome| BackendLabels { endpoint: "/a".into(), backend: "default/default/0".into(), outcome };
        metrics.backend_seconds.get_or_create(&labels("delivered")).observe(Duration::from_millis(3));
        metrics.backend_seconds.get_or_create(&labels("timeout")).observe(Duration::from_millis(300));
        let (over, counts) = rates.counts(&metrics, |path| path == "/a");
        assert!(over < Duration::from_secs(5) && counts.len() == 1);
        let a = &counts["/a"];
        assert_eq!(a.events_out, 4);
        assert_eq!((a.routes["default/default"].events, a.routes["default/default"].errors["delivery_failed"]), (7, 2));
        assert_eq!(a.routes[""].errors["no_route"], 1);
        let backend = &a.backends["default/default/0"];
        assert_eq!((backend.requests, backend.failed), (2, 1));
        let mut both = a.clone();
        both.add(a);
        assert_eq!((both.routes["default/default"].events, both.backends["default/default/0"].requests), (14, 4));
        let twice = a.clone().scaled(2.0);
        assert_eq!((twice.events_out, twice.routes["default/default"].errors["delivery_failed"]), (8, 4));
        for _ in 0..=INTERVALS {
            rates.tick(&metrics, Instant::now());
        }
        assert!(rates.counts(&metrics, |_| true).1.is_empty(), "all of it is older than the oldest reading");
    }
}
