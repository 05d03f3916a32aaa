//! How hard a delivery is tried, as the document says it. Made by config, carried out by backends; imports nothing.

use std::time::Duration;

/// Attempts of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RetryPolicy {
    /// Requests of one event at most, the first included.
    pub attempts: u32,
    /// The longest pause before the second attempt; it doubles with each further one.
    pub backoff: Duration,
    /// No pause is longer, whatever a service asks for.
    pub max_backoff: Duration,
    /// Which failures are worth another attempt.
    pub after: RetryAfter,
}

/// Which failures are worth another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryAfter {
    /// Those of the connection only: an answer is a decision, and somebody waits for it.
    LostConnections,
    /// Those, time-outs, and the answers that say "later".
    Passing,
}

/// When a failing destination is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BreakerPolicy {
    /// In a row.
    pub failures: u32,
    /// How long nothing is sent then.
    pub open: Duration,
}

/// Several events in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchPolicy {
    /// At least 2.
    pub max_events: usize,
    /// How long an event may wait for others while nothing is under way.
    pub max_delay: Duration,
    /// Of a request's body; a larger event goes alone.
    pub max_bytes: usize,
}

impl RetryPolicy {
    /// The longest pause after so many attempts.
    pub fn longest_pause(&self, attempts: u32) -> Duration {
        // Beyond 2^30 every pause is longer than the longest that a document may ask for.
        let doubled = self.backoff.saturating_mul(1 << attempts.saturating_sub(1).min(30));
        doubled.min(self.max_backoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = RetryPolicy {
            attempts: 20,
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(1_500),
            after: RetryAfter::Passing,
        };
        let millis: Vec<_> = [1, 2, 3, 4, 5, 6, 200].map(|tried| policy.longest_pause(tried).as_millis()).into();
        assert_eq!(millis, [100, 200, 400, 800, 1_500, 1_500, 1_500]);
    }
}
