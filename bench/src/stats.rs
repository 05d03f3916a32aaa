//! Arithmetic on samples: a latency histogram and the minimum, median and maximum of a few rounds.
//! Pure; anyone in this program may use it, it uses nobody.

use serde::Serialize;

/// Buckets per power of two: a bucket is at most 1/128 (0.8%) of its value wide.
const SUB_BUCKET_BITS: u32 = 7;
const SUB_BUCKETS: u64 = 1 << SUB_BUCKET_BITS;
/// Every `u64` has a bucket: the linear part, and one group for each of the remaining powers of two.
const BUCKETS: usize = ((64 - SUB_BUCKET_BITS as usize) + 1) * SUB_BUCKETS as usize;

/// Log-linear histogram of nanoseconds. Recording is one increment; it never allocates after `new`.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }

    pub fn record(&mut self, nanos: u64) {
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    pub fn latencies(&self) -> Latencies {
        let quantile = |quantile| self.quantile(quantile).unwrap_or(f64::NAN);
        Latencies { p50_nanos: quantile(0.50), p99_nanos: quantile(0.99), max_nanos: quantile(1.0) }
    }

    /// The nanoseconds (middle of the bucket) that `quantile` (0–1) of all values do not exceed; `None` without values.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle(index));
            }
        }
        None
    }
}

/// What is said of a histogram; NaN where it is empty.
#[derive(Clone, Copy, Debug)]
pub struct Latencies {
    pub p50_nanos: f64,
    pub p99_nanos: f64,
    /// The middle of its bucket, too.
    pub max_nanos: f64,
}

fn bucket(value: u64) -> usize {
    if value < SUB_BUCKETS {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - SUB_BUCKET_BITS;
    (u64::from(shift) * SUB_BUCKETS + (value >> shift)) as usize
}

fn middle(index: usize) -> f64 {
    let index = index as u64;
    if index < 2 * SUB_BUCKETS {
        return index as f64;
    }
    let shift = index / SUB_BUCKETS - 1;
    let low = (index - shift * SUB_BUCKETS) << shift;
    low as f64 + ((1u64 << shift) - 1) as f64 / 2.0
}

/// What several rounds of one figure come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// `None` without samples. The median of an even number of samples is the mean of the middle two.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
        Some(Self { min, median, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_are_exact_and_buckets_are_monotonic_and_narrow() {
        for value in 0..256 {
            assert_eq!(middle(bucket(value)), value as f64);
        }
        let mut last = 0;
        for exponent in 8..64 {
            for value in [1u64 << exponent, (1u64 << exponent) + (1u64 << (exponent - 1)), (1u64 << exponent) - 1] {
                let error = (middle(bucket(value)) - value as f64).abs() / value as f64;
                assert!(error < 0.008, "{value}: {error}");
            }
            assert!(bucket(1 << exponent) > last);
            last = bucket(1 << exponent);
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_are_ranks() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=100).for_each(|value| histogram.record(value));
        assert_eq!(histogram.quantile(0.0), Some(1.0));
        assert_eq!(histogram.quantile(0.5), Some(50.0));
        assert_eq!(histogram.quantile(0.99), Some(99.0));
        assert_eq!(histogram.quantile(1.0), Some(100.0));
        let Latencies { p50_nanos, p99_nanos, max_nanos } = histogram.latencies();
        assert_eq!((p50_nanos, p99_nanos, max_nanos), (50.0, 99.0, 100.0));
        assert!(Histogram::new().latencies().max_nanos.is_nan());
    }

    #[test]
    fn spread_of_odd_even_and_no_samples() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
    }
}
