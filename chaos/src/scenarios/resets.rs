//! Clients talk and are pushed to on all nodes while connections between nodes are reset, those of two nodes by chance every
//! 1–3 s; then the same on slow lines, where there is always something under way. Leaders stay, nobody is taken for dead, no
//! client is dropped; what was under way is answered with an error, or is done, and is never said to be done when it is not.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::Rng;

use super::bad_lines::{figures, latencies, Changes};
use super::cut_off::{nobody, BEFORE};
use super::traffic::{check, wait_for_writes, Traffic};
use crate::faults::reset::reset;
use crate::faults::slow_line;
use crate::history::{Micros, Op, Outcome, Record};
use crate::run::Run;

const LASTS: Duration = Duration::from_secs(8);
const BETWEEN_MILLIS: std::ops::RangeInclusive<u64> = 1000..=3000;

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("resets");
    let traffic = Traffic::start(run).await?;
    tokio::time::sleep(BEFORE).await;
    let began = run.history.now();
    let mut phases = Vec::new();
    let (mut times, mut connections, mut cycles) = (0, 0, 0);
    while run.goes_on(cycles) {
        let all: BTreeSet<usize> = run.all_nodes().into_iter().collect();
        let from = run.history.now();
        let fast = reset_on(run, &mut rng).await?;
        phases.push((from..run.history.now(), " on fast lines"));
        let from = run.history.now();
        slow_line::slow(&run.cluster, &all, slow_line::NEAR, &run.history)?;
        let slow = reset_on(run, &mut rng).await?;
        slow_line::heal(&run.cluster, &all, &run.history)?;
        phases.push((from..run.history.now(), " on slow lines"));
        times += fast.0 + slow.0;
        connections += fast.1 + slow.1;
        cycles += 1;
    }
    let bad = began..run.history.now();
    wait_for_writes(run, 5).await?;
    traffic.settle(run, &nobody()).await?;
    // A kernel that resets nothing must not pass for a gateway that bears it.
    let untouched = (connections == 0).then(|| "no connection between nodes was there to be reset".to_owned());
    run.hold("connections_were_reset", untouched.into_iter().collect());
    check(run, &nobody(), &nobody()).await?;
    run.figure("resets; connections that they ended", format!("{times}; {connections}"), None);
    figures(run, &bad, &Changes::InAll(cycles as usize));
    for (phase, when) in phases.iter().take(2) {
        latencies(run, phase, when);
    }
    pushes(run, &bad);
    Ok(())
}

/// How often, and how many connections that has ended.
async fn reset_on(run: &Run, rng: &mut StdRng) -> anyhow::Result<(usize, usize)> {
    let (mut times, mut connections) = (0, 0);
    let end = tokio::time::Instant::now() + LASTS;
    while tokio::time::Instant::now() < end {
        let one = rng.random_range(0..run.cluster.len());
        let other = (one + rng.random_range(1..run.cluster.len())) % run.cluster.len();
        times += 1;
        connections += reset(&run.cluster, one, other, &run.history)?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(BETWEEN_MILLIS))).await;
    }
    Ok((times, connections))
}

fn pushes(run: &mut Run, bad: &Range<Micros>) {
    let of = |outcome: Outcome| {
        let is = |record: &Record| {
            matches!(record.op, Op::Push { .. }) && record.outcome == outcome && bad.contains(&record.end)
        };
        run.history.count(is)
    };
    let seen = format!("{}; {}", of(Outcome::Failed), of(Outcome::Unknown));
    run.figure("pushes refused; of which nobody knows what became", seen, None);
}
