//! What is known of one message on its way through the outbox: told to whoever waits for it. Imports nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

/// What became of a message that was queued. Dropped without one: it went with its connection, or gave way to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its last byte is in the socket.
    Written,
    /// Its time to live was over before its first byte was.
    Expired,
}

/// Goes with a message.
#[derive(Debug)]
pub struct Watch {
    pub(super) fate: Option<oneshot::Sender<Fate>>,
    pub(super) expires: Option<Instant>,
    /// Counts the messages of the node that expired.
    pub(super) expired: Arc<AtomicU64>,
}

impl Watch {
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    pub(super) fn written(self) {
        self.tell(Fate::Written);
    }

    pub(super) fn expire(self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
        self.tell(Fate::Expired);
    }

    fn tell(self, fate: Fate) {
        if let Some(waiting) = self.fate {
            // Who has given up waiting is no error.
            let _gone = waiting.send(fate);
        }
    }
}
