//! The bound on a backend's requests under way on a node. It belongs to the backend, not to a version of its document: a
//! new version finds the requests of the old one counted, so a service that hangs is not asked twice as much.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Shared by the workers and the versions of a backend.
pub struct InFlight {
    places: Semaphore,
    max: Mutex<usize>,
    /// Places above the bound that are still taken: they are given up instead of given back.
    surplus: AtomicUsize,
}

/// A request under way.
pub struct Place<'i> {
    of: &'i InFlight,
    permit: Option<SemaphorePermit<'i>>,
}

impl InFlight {
    pub fn new(max: usize) -> InFlight {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        InFlight { places: Semaphore::new(max), max: Mutex::new(max), surplus: AtomicUsize::new(0) }
    }

    /// A version with another bound, or the same.
    pub fn resize(&self, max: usize) {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let mut now = self.max.lock().unwrap_or_else(PoisonError::into_inner);
        if max < *now {
            let excess = *now - max;
            // First, so that places which come free meanwhile are not given back.
            self.surplus.fetch_add(excess, Ordering::AcqRel);
            let given_up = self.places.forget_permits(excess);
            // Others may have given up theirs for the same places.
            self.places.add_permits(given_up - self.take_surplus(given_up));
        } else {
            let more = max - *now;
            let kept = self.take_surplus(more);
            self.places.add_permits(more - kept);
        }
        *now = max;
    }

    /// Takes off up to this many; answers how many.
    fn take_surplus(&self, wanted: usize) -> usize {
        let less = |surplus: usize| Some(surplus - wanted.min(surplus));
        self.surplus.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).map_or(0, |before| before.min(wanted))
    }

    /// How many are inside, those above the bound included.
    pub fn under_way(&self) -> usize {
        let max = *self.max.lock().unwrap_or_else(PoisonError::into_inner);
        (max + self.surplus.load(Ordering::Acquire)).saturating_sub(self.places.available_permits())
    }

    /// None: all are taken.
    pub fn try_enter(&self) -> Option<Place<'_>> {
        let permit = self.places.try_acquire().ok()?;
        Some(Place { of: self, permit: Some(permit) })
    }

    /// Waits for a place.
    pub async fn enter(&self) -> Place<'_> {
        // The semaphore is never closed.
        let permit = self.places.acquire().await.ok();
        Place { of: self, permit }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let is_surplus = self.of.surplus.load(Ordering::Acquire) > 0 && self.of.take_surplus(1) == 1;
        if let (true, Some(permit)) = (is_surplus, self.permit.take()) {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_bound_counts_what_is_under_way() {
        let gate = InFlight::new(4);
        let enter = || gate.try_enter();
        let mut inside: Vec<_> = (0..4).map(|_| enter().expect("room")).collect();
        assert!(enter().is_none());
        gate.resize(2);
        inside.truncate(2);
        assert!(enter().is_none(), "two of four have left, two are the new bound");
        inside.truncate(1);
        inside.push(enter().expect("room for one"));
        gate.resize(3);
        inside.push(enter().expect("one more"));
        assert!(enter().is_none());
        gate.resize(1);
        gate.resize(2);
        inside.pop();
        assert!(enter().is_none());
        inside.pop();
        assert!(enter().is_some());
        gate.resize(1);
        assert!(enter().is_none(), "one is inside");
        inside.clear();
        assert!(enter().is_some());
    }
}
