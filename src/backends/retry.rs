//! The attempts of one delivery: which failures are worth another one, how long to wait before it, and when to give up.
//! Full jitter (a random part of a pause that doubles), a `Retry-After` where the service has said one, a budget per
//! destination. Called by http; imports destination and model.

use std::future::Future;
use std::time::{Duration, SystemTime};

use actix_http::header::{HeaderValue, HttpDate};

use super::destination::Destination;
use super::{Delivered, Failure, Stopped, Undelivered};
use crate::model::delivery_policy::{RetryAfter, RetryPolicy};

/// An attempt that failed.
pub struct Missed {
    pub failure: Failure,
    /// What the service asked for with its `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Missed {
        Missed { failure, retry_after: None }
    }
}

/// Makes attempts, numbered from 1, until one succeeds or no more is to be made.
pub async fn deliver<A>(
    policy: &RetryPolicy,
    destination: &Destination,
    mut attempt: impl FnMut(u32) -> A,
) -> Result<Delivered, Undelivered>
where
    A: Future<Output = Result<Delivered, Missed>>,
{
    destination.first_attempt();
    let mut number = 1;
    let mut before: Option<Failure> = None;
    loop {
        let missed = match attempt(number).await {
            Ok(delivered) => return Ok(delivered),
            Err(missed) => missed,
        };
        if !missed.failure.was_sent() {
            // What the service itself has said before tells more.
            let (stopped, failure) = match before {
                Some(before) => (Some(Stopped::NotSent(missed.failure.outcome())), before),
                None => (None, missed.failure),
            };
            return Err(Undelivered { failure, attempts: number - 1, stopped });
        }
        if let Err(stopped) = goes_on(policy, destination, &missed.failure, number) {
            return Err(Undelivered { failure: missed.failure, attempts: number, stopped });
        }
        destination.pause(pause(policy, &missed, number)).await;
        before = Some(missed.failure);
        number += 1;
    }
}

/// Whether there is another attempt after this failure; if not, what stopped it before its time.
pub(super) fn goes_on(
    policy: &RetryPolicy,
    destination: &Destination,
    failure: &Failure,
    number: u32,
) -> Result<(), Option<Stopped>> {
    if number >= policy.attempts || !is_worth_it(policy.after, failure) {
        return Err(None);
    }
    // On a node that leaves, each event has one more attempt, at once.
    if destination.is_leaving() && number > 1 {
        return Err(Some(Stopped::Leaving));
    }
    match destination.may_retry() {
        true => Ok(()),
        false => Err(Some(Stopped::Budget)),
    }
}

/// Whether the same request may well succeed a little later.
pub(super) fn is_worth_it(after: RetryAfter, failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable(_) | Failure::BrokeOff(_) => true,
        Failure::Timeout { .. } => after == RetryAfter::Passing,
        // RFC 9110 §15.5.9 (408), RFC 8470 §5.2 (425), RFC 6585 §4 (429), RFC 9110 §15.6 (502–504).
        Failure::Status { status } => {
            after == RetryAfter::Passing && matches!(status, 408 | 425 | 429 | 502 | 503 | 504)
        }
        Failure::Tls(_) | Failure::EgressDenied(_) | Failure::Misconfigured(_) => false,
        Failure::Reply(_) | Failure::Kafka(_) => false,
        Failure::CircuitOpen { .. } | Failure::NoPlace { .. } => false,
    }
}

/// How long to wait after so many attempts.
pub(super) fn pause(policy: &RetryPolicy, missed: &Missed, attempts: u32) -> Duration {
    // Most likely a kept-alive connection that the service has closed: a new one will do.
    if attempts == 1 && matches!(missed.failure, Failure::BrokeOff(_)) {
        return Duration::ZERO;
    }
    let longest = u64::try_from(policy.longest_pause(attempts).as_millis()).unwrap_or(u64::MAX);
    let drawn = Duration::from_millis(rand::random_range(0..=longest));
    let asked = missed.retry_after.unwrap_or_default().min(policy.max_backoff);
    drawn.max(asked)
}

