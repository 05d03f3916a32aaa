//! Clients talk and are pushed to on all nodes while connections between nodes are reset, those of two nodes by chance every
//! 1–3 s. Leaders stay, nobody is taken for dead, no client is dropped; what was under way is answered with an error, or is
//! done, and is never said to be done when it is not.

use std::time::Duration;

use rand::Rng;

use super::bad_lines::{figures, latencies, Changes};
use super::cut_off::{nobody, BEFORE};
use super::traffic::{check, wait_for_writes, Traffic};
use crate::faults::reset::reset;
use crate::history::{Op, Outcome};
use crate::run::Run;

const LASTS: Duration = Duration::from_secs(16);
const BETWEEN_MILLIS: std::ops::RangeInclusive<u64> = 1000..=3000;

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("resets");
    let traffic = Traffic::start(run).await?;
    tokio::time::sleep(BEFORE).await;
    let began = run.history.now();
    let (mut times, mut connections, mut cycles) = (0, 0, 0);
    while run.goes_on(cycles) {
        let end = tokio::time::Instant::now() + LASTS;
        while tokio::time::Instant::now() < end {
            let one = rng.random_range(0..run.cluster.len());
            let other = (one + rng.random_range(1..run.cluster.len())) % run.cluster.len();
            times += 1;
            connections += reset(&run.cluster, one, other, &run.history)?;
            tokio::time::sleep(Duration::from_millis(rng.random_range(BETWEEN_MILLIS))).await;
        }
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
    latencies(run, &bad, "");
    let unknown =
        |record: &crate::history::Record| matches!(record.op, Op::Push { .. }) && record.outcome == Outcome::Unknown;
    let unknown = run.history.count(unknown);
    run.figure("pushes of which nobody knows what became", unknown.to_string(), None);
    Ok(())
}
