//! Which traces are recorded: what the parent says, and of new traces a part. Pure.

use crate::context::{TraceContext, TraceId};

/// Bits of the trace id that are random (W3C Trace Context level 2, and OpenTelemetry's consistent probability sampling).
const RANDOM_BITS: u32 = 56;
const RANDOM_ENDS: u64 = 1 << RANDOM_BITS;

/// A trace is recorded when the number in the last seven bytes of its id is not below a threshold. So whoever samples the same
/// way records all that others with a smaller ratio do.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    /// 0: everything; 2⁵⁶: nothing.
    threshold: u64,
}

impl Sampler {
    /// `ratio` is 0 to 1; what is outside counts as the nearer of the two.
    pub fn new(ratio: f64) -> Sampler {
        // Exact for powers of two; a ratio below 2⁻⁵⁷ is none. NaN is none, too.
        let recorded = (ratio.clamp(0.0, 1.0) * RANDOM_ENDS as f64).round() as u64;
        Sampler { threshold: RANDOM_ENDS - recorded }
    }

    pub fn records(self, trace: TraceId) -> bool {
        (trace.get() as u64 & (RANDOM_ENDS - 1)) >= self.threshold
    }

    /// A new span: below `parent`, whose decision counts, or in a new trace.
    pub fn sample(self, parent: Option<&TraceContext>) -> TraceContext {
        if let Some(parent) = parent {
            return parent.child();
        }
        let mut root = TraceContext::root(false);
        root.sampled = self.records(root.trace_id);
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(low: u64) -> TraceId {
        TraceId::new(0xabcd_0000_0000_0000_0000_0000_0000_0000 | u128::from(low)).unwrap()
    }

    #[test]
    fn all_or_nothing() {
        for low in [0, 1, RANDOM_ENDS - 1] {
            assert!(Sampler::new(1.0).records(trace(low)) && Sampler::new(7.0).records(trace(low)));
            for none in [0.0, -1.0, f64::NAN] {
                assert!(!Sampler::new(none).records(trace(low)));
            }
        }
    }

    /// Thresholds of OpenTelemetry's "TraceState: Probability Sampling": th:8 is 1/2, th:c is 1/4, th:fd70a3d70a3d71 is 1 %.
    #[test]
    fn thresholds_are_those_of_consistent_probability_sampling() {
        for (ratio, threshold) in [(0.5, 0x80_0000_0000_0000), (0.25, 0xc0_0000_0000_0000), (0.01, 0xfd_70a3_d70a_3d71)]
        {
            let sampler = Sampler::new(ratio);
            assert_eq!(sampler.threshold, threshold, "{ratio}");
            assert!(sampler.records(trace(threshold)) && !sampler.records(trace(threshold - 1)));
        }
        // Bits above the 56 do not count.
        assert!(!Sampler::new(0.5).records(trace(0xff00_0000_0000_0000)));
    }

    #[test]
    fn a_larger_ratio_records_what_a_smaller_one_does() {
        let (small, large) = (Sampler::new(0.1), Sampler::new(0.3));
        let mut recorded = (0_u32, 0_u32);
        for _ in 0..20_000 {
            let context = small.sample(None);
            assert_eq!(context.sampled, small.records(context.trace_id));
            assert!(!context.sampled || large.records(context.trace_id));
            recorded.0 += u32::from(context.sampled);
            recorded.1 += u32::from(large.records(context.trace_id));
        }
        // Eight standard deviations on either side.
        assert!((1_660..2_340).contains(&recorded.0) && (5_480..6_520).contains(&recorded.1), "{recorded:?}");
    }

    #[test]
    fn a_parent_has_decided() {
        for sampled in [true, false] {
            let parent = TraceContext::root(sampled).with_tracestate([&b"a=1"[..]]);
            for ratio in [0.0, 1.0] {
                let child = Sampler::new(ratio).sample(Some(&parent));
                assert_eq!((child.sampled, child.trace_id), (sampled, parent.trace_id));
                assert_eq!(child.tracestate, parent.tracestate);
                assert_ne!(child.span_id, parent.span_id);
            }
        }
    }
}
