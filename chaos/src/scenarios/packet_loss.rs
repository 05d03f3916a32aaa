//! Clients talk and are pushed to on all nodes while 5 % of all that nodes send each other is lost. Leaders stay, nobody is
//! taken for dead, pushes arrive or are refused.

use std::time::Duration;

use super::cut_off::{nobody, BEFORE};
use super::traffic::{check, lost_writes, wait_for_writes, Traffic};
use crate::faults::packet_loss::{heal, lose};
use crate::figures::{false_deaths, leader_changes, most_in_a_minute, p99, seconds, write_gap};
use crate::history::{Micros, Op, Outcome, Record, SECOND};
use crate::run::Run;

const PERCENT: u8 = 5;
const LOSSY: Duration = Duration::from_secs(25);

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let traffic = Traffic::start(run).await?;
    tokio::time::sleep(BEFORE).await;
    let from = run.history.now();
    lose(&run.cluster, PERCENT, &run.history)?;
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        tokio::time::sleep(LOSSY).await;
    }
    let until = run.history.now();
    heal(&run.cluster, &run.history)?;
    wait_for_writes(run, 5).await?;
    traffic.settle(run, &nobody()).await?;
    check(run, &nobody(), &nobody()).await?;
    figures(run, from, until);
    lost_writes(run);
    Ok(())
}

fn figures(run: &mut Run, from: Micros, until: Micros) {
    let mut records = run.history.records();
    let all_changes = leader_changes(&records);
    records.retain(|record| record.start >= from && record.end <= until);
    let times: Vec<Micros> = all_changes.iter().map(|(at, _)| *at).filter(|at| (from..until).contains(at)).collect();
    let most = most_in_a_minute(&times);
    let what = format!("leader changes in {}; most in a minute", seconds(until - from));
    run.figure(what, format!("{}; {most}", times.len()), Some(("≤2 a minute", most <= 2)));
    let deaths = false_deaths(&records);
    run.figure("nodes that gossip had for dead", deaths.to_string(), Some(("0", deaths == 0)));
    let dropped = run.history.count(|record| matches!(record.op, Op::Ended { by_client: false, .. }));
    run.figure("connections dropped", dropped.to_string(), Some(("0", dropped == 0)));
    let gap = write_gap(&records, from, until);
    run.figure("write gap, longest", seconds(gap), Some(("≤3 s", gap <= 3 * SECOND)));
    let across = |record: &&Record| matches!(record.op, Op::Push { owner, node, .. } if owner != node);
    let pushes: Vec<&Record> = records.iter().filter(across).collect();
    let accepted = pushes.iter().filter(|record| record.outcome == Outcome::Ok).count();
    let took: Vec<Micros> = pushes.iter().map(|record| record.end - record.start).collect();
    let seen = format!("{accepted} of {}; {}", pushes.len(), seconds(p99(&took)));
    run.figure("pushes between nodes accepted; p99", seen, None);
}
