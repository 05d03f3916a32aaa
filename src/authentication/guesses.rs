//! Slows guessing down: at most ten failures a minute and address, then none of its credentials is looked at for a while.
//! A table of fixed size; who crowds it out can only make the gateway forget failures, never refuse strangers.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one address within [`WINDOW`]; RELIABILITY's figure.
const FAILURES_MAX: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// 16,384 addresses, a megabyte.
const SETS: usize = 2_048;
const WAYS: usize = 8;

/// The clock of the table: tenths of a second since its making, from 1 on; 0 is never.
type Tick = u32;
const TICK: Duration = Duration::from_millis(100);
const WINDOW_TICKS: Tick = (WINDOW.as_millis() / TICK.as_millis()) as Tick;

/// One address and when it failed.
#[derive(Clone, Copy, Default)]
struct Slot {
    address: u128,
    /// The youngest [`FAILURES_MAX`], the oldest of them at `next`.
    failures: [Tick; FAILURES_MAX],
    next: u8,
}

impl Slot {
    fn oldest(&self) -> Tick {
        self.failures[usize::from(self.next)]
    }

    fn youngest(&self) -> Tick {
        self.failures[(usize::from(self.next) + FAILURES_MAX - 1) % FAILURES_MAX]
    }
}

/// Failed attempts of this node, by address.
pub struct Guesses {
    sets: Vec<Mutex<[Slot; WAYS]>>,
    hasher: RandomState,
    started: Instant,
}

impl Default for Guesses {
    fn default() -> Guesses {
        let sets = (0..SETS).map(|_| Mutex::new([Slot::default(); WAYS])).collect();
        Guesses { sets, hasher: RandomState::new(), started: Instant::now() }
    }
}

/// One customer of an IPv6 provider has a /64 at least, and so as many addresses as there are guesses.
fn who(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6) >> 64 << 64,
    }
}

impl Guesses {
    fn now(&self) -> Tick {
        (self.started.elapsed().as_millis() / TICK.as_millis()) as Tick + 1
    }

    fn with_set<T>(&self, address: u128, work: impl FnOnce(&mut [Slot; WAYS]) -> T) -> T {
        let set = self.hasher.hash_one(address) as usize % SETS;
        work(&mut self.sets[set].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether an attempt of this address is looked at; else when one will be.
    pub fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        self.admit_at(address, self.now())
    }

    /// An attempt has failed.
    pub fn failed(&self, address: IpAddr) {
        self.failed_at(address, self.now());
    }

    fn admit_at(&self, address: IpAddr, now: Tick) -> Result<(), Duration> {
        let address = who(address);
        self.with_set(address, |slots| {
            let slot = slots.iter().find(|slot| slot.address == address && slot.youngest() > 0);
            match slot.map(Slot::oldest) {
                Some(oldest) if oldest > 0 && oldest + WINDOW_TICKS > now => Err(TICK * (oldest + WINDOW_TICKS - now)),
                _ => Ok(()),
            }
        })
    }

    fn failed_at(&self, address: IpAddr, now: Tick) {
        let address = who(address);
        self.with_set(address, |slots| {
            let known = slots.iter().position(|slot| slot.address == address && slot.youngest() > 0);
            let index = known.unwrap_or_else(|| {
                // The one that has been quiet for longest makes room.
                let quiet = slots.iter().enumerate().min_by_key(|(_, slot)| slot.youngest());
                let index = quiet.map_or(0, |(index, _)| index);
                slots[index] = Slot { address, ..Slot::default() };
                index
            });
            let slot = &mut slots[index];
            slot.failures[usize::from(slot.next)] = now;
            slot.next = (slot.next + 1) % FAILURES_MAX as u8;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_in_any_minute() {
        let guesses = Guesses::default();
        let (guesser, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        // One early failure, nine late ones: the window slides.
        guesses.failed_at(guesser, 1);
        for _ in 0..9 {
            assert_eq!(guesses.admit_at(guesser, 590), Ok(()));
            guesses.failed_at(guesser, 590);
        }
        assert_eq!(guesses.admit_at(guesser, 590), Err(Duration::from_millis(1100)));
        assert_eq!(guesses.admit_at(other, 590), Ok(()));
        assert_eq!(guesses.admit_at(guesser, 601), Ok(()), "the first has been forgotten");
        guesses.failed_at(guesser, 601);
        assert_eq!(guesses.admit_at(guesser, 602), Err(Duration::from_millis(58_800)));
        assert_eq!(guesses.admit_at(guesser, 1190), Ok(()));
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_one_is_ipv4() {
        let guesses = Guesses::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 0..10 {
            guesses.failed_at(ip(&format!("2001:db8::{n}")), 5);
            guesses.failed_at(ip("::ffff:192.0.2.7"), 5);
        }
        assert!(guesses.admit_at(ip("2001:db8::ffff"), 6).is_err());
        assert!(guesses.admit_at(ip("2001:db8:0:1::1"), 6).is_ok());
        assert!(guesses.admit_at(ip("192.0.2.7"), 6).is_err());
    }

    #[test]
    fn a_crowd_refuses_nobody_who_has_not_failed() {
        let guesses = Guesses::default();
        for n in 0..100_000_u32 {
            guesses.failed_at(IpAddr::from(n.to_be_bytes()), 5);
        }
        assert!(guesses.admit_at("203.0.113.9".parse().unwrap(), 6).is_ok());
        assert_eq!(std::mem::size_of::<Slot>() * SETS * WAYS, 1 << 20);
    }
}
