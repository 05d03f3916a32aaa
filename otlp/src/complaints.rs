//! What is logged about a collector that does not take what it is sent: one warning a minute, however many batches that are, and one
//! line when it works again. Called by export.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::batch::Counters;
use crate::settings::Target;

pub(crate) struct Complaints {
    /// For people: no credentials in it.
    endpoint: String,
    counters: Arc<Counters>,
    every: Duration,
    last: Option<Instant>,
    /// Somebody has been told that it does not work.
    is_ill: bool,
    /// How many spans had found the queue full when the reason for it was last known.
    explained: u64,
}

impl Complaints {
    pub fn new(target: &Target, counters: Arc<Counters>, every: Duration) -> Complaints {
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}{}", target.authority, target.path);
        Complaints { endpoint, counters, every, last: None, is_ill: false, explained: 0 }
    }

    /// A batch was not taken, or not now. That the queue is full comes of it.
    pub fn failed(&mut self, why: &str, now: Instant) {
        self.explained = self.counters.dropped_queue_full.load(Ordering::Relaxed);
        if self.may_speak(now) {
            self.is_ill = true;
            tracing::warn!(endpoint = &*self.endpoint, dropped = self.dropped(), "traces cannot be exported: {why}");
        }
    }

    /// A batch was taken as a whole; the collector may have said something all the same. When the queue was full nevertheless,
    /// there are more spans than it takes in time.
    pub fn all_is_well(&mut self, said: &str, now: Instant) {
        let queue_full = self.counters.dropped_queue_full.load(Ordering::Relaxed);
        if self.is_ill {
            (self.is_ill, self.explained) = (false, queue_full);
            tracing::info!(endpoint = &*self.endpoint, dropped = self.dropped(), "traces are exported again");
        } else if queue_full > self.explained && self.may_speak(now) {
            self.explained = queue_full;
            tracing::warn!(
                endpoint = &*self.endpoint,
                dropped = self.dropped(),
                "spans come faster than they are exported: record fewer (tracing.sample_ratio), or let more of them wait \
                 (tracing.spans_queued_max)"
            );
        } else if !said.is_empty() && self.may_speak(now) {
            tracing::warn!(endpoint = &*self.endpoint, "the collector says about traces: {said}");
        }
    }

    fn dropped(&self) -> u64 {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        read(&self.counters.dropped_queue_full) + read(&self.counters.dropped_failed)
    }

    fn may_speak(&mut self, now: Instant) -> bool {
        if self.last.is_some_and(|last| now.duration_since(last) < self.every) {
            return false;
        }
        self.last = Some(now);
        true
    }
}
