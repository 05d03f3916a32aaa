//! One batch on its way: attempts, what answers mean, and how long to wait before the next (OTLP 1.x, "OTLP/HTTP Response").
//! Called by batch; calls encode and connect. One request is under way at a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use httpdate::HttpDate;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::StatusCode;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::{sleep, Instant};

use crate::batch::Counters;
use crate::complaints::Complaints;
use crate::connect::{Answer, Collector};
use crate::encode::Origin;
use crate::settings::Target;
use crate::span::Span;
use crate::wire::Fields;

/// Requests for one batch. With the pauses between them a collector may be away for ten seconds or so, as long as it takes to
/// restart one; meanwhile the queue fills.
const ATTEMPTS_MAX: u32 = 5;

/// A collector that wants more is asked again after this: it has said when it will be there, not what for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Letters of what a collector says that are logged.
const SAID_CHARS_MAX: usize = 200;

/// How fast things go. The defaults are for production.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The first span of a batch waits no longer.
    pub batch_within: Duration,
    /// The pause before the second attempt; doubles up to `backoff_max`. Half of it is drawn.
    pub backoff: Duration,
    pub backoff_max: Duration,
    /// No more than one warning in this time.
    pub complain_every: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            batch_within: Duration::from_secs(1),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(8),
            complain_every: Duration::from_secs(60),
        }
    }
}

impl Pace {
    fn pause(&self, attempts: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(self.backoff_max);
        let drawn = doubled.mul_f64(rand::random_range(0.5..=1.0));
        drawn.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

/// Whether the node is about to end, and when it will not wait any longer.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Option<Instant>>);

impl Stop {
    pub fn new(deadline: watch::Receiver<Option<Instant>>) -> Stop {
        Stop(deadline)
    }

    pub fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Comes back with the deadline when there is one; never, when nobody is left who could set it.
    pub async fn asked(&self) -> Instant {
        let mut changes = self.0.clone();
        let asked = changes.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
        match asked {
            Some(deadline) => deadline,
            None => std::future::pending().await,
        }
    }
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All but some spans are with the collector, which may have something to say.
    Taken {
        rejected: u64,
        said: String,
    },
    Again {
        why: String,
        after: Option<Duration>,
    },
    Never {
        why: String,
    },
}

fn verdict(answer: &Answer, now: SystemTime) -> Verdict {
    let status = answer.status;
    if status.is_success() {
        // A body that is no such message says nothing against the request.
        // ExportTraceServiceResponse.partial_success: rejected_spans, error_message.
        let body = Fields::read(&answer.body).unwrap_or_default();
        let partial = Fields::read(body.bytes(1)).unwrap_or_default();
        let rejected = u64::try_from(partial.number(1).cast_signed()).unwrap_or(0);
        return Verdict::Taken { rejected, said: shown(&partial.text(2)) };
    }
    // google.rpc.Status.message.
    let said = Fields::read(&answer.body).map(|body| shown(&body.text(2))).unwrap_or_default();
    let why = if said.is_empty() { format!("answered {status}") } else { format!("answered {status}: {said}") };
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let after = answer.headers.get(RETRY_AFTER).and_then(|value| retry_after(value, now));
            Verdict::Again { why, after }
        }
        _ => Verdict::Never { why },
    }
}

/// A collector's words for a line of a log.
fn shown(said: &str) -> String {
    said.chars().take(SAID_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// RFC 9110 §10.2.3: seconds or a date.
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = SystemTime::from(text.parse::<HttpDate>().ok()?);
    date.duration_since(now).ok()
}

/// Spans that count as lost until something else is known, also when the task ends in between.
struct UnderWay<'c> {
    spans: usize,
    counters: &'c Counters,
}

impl UnderWay<'_> {
    fn taken(mut self, rejected: u64) {
        let rejected = usize::try_from(rejected).unwrap_or(usize::MAX).min(self.spans);
        Counters::add(&self.counters.exported, self.spans - rejected);
        self.spans = rejected;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        Counters::add(&self.counters.dropped_failed, self.spans);
    }
}

pub(crate) struct Exporter {
    origin: Origin,
    collector: Collector,
    counters: Arc<Counters>,
    complaints: Complaints,
    stop: Stop,
    pace: Pace,
}

impl Exporter {
    pub fn new(
        origin: Origin,
        (target, tls): (Target, Arc<ClientConfig>),
        counters: Arc<Counters>,
        stop: Stop,
        pace: Pace,
    ) -> Exporter {
        let complaints = Complaints::new(&target, counters.clone(), pace.complain_every);
        Exporter { origin, collector: Collector::new(target, tls), counters, complaints, stop, pace }
    }

