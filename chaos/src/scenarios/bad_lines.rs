//! What scenarios have in common whose lines between nodes are bad while nobody is cut off: who must notice nothing, and how
//! long things take meanwhile.

use std::ops::Range;

use super::traffic::lost_writes;
use crate::figures::{false_deaths, leader_changes, most_in_a_minute, p99, seconds, write_gap};
use crate::history::{Micros, Op, Outcome, Record, SECOND};
use crate::run::Run;

/// How often the leader may change.
pub enum Changes {
    InAMinute(usize),
    InAll(usize),
}

/// What holds for all of the time in which lines were bad.
pub fn figures(run: &mut Run, bad: &Range<Micros>, allowed: &Changes) {
    let mut records = run.history.records();
    let all_changes = leader_changes(&records);
    records.retain(|record| record.start >= bad.start && record.end <= bad.end);
    let times: Vec<Micros> = all_changes.iter().map(|(at, _)| *at).filter(|at| bad.contains(at)).collect();
    let most = most_in_a_minute(&times);
    let what = format!("leader changes in {}; most in a minute", seconds(bad.end - bad.start));
    let (to_hold, held) = match allowed {
        Changes::InAMinute(count) => (format!("≤{count} a minute"), most <= *count),
        Changes::InAll(count) => (format!("≤{count}"), times.len() <= *count),
    };
    run.figure(what, format!("{}; {most}", times.len()), Some((&to_hold, held)));
    let deaths = false_deaths(&records);
    run.figure("nodes that gossip had for dead", deaths.to_string(), Some(("0", deaths == 0)));
    let dropped = run.history.count(|record| matches!(record.op, Op::Ended { by_client: false, .. }));
    run.figure("connections dropped", dropped.to_string(), Some(("0", dropped == 0)));
    let gap = write_gap(&records, bad.start, bad.end);
    run.figure("write gap, longest", seconds(gap), Some(("≤3 s", gap <= 3 * SECOND)));
    lost_writes(run);
}

/// How long writes, reads and pushes take; `when` says in words when that was.
pub fn latencies(run: &mut Run, bad: &Range<Micros>, when: &str) {
    let mut records = run.history.records();
    records.retain(|record| record.start >= bad.start && record.end <= bad.end);
    type IsOfKind = fn(&Op) -> bool;
    let of = |wanted: IsOfKind| -> (usize, Vec<Micros>) {
        let asked: Vec<&Record> = records.iter().filter(|record| wanted(&record.op)).collect();
        let done = asked.iter().filter(|record| record.outcome == Outcome::Ok);
        (asked.len(), done.map(|record| record.end - record.start).collect())
    };
    let kinds: [(&str, IsOfKind); 3] = [
        ("writes", |op| matches!(op, Op::Write { .. })),
        ("linearizable reads", |op| matches!(op, Op::Read { .. })),
        ("pushes between nodes", |op| matches!(op, Op::Push { owner, node, .. } if owner != node)),
    ];
    for (kind, wanted) in kinds {
        let (asked, took) = of(wanted);
        let seen = format!("{} of {asked}; {}; {}", took.len(), seconds(median(&took)), seconds(p99(&took)));
        run.figure(format!("{kind} done{when}; median; p99"), seen, None);
    }
}

fn median(values: &[Micros]) -> Micros {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
