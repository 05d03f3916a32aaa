//! A token bucket as one number, the generic cell rate algorithm: how far ahead of time its user is. Pure: callers bring
//! the time, in nanoseconds of any clock that never goes back. Called by throttle and inbound; imports nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So many a second, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Above zero.
    pub per_second: f64,
    /// At least 1.
    pub burst: f64,
}

impl Rate {
    /// A part of it. At least one at once is left: a burst below one could never be taken.
    pub fn part(self, fraction: f64) -> Rate {
        Rate { per_second: self.per_second * fraction, burst: (self.burst * fraction).max(1.0) }
    }

    /// Nanoseconds that one takes up; saturates where the rate is all but zero.
    fn interval(self) -> u64 {
        ((1e9 / self.per_second) as u64).max(1)
    }
}

/// Takes one from a bucket that is filled again at `ahead_until`: its new value, and if there was none how many
/// nanoseconds are missing. A rate that has changed meanwhile is no reason to wait longer than its own whole burst takes:
/// the new value says so too, and is to be kept either way.
pub fn take(rate: Rate, ahead_until: u64, now: u64) -> (u64, Result<(), u64>) {
    let interval = rate.interval();
    let whole = (interval as f64 * rate.burst) as u64;
    let ahead = ahead_until.saturating_sub(now).min(whole);
    let room = whole.saturating_sub(interval);
    let ahead_until = now.saturating_add(ahead);
    if ahead <= room {
        (ahead_until.saturating_add(interval), Ok(()))
    } else {
        (ahead_until, Err(ahead - room))
    }
}

/// Gives one back that was taken for nothing.
pub fn give_back(rate: Rate, ahead_until: u64) -> u64 {
    ahead_until.saturating_sub(rate.interval())
}

/// A bucket that threads share.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one, or says when there will be one.
    pub fn take(&self, rate: Rate, now: u64) -> Result<(), Duration> {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let (after, taken) = take(rate, before, now);
            let taken = taken.map_err(Duration::from_nanos);
            if after == before {
                return taken;
            }
            match self.0.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return taken,
                Err(actual) => before = actual,
            }
        }
    }

    pub fn give_back(&self, rate: Rate) {
        // Always `Some`: cannot fail.
        let _before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |ahead| Some(give_back(rate, ahead)));
    }

    /// Nothing is lost when a full bucket is forgotten.
    pub fn is_full(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(per_second: f64, burst: f64) -> Rate {
        Rate { per_second, burst }
    }

    #[test]
    fn a_burst_then_the_rate() {
        let bucket = Bucket::default();
        let ten = rate(10.0, 3.0);
        let start = 5 * SECOND;
        for _ in 0..3 {
            assert_eq!(bucket.take(ten, start), Ok(()));
        }
        assert_eq!(bucket.take(ten, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(ten, start + SECOND / 20), Err(Duration::from_millis(50)));
        assert_eq!(bucket.take(ten, start + SECOND / 10), Ok(()));
        assert!(!bucket.is_full(start + SECOND / 10));
        assert!(bucket.is_full(start + SECOND));
        let taken = (0..1_000).filter(|tick| bucket.take(ten, start + SECOND + tick * SECOND / 100).is_ok()).count();
        assert_eq!(taken, 102, "a full burst and what ten seconds give");
    }

    #[test]
    fn what_is_given_back_can_be_taken() {
        let bucket = Bucket::default();
        let one = rate(1.0, 1.0);
        bucket.take(one, SECOND).unwrap();
        assert!(bucket.take(one, SECOND).is_err());
        bucket.give_back(one);
        assert_eq!(bucket.take(one, SECOND), Ok(()));
    }

    #[test]
    fn a_changed_rate_holds_at_once() {
        // Ten minutes of a slow rate are used up; a fast one does not wait for them.
        let slow = rate(1.0, 600.0);
        let bucket = Bucket::default();
        while bucket.take(slow, SECOND).is_ok() {}
        let fast = rate(100.0, 50.0);
        assert_eq!(bucket.take(fast, SECOND), Err(Duration::from_millis(10)));
        assert_eq!(bucket.take(fast, SECOND + SECOND / 100), Ok(()));
        // A fast one's burst does not count against a slow one for longer than its own.
        let ahead = SECOND + SECOND / 2;
        assert_eq!(take(rate(1.0, 1.0), ahead, SECOND), (ahead, Err(SECOND / 2)));
    }

    #[test]
    fn parts_and_extremes() {
        assert_eq!(rate(100.0, 10.0).part(0.5), rate(50.0, 5.0));
        assert_eq!(rate(100.0, 1.0).part(0.1), rate(10.0, 1.0));
        let none = rate(100.0, 10.0).part(0.0);
        let (ahead, _) = take(none, 0, SECOND);
        assert!(take(none, ahead, u64::MAX / 2).1.is_err());
        assert_eq!(take(rate(1e6, 1e6), 0, u64::MAX - 1), (u64::MAX, Ok(())));
    }
}
