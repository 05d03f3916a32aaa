//! The circuit breaker of one destination: after some failures in a row it opens, and requests fail at once for a while;
//! then a few are let through, and the first of them that is answered decides. Atomics only, shared by the workers.
//! Pure but for these: its caller says what time it is. Called by destination.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::model::delivery_policy::BreakerPolicy;

/// Requests that are let through at once to see whether the service is back. More than one, since any of them may be
/// the one that fails for its own reasons.
const PROBES_MAX: u32 = 3;

/// What the result of a request says about the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Works,
    Fails,
    /// It has said that it is not there any more: one such answer opens.
    Gone,
}

/// `open_until` of one that is closed.
const CLOSED: u64 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Closed,
    /// A few are let through.
    HalfOpen,
    Open,
}

/// What the result of a request has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Opened,
    /// A probe has failed.
    OpenedAgain,
    Closed,
}

#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    /// Failures in a row.
    failures: AtomicU32,
    open_until: AtomicU64,
    probes: AtomicU32,
    /// One more with each change. Results of requests that were begun before it say nothing about the time after it.
    changes: AtomicU32,
}

/// A request that was let through. Dropped without a word, it has not happened.
#[derive(Debug)]
pub struct Admission<'b> {
    breaker: &'b Breaker,
    changes: u32,
    is_probe: bool,
}

impl Breaker {
    pub fn new(policy: BreakerPolicy) -> Breaker {
        Breaker {
            policy,
            failures: AtomicU32::new(0),
            open_until: AtomicU64::new(CLOSED),
            probes: AtomicU32::new(0),
            changes: AtomicU32::new(0),
        }
    }

    pub fn policy(&self) -> BreakerPolicy {
        self.policy
    }

    pub fn state(&self, now_millis: u64) -> State {
        match self.open_until.load(Ordering::Acquire) {
            CLOSED => State::Closed,
            until if now_millis < until => State::Open,
            _ => State::HalfOpen,
        }
    }

