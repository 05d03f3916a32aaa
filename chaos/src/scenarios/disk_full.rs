//! Clients talk and are pushed to on all nodes, configuration is written; a follower's disk is full, then the leader's, then
//! all of them. Traffic needs no disk and does not notice. Writes are refused, or done by a majority that has room; when
//! there is room again, everything goes on by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::bail;

use super::cut_off::{choose, nobody};
use super::traffic::{check, lost_writes, until, Traffic};
use crate::cluster::name;
use crate::faults::full_disk::Ballast;
use crate::figures::{leader_changes, seconds};
use crate::history::{Micros, Op, Outcome, Record, SECOND};
use crate::run::{Run, HEALED_WITHIN};
use crate::view;
use crate::workload::config_writer::ATTEMPT_WITHIN;

const BEFORE: Duration = Duration::from_millis(500);
/// Longer than any deadline of a write.
const FULL: Duration = Duration::from_millis(5500);
/// So often what has become free is taken, too.
const BETWEEN_PRESSES: Duration = Duration::from_millis(100);
/// Refused for the disk, or not known or possible for now.
const NO_ROOM: [u16; 2] = [507, 503];
/// The condition of a write was not met: an answer like any other.
const VERSION_MISMATCH: u16 = 412;

/// When disks were full: from when until when.
type Spans = Vec<(Micros, Micros)>;

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("disk_full");
    let traffic = Traffic::start(run).await?;
    let mut spans = Spans::new();
    let mut back: Micros = 0;
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        let (follower, all) = (choose(run, false, &mut rng).await?, run.all_nodes());
        fill(run, &[follower], &mut spans).await?;
        back = back.max(writes_work_again(run).await?);
        let leader = choose(run, true, &mut rng).await?;
        for nodes in [vec![leader], all] {
            fill(run, &nodes, &mut spans).await?;
            back = back.max(writes_work_again(run).await?);
        }
    }
    traffic.settle(run, &nobody()).await?;
    check(run, &nobody(), &nobody()).await?;
    let records = run.history.records();
    run.hold("writes_on_a_full_disk_are_answered", answered(&records, &spans));
    figures(run, &records, &spans, back);
    lost_writes(run);
    Ok(())
}

/// Fills the disks of these nodes for a while.
async fn fill(run: &mut Run, nodes: &[usize], spans: &mut Spans) -> anyhow::Result<()> {
    tokio::time::sleep(BEFORE).await;
    let names: Vec<String> = nodes.iter().map(|node| name(*node)).collect();
    run.history.note(format!("full: {}", names.join(", ")));
    let from = run.history.now();
    let mut ballast = Vec::new();
    for node in nodes {
        ballast.push(Ballast::fill(&run.cluster, *node, &run.history)?);
    }
    let until = Instant::now() + FULL;
    while Instant::now() < until {
        tokio::time::sleep(BETWEEN_PRESSES).await;
        for ballast in &mut ballast {
            ballast.press()?;
        }
    }
    spans.push((from, run.history.now()));
    for ballast in ballast {
        ballast.take_away(&run.history)?;
    }
    let ended = run.cluster.ended_by_themselves();
    if !ended.is_empty() {
        bail!("while the disks of {} were full, {}", names.join(", "), ended.join("; "));
    }
    Ok(())
}

/// Waits until a write was acknowledged by each node, and all have the same; how long that took.
async fn writes_work_again(run: &Run) -> anyhow::Result<Micros> {
    let room = run.history.now();
    let acknowledged = |record: &Record| record.start >= room && record.outcome == Outcome::Ok;
    let through = || -> BTreeSet<usize> {
        let records = run.history.records();
        let nodes = records.iter().filter(|record| acknowledged(record)).filter_map(|record| match record.op {
            Op::Write { node, .. } => Some(node),
            _ => None,
        });
        nodes.collect()
    };
    let all = run.cluster.len();
    until(HEALED_WITHIN, "a write is acknowledged by every node", || through().len() == all).await?;
    for node in run.all_nodes() {
        view::ready(&run.entrances, node, HEALED_WITHIN).await?;
    }
    Ok(run.history.now() - room)
}

/// Writes and their statuses while disks were full, all of the attempt.
fn during<'a>(records: &'a [Record], spans: &'a Spans) -> impl Iterator<Item = (&'a Record, u16)> {
    let inside = |record: &&Record| spans.iter().any(|(from, until)| (*from..*until).contains(&record.start));
    records.iter().filter(inside).filter_map(|record| match record.op {
        Op::Write { status, .. } => Some((record, status)),
        _ => None,
    })
}

fn answered(records: &[Record], spans: &Spans) -> Vec<String> {
    let is_answer = |status: u16| status < 300 || status == VERSION_MISMATCH || NO_ROOM.contains(&status);
    let wrong = during(records, spans).filter(|(_, status)| *status == 0 || !is_answer(*status));
    wrong
        .map(|(record, status)| format!("after {}: {status} {:?}", seconds(record.end - record.start), record.op))
        .collect()
}

fn figures(run: &mut Run, records: &[Record], spans: &Spans, back: Micros) {
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    let mut slowest = 0;
    for (record, status) in during(records, spans) {
        *statuses.entry(status).or_default() += 1;
        slowest = slowest.max(record.end - record.start);
    }
    let counts: Vec<String> = statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    run.figure(
        "writes while disks were full, by answer; slowest",
        format!("{}; {}", counts.join(", "), seconds(slowest)),
        Some(("answered", slowest < ATTEMPT_WITHIN.as_micros() as Micros)),
    );
    run.figure("room again until all nodes write, longest", seconds(back), Some(("≤10 s", back <= 10 * SECOND)));
    let dropped = run.history.count(|record| matches!(record.op, Op::Ended { by_client: false, .. }));
    run.figure("connections dropped, on any node", dropped.to_string(), Some(("0", dropped == 0)));
    let pushes: Vec<&Record> = records
        .iter()
        .filter(|record| spans.iter().any(|(from, until)| (*from..*until).contains(&record.start)))
        .filter(|record| matches!(record.op, Op::Push { .. }))
        .collect();
    let accepted = pushes.iter().filter(|record| record.outcome == Outcome::Ok).count();
    let seen = format!("{accepted} of {}", pushes.len());
    run.figure("pushes accepted while disks were full", seen, Some(("all", accepted == pushes.len())));
    run.figure("leader changes", leader_changes(records).len().to_string(), None);
}
