//! Clients talk and are pushed to on all nodes while 5 % of all that nodes send each other is lost. Leaders stay, nobody is
//! taken for dead, pushes arrive or are refused.

use std::time::Duration;

use super::bad_lines::{figures, latencies, Changes};
use super::cut_off::{nobody, BEFORE};
use super::traffic::{check, wait_for_writes, Traffic};
use crate::faults::packet_loss::{heal, lose};
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
    let lossy = from..run.history.now();
    heal(&run.cluster, &run.history)?;
    wait_for_writes(run, 5).await?;
    traffic.settle(run, &nobody()).await?;
    check(run, &nobody(), &nobody()).await?;
    figures(run, &lossy, &Changes::InAMinute(2));
    latencies(run, &lossy, "");
    Ok(())
}