    /// Comes back when the batch has been taken, or will not be.
    pub async fn export(&mut self, batch: Vec<Span>) {
        let counters = self.counters.clone();
        let under_way = UnderWay { spans: batch.len(), counters: &counters };
        let body = self.origin.request(&batch);
        let result = self.attempts(body).await;
        let now = Instant::now();
        match result {
            Ok((0, said)) => {
                under_way.taken(0);
                self.complaints.all_is_well(&said, now);
            }
            Ok((rejected, said)) => {
                under_way.taken(rejected);
                self.complaints.failed(&format!("the collector refused {rejected} spans of a batch: {said}"), now);
            }
            Err(why) => {
                drop(under_way);
                self.complaints.failed(&why, now);
            }
        }
    }

    /// How many spans the collector refused, and what it said; or why it has none of them.
    async fn attempts(&mut self, body: Bytes) -> Result<(u64, String), String> {
        let mut number = 1;
        loop {
            let verdict = match self.collector.post(body.clone()).await {
                Ok(answer) => verdict(&answer, SystemTime::now()),
                Err(why) => Verdict::Again { why, after: None },
            };
            let (why, after) = match verdict {
                Verdict::Taken { rejected, said } => return Ok((rejected, said)),
                Verdict::Never { why } => return Err(why),
                Verdict::Again { why, .. } if number >= ATTEMPTS_MAX => return Err(why),
                Verdict::Again { why, after } => (why, after),
            };
            self.complaints.failed(&why, Instant::now());
            if !self.pause(self.pace.pause(number, after)).await {
                return Err(why);
            }
            number += 1;
        }
    }

    /// Waits before another attempt; false: there is no time for one. A node that is asked to end meanwhile makes it at once.
    async fn pause(&self, pause: Duration) -> bool {
        if let Some(deadline) = self.stop.deadline() {
            if Instant::now() + pause >= deadline {
                return false;
            }
            sleep(pause).await;
            return true;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _deadline = self.stop.asked() => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hyper::header::HeaderMap;

    use super::*;
    use crate::wire::Writer;

    fn answer(status: u16, body: Vec<u8>) -> Answer {
        Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: body.into() }
    }

    fn judge(answer: &Answer) -> Verdict {
        verdict(answer, UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn only_what_the_protocol_says_is_tried_again() {
        for status in [429, 502, 503, 504] {
            let why = format!("answered {}", StatusCode::from_u16(status).unwrap());
            assert_eq!(judge(&answer(status, Vec::new())), Verdict::Again { why, after: None });
        }
        for status in [301, 400, 401, 404, 408, 413, 415, 500, 501] {
            assert!(matches!(judge(&answer(status, Vec::new())), Verdict::Never { .. }), "{status}");
        }
        let mut body = Writer::default();
        body.bytes(2, b"not\nthis");
        let body = body.into_bytes();
        assert_eq!(judge(&answer(400, body)), Verdict::Never { why: "answered 400 Bad Request: not this".to_owned() });
        let html = b"<html>".to_vec();
        assert_eq!(judge(&answer(404, html)), Verdict::Never { why: "answered 404 Not Found".to_owned() });
    }

    #[test]
    fn partial_success() {
        let partial = |rejected_spans: i64, error_message: &str| {
            let mut body = Writer::default();
            body.message(1, |partial| {
                partial.varint(1, rejected_spans.cast_unsigned());
                partial.bytes(2, error_message.as_bytes());
            });
            judge(&answer(200, body.into_bytes()))
        };
        assert_eq!(partial(3, "too old"), Verdict::Taken { rejected: 3, said: "too old".to_owned() });
        assert_eq!(partial(0, "a warning"), Verdict::Taken { rejected: 0, said: "a warning".to_owned() });
        assert_eq!(partial(-1, ""), Verdict::Taken { rejected: 0, said: String::new() });
        for body in [Vec::new(), b"{}".to_vec()] {
            assert_eq!(judge(&answer(200, body)), Verdict::Taken { rejected: 0, said: String::new() });
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (value, after) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            let mut answer = answer(503, Vec::new());
            answer.headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            let Verdict::Again { after: is, .. } = judge(&answer) else { panic!("{value}") };
            assert_eq!(is, after.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn pauses_double_and_are_drawn_and_heed_what_was_asked() {
        let pace = Pace::default();
        for (attempts, longest) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (u32::MAX, 8)] {
            for _ in 0..100 {
                let pause = pace.pause(attempts, None);
                assert!((Duration::from_secs(longest) / 2..=Duration::from_secs(longest)).contains(&pause));
            }
        }
        assert_eq!(pace.pause(1, Some(Duration::from_secs(30))), Duration::from_secs(30));
        assert!(pace.pause(1, Some(Duration::ZERO)) >= Duration::from_millis(500));
        assert_eq!(pace.pause(1, Some(Duration::from_secs(86_400))), RETRY_AFTER_MAX);
    }

    #[test]
    fn no_more_are_refused_than_were_sent() {
        let counters = Counters::default();
        UnderWay { spans: 5, counters: &counters }.taken(2);
        UnderWay { spans: 5, counters: &counters }.taken(u64::MAX);
        drop(UnderWay { spans: 7, counters: &counters });
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((read(&counters.exported), read(&counters.dropped_failed)), (3, 2 + 5 + 7));
    }
}
