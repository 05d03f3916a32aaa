//! One bucket per identity, for as long as someone needs it: a connection that has it, or the time until it is full again.
//! Called by throttle; imports gcra.
//!
//! Bounded without a way to get a fresh bucket early: only buckets that are full are forgotten, which changes nothing for
//! their owners. When too many are not (identities that come, send and go), newcomers of a shard share one bucket until
//! there is room again. What an attacker gains by making up identities is less room for made-up identities.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::gcra::Bucket;

/// Connections that open meet here, not messages.
const SHARDS: usize = 64;

/// Buckets of a shard that no connection has and that are not full yet: 65,536 of an endpoint and node, about 6 MB. Up
/// to twice as many are there between two clean-ups.
const LEFT_BEHIND_MAX: usize = 1_024;

/// New identities of a shard between two clean-ups, so that each pays for a part of one only.
const CLEAN_UP_EVERY: usize = 1_024;

/// Of what an identity tried, so much counts the next time that it is read.
const TRIED_KEPT: f32 = 0.85;

/// All connections of one identity on one node.
#[derive(Debug, Default)]
pub struct Identity {
    pub bucket: Bucket,
    /// Messages tried, taken or not, since they were last read.
    pub attempts: AtomicU32,
    /// Messages tried a second, as the bits of an f32.
    tried_bits: AtomicU32,
    /// The part of the rate that this node gives, as the bits of an f32; zero bits: all of it.
    part_bits: AtomicU32,
}

impl Identity {
    pub fn part(&self) -> f64 {
        match self.part_bits.load(Ordering::Relaxed) {
            0 => 1.0,
            bits => f64::from(f32::from_bits(bits)),
        }
    }

    /// Reads what was tried in these last seconds. Up at once, down slowly: an identity that sends now and then stays
    /// known as one that does.
    pub fn follow_tried(&self, seconds: f64) -> f32 {
        let now = (f64::from(self.attempts.swap(0, Ordering::Relaxed)) / seconds) as f32;
        let tried = now.max(self.tried() * TRIED_KEPT);
        self.tried_bits.store(tried.to_bits(), Ordering::Relaxed);
        tried
    }

    /// Messages tried a second, as last read.
    pub fn tried(&self) -> f32 {
        f32::from_bits(self.tried_bits.load(Ordering::Relaxed))
    }

    /// Zero is kept as next to nothing.
    pub fn set_part(&self, part: f64) {
        self.part_bits.store((part as f32).max(f32::MIN_POSITIVE).to_bits(), Ordering::Relaxed);
    }
}

/// An identity's bucket, or the one that newcomers share: that is to be asked for again soon.
#[derive(Debug, Clone)]
pub enum Found {
    Own(Arc<Identity>),
    Shared(Arc<Identity>),
}

#[derive(Debug, Default)]
struct Shard {
    known: HashMap<u64, Arc<Identity>>,
    /// How many may be known before the next clean-up.
    clean_up_at: usize,
    shared: Arc<Identity>,
}

/// The identities of one endpoint on one node.
#[derive(Debug, Default)]
pub struct Identities {
    /// Made when the first identity is asked for: most endpoints have no such limit.
    shards: OnceLock<Box<[Mutex<Shard>]>>,
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Identities {
    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let empty = || Mutex::new(Shard { clean_up_at: CLEAN_UP_EVERY, ..Shard::default() });
        let shards = self.shards.get_or_init(|| (0..SHARDS).map(|_| empty()).collect());
        lock(&shards[(hash % SHARDS as u64) as usize])
    }

    pub fn find(&self, hash: u64, now: u64) -> Found {
        let mut shard = self.shard(hash);
        if let Some(known) = shard.known.get(&hash) {
            return Found::Own(known.clone());
        }
        if shard.known.len() >= shard.clean_up_at && !shard.clean_up(now) {
            return Found::Shared(shard.shared.clone());
        }
        let new = Arc::<Identity>::default();
        shard.known.insert(hash, new.clone());
        Found::Own(new)
    }

    /// Looks at every identity; a shard at a time is locked.
    pub fn for_each(&self, mut look: impl FnMut(u64, &Identity)) {
        for shard in self.shards.get().into_iter().flatten() {
            lock(shard).known.iter().for_each(|(hash, identity)| look(*hash, identity));
        }
    }
}

impl Shard {
    /// Forgets what nobody needs; whether there is room for more.
    fn clean_up(&mut self, now: u64) -> bool {
        let mut left_behind = 0;
        self.known.retain(|_, identity| {
            let held = Arc::strong_count(identity) > 1;
            let kept = held || !identity.bucket.is_full(now);
            left_behind += usize::from(kept && !held);
            kept
        });
        if left_behind > LEFT_BEHIND_MAX {
            // The next newcomer looks again.
            return false;
        }
        self.clean_up_at = self.known.len() + CLEAN_UP_EVERY;
        self.known.shrink_to(self.clean_up_at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::gcra::Rate;
    use super::*;

    const SLOW: Rate = Rate { per_second: 1.0, burst: 1.0 };
    const SECOND: u64 = 1_000_000_000;

    fn use_one(identities: &Identities, hash: u64, now: u64) -> bool {
        match identities.find(hash, now) {
            Found::Own(identity) | Found::Shared(identity) => identity.bucket.take(SLOW, now).is_ok(),
        }
    }

    fn known(identities: &Identities) -> usize {
        let mut count = 0;
        identities.for_each(|_, _| count += 1);
        count
    }

    #[test]
    fn an_identity_has_one_bucket() {
        let identities = Identities::default();
        assert!(use_one(&identities, 7, SECOND));
        assert!(!use_one(&identities, 7, SECOND));
        assert!(use_one(&identities, 8, SECOND));
    }

    #[test]
    fn made_up_identities_neither_grow_memory_nor_reset_buckets() {
        let identities = Identities::default();
        let victim = 3;
        assert!(use_one(&identities, victim, SECOND));
        let made_up = (1..=20_000u64).filter(|n| use_one(&identities, n * 64 + victim, SECOND)).count();
        // All in the victim's shard.
        assert!(known(&identities) <= LEFT_BEHIND_MAX + CLEAN_UP_EVERY + 1, "{}", known(&identities));
        assert!(made_up <= LEFT_BEHIND_MAX + CLEAN_UP_EVERY + 1, "newcomers share a bucket: {made_up}");
        assert!(!use_one(&identities, victim, SECOND), "the used bucket is still the same");
        assert!(use_one(&identities, victim + 1, SECOND), "other shards have room");
        // When the buckets are full again, there is room again.
        let later = 3 * SECOND;
        assert!((1..=900u64).all(|n| use_one(&identities, (n + 1_000_000) * 64 + victim, later)));
        assert!(known(&identities) <= CLEAN_UP_EVERY, "{}", known(&identities));
    }

    #[test]
    fn connections_keep_their_bucket_however_full() {
        let identities = Identities::default();
        let Found::Own(held) = identities.find(5, 0) else { panic!("there is room") };
        (1..=10_000u64).for_each(|n| drop(identities.find(n * 64 + 5, 0)));
        let Found::Own(again) = identities.find(5, 0) else { panic!("it is known") };
        assert!(Arc::ptr_eq(&held, &again));
        assert!(known(&identities) <= 2 * CLEAN_UP_EVERY);
    }

    #[test]
    fn parts() {
        let identity = Identity::default();
        assert_eq!(identity.part(), 1.0);
        identity.set_part(0.25);
        assert_eq!(identity.part(), 0.25);
        identity.set_part(0.0);
        assert!(identity.part() < 1e-30);
    }
}