/// RFC 9110 §10.2.3: seconds or a date. Only 429 and 503 are said to have it.
pub fn retry_after(status: u16, value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok().filter(|_| matches!(status, 429 | 503))?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = SystemTime::from(text.parse::<HttpDate>().ok()?);
    date.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::super::destination::tests::{destination, policy};
    use super::super::destination::Destinations;
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use std::cell::RefCell;
    use std::time::{Instant, UNIX_EPOCH};

    /// Every attempt has the next of these results; the last one goes on.
    async fn run(
        policy: &RetryPolicy,
        on: &Destination,
        failures: &[Failure],
    ) -> (Result<Delivered, Undelivered>, u32) {
        let made = RefCell::new(0);
        let result = deliver(policy, on, |number| {
            *made.borrow_mut() += 1;
            assert_eq!(*made.borrow(), number);
            let failure = failures.get(number as usize - 1).cloned();
            async move { failure.map_or(Ok(Delivered::default()), |failure| Err(failure.into())) }
        })
        .await;
        let made = *made.borrow();
        (result, made)
    }

    fn status(status: u16) -> Failure {
        Failure::Status { status }
    }

    #[actix_rt::test]
    async fn only_what_passes_is_tried_again() {
        let all = Destinations::new(Metrics::default());
        let on = destination(&all, "http://a/", 1);
        let lost = || Failure::Unreachable("refused".to_owned());
        for (failure, tried) in [
            (status(503), 3),
            (status(429), 3),
            (status(408), 3),
            (status(425), 3),
            (status(502), 3),
            (status(504), 3),
            (lost(), 3),
            (Failure::BrokeOff("reset".to_owned()), 3),
            (Failure::Timeout { millis: 7 }, 3),
            (status(500), 1),
            (status(400), 1),
            (status(301), 1),
            (status(501), 1),
            (Failure::Reply("is not JSON".to_owned()), 1),
            (Failure::Misconfigured("no".to_owned()), 1),
        ] {
            let same = vec![failure.clone(); 5];
            let (result, made) = run(&policy(3), &on, &same).await;
            let attempts = if failure.was_sent() { tried } else { 0 };
            assert_eq!((result, made), (Err(Undelivered { failure, attempts, stopped: None }), tried));
        }
        let (result, made) = run(&policy(3), &on, &[status(503), lost()]).await;
        assert_eq!((result, made), (Ok(Delivered::default()), 3), "the third attempt is taken");
        assert_eq!(run(&policy(1), &on, &[status(503)]).await.1, 1);
        let careful = RetryPolicy { after: RetryAfter::LostConnections, ..policy(3) };
        for failure in [status(503), status(429), Failure::Timeout { millis: 7 }] {
            assert_eq!(run(&careful, &on, &[failure]).await.1, 1);
        }
        assert_eq!(run(&careful, &on, &[lost()]).await.1, 2);
    }

    #[actix_rt::test]
    async fn the_budget_and_a_node_that_leaves_stop_it() {
        let all = Destinations::new(Metrics::default());
        let on = destination(&all, "http://a/", 1);
        let patient = RetryPolicy { attempts: 20, ..policy(20) };
        let mut sent = 0;
        let stopped = loop {
            let (result, made) = run(&patient, &on, &vec![status(503); 20]).await;
            sent += made;
            if let Some(stopped) = result.unwrap_err().stopped {
                break stopped;
            }
        };
        assert_eq!(stopped, Stopped::Budget);
        assert!(sent < 200, "{sent} requests");

        let other = destination(&all, "http://b/", 1);
        all.leave();
        let slow = RetryPolicy { backoff: Duration::from_secs(60), max_backoff: Duration::from_secs(60), ..policy(9) };
        let began = Instant::now();
        let (result, made) = run(&slow, &other, &vec![status(503); 9]).await;
        assert_eq!((result.unwrap_err().stopped, made), (Some(Stopped::Leaving), 2));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[actix_rt::test]
    async fn what_was_not_sent_is_no_attempt() {
        let all = Destinations::new(Metrics::default());
        let on = destination(&all, "http://a/", 1);
        let full = Failure::NoPlace { millis: 1 };
        let (result, _) = run(&policy(3), &on, std::slice::from_ref(&full)).await;
        assert_eq!(result, Err(Undelivered { failure: full.clone(), attempts: 0, stopped: None }));
        let (result, _) = run(&policy(3), &on, &[status(503), full]).await;
        let stopped = Some(Stopped::NotSent("no_place"));
        assert_eq!(result, Err(Undelivered { failure: status(503), attempts: 1, stopped }));
    }

    #[test]
    fn pauses_are_random_up_to_a_bound_and_heed_the_service() {
        let policy =
            RetryPolicy { backoff: Duration::from_millis(100), max_backoff: Duration::from_millis(300), ..policy(9) };
        let missed = |failure, retry_after| Missed { failure, retry_after };
        let drawn: Vec<_> = (0..200).map(|_| pause(&policy, &missed(status(503), None), 1).as_millis()).collect();
        assert!(drawn.iter().all(|millis| *millis <= 100) && drawn.iter().any(|millis| *millis > 50));
        assert!(drawn.iter().any(|millis| *millis < 50), "all of it is random, not half: {drawn:?}");
        let asked = Some(Duration::from_millis(250));
        assert!((0..50).all(|_| pause(&policy, &missed(status(503), asked), 1).as_millis() == 250));
        let long = Some(Duration::from_secs(3_600));
        assert_eq!(pause(&policy, &missed(status(503), long), 1).as_millis(), 300);
        assert_eq!(pause(&policy, &missed(Failure::BrokeOff("x".into()), None), 1), Duration::ZERO);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let parsed = |status, text: &'static str| retry_after(status, &HeaderValue::from_static(text), now);
        assert_eq!(parsed(503, "2"), Some(Duration::from_secs(2)));
        assert_eq!(parsed(429, "Sun, 06 Nov 1994 08:49:40 GMT"), Some(Duration::from_secs(3)));
        assert_eq!(parsed(503, "Sun, 06 Nov 1994 08:49:30 GMT"), None, "it is over");
        assert_eq!(parsed(502, "2"), None);
        assert_eq!((parsed(503, "soon"), parsed(503, "-1")), (None, None));
    }
}
