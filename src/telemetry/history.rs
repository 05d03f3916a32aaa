//! What a node's figures were over the last five minutes, hour and day: one sample per step, in rings of a fixed size. Filled
//! once a second from the counters of [`Metrics`]; read by the dashboard, here and from other nodes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::configured::Configured;
use super::latency::{self, quantile_millis, Counts, BUCKETS};
use super::metrics::Metrics;

/// How far back, and how fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Range {
    FiveMinutes,
    Hour,
    Day,
}

impl Range {
    pub const ALL: [Range; 3] = [Range::FiveMinutes, Range::Hour, Range::Day];

    pub fn parse(text: &str) -> Option<Range> {
        Range::ALL.into_iter().find(|range| range.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Range::FiveMinutes => "5m",
            Range::Hour => "1h",
            Range::Day => "24h",
        }
    }

    pub fn step_seconds(self) -> u64 {
        match self {
            Range::FiveMinutes => 1,
            Range::Hour => 10,
            Range::Day => 300,
        }
    }

    fn samples(self) -> usize {
        let seconds = match self {
            Range::FiveMinutes => 300,
            Range::Hour => 3600,
            Range::Day => 86_400,
        };
        seconds / self.step_seconds() as usize
    }
}

/// The buckets behind the latency of now are those of about so many seconds.
const LATENCY_SECONDS: u64 = 60;

/// A node's figures of one step. Counters are what came within it, gauges are as they were at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub connections: u64,
    pub opened: u64,
    pub closed: u64,
    pub events_in: u64,
    pub events_out: u64,
    pub throttled: u64,
    /// By the code of error frames; handshakes that were refused are among them. Only those that there were.
    pub errors: Vec<(String, u64)>,
    pub backend_p50_millis: Option<f32>,
    pub backend_p99_millis: Option<f32>,
    pub memory_bytes: u64,
}

/// Samples one after the other; None: the node did not take one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    pub step_seconds: u64,
    /// Unix seconds at which the first one's step began.
    pub from: u64,
    pub samples: Vec<Option<Sample>>,
    /// Answers of backends of about the last minute.
    pub latency: Counts,
}

/// What is read beside the counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    pub connections: u64,
    pub memory_bytes: u64,
}

/// Counters since the node started.
#[derive(Clone, Debug, Default)]
struct Totals {
    opened: u64,
    closed: u64,
    events_in: u64,
    events_out: u64,
    throttled: u64,
    errors: BTreeMap<&'static str, u64>,
    latency: Counts,
}

impl Totals {
    /// `retired`: what those have counted that are not there any more.
    fn read(metrics: &Metrics, retired: &Totals) -> Totals {
        let mut totals = retired.clone();
        metrics.connections_opened.each(|_, _, counter| totals.opened += counter.get());
        metrics.connections_closed.each(|_, _, counter| totals.closed += counter.get());
        metrics.events_out.each(|_, _, counter| totals.events_out += counter.get());
        metrics.throttled.each(|_, _, counter| totals.throttled += counter.get());
        metrics.events_in.each(|_, labels, counter| totals.add_events(labels.outcome, counter.get()));
        metrics
            .handshakes_refused
            .each(|_, _, counter| *totals.errors.entry("handshake_refused").or_default() += counter.get());
        metrics.backend_seconds.each(|_, _, took| latency::add(&mut totals.latency, &took.counts()));
        totals
    }

    fn add_events(&mut self, outcome: &'static str, count: u64) {
        self.events_in += count;
        if let Some(code) = error_code(outcome) {
            *self.errors.entry(code).or_default() += count;
        }
    }

    /// Lets go of the members that stand for nothing any more, and keeps what they have counted.
    fn retire(&mut self, metrics: &Metrics, known: &Configured) {
        metrics
            .connections_opened
            .retire(|of| !known.endpoint(&of.endpoint), |_, counter| self.opened += counter.get());
        metrics
            .connections_closed
            .retire(|of| !known.endpoint(&of.endpoint), |_, counter| self.closed += counter.get());
        metrics.events_out.retire(|of| !known.endpoint(&of.endpoint), |_, counter| self.events_out += counter.get());
        metrics.throttled.retire(|of| !known.endpoint(&of.endpoint), |_, counter| self.throttled += counter.get());
        metrics.events_in.retire(
            |of| !known.route(&of.endpoint, &of.type_and_route()),
            |of, counter| self.add_events(of.outcome, counter.get()),
        );
        metrics.backend_seconds.retire(
            |of| !known.backend(&of.endpoint, &of.backend),
            |_, took| latency::add(&mut self.latency, &took.counts()),
        );
    }

    fn since(&self, before: &Totals, gauges: Gauges) -> Sample {
        let came = latency::since(&self.latency, &before.latency);
        let errors = self.errors.iter().filter_map(|(code, count)| {
            let came = count - before.errors.get(code).unwrap_or(&0);
            (came > 0).then(|| ((*code).to_owned(), came))
        });
        Sample {
            connections: gauges.connections,
            opened: self.opened - before.opened,
            closed: self.closed - before.closed,
            events_in: self.events_in - before.events_in,
            events_out: self.events_out - before.events_out,
            throttled: self.throttled - before.throttled,
            errors: errors.collect(),
            backend_p50_millis: quantile_millis(&came, 0.5).map(|millis| millis as f32),
            backend_p99_millis: quantile_millis(&came, 0.99).map(|millis| millis as f32),
            memory_bytes: gauges.memory_bytes,
        }
    }
}

