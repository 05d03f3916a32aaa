//! An endpoint is a register: its writes, conditional ones too, and its reads marked linearizable can be put into one
//! order that agrees with all answers and with who was finished before whom began. Found out by the algorithm of Wing,
//! Gong and Lowe (crate `todc-utils`). A write without a yes or no may have happened at any time from its start on, or
//! not at all; which of the two, the versions that were read back say.

use std::collections::BTreeMap;

use todc_utils::{Action, History, Specification, WGLChecker};

use crate::history::{Micros, Op, Outcome, Record};
use crate::readback::Stored;

const VERSION_MISMATCH: u16 = 412;

/// What was done, with its result. Markers are numbers here, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Made a version, the next one; only where the condition held, if there was one. `said` is the active version in
    /// the answer, which may be a later one already.
    Write {
        marker: usize,
        version: u64,
        expected: Option<u64>,
        said: Option<u64>,
    },
    /// The condition did not hold.
    Mismatch {
        expected: u64,
    },
    Read {
        version: u64,
        marker: usize,
    },
}

/// The active version and the marker of what it holds.
struct Register;

impl Specification for Register {
    type State = (u64, usize);
    type Operation = Step;

    /// Before it is created.
    fn init() -> Self::State {
        (0, 0)
    }

    fn apply(step: &Step, state: &Self::State) -> (bool, Self::State) {
        let active = state.0;
        match *step {
            Step::Write { marker, version, expected, said } => {
                let held = expected.is_none_or(|expected| expected == active);
                let valid = held && version == active + 1 && said.is_none_or(|said| said >= version);
                (valid, if valid { (version, marker) } else { *state })
            }
            Step::Mismatch { expected } => (expected != active, *state),
            Step::Read { version, marker } => ((version, marker) == *state, *state),
        }
    }
}

/// A step with its time; without an end it may have taken effect at any time after its start.
#[derive(Clone, Debug)]
struct Timed {
    start: Micros,
    end: Option<Micros>,
    step: Step,
    what: String,
}

pub fn check(records: &[Record], stored: &[Stored]) -> Vec<String> {
    let mut breaks = Vec::new();
    for (endpoint, steps) in by_endpoint(records, stored) {
        if is_linearizable(&steps) {
            continue;
        }
        let ended = steps.iter().filter(|step| step.end.is_some()).count();
        // The shortest beginning that cannot be put in order: all shorter ones can.
        let (mut good, mut bad) = (0, ended);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if is_linearizable(&beginning(&steps, middle)) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        let mut in_order: Vec<&Timed> = steps.iter().filter(|step| step.end.is_some()).collect();
        in_order.sort_by_key(|step| step.end);
        let culprit = in_order.get(bad.saturating_sub(1)).map_or("unknown steps", |step| &step.what);
        breaks.push(format!("{endpoint}: no order of {} steps explains {culprit}", steps.len()));
    }
    breaks
}

/// The first steps that have ended, and the writes that were under way by then, with an end that nobody knows yet.
fn beginning(steps: &[Timed], ended: usize) -> Vec<Timed> {
    let mut ends: Vec<Micros> = steps.iter().filter_map(|step| step.end).collect();
    ends.sort_unstable();
    let until = ended.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(0);
    let begun = steps.iter().filter(|step| step.start <= until).cloned().filter_map(|mut step| {
        if step.end.is_some_and(|end| end <= until) {
            return Some(step);
        }
        let Step::Write { said, .. } = &mut step.step else { return None };
        *said = None;
        step.end = None;
        Some(step)
    });
    begun.collect()
}

fn is_linearizable(steps: &[Timed]) -> bool {
    if steps.is_empty() {
        return true;
    }
    // Calls before responses of the same time: what touches may overlap.
    let mut actions: Vec<(Micros, bool, usize)> = Vec::new();
    for (process, step) in steps.iter().enumerate() {
        actions.push((step.start, false, process));
        actions.push((step.end.unwrap_or(Micros::MAX), true, process));
    }
    actions.sort_unstable();
    let action = |(_, is_response, process): (Micros, bool, usize)| {
        let step = steps[process].step;
        (process, if is_response { Action::Response(step) } else { Action::Call(step) })
    };
    WGLChecker::<Register>::is_linearizable(History::from_actions(actions.into_iter().map(action).collect()))
}

/// All steps of each endpoint that was read back.
fn by_endpoint<'a>(records: &[Record], stored: &'a [Stored]) -> BTreeMap<&'a str, Vec<Timed>> {
    let mut markers: BTreeMap<&str, (usize, &Stored)> = BTreeMap::new();
    for version in stored {
        let number = markers.len() + 1;
        markers.entry(&version.marker).or_insert((number, version));
    }
    let mut steps: BTreeMap<&str, Vec<Timed>> =
        stored.iter().map(|version| (version.endpoint.as_str(), Vec::new())).collect();
    let mut writes: BTreeMap<&str, Timed> = BTreeMap::new();
    for record in records {
        match &record.op {
            Op::Write { marker, .. } => {
                if let Some((number, found)) = markers.get(marker.as_str()) {
                    join(writes.entry(&found.marker).or_insert_with(|| write(record, *number, found)), record);
                }
                let (Some((endpoint, step)), true) = (mismatch(record), record.outcome == Outcome::Failed) else {
                    continue;
                };
                if let Some(of) = steps.get_mut(endpoint) {
                    of.push(step);
                }
            }
            Op::Read { endpoint, node, version, marker } if record.outcome == Outcome::Ok => {
                let Some(of) = steps.get_mut(endpoint.as_str()) else { continue };
                // What nobody has stored is number 0, which is never in a register.
                let number = markers.get(marker.as_str()).map_or(0, |(number, _)| *number);
                let what = format!("version {version} ({marker}) read at node {node} by {} ms", record.end / 1000);
                let step = Step::Read { version: *version, marker: number };
                of.push(Timed { start: record.start, end: Some(record.end), step, what });
            }
            _ => {}
        }
    }
    for (marker, write) in writes {
        let Some((_, found)) = markers.get(marker) else { continue };
        steps.entry(found.endpoint.as_str()).or_default().push(write);
    }
    steps
}

/// A write that is known to have happened; when, its attempts say.
fn write(record: &Record, number: usize, found: &Stored) -> Timed {
    let expected = match &record.op {
        Op::Write { expected, .. } => *expected,
        _ => None,
    };
    let step = Step::Write { marker: number, version: found.version, expected, said: None };
    let what = format!("the write {} (version {})", found.marker, found.version);
    Timed { start: record.start, end: None, step, what }
}

/// All attempts of a write are one step, which has ended when one of them was answered with yes.
fn join(step: &mut Timed, attempt: &Record) {
    step.start = step.start.min(attempt.start);
    if attempt.outcome != Outcome::Ok || step.end.is_some() {
        return;
    }
    step.end = Some(attempt.end);
    if let (Step::Write { said, .. }, Op::Write { version, .. }) = (&mut step.step, &attempt.op) {
        *said = *version;
    }
}

fn mismatch(record: &Record) -> Option<(&str, Timed)> {
    let Op::Write { marker, node, status: VERSION_MISMATCH, endpoint, expected, .. } = &record.op else { return None };
    let expected = (*expected)?;
    let what = format!("412 for {marker} on version {expected} at node {node} by {} ms", record.end / 1000);
    let step = Step::Mismatch { expected };
    Some((endpoint.as_deref()?, Timed { start: record.start, end: Some(record.end), step, what }))
}

#[cfg(test)]
#[path = "register_is_linearizable_tests.rs"]
mod tests;
