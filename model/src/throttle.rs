//! How much of its limits an endpoint has used on this node, and which part of them is this node's. Called by inbound (may
//! this come in?) and by the exchange of shares; imports its neighbours. No lock but that of an identity's look-up.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gcra::{self, Bucket, Rate};
use super::identities::{Found, Identities, Identity};
use super::throttling::{Limit, Scope, Throttling};

/// A full endpoint has room when a client leaves, which nobody can foretell; shares of a cluster follow in about this
/// time.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Something is above a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    pub limit: Limit,
    /// When to try again.
    pub retry_after: Duration,
}

/// The part of one limit that this node gives, between 0 and 1.
#[derive(Debug)]
pub struct Part(AtomicU64);

impl Default for Part {
    fn default() -> Part {
        Part(AtomicU64::new(1f64.to_bits()))
    }
}

impl Part {
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub fn set(&self, part: f64) {
        self.0.store(part.to_bits(), Ordering::Relaxed);
    }
}

/// This node's parts of the limits of scope cluster.
#[derive(Debug, Default)]
pub struct Parts {
    pub connections: Part,
    pub connection_rate: Part,
    pub message_rate: Part,
}

impl Parts {
    pub fn set_all(&self, part: f64) {
        for each in [&self.connections, &self.connection_rate, &self.message_rate] {
            each.set(part);
        }
    }
}

/// One endpoint on this node. Lives as long as the endpoint, over its versions: what was used stays used.
#[derive(Debug)]
pub struct Throttle {
    origin: Instant,
    /// Connections, and handshakes that will be some.
    admitted: AtomicU64,
    connections: Bucket,
    messages: Bucket,
    pub identities: Identities,
    pub parts: Parts,
    /// Since they were last read, refused ones too. Only counted where a limit asks for it.
    connections_tried: AtomicU64,
    messages_tried: AtomicU64,
}

impl Throttle {
    pub fn new(origin: Instant) -> Arc<Throttle> {
        Arc::new(Throttle {
            origin,
            admitted: AtomicU64::new(0),
            connections: Bucket::default(),
            messages: Bucket::default(),
            identities: Identities::default(),
            parts: Parts::default(),
            connections_tried: AtomicU64::new(0),
            messages_tried: AtomicU64::new(0),
        })
    }

    /// Nanoseconds of this endpoint's own clock.
    pub fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_nanos() as u64
    }

    /// Connections, and handshakes that will be some.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// How many handshakes and messages were tried since this was last asked.
    pub fn take_tried(&self) -> (u64, u64) {
        (self.connections_tried.swap(0, Ordering::Relaxed), self.messages_tried.swap(0, Ordering::Relaxed))
    }

    /// Counts a connection in, or says which limit is in its way. Counted without limits too: they may be set later.
    pub fn admit(self: &Arc<Self>, limits: Option<&Throttling>, now: Instant) -> Result<Admission, Exceeded> {
        let Some(limits) = limits else {
            self.admitted.fetch_add(1, Ordering::Relaxed);
            return Ok(Admission { throttle: self.clone() });
        };
        self.connections_tried.fetch_add(1, Ordering::Relaxed);
        let max =
            limits.max_connections.map_or(u64::MAX, |max| part_of(max, self.part(limits, &self.parts.connections)));
        let counted =
            self.admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1));
        if counted.is_err() {
            return Err(Exceeded { limit: Limit::MaxConnections, retry_after: FULL_RETRY_AFTER });
        }
        let admission = Admission { throttle: self.clone() };
        if let Some(rate) = limits.connections_per_second {
            let rate = rate.part(self.part(limits, &self.parts.connection_rate));
            self.connections
                .take(rate, self.nanos(now))
                .map_err(|retry_after| Exceeded { limit: Limit::ConnectionsPerSecond, retry_after })?;
        }
        Ok(admission)
    }

    /// May one more message of a connection come in? `identity` names the connection's identity, when it is asked for.
    /// What one limit gave is given back when another one refuses.
    pub fn take_message(
        &self,
        limits: &Throttling,
        of: &ConnectionThrottle,
        now: Instant,
        identity: impl FnOnce() -> u64,
    ) -> Result<(), Exceeded> {
        let now = self.nanos(now);
        if limits.messages_per_second.is_some() {
            self.messages_tried.fetch_add(1, Ordering::Relaxed);
        }
        let own_before = of.ahead_until.get();
        if let Some(rate) = limits.per_connection {
            let (after, taken) = gcra::take(rate, own_before, now);
            of.ahead_until.set(after);
            taken.map_err(|nanos| exceeded(Limit::PerConnection, nanos))?;
        }
        let mut taken_of = None;
        if let Some((_, rate)) = limits.per_identity {
            let identity = of.identity(&self.identities, now, identity);
            identity.attempts.fetch_add(1, Ordering::Relaxed);
            let rate = if limits.scope == Scope::Cluster { rate.part(identity.part()) } else { rate };
            if let Err(retry_after) = identity.bucket.take(rate, now) {
                of.ahead_until.set(own_before);
                return Err(Exceeded { limit: Limit::PerIdentity, retry_after });
            }
            taken_of = Some((identity, rate));
        }
        if let Some(rate) = limits.messages_per_second {
            let rate = rate.part(self.part(limits, &self.parts.message_rate));
            if let Err(retry_after) = self.messages.take(rate, now) {
                of.ahead_until.set(own_before);
                if let Some((identity, rate)) = taken_of {
                    identity.bucket.give_back(rate);
                }
                return Err(Exceeded { limit: Limit::MessagesPerSecond, retry_after });
            }
        }
        Ok(())
    }

    fn part(&self, limits: &Throttling, part: &Part) -> f64 {
        match limits.scope {
            Scope::Cluster => part.get(),
            Scope::Node => 1.0,
        }
    }
}

fn exceeded(limit: Limit, nanos: u64) -> Exceeded {
    Exceeded { limit, retry_after: Duration::from_nanos(nanos) }
}

/// Parts are made to give whole numbers; what floating point took is put back.
pub fn part_of(max: u64, part: f64) -> u64 {
    (max as f64 * part + 1e-6) as u64
}

/// Counts as a connection until it is dropped.
#[derive(Debug)]
pub struct Admission {
    throttle: Arc<Throttle>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.throttle.admitted.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one connection has used; never leaves its thread.
#[derive(Debug, Default)]
pub struct ConnectionThrottle {
    ahead_until: Cell<u64>,
    identity: RefCell<Option<Arc<Identity>>>,
}

impl ConnectionThrottle {
    /// Another version of the endpoint may know identities by something else.
    pub fn forget_identity(&self) {
        *self.identity.borrow_mut() = None;
    }

    fn identity(&self, all: &Identities, now: u64, hash: impl FnOnce() -> u64) -> Arc<Identity> {
        let mut known = self.identity.borrow_mut();
        if let Some(identity) = &*known {
            return identity.clone();
        }
        match all.find(hash(), now) {
            Found::Own(identity) => known.insert(identity).clone(),
            Found::Shared(identity) => identity,
        }
    }
}

/// A rate as documents write it: without a burst, what comes in a second may come at once.
pub fn rate(per_second: f64, burst: Option<u64>) -> Rate {
    Rate { per_second, burst: burst.map_or(per_second.ceil().max(1.0), |burst| burst as f64) }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
