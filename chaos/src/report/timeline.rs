//! A history as a picture has it: bars, strips and counts per slice of time. Pure. Imports history.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::{EventKind, Micros, Op, Outcome, Record, SECOND};

/// About as many slices as a picture is wide in columns that can be told apart.
const SLICES: u64 = 240;
const SLICE_MIN: Micros = SECOND / 4;
/// A node that has not said for so long whom it follows follows nobody that is known.
const SILENCE: Micros = SECOND;
const GONE: u16 = 410;

/// Something that lasts; times in seconds.
#[derive(Debug, PartialEq, Serialize)]
pub struct Span {
    pub node: usize,
    pub what: String,
    pub from: f64,
    pub until: f64,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Mark {
    pub at: f64,
    pub text: String,
}

/// What became of the operations of one kind, per slice in which they ended.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Outcomes {
    pub ok: Vec<u32>,
    pub refused: Vec<u32>,
    pub unknown: Vec<u32>,
    /// Pushes only: 410.
    pub gone: Vec<u32>,
    /// The longest that one took, in seconds.
    pub slowest: Vec<f64>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Timeline {
    pub seconds: f64,
    pub slice: f64,
    pub faults: Vec<Span>,
    /// Whom each node takes for the leader.
    pub leaders: Vec<Span>,
    pub marks: Vec<Mark>,
    /// Open connections at the end of each slice, per node.
    pub connections: Vec<Vec<i64>>,
    pub writes: Outcomes,
    pub reads: Outcomes,
    pub pushes: Outcomes,
    /// Messages that the service received.
    pub events: Vec<u32>,
}

impl Timeline {
    pub fn of(records: &[Record], nodes: usize) -> Timeline {
        let end = records.iter().map(|record| record.end).max().unwrap_or(0).max(SECOND);
        let slice = end.div_ceil(SLICES).max(SLICE_MIN);
        let slices = (end / slice + 1) as usize;
        let of = |wanted: fn(&Op) -> bool| outcomes(records, slice, slices, wanted);
        let mut events = vec![0; slices];
        for record in records {
            if matches!(&record.op, Op::Event(event) if event.kind == EventKind::Message) {
                events[(record.end / slice) as usize] += 1;
            }
        }
        Timeline {
            seconds: in_seconds(end),
            slice: in_seconds(slice),
            faults: faults(records, end),
            leaders: leaders(records),
            marks: marks(records),
            connections: connections(records, nodes, slice, slices),
            writes: of(|op| matches!(op, Op::Write { .. })),
            reads: of(|op| matches!(op, Op::Read { .. })),
            pushes: of(|op| matches!(op, Op::Push { .. })),
            events,
        }
    }
}

fn in_seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}

fn outcomes(records: &[Record], slice: Micros, slices: usize, wanted: fn(&Op) -> bool) -> Outcomes {
    let none = || vec![0; slices];
    let mut outcomes =
        Outcomes { ok: none(), refused: none(), unknown: none(), gone: none(), slowest: vec![0.0; slices] };
    for record in records.iter().filter(|record| wanted(&record.op)) {
        let at = (record.end / slice) as usize;
        let is_gone = matches!(record.op, Op::Push { status: GONE, .. });
        let counts = match record.outcome {
            Outcome::Ok => &mut outcomes.ok,
            Outcome::Failed if is_gone => &mut outcomes.gone,
            Outcome::Failed => &mut outcomes.refused,
            Outcome::Unknown => &mut outcomes.unknown,
        };
        counts[at] += 1;
        let took = in_seconds(record.end - record.start);
        outcomes.slowest[at] = outcomes.slowest[at].max(took);
    }
    outcomes
}

/// What ends a fault, and which ones.
fn ended_by(fault: &str) -> &'static [&'static str] {
    match fault {
        "restart" => &["kill", "terminate", "wipe", "power_failure", "bit_flipped", "end_cut_off"],
        "clock_right" => &["clock_ahead", "clock_behind"],
        "room_again" => &["disk_full"],
        "go_on" => &["pause"],
        "partition_healed" => &["partition"],
        "mute_healed" => &["mute"],
        "deaf_healed" => &["deaf"],
        "packet_loss_healed" => &["packet_loss"],
        "slow_line_healed" => &["slow_line"],
        "clients_cut_healed" => &["clients_cut"],
        _ => &[],
    }
}

