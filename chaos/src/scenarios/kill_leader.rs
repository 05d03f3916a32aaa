//! Configuration is written all the time; the leader is killed, and comes back after 1–2 s.

use std::time::Duration;

use rand::Rng;

use super::traffic::wait_for_writes;
use crate::faults::{kill::kill, restart::restart};
use crate::figures::{p99, seconds, write_gap};
use crate::history::{Op, Outcome, SECOND};
use crate::run::{Run, HEALED_WITHIN};
use crate::view;
use crate::workload::{config_writer, sampler};

const WRITERS: u32 = 3;
const BETWEEN_WRITES: Duration = Duration::from_millis(15);
/// Acknowledged writes before a kill, and after the restart.
const WRITES_BEFORE: usize = 50;
const WRITES_AFTER: usize = 30;
const DOWN_MILLIS: std::ops::RangeInclusive<u64> = 1000..=2000;

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("kill_leader");
    let all = run.all_nodes();
    let sampler = sampler::start(&run.entrances, &run.history);
    let mut gaps = Vec::new();
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        let label = format!("kill-{cycle}-");
        let seed = run.options.seed;
        let writers = config_writer::start(WRITERS, BETWEEN_WRITES, &label, seed, &run.entrances, &run.history);
        wait_for_writes(run, WRITES_BEFORE).await?;
        let leader = view::leader(&run.entrances, HEALED_WITHIN).await?;
        let killed = run.history.now();
        kill(&mut run.cluster, leader, &run.history).await?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(DOWN_MILLIS))).await;
        restart(&mut run.cluster, leader, &run.history)?;
        view::ready(&run.entrances, leader, HEALED_WITHIN).await?;
        wait_for_writes(run, WRITES_AFTER).await?;
        gaps.push(write_gap(&run.history.records(), killed, run.history.now()));
        writers.end().await?;
        run.healed(&all).await?;
        run.check_configuration(&all, &label).await?;
    }
    sampler.end().await?;
    run.healed(&all).await?;
    run.check_configuration(&all, "kill-").await?;
    let written = run.history.count(|record| matches!(record.op, Op::Write { .. }) && record.outcome == Outcome::Ok);
    run.figure(
        format!("acknowledged writes lost, {} kills", gaps.len()),
        format!("{} of {written}", lost(run)),
        Some(("0", lost(run) == 0)),
    );
    run.figure("write gap, p99 of the kills", seconds(p99(&gaps)), Some(("≤3 s", p99(&gaps) <= 3 * SECOND)));
    Ok(())
}

fn lost(run: &Run) -> usize {
    run.breaks.iter().filter(|text| text.starts_with("no_acknowledged_write_lost")).count()
}
