//! Clients talk and are pushed to on all nodes while what nodes send each other takes 50–300 ms one way: first on all lines,
//! then on those of one node, the leader perhaps. Leaders stay, nobody is taken for dead, no client is dropped; pushes take
//! longer, and arrive or are refused.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;

use super::bad_lines::{figures, latencies, Changes};
use super::cut_off::{nobody, BEFORE};
use super::traffic::{check, wait_for_writes, Traffic};
use crate::cluster::name;
use crate::faults::slow_line::{heal, slow, FAR};
use crate::run::Run;

const SLOW: Duration = Duration::from_secs(7);

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("slow_line");
    let traffic = Traffic::start(run).await?;
    tokio::time::sleep(BEFORE).await;
    let began = run.history.now();
    let mut phases = Vec::new();
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        let one = rng.random_range(0..run.cluster.len());
        let all = (run.all_nodes().into_iter().collect(), " while all lines are slow".to_owned());
        let alone = (BTreeSet::from([one]), format!(" while those of {} are", name(one)));
        for (nodes, when) in [all, alone] {
            let from = run.history.now();
            slow(&run.cluster, &nodes, FAR, &run.history)?;
            tokio::time::sleep(SLOW).await;
            phases.push((from..run.history.now(), when));
            heal(&run.cluster, &nodes, &run.history)?;
            wait_for_writes(run, 5).await?;
        }
    }
    let bad = began..run.history.now();
    traffic.settle(run, &nobody()).await?;
    check(run, &nobody(), &nobody()).await?;
    figures(run, &bad, &Changes::InAll(phases.len().div_ceil(2)));
    // More would say the same again.
    for (phase, when) in phases.iter().take(2) {
        latencies(run, phase, when);
    }
    let (carried, lost) = run.cluster.network()?.delayed();
    run.figure("frames that were delayed; lost on the way", format!("{carried}; {lost}"), None);
    Ok(())
}