    /// Lets a request through, or answers for how many milliseconds none is.
    pub fn admit(&self, now_millis: u64) -> Result<Admission<'_>, u64> {
        let changes = self.changes.load(Ordering::Acquire);
        match self.open_until.load(Ordering::Acquire) {
            CLOSED => Ok(Admission { breaker: self, changes, is_probe: false }),
            until if now_millis < until => Err(until - now_millis),
            _ => {
                let one_more = |probes| (probes < PROBES_MAX).then_some(probes + 1);
                match self.probes.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
                    Ok(_) => Ok(Admission { breaker: self, changes, is_probe: true }),
                    // They are being answered.
                    Err(_) => Err(0),
                }
            }
        }
    }

    /// True for the one caller that makes this change.
    fn changes_from(&self, changes: u32) -> bool {
        let next = changes.wrapping_add(1);
        self.changes.compare_exchange(changes, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn open(&self, now_millis: u64) {
        let millis = u64::try_from(self.policy.open.as_millis()).unwrap_or(u64::MAX);
        self.open_until.store(now_millis.saturating_add(millis).max(CLOSED + 1), Ordering::Release);
        self.failures.store(0, Ordering::Release);
    }
}

impl Admission<'_> {
    /// What its result says.
    pub fn tell(self, says: Says, now_millis: u64) -> Option<Change> {
        let (breaker, works) = (self.breaker, says == Says::Works);
        if self.is_probe {
            if !breaker.changes_from(self.changes) {
                return None;
            }
            if works {
                breaker.failures.store(0, Ordering::Release);
                breaker.open_until.store(CLOSED, Ordering::Release);
                return Some(Change::Closed);
            }
            breaker.open(now_millis);
            return Some(Change::OpenedAgain);
        }
        if self.changes != breaker.changes.load(Ordering::Acquire) {
            return None;
        }
        if works {
            // Only looked at while all is well.
            if breaker.failures.load(Ordering::Acquire) > 0 {
                breaker.failures.store(0, Ordering::Release);
            }
            return None;
        }
        let failures = breaker.failures.fetch_add(1, Ordering::AcqRel) + 1;
        let enough = failures >= breaker.policy.failures || says == Says::Gone;
        (enough && breaker.changes_from(self.changes)).then(|| {
            breaker.open(now_millis);
            Change::Opened
        })
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.probes.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn breaker() -> Breaker {
        Breaker::new(BreakerPolicy { failures: 3, open: Duration::from_millis(100) })
    }

    fn fail(breaker: &Breaker, now: u64) -> Option<Change> {
        breaker.admit(now).expect("let through").tell(Says::Fails, now)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_probe_closes_it() {
        let breaker = breaker();
        assert_eq!((fail(&breaker, 0), fail(&breaker, 0)), (None, None));
        assert_eq!(breaker.admit(0).unwrap().tell(Says::Works, 0), None);
        assert_eq!((fail(&breaker, 0), fail(&breaker, 0)), (None, None), "the row began anew");
        assert_eq!(fail(&breaker, 5), Some(Change::Opened));
        assert_eq!((breaker.state(5), breaker.admit(15).unwrap_err()), (State::Open, 90));
        assert_eq!(breaker.state(105), State::HalfOpen);
        assert_eq!(fail(&breaker, 110), Some(Change::OpenedAgain));
        assert_eq!(breaker.admit(209).unwrap_err(), 1);
        assert_eq!(breaker.admit(210).unwrap().tell(Says::Works, 211), Some(Change::Closed));
        assert_eq!(breaker.state(211), State::Closed);
        assert_eq!((fail(&breaker, 212), fail(&breaker, 212)), (None, None), "it counts from nothing again");
    }

    #[test]
    fn a_service_that_says_it_is_gone_is_believed_at_once() {
        let breaker = breaker();
        assert_eq!(breaker.admit(0).unwrap().tell(Says::Gone, 1), Some(Change::Opened));
        assert_eq!(breaker.state(1), State::Open);
        assert_eq!(breaker.admit(101).unwrap().tell(Says::Gone, 102), Some(Change::OpenedAgain));
        assert_eq!(breaker.admit(202).unwrap().tell(Says::Works, 203), Some(Change::Closed));
    }

    #[test]
    fn a_few_probes_at_once_of_which_the_first_answered_decides() {
        let breaker = breaker();
        for _ in 0..3 {
            fail(&breaker, 0);
        }
        let probes: Vec<_> = (0..3).map(|_| breaker.admit(100).expect("a probe")).collect();
        assert_eq!(breaker.admit(100).unwrap_err(), 0, "no fourth");
        let [first, second, third] = <[_; 3]>::try_from(probes).unwrap();
        assert_eq!(first.tell(Says::Works, 101), Some(Change::Closed));
        assert_eq!(
            (second.tell(Says::Fails, 102), third.tell(Says::Fails, 102)),
            (None, None),
            "they were begun before"
        );
        assert_eq!((breaker.state(102), breaker.probes.load(Ordering::Relaxed)), (State::Closed, 0));
    }

    #[test]
    fn what_was_begun_before_it_opened_says_nothing() {
        let breaker = breaker();
        let early: Vec<_> = (0..10).map(|_| breaker.admit(0).unwrap()).collect();
        for _ in 0..3 {
            fail(&breaker, 0);
        }
        assert_eq!(breaker.state(1), State::Open);
        assert!(early.into_iter().all(|late| late.tell(Says::Works, 2).is_none()), "a late answer does not close it");
        assert_eq!(breaker.state(2), State::Open);
    }

    #[test]
    fn a_probe_that_never_happened_gives_its_place_back() {
        let breaker = breaker();
        for _ in 0..3 {
            fail(&breaker, 0);
        }
        for _ in 0..10 {
            drop(breaker.admit(100).expect("a place"));
        }
    }
}
