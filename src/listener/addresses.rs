//! How many sockets, and how many new ones a second, one address may have. A place is taken before anything is read from a
//! client that comes by itself, and lasts as long as its socket.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::gcra::{self, Rate};

const SHARDS: usize = 64;

/// Addresses remembered by one shard, with sockets or lately; those beyond it are not limited.
const ADDRESSES_PER_SHARD_MAX: usize = 16 * 1024;

/// A shard is looked through for what can be forgotten when it has doubled, and not before it has so many, nor more than
/// once a second.
const SWEEP_FROM: usize = 64;
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// What an address has at once after a pause, in seconds' worth of its rate.
const BURST_SECONDS: u32 = 10;

/// The counts of one listener.
pub struct Addresses {
    connections_max: u32,
    rate: Option<Rate>,
    began: Instant,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    known: HashMap<IpAddr, Known>,
    sweep_at: usize,
    swept: u64,
}

#[derive(Default)]
struct Known {
    sockets: u32,
    /// See [`gcra`].
    ahead_until: u64,
}

/// One socket among those of its address.
pub struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

/// Which limit an address has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    Connections,
    Rate { retry_after: Duration },
}

impl Excess {
    /// A metric label, and the `code` of the answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Excess::Connections => "address_connections",
            Excess::Rate { .. } => "address_rate",
        }
    }

    pub fn retry_after_seconds(self) -> u64 {
        match self {
            // Nobody knows when one of them ends.
            Excess::Connections => 5,
            Excess::Rate { retry_after } => retry_after.as_secs_f64().ceil().max(1.0) as u64,
        }
    }
}

impl Addresses {
    /// Zero is no limit.
    pub fn new(connections_max: u32, handshakes_per_second: u32) -> Arc<Addresses> {
        let rate = (handshakes_per_second > 0).then(|| Rate {
            per_second: f64::from(handshakes_per_second),
            burst: f64::from(handshakes_per_second.saturating_mul(BURST_SECONDS)),
        });
        Arc::new(Addresses {
            connections_max,
            rate,
            began: Instant::now(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    /// A place for one more socket of this address. `Ok(None)`: they are not counted.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Option<Place>, Excess> {
        if self.connections_max == 0 && self.rate.is_none() {
            return Ok(None);
        }
        let address = counted_as(address);
        // Never zero: a bucket at zero is a new one.
        let now = self.began.elapsed().as_nanos() as u64 + 1;
        let mut shard = self.shard(address);
        shard.sweep_if_due(now);
        if shard.known.len() >= ADDRESSES_PER_SHARD_MAX && !shard.known.contains_key(&address) {
            return Ok(None);
        }
        let known = shard.known.entry(address).or_default();
        if self.connections_max > 0 && known.sockets >= self.connections_max {
            return Err(Excess::Connections);
        }
        if let Some(rate) = self.rate {
            let (ahead_until, taken) = gcra::take(rate, known.ahead_until, now);
            known.ahead_until = ahead_until;
            taken.map_err(|nanos| Excess::Rate { retry_after: Duration::from_nanos(nanos) })?;
        }
        known.sockets += 1;
        Ok(Some(Place { addresses: self.clone(), address }))
    }

    fn shard(&self, address: IpAddr) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(address) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn sweep_if_due(&mut self, now: u64) {
        let many = self.known.len() >= self.sweep_at.max(SWEEP_FROM);
        if many && now.saturating_sub(self.swept) >= SWEEP_PAUSE.as_nanos() as u64 {
            self.known.retain(|_, known| known.sockets > 0 || known.ahead_until > now);
            self.sweep_at = (2 * self.known.len()).min(ADDRESSES_PER_SHARD_MAX);
            self.swept = now;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.addresses.shard(self.address);
        let Some(known) = shard.known.get_mut(&self.address) else { return };
        known.sockets -= 1;
        if known.sockets == 0 && known.ahead_until == 0 {
            shard.known.remove(&self.address);
        }
    }
}

/// One who has an IPv6 address has 2^64 of them: a network of that size counts as one.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn sockets_of_an_address_are_counted_while_they_live() {
        let addresses = Addresses::new(2, 0);
        let first = addresses.enter(ip("192.0.2.1")).unwrap();
        let second = addresses.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(addresses.enter(ip("192.0.2.1")).err(), Some(Excess::Connections));
        assert!(addresses.enter(ip("192.0.2.2")).is_ok());
        drop(first);
        assert!(addresses.enter(ip("192.0.2.1")).is_ok());
        drop(second);
        let known: usize = addresses.shards.iter().map(|shard| shard.lock().unwrap().known.len()).sum();
        assert_eq!(known, 0, "what has no socket is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let addresses = Addresses::new(1, 0);
        let _place = addresses.enter(ip("2001:db8:1:2:3::4")).unwrap();
        assert!(addresses.enter(ip("2001:db8:1:2::")).is_err());
        assert!(addresses.enter(ip("2001:db8:1:3::")).is_ok());
    }

    #[test]
    fn new_ones_come_at_a_rate() {
        let addresses = Addresses::new(0, 3);
        let entered = (0..100).filter(|_| addresses.enter(ip("192.0.2.1")).is_ok()).count();
        assert!((30..=32).contains(&entered), "ten seconds' worth at once, not {entered}");
        let Err(excess) = addresses.enter(ip("192.0.2.1")) else { panic!("none is left") };
        assert_eq!((excess.as_str(), excess.retry_after_seconds()), ("address_rate", 1));
        assert!(addresses.enter(ip("192.0.2.2")).is_ok());
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_limited() {
        let addresses = Addresses::new(0, 0);
        assert!(addresses.enter(ip("192.0.2.1")).is_ok_and(|place| place.is_none()));
    }

    #[test]
    fn memory_is_bounded() {
        let addresses = Addresses::new(0, 1);
        let places: Vec<_> =
            (0..2_000_000u32).map(|n| addresses.enter(IpAddr::V4(n.into())).expect("a new address")).collect();
        let known: usize = addresses.shards.iter().map(|shard| shard.lock().unwrap().known.len()).sum();
        assert!(known <= SHARDS * ADDRESSES_PER_SHARD_MAX, "{known}");
        drop(places);
    }
}
