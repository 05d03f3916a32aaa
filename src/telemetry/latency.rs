//! How long something took, in the buckets of `/metrics`: a histogram of atomics, without a lock, that can be read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Seconds; half a millisecond to ten seconds, the range between a service next door and a time-out.
pub const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.5, 10.0];

/// One more than there are bounds: the last is for what took longer.
pub const BUCKETS: usize = LATENCY_BUCKETS.len() + 1;

/// How many were in each bucket; not added up from below.
pub type Counts = [u64; BUCKETS];

/// Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Latency(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Latency {
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        // 584 years until it begins anew.
        self.0.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        std::array::from_fn(|bucket| self.0.counts[bucket].load(Ordering::Relaxed))
    }
}

/// What came between two readings.
pub fn since(now: &Counts, before: &Counts) -> Counts {
    std::array::from_fn(|bucket| now[bucket].saturating_sub(before[bucket]))
}

pub fn add(to: &mut Counts, counts: &Counts) {
    for (sum, count) in to.iter_mut().zip(counts) {
        *sum += count;
    }
}

/// Milliseconds that a share of them stayed below, straight lines drawn within a bucket, as Prometheus does; None: there
/// were none. What took longer than the last bound counts as that long.
pub fn quantile_millis(counts: &Counts, share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = share * all as f64;
    let mut below = 0u64;
    for (bucket, count) in counts.iter().enumerate() {
        if (below + count) as f64 >= rank && *count > 0 {
            let Some(upper) = LATENCY_BUCKETS.get(bucket) else { break };
            let lower = bucket.checked_sub(1).map_or(0.0, |before| LATENCY_BUCKETS[before]);
            let within = (rank - below as f64) / *count as f64;
            return Some((lower + (upper - lower) * within) * 1000.0);
        }
        below += count;
    }
    LATENCY_BUCKETS.last().map(|bound| bound * 1000.0)
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.counts();
        let bounds = LATENCY_BUCKETS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let seconds = self.0.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(seconds, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let latency = Latency::default();
        assert_eq!(quantile_millis(&latency.counts(), 0.5), None);
        for _ in 0..98 {
            latency.observe(Duration::from_micros(1500));
        }
        for _ in 0..2 {
            latency.observe(Duration::from_millis(200));
        }
        let counts = latency.counts();
        let (p50, p99) = (quantile_millis(&counts, 0.5).unwrap(), quantile_millis(&counts, 0.99).unwrap());
        assert!((1.0..=2.0).contains(&p50) && (125.0..=250.0).contains(&p99), "{p50} {p99}");
        latency.observe(Duration::from_secs(60));
        assert_eq!(quantile_millis(&latency.counts(), 1.0), Some(10_000.0));
        assert_eq!(since(&latency.counts(), &counts).iter().sum::<u64>(), 1);
    }

    #[test]
    fn metrics_show_it_as_prometheus_wants_it() {
        let latency = Latency::default();
        // On a bound: that bucket is "less or equal".
        latency.observe(Duration::from_micros(500));
        latency.observe(Duration::from_millis(3));
        latency.observe(Duration::from_secs(11));
        let mut registry = Registry::default();
        registry.register("took_seconds", "…", latency);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "took_seconds_count 3",
            "took_seconds_bucket{le=\"0.0005\"} 1",
            "took_seconds_bucket{le=\"0.002\"} 1",
            "took_seconds_bucket{le=\"0.004\"} 2",
            "took_seconds_bucket{le=\"10.0\"} 2",
            "took_seconds_bucket{le=\"+Inf\"} 3",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.contains("took_seconds_sum 11.003"), "{text}");
    }
}
