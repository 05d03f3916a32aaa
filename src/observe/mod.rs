//! The view inside of the whole cluster: figures over time, rates, and the live tail, gathered from every node over the peer
//! links. Both sides are here, the node that asks and those that answer. Called by the admin side and by peers; imports
//! telemetry and the cluster floor.

mod gather;
mod peers;

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use gather::{Heard, Observer, Tailed};
pub use peers::PeerObservations;

use crate::model::live_endpoint::LiveEndpoint;
use crate::telemetry::configured::Configured;
use crate::telemetry::history::{memory_bytes, Gauges, History, Range, Samples};
use crate::telemetry::rates::{EndpointCounts, Rates, INTERVAL as RATES_INTERVAL};
use crate::telemetry::Metrics;

/// Request kinds, within `wsgateway_cluster::kinds::GATEWAY`. Part of the wire format: never renumber.
pub const KINDS: RangeInclusive<u16> = 160..=169;
mod kinds {
    pub const STATS: u16 = 160;
    pub const TRAFFIC: u16 = 161;
    pub const TAIL: u16 = 162;
    pub const TAIL_END: u16 = 163;
}

/// Between two samples of the finest history.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// A node's figures over time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStats {
    pub connections_max: u64,
    pub samples: Samples,
}

/// What goes through a node now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodeTraffic {
    pub over_millis: u64,
    pub endpoints: Vec<EndpointTraffic>,
}

/// What goes through an endpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EndpointTraffic {
    pub id: String,
    pub connections: u64,
    /// The version that its connections use; None: it is not served there.
    pub version: Option<u64>,
    /// Its active version does not work there.
    pub degraded: bool,
    pub counts: EndpointCounts,
}

/// An endpoint as a node has it.
pub struct OwnEndpoint {
    pub id: String,
    /// None: it cannot be served here.
    pub live: Option<Arc<LiveEndpoint>>,
    pub degraded: bool,
}

/// Counters of what is not configured any more are let go at the second look after that.
const RETIRED_AFTER: Duration = Duration::from_secs(600);

/// What of a node is not telemetry's.
pub struct Surroundings {
    pub node_id: u64,
    pub connections_max: u64,
    pub connections: Box<dyn Fn() -> u64 + Send + Sync>,
    pub endpoints: Box<dyn Fn() -> Vec<OwnEndpoint> + Send + Sync>,
}

/// This node's own view inside.
pub struct Own {
    around: Surroundings,
    metrics: Metrics,
    history: History,
    rates: Rates,
}

fn unix_seconds() -> u64 {
    // A clock before 1970 has no history.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The next one: at the turn of a second, a tick that is a little late would be one of the next.
fn middle_of_a_second() -> tokio::time::Instant {
    let within = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    tokio::time::Instant::now() + Duration::from_millis(u64::from((1500 - within) % 1000))
}

/// What may be counted for: what is configured, and what was at the last look, since events of that may be under way.
#[derive(Default)]
struct Kept {
    before: Configured,
    /// By the endpoint's id: the paths that its connections may count under, which they have had since they came.
    paths: HashMap<String, BTreeSet<String>>,
}

impl Kept {
    fn look(&mut self, endpoints: &[OwnEndpoint]) -> Configured {
        let mut now = Configured::default();
        let mut paths = HashMap::new();
        for (id, live) in endpoints.iter().filter_map(|endpoint| Some((&endpoint.id, endpoint.live.as_ref()?))) {
            let current = live.current();
            now.add(&current);
            let idle = live.connections.load(std::sync::atomic::Ordering::Relaxed) == 0;
            let mut its = if idle { BTreeSet::new() } else { self.paths.remove(id).unwrap_or_default() };
            its.insert(current.path.to_string());
            its.iter().for_each(|path| now.add_path(path));
            paths.insert(id.clone(), its);
        }
        self.paths = paths;
        let kept = now.clone().or(&self.before);
        self.before = now;
        kept
    }
}

impl Own {
    pub fn new(metrics: Metrics, around: Surroundings) -> Arc<Own> {
        let (history, rates) = (History::new(&metrics, unix_seconds()), Rates::new(&metrics));
        Arc::new(Own { around, metrics, history, rates })
    }

    /// Takes samples for as long as the node runs.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval_at(middle_of_a_second(), SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut rated_at = Instant::now();
        let (mut retired_at, mut configured) = (Instant::now(), Kept::default());
        let mut looked_before = false;
        loop {
            ticks.tick().await;
            let gauges = Gauges { connections: (self.around.connections)(), memory_bytes: memory_bytes() };
            self.history.tick(&self.metrics, gauges, unix_seconds());
            if rated_at.elapsed() >= RATES_INTERVAL - SAMPLE_INTERVAL / 2 {
                rated_at = Instant::now();
                self.rates.tick(&self.metrics, rated_at);
            }
            self.metrics.tail.sweep();
            if retired_at.elapsed() >= RETIRED_AFTER {
                retired_at = Instant::now();
                let known = configured.look(&(self.around.endpoints)());
                // The first look has none before it that would say what went just now.
                if std::mem::replace(&mut looked_before, true) {
                    self.history.retire(&self.metrics, &known);
                    self.metrics.retire(&known);
                }
            }
        }
    }

    fn stats(&self, range: Range, since: u64) -> NodeStats {
        NodeStats { connections_max: self.around.connections_max, samples: self.history.read(range, since) }
    }

    /// Of one endpoint, or of all.
    fn traffic(&self, id: Option<&str>) -> NodeTraffic {
        let mut endpoints = (self.around.endpoints)();
        endpoints.retain(|endpoint| id.is_none_or(|id| endpoint.id == id));
        let path = |endpoint: &OwnEndpoint| endpoint.live.as_ref().map(|live| live.current().path.to_string());
        let only = id.map(|_| endpoints.iter().filter_map(path).collect::<Vec<_>>());
        let wanted = |path: &str| only.as_ref().is_none_or(|only| only.iter().any(|one| one == path));
        let (over, mut counts) = self.rates.counts(&self.metrics, wanted);
        let endpoints = endpoints.into_iter().map(|endpoint| {
            let counts = path(&endpoint).and_then(|path| counts.remove(&path)).unwrap_or_default();
            let live = endpoint.live.as_ref();
            EndpointTraffic {
                connections: live.map_or(0, |live| live.connections.load(std::sync::atomic::Ordering::Relaxed)),
                version: live.map(|live| live.current().version),
                degraded: endpoint.degraded,
                id: endpoint.id,
                counts,
            }
        });
        NodeTraffic { endpoints: endpoints.collect(), over_millis: over.as_millis() as u64 }
    }
}
