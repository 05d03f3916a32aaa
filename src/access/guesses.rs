//! Guessing is slowed down: after so many different wrong tokens from one address, that address has to wait. The same
//! wrong token again is no guess: a service with a revoked token must not lock out its neighbours. Pure but for the lock;
//! called by `tokens`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Different wrong tokens of one address within [`WINDOW`] (ten a minute).
pub const GUESSES_MAX: usize = 10;
pub const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are told apart: 10,000 take about 2 MB. All beyond share one count.
const ADDRESSES_MAX: usize = 10_000;

/// Wrong tokens of the last minute. A lock is taken only while there are any.
#[derive(Default)]
pub struct Guesses {
    by_address: Mutex<HashMap<IpAddr, Window>>,
    /// Size of the map.
    addresses: AtomicUsize,
}

struct Window {
    began: Instant,
    /// The first bytes of the hashes of what was tried.
    tried: Vec<u64>,
}

impl Window {
    fn left(&self, now: Instant) -> Duration {
        WINDOW.saturating_sub(now.duration_since(self.began))
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        (self.tried.len() >= GUESSES_MAX).then(|| self.left(now)).filter(|left| !left.is_zero())
    }
}

/// A /64 is one customer's.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
        },
    }
}

/// Stands for all addresses that have no place of their own.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

impl Guesses {
    /// How long this address has to wait until anything that can be guessed is looked at again.
    pub fn wait(&self, from: IpAddr, now: Instant) -> Option<Duration> {
        if self.addresses.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut by_address = self.lock(now);
        let own = by_address.get(&network(from)).and_then(|window| window.wait(now));
        if own.is_none() && by_address.len() > ADDRESSES_MAX {
            return by_address.get_mut(&OTHERS).and_then(|window| window.wait(now));
        }
        own
    }

    /// Counts a wrong token; for how long to wait, when it was one too many.
    pub fn wrong(&self, from: IpAddr, hash: &[u8; 32], now: Instant) -> Option<Duration> {
        let mut by_address = self.lock(now);
        let mut key = network(from);
        if by_address.len() >= ADDRESSES_MAX && !by_address.contains_key(&key) {
            key = OTHERS;
        }
        let window = by_address.entry(key).or_insert_with(|| Window { began: now, tried: Vec::new() });
        let wait = window.wait(now);
        if wait.is_none() {
            if window.left(now).is_zero() {
                *window = Window { began: now, tried: Vec::new() };
            }
            let mut first = [0; 8];
            first.copy_from_slice(&hash[..8]);
            let first = u64::from_ne_bytes(first);
            if !window.tried.contains(&first) {
                window.tried.push(first);
            }
        }
        self.addresses.store(by_address.len(), Ordering::Relaxed);
        wait
    }

    /// With windows that are over thrown away once there is nothing else in the way of a call without a lock.
    fn lock(&self, now: Instant) -> MutexGuard<'_, HashMap<IpAddr, Window>> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.len() >= ADDRESSES_MAX || by_address.values().all(|window| window.left(now).is_zero()) {
            by_address.retain(|_, window| !window.left(now).is_zero());
            self.addresses.store(by_address.len(), Ordering::Relaxed);
        }
        by_address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_ne_bytes());
        hash
    }

    #[test]
    fn ten_different_ones_a_minute_and_address() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let (one, two) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for number in 0..9 {
            for _ in 0..100 {
                assert_eq!(guesses.wrong(one, &hash(number), now), None, "the same again is no guess");
            }
            assert_eq!(guesses.wait(one, now), None);
        }
        assert_eq!(guesses.wrong(one, &hash(9), now), None);
        assert_eq!(guesses.wrong(one, &hash(0), now), Some(WINDOW));
        assert_eq!(guesses.wait(one, now + Duration::from_secs(50)), Some(Duration::from_secs(10)));
        assert_eq!(guesses.wrong(two, &hash(10), now), None, "another address has its own count");
        assert_eq!(guesses.wait(one, now + WINDOW), None);
        assert_eq!(guesses.addresses.load(Ordering::Relaxed), 0, "forgotten: no lock is taken any more");
        for number in 0..10 {
            assert_eq!(guesses.wrong(one, &hash(number), now + WINDOW), None);
        }
    }

    #[test]
    fn addresses_without_a_place_share_a_count() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for number in 0..ADDRESSES_MAX as u32 {
            assert_eq!(guesses.wrong(IpAddr::from(number.to_be_bytes()), &hash(0), now), None);
        }
        let late = |number: u8| IpAddr::from([192, 168, 0, number]);
        let waits: Vec<_> = (0..11).map(|n| guesses.wrong(late(n), &hash(n.into()), now).is_some()).collect();
        assert_eq!(waits.iter().filter(|wait| **wait).count(), 1);
        assert!(guesses.wait(late(99), now).is_some());
        assert_eq!(guesses.by_address.lock().unwrap().len(), ADDRESSES_MAX + 1);
    }

    #[test]
    fn networks_of_ipv6_are_one_address() {
        let parsed = |text: &str| network(text.parse().unwrap());
        assert_eq!(parsed("2001:db8::1"), parsed("2001:db8::ffff:2"));
        assert_ne!(parsed("2001:db8::1"), parsed("2001:db8:0:1::1"));
        assert_eq!(parsed("::ffff:10.0.0.1"), parsed("10.0.0.1"));
    }
}
