//! The latest pushes that had an idempotency key, so that a repeated one is answered from the first and sent once. Bounded
//! by number and time; kept by the node that owns the connection. Imports model only.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::model::receipt::{PushOptions, Receipt};

/// Pushes of one node, some hundred bytes each.
const PUSHES_MAX: usize = 10_000;
/// Longer than senders go on repeating a call.
const WINDOW: Duration = Duration::from_secs(600);

/// A push, told apart from others by all that it says.
pub(super) type Identity = u128;

pub(super) struct Remembered {
    // Keys are chosen by senders: hashes must not be foreseeable.
    hashers: [RandomState; 2],
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_identity: HashMap<Identity, (Instant, watch::Receiver<Option<Receipt>>)>,
    /// By age; some may be forgotten already.
    order: VecDeque<(Instant, Identity)>,
}

/// Whether a push is the first of its kind.
pub(super) enum Entered {
    /// It is to be carried out, and what became of it told here.
    First(watch::Sender<Option<Receipt>>),
    Repeated(watch::Receiver<Option<Receipt>>),
}

impl Default for Remembered {
    fn default() -> Remembered {
        Remembered { hashers: [RandomState::new(), RandomState::new()], known: Mutex::default() }
    }
}

impl Remembered {
    pub fn identity(&self, connection: u128, key: &str, payload: &[u8], options: &PushOptions) -> Identity {
        let said = (connection, key, payload, options.confirm as u8, options.ttl_millis);
        let [left, right] = &self.hashers;
        u128::from(left.hash_one(said)) << 64 | u128::from(right.hash_one(said))
    }

    pub fn enter(&self, identity: Identity, now: Instant) -> Entered {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.forget_old(now);
        if let Some((_, first)) = known.by_identity.get(&identity) {
            return Entered::Repeated(first.clone());
        }
        let (sender, receiver) = watch::channel(None);
        known.by_identity.insert(identity, (now, receiver));
        known.order.push_back((now, identity));
        Entered::First(sender)
    }

    /// It was not sent: the same push may be tried again.
    pub fn forget(&self, identity: Identity) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).by_identity.remove(&identity);
    }
}

impl Known {
    fn forget_old(&mut self, now: Instant) {
        while let Some((at, identity)) = self.order.front().copied() {
            if self.order.len() < PUSHES_MAX && now.saturating_duration_since(at) < WINDOW {
                return;
            }
            self.order.pop_front();
            if self.by_identity.get(&identity).is_some_and(|(entered, _)| *entered == at) {
                self.by_identity.remove(&identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::receipt::Confirm;

    fn options(confirm: Confirm) -> PushOptions {
        PushOptions { confirm, wait_millis: 1, ttl_millis: None, idempotency_key: None }
    }

    fn is_first(entered: &Entered) -> bool {
        matches!(entered, Entered::First(_))
    }

    #[test]
    fn repeats_are_known_until_they_are_old() {
        let remembered = Remembered::default();
        let now = Instant::now();
        let same = |payload: &[u8]| remembered.identity(1, "k", payload, &options(Confirm::Queued));
        assert_eq!(same(b"1"), same(b"1"));
        assert_ne!(same(b"1"), same(b"2"));
        assert_ne!(same(b"1"), remembered.identity(1, "k", b"1", &options(Confirm::Client)));
        assert_ne!(same(b"1"), remembered.identity(2, "k", b"1", &options(Confirm::Queued)));
        assert!(is_first(&remembered.enter(7, now)) && !is_first(&remembered.enter(7, now)));
        remembered.forget(7);
        assert!(is_first(&remembered.enter(7, now + Duration::from_secs(1))));
        assert!(!is_first(&remembered.enter(7, now + WINDOW)), "the older entry of the same push is not meant");
        assert!(is_first(&remembered.enter(7, now + WINDOW + Duration::from_secs(2))));
    }

    #[test]
    fn so_many_are_kept() {
        let remembered = Remembered::default();
        let now = Instant::now();
        for identity in 0..PUSHES_MAX as u128 + 5 {
            assert!(is_first(&remembered.enter(identity, now)));
        }
        assert!(!is_first(&remembered.enter(PUSHES_MAX as u128, now)));
        assert!(is_first(&remembered.enter(0, now)));
        let known = remembered.known.lock().unwrap();
        assert!(known.by_identity.len() <= PUSHES_MAX && known.order.len() <= PUSHES_MAX);
    }
}
