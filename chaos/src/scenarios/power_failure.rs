//! Configuration is written on all nodes; the power fails for all of them at once, and what was not synced is gone. What was
//! acknowledged must be there when they are back, on all of them.

use std::time::Duration;

use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::traffic::{lost_writes, wait_for_writes};
use crate::durable::{Loss, Lost};
use crate::faults::{power_failure::power_failure, restart::restart};
use crate::figures::{p99, seconds};
use crate::history::{Op, Outcome, SECOND};
use crate::run::{Run, HEALED_WITHIN};
use crate::view;
use crate::workload::{config_writer, sampler};

const FAILURES_PER_CYCLE: u32 = 3;
const WRITERS: u32 = 4;
const BETWEEN_WRITES: Duration = Duration::from_millis(10);
/// Acknowledged writes before a failure, and after all are back.
const WRITES_BEFORE: usize = 40;
const WRITES_AFTER: usize = 10;
/// So that it does not always fail just after an acknowledgement.
const MOMENT_MILLIS: std::ops::Range<u64> = 0..200;

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("power_failure");
    let all = run.all_nodes();
    let sampler = sampler::start(&run.entrances, &run.history);
    let mut lost = Lost::default();
    let mut back = Vec::new();
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        for failure in 0..FAILURES_PER_CYCLE {
            let label = format!("power-{cycle}-{failure}-");
            let seed = run.options.seed;
            let writers = config_writer::start(WRITERS, BETWEEN_WRITES, &label, seed, &run.entrances, &run.history);
            wait_for_writes(run, WRITES_BEFORE).await?;
            tokio::time::sleep(Duration::from_millis(rng.random_range(MOMENT_MILLIS))).await;
            lost.add(power_failure(&mut run.cluster, &mut loss(&mut rng), &run.history)?);
            let failed = run.history.now();
            for node in &all {
                restart(&mut run.cluster, *node, &run.history)?;
            }
            for node in &all {
                view::ready(&run.entrances, *node, HEALED_WITHIN).await?;
            }
            wait_for_writes(run, WRITES_AFTER).await?;
            back.push(run.history.now() - failed);
            writers.end().await?;
            run.healed(&all).await?;
            run.check_configuration(&all, &label).await?;
        }
    }
    sampler.end().await?;
    run.healed(&all).await?;
    run.check_configuration(&all, "power-").await?;
    figures(run, lost, &mut back);
    // Else nothing was shown: the library is not in front of libc, or everything is synced before it can be lost.
    ensure!(lost.bytes > 0, "no power failure took anything away: there was no fault");
    Ok(())
}

/// All that can be lost, mostly: what is acknowledged too early shows then. Some of it shows what is put in a wrong order.
fn loss(rng: &mut StdRng) -> Loss {
    let parts = Box::new(StdRng::seed_from_u64(rng.random()));
    if rng.random_bool(0.6) {
        Loss::All
    } else {
        Loss::Some(parts)
    }
}

fn figures(run: &mut Run, lost: Lost, back: &mut [u64]) {
    lost_writes(run);
    let unknown =
        run.history.count(|record| matches!(record.op, Op::Write { .. }) && record.outcome == Outcome::Unknown);
    let p99 = p99(back);
    run.figure(
        format!("failures; from a failure to {WRITES_AFTER} writes, p99"),
        format!("{}; {}", back.len(), seconds(p99)),
        Some(("≤10 s", p99 <= 10 * SECOND)),
    );
    run.figure(
        "dropped: bytes, of them of write-ahead logs; new files; renames",
        format!("{}, {}; {}; {}", lost.bytes, lost.wal_bytes, lost.files, lost.renames),
        Some((">0 bytes", lost.bytes > 0)),
    );
    run.figure("writes that were under way", unknown.to_string(), None);
}
