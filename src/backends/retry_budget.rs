//! How many retries one destination may have, so that a service in trouble is not asked several times as much: a fifth
//! of its requests and a few a second on top (Finagle's `RetryBudget`). One per destination and node. Called by retry.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What a retry costs, in thousandths of one.
const RETRY: i64 = 1_000;
/// What a first attempt puts in: a fifth of a retry.
const PER_REQUEST: i64 = 200;
/// What a millisecond puts in: ten retries a second, for destinations with few requests.
const PER_MILLI: i64 = 10;
/// What is kept at most: a hundred retries. A service that was fine for long gets no larger burst when it restarts.
const SAVED_MAX: i64 = 100 * RETRY;

/// A balance, in thousandths of a retry.
#[derive(Debug)]
pub struct RetryBudget {
    balance: AtomicI64,
    /// Until when `PER_MILLI` has been put in.
    filled_until: AtomicU64,
}

impl RetryBudget {
    /// A full one. Times are milliseconds of any clock that does not step back.
    pub fn new(now_millis: u64) -> RetryBudget {
        RetryBudget { balance: AtomicI64::new(SAVED_MAX), filled_until: AtomicU64::new(now_millis) }
    }

    /// A first attempt is made. Only looks while the budget is full, as it is when all is well.
    pub fn request(&self) {
        if self.balance.load(Ordering::Relaxed) < SAVED_MAX {
            self.balance.fetch_add(PER_REQUEST, Ordering::Relaxed);
        }
    }

    /// Takes one retry, if there is one.
    pub fn take(&self, now_millis: u64) -> bool {
        let until = self.filled_until.load(Ordering::Relaxed);
        let passed = now_millis.saturating_sub(until);
        let fills = passed > 0
            && self.filled_until.compare_exchange(until, now_millis, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let filling = if fills { PER_MILLI.saturating_mul(i64::try_from(passed).unwrap_or(i64::MAX)) } else { 0 };
        let taken = |balance: i64| {
            let balance = balance.saturating_add(filling).min(SAVED_MAX);
            if balance >= RETRY {
                return Some((balance - RETRY, true));
            }
            (filling > 0).then_some((balance, false))
        };
        let mut got = false;
        // A failed update has neither filled nor taken.
        let _unchanged = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
            let made = taken(balance);
            got = made.is_some_and(|(_, got)| got);
            made.map(|(balance, _)| balance)
        });
        got
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &RetryBudget, tries: usize, now: u64) -> usize {
        (0..tries).filter(|_| budget.take(now)).count()
    }

    #[test]
    fn retries_are_a_fifth_of_the_requests_and_ten_a_second() {
        let budget = RetryBudget::new(0);
        assert_eq!(taken(&budget, 1_000, 0), 100, "what was saved");
        (0..1_000).for_each(|_| budget.request());
        assert_eq!(taken(&budget, 1_000, 0), 100, "what is saved has a bound, also of requests: 200 would be a fifth");
        (0..50).for_each(|_| budget.request());
        assert_eq!(taken(&budget, 1_000, 0), 10);
        assert_eq!(taken(&budget, 1_000, 99), 0);
        assert_eq!(taken(&budget, 1_000, 100), 1);
        assert_eq!(taken(&budget, 1_000, 2_100), 20);
        assert_eq!(taken(&budget, 1_000, 3_600_000), 100, "an hour without retries saves no more");
        assert_eq!(taken(&budget, 1_000, 10), 0, "a clock that steps back gives nothing");
    }

    #[test]
    fn a_brown_out_is_not_multiplied() {
        // Every attempt fails, each event would be tried three times.
        let budget = RetryBudget::new(0);
        let (requests, mut sent) = (10_000, 0);
        for at in 0..requests {
            budget.request();
            sent += 1 + taken(&budget, 2, at);
        }
        let bound = requests as usize * 12 / 10 + 10 * requests as usize / 1_000 + 100;
        assert!(sent <= bound, "{sent} requests instead of {requests}");
    }
}