/// The error that an outcome of `events_in` is, by the code that clients are told.
pub fn error_code(outcome: &'static str) -> Option<&'static str> {
    match outcome {
        "delivered" => None,
        "failed" => Some("delivery_failed"),
        code => Some(code),
    }
}

struct Ring {
    range: Range,
    samples: VecDeque<Option<Sample>>,
    /// The step of the last sample.
    last: u64,
    /// Where the step that runs began.
    before: Totals,
}

impl Ring {
    /// At the end of a step; steps that nobody has taken a sample in are holes. False: that step has its sample, since the
    /// clock was set back a little, and what has come counts for the next one.
    fn push(&mut self, step: u64, sample: Sample) -> bool {
        let max = self.range.samples();
        let known = !self.samples.is_empty();
        if known && step <= self.last && self.last - step < max as u64 {
            return false;
        }
        let skipped = step.saturating_sub(self.last + 1);
        if !known || step <= self.last || skipped >= max as u64 {
            // The clock has been set: what was before has no place beside what comes.
            self.samples.clear();
        } else {
            self.samples.extend((0..skipped).map(|_| None));
        }
        self.samples.push_back(Some(sample));
        self.last = step;
        while self.samples.len() > max {
            self.samples.pop_front();
        }
        true
    }
}

struct Rings {
    rings: [Ring; 3],
    /// Latency counts every ten seconds, the newest last.
    latency: VecDeque<Counts>,
    /// The second that the last sample was taken in.
    at: u64,
    retired: Totals,
}

/// A node's history; see the module.
pub struct History(Mutex<Rings>);

impl History {
    /// `now` in Unix seconds.
    pub fn new(metrics: &Metrics, now: u64) -> History {
        let retired = Totals::default();
        let before = Totals::read(metrics, &retired);
        let ring = |range: Range| Ring { range, samples: VecDeque::new(), last: 0, before: before.clone() };
        let latency = VecDeque::from([before.latency]);
        History(Mutex::new(Rings { rings: Range::ALL.map(ring), latency, at: now, retired }))
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once in a second: ends the steps that are over.
    pub fn tick(&self, metrics: &Metrics, gauges: Gauges, now: u64) {
        let mut rings = self.lock();
        let Rings { rings, latency, at, retired } = &mut *rings;
        let totals = Totals::read(metrics, retired);
        for ring in rings {
            let step = ring.range.step_seconds();
            if now / step != *at / step {
                // Of the step that `now` is not in any more.
                let sample = totals.since(&ring.before, gauges);
                if ring.push((now / step).saturating_sub(1), sample) {
                    ring.before = totals.clone();
                }
            }
        }
        let step = Range::Hour.step_seconds();
        if now / step != *at / step {
            latency.push_back(totals.latency);
            while latency.len() as u64 > LATENCY_SECONDS / step + 1 {
                latency.pop_front();
            }
        }
        *at = now;
    }

    /// Counters of what is not configured any more go, and what they have counted stays in the sums.
    pub fn retire(&self, metrics: &Metrics, known: &Configured) {
        self.lock().retired.retire(metrics, known);
    }

    /// The samples of steps that began at `since` or later.
    pub fn read(&self, range: Range, since: u64) -> Samples {
        let rings = self.lock();
        let step = range.step_seconds();
        let latency = match (rings.latency.front(), rings.latency.back()) {
            (Some(first), Some(last)) => latency::since(last, first),
            _ => [0; BUCKETS],
        };
        let Some(ring) = rings.rings.iter().find(|ring| ring.range == range).filter(|ring| !ring.samples.is_empty())
        else {
            return Samples { step_seconds: step, from: rings.at, samples: Vec::new(), latency };
        };
        let first = ring.last + 1 - ring.samples.len() as u64;
        let skip = since.div_ceil(step).saturating_sub(first).min(ring.samples.len() as u64);
        let samples = ring.samples.iter().skip(skip as usize).cloned().collect();
        Samples { step_seconds: step, from: (first + skip) * step, samples, latency }
    }
}

/// What the process has in memory.
pub fn memory_bytes() -> u64 {
    // proc(5): the second figure of statm is the resident pages.
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    // SAFETY: asks for a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.unwrap_or(0) * u64::try_from(page).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{BackendLabels, EventLabels};
    use std::time::Duration;

    fn events(metrics: &Metrics, outcome: &'static str, count: u64) {
        let labels = EventLabels::new("/a", Some(("default", "r")), outcome);
        metrics.events_in.get_or_create(&labels).inc_by(count);
    }

    const GAUGES: Gauges = Gauges { connections: 7, memory_bytes: 1000 };

    #[test]
    fn what_those_have_counted_that_are_gone_stays_in_the_sums() {
        let (metrics, start) = (Metrics::default(), 1_000_000);
        let history = History::new(&metrics, start);
        events(&metrics, "delivered", 100);
        events(&metrics, "failed", 2);
        let labels = BackendLabels { endpoint: "/a".into(), backend: "default/r/0".into(), outcome: "delivered" };
        metrics.backend_seconds.get_or_create(&labels).observe(Duration::from_millis(3));
        history.tick(&metrics, GAUGES, start + 1);
        // Nothing is configured.
        history.retire(&metrics, &Configured::default());
        let mut left = 0;
        metrics.events_in.each(|_, _, _| left += 1);
        metrics.backend_seconds.each(|_, _, _| left += 1);
        assert_eq!(left, 0);
        events(&metrics, "delivered", 1);
        history.tick(&metrics, GAUGES, start + 2);
        history.tick(&metrics, GAUGES, start + 10);
        let read = history.read(Range::FiveMinutes, 0);
        let came: Vec<u64> = read.samples.iter().flatten().map(|sample| sample.events_in).collect();
        assert_eq!(came, [102, 1, 0]);
        let ten = history.read(Range::Hour, 0).samples[0].clone().unwrap();
        assert_eq!((ten.events_in, ten.errors), (103, vec![("delivery_failed".to_owned(), 2)]));
        assert_eq!(read.latency.iter().sum::<u64>(), 1);
    }

    #[test]
    fn samples_are_what_came_within_their_step() {
        let (metrics, start) = (Metrics::default(), 1_000_000);
        events(&metrics, "delivered", 100);
        let history = History::new(&metrics, start);
        events(&metrics, "delivered", 3);
        events(&metrics, "failed", 2);
        let labels = BackendLabels { endpoint: "/a".into(), backend: "b".into(), outcome: "delivered" };
        metrics.backend_seconds.get_or_create(&labels).observe(Duration::from_millis(3));
        history.tick(&metrics, GAUGES, start + 1);
        history.tick(&metrics, GAUGES, start + 2);
        let read = history.read(Range::FiveMinutes, 0);
        assert_eq!((read.step_seconds, read.from, read.samples.len()), (1, start, 2));
        let first = read.samples[0].clone().unwrap();
        assert_eq!((first.events_in, first.connections), (5, 7), "not those of before");
        assert_eq!(first.errors, [("delivery_failed".to_owned(), 2)]);
        assert!(first.backend_p99_millis.is_some_and(|millis| (2.0..=4.0).contains(&millis)));
        let second = read.samples[1].clone().unwrap();
        assert_eq!((second.events_in, second.errors.len(), second.backend_p50_millis), (0, 0, None));
    }

    #[test]
    fn coarser_steps_add_up_and_rings_have_a_bound() {
        let (metrics, start) = (Metrics::default(), 1_000_000 - 1_000_000 % 300);
        let history = History::new(&metrics, start);
        for second in 1..=1000 {
            events(&metrics, "delivered", 1);
            history.tick(&metrics, GAUGES, start + second);
        }
        let sum = |range| {
            let read = history.read(range, 0);
            let sum: u64 = read.samples.iter().flatten().map(|sample| sample.events_in).sum();
            (read.from, read.samples.len(), sum)
        };
        assert_eq!(sum(Range::FiveMinutes), (start + 700, 300, 300));
        assert_eq!(sum(Range::Hour), (start, 100, 1000));
        assert_eq!(sum(Range::Day), (start, 3, 900), "the fourth is not over");
        let since = history.read(Range::Hour, start + 985);
        assert_eq!((since.from, since.samples.len()), (start + 990, 1));
        assert_eq!(history.read(Range::Hour, start + 5000).samples.len(), 0);
    }

    #[test]
    fn a_pause_is_a_hole_and_a_clock_that_is_set_begins_anew() {
        let (metrics, start) = (Metrics::default(), 1_000_000);
        let history = History::new(&metrics, start);
        history.tick(&metrics, GAUGES, start + 1);
        history.tick(&metrics, GAUGES, start + 5);
        let read = history.read(Range::FiveMinutes, 0);
        let held: Vec<bool> = read.samples.iter().map(Option::is_some).collect();
        assert_eq!(held, [true, false, false, false, true]);
        // A little back: nothing is lost, and what has come meanwhile is in the next sample.
        events(&metrics, "delivered", 3);
        history.tick(&metrics, GAUGES, start + 3);
        history.tick(&metrics, GAUGES, start + 6);
        let read = history.read(Range::FiveMinutes, 0);
        let last = read.samples.last().cloned().flatten().unwrap();
        assert_eq!((read.from, read.samples.len(), last.events_in), (start, 6, 3));
        for set in [start - 1000, start + 100_000] {
            history.tick(&metrics, GAUGES, set);
            let read = history.read(Range::FiveMinutes, 0);
            assert_eq!((read.from, read.samples.len()), (set - 1, 1));
        }
    }

    #[test]
    fn the_process_has_memory() {
        assert!(memory_bytes() > 1 << 20);
    }
}