fn faults(records: &[Record], end: Micros) -> Vec<Span> {
    let mut done: Vec<Span> = Vec::new();
    let mut open: Vec<(usize, &'static str, Micros)> = Vec::new();
    let span = |(node, what, from): (usize, &str, Micros), until| Span {
        node,
        what: what.replace('_', " "),
        from: in_seconds(from),
        until: in_seconds(until),
    };
    for record in records {
        let Op::Fault { fault, node } = record.op else { continue };
        let ends = ended_by(fault);
        if ends.is_empty() {
            // The kill of a wipe is the wipe; "left" is a moment of a terminate, and a reset lasts for no longer.
            if fault == "wipe" {
                open.retain(|(of, what, _)| (*of, *what) != (node, "kill"));
            }
            if !matches!(fault, "left" | "reset") {
                open.push((node, fault, record.end));
            }
            continue;
        }
        let (ended, still) = open.into_iter().partition(|(of, what, _)| *of == node && ends.contains(what));
        open = still;
        done.extend(Vec::from_iter(ended).into_iter().map(|fault| span(fault, record.end)));
    }
    done.extend(open.into_iter().map(|fault| span(fault, end)));
    done.sort_by(|one, other| one.from.total_cmp(&other.from));
    done
}

fn leaders(records: &[Record]) -> Vec<Span> {
    let mut done: Vec<Span> = Vec::new();
    let mut open: BTreeMap<usize, (String, Micros, Micros)> = BTreeMap::new();
    let span = |node, (what, from, until): (String, Micros, Micros)| Span {
        node,
        what,
        from: in_seconds(from),
        until: in_seconds(until),
    };
    for record in records {
        let Op::Sample(sample) = &record.op else { continue };
        let followed = open.get_mut(&sample.node).filter(|(leader, _, last)| {
            sample.leader.as_ref() == Some(leader) && record.end.saturating_sub(*last) <= SILENCE
        });
        if let Some((_, _, last)) = followed {
            *last = record.end;
            continue;
        }
        if let Some((leader, from, last)) = open.remove(&sample.node) {
            // Whom it followed until now: up to this answer, unless it was silent in between.
            let until = if record.end.saturating_sub(last) <= SILENCE { record.end } else { last };
            done.push(span(sample.node, (leader, from, until)));
        }
        if let Some(leader) = &sample.leader {
            open.insert(sample.node, (leader.clone(), record.end, record.end));
        }
    }
    done.extend(open.into_iter().map(|(node, followed)| span(node, followed)));
    done
}

/// Steps of the scenario; what single clients and writers note is left out.
fn marks(records: &[Record]) -> Vec<Mark> {
    let steps = records.iter().filter_map(|record| match &record.op {
        Op::Note { text } if STEPS.iter().any(|step| text.contains(step)) => {
            Some(Mark { at: in_seconds(record.end), text: text.clone() })
        }
        _ => None,
    });
    steps.collect()
}

const STEPS: &[&str] = &[
    "the cluster is formed",
    "is cut off",
    "is made",
    "has converged",
    "all is healed",
    "all clients connected",
    "were reset",
    "runs the",
];

fn connections(records: &[Record], nodes: usize, slice: Micros, slices: usize) -> Vec<Vec<i64>> {
    let mut changes = vec![vec![0_i64; slices]; nodes];
    for record in records {
        let at = (record.end / slice) as usize;
        match record.op {
            Op::Connected { node, .. } => changes[node][at] += 1,
            Op::Ended { node, .. } => changes[node][at] -= 1,
            _ => {}
        }
    }
    for of_node in &mut changes {
        let mut open = 0;
        for change in of_node {
            open += *change;
            *change = open;
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Sample;

    fn at(end: Micros, op: Op) -> Record {
        Record { start: end, end, outcome: Outcome::Ok, op }
    }

    fn fault(end: Micros, fault: &'static str, node: usize) -> Record {
        at(end, Op::Fault { fault, node })
    }

    #[test]
    fn faults_last_until_they_are_ended() {
        let records = [
            fault(SECOND, "kill", 0),
            fault(SECOND, "wipe", 0),
            fault(2 * SECOND, "partition", 1),
            fault(3 * SECOND, "restart", 0),
            fault(4 * SECOND, "partition_healed", 1),
            fault(5 * SECOND, "pause", 2),
            at(6 * SECOND, Op::Note { text: "the cluster is formed".into() }),
        ];
        let timeline = Timeline::of(&records, 3);
        let spans: Vec<(usize, &str, f64, f64)> =
            timeline.faults.iter().map(|span| (span.node, span.what.as_str(), span.from, span.until)).collect();
        assert_eq!(spans, [(0, "wipe", 1.0, 3.0), (1, "partition", 2.0, 4.0), (2, "pause", 5.0, 6.0)]);
        assert_eq!(timeline.marks.len(), 1);
    }

    #[test]
    fn a_node_follows_a_leader_until_it_says_otherwise() {
        let sample = |end, leader: Option<&str>| {
            at(end, Op::Sample(Sample { leader: leader.map(str::to_owned), ..Sample::default() }))
        };
        let (half, n1, n2) = (SECOND / 2, Some("n1"), Some("n2"));
        let records =
            [sample(0, n1), sample(half, n1), sample(SECOND, None), sample(3 * half, n2), sample(9 * half, n2)];
        let spans: Vec<(String, f64, f64)> =
            leaders(&records).into_iter().map(|span| (span.what, span.from, span.until)).collect();
        let of = |leader: &str, from, until| (leader.to_owned(), from, until);
        assert_eq!(spans, [of("n1", 0.0, 1.0), of("n2", 1.5, 1.5), of("n2", 4.5, 4.5)]);
    }

    #[test]
    fn counts_fall_into_their_slices() {
        let push = |end, outcome, status| {
            let (client, connection) = (String::new(), String::new());
            let op = Op::Push { push: 1, pusher: 0, client, connection, owner: 0, node: 1, status };
            Record { start: end - SECOND / 10, end, outcome, op }
        };
        let client = || "c0.0".to_owned();
        let records = [
            at(1, Op::Connected { client: client(), node: 1 }),
            push(SECOND, Outcome::Ok, 202),
            push(SECOND, Outcome::Failed, 410),
            push(2 * SECOND, Outcome::Failed, 503),
            at(2 * SECOND, Op::Ended { client: client(), node: 1, code: 1000, by_client: true }),
        ];
        let timeline = Timeline::of(&records, 2);
        assert_eq!(timeline.slice, 0.25);
        assert_eq!((timeline.pushes.ok[4], timeline.pushes.gone[4], timeline.pushes.refused[8]), (1, 1, 1));
        assert!((timeline.pushes.slowest[4] - 0.1).abs() < 1e-9);
        assert_eq!((timeline.connections[1][0], timeline.connections[1][7], timeline.connections[1][8]), (1, 1, 0));
    }
}
