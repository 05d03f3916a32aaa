//! The power fails for all nodes in the very moment in which one of them is in a new term, on disks whose syncs take long. A
//! node that gives its vote before that is on disk has then forgotten it.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::durable::{Loss, Lost};
use crate::faults::{kill::kill, power_failure::power_failure, restart::restart};
use crate::run::{Run, HEALED_WITHIN};
use crate::view;
use crate::workload::sampler;

const ELECTIONS_PER_CYCLE: u32 = 4;
/// A slow disk. Shorter than an election has time, so that there are leaders.
const SYNC_MILLIS: u32 = 200;
/// Between two looks at which term it is.
const LOOK: Duration = Duration::from_millis(5);

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let all = run.all_nodes();
    let mut lost = Lost::default();
    let mut elections = 0;
    run.cluster.set_sync_millis(SYNC_MILLIS);
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        for _ in 0..ELECTIONS_PER_CYCLE {
            // All at once, all come back: the leader goes on as such. So it has to stay away.
            let leader = view::leader(&run.entrances, HEALED_WITHIN).await?;
            let before = view::ask(&run.entrances, leader).await?.term;
            kill(&mut run.cluster, leader, &run.history).await?;
            wait_for_a_new_term(run, before).await?;
            lost.add(power_failure(&mut run.cluster, &mut Loss::All, &run.history)?);
            elections += 1;
            for node in &all {
                restart(&mut run.cluster, *node, &run.history)?;
            }
            sample_first_answers(run).await?;
        }
    }
    run.cluster.set_sync_millis(0);
    run.healed(&all).await?;
    run.figure("elections in which the power failed", elections.to_string(), None);
    run.figure("dropped bytes", lost.bytes.to_string(), None);
    Ok(())
}

/// Until a node is in a later term; what all say then is on record.
async fn wait_for_a_new_term(run: &Run, before: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        for node in run.entrances.usable() {
            let Ok(view) = view::ask(&run.entrances, node).await else { continue };
            if view.term > before {
                for other in run.entrances.usable() {
                    sampler::sample(&run.entrances, other, &run.history).await;
                }
                return Ok(());
            }
        }
        ensure!(began.elapsed() < HEALED_WITHIN, "nobody stood for election within {HEALED_WITHIN:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// What the nodes remember, before the first of them stands for election.
async fn sample_first_answers(run: &Run) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut silent = run.all_nodes();
    while !silent.is_empty() {
        let mut still = Vec::new();
        for node in silent {
            match view::ask(&run.entrances, node).await {
                Ok(_) => sampler::sample(&run.entrances, node, &run.history).await,
                Err(_) => still.push(node),
            }
        }
        silent = still;
        ensure!(began.elapsed() < HEALED_WITHIN, "no answer within {HEALED_WITHIN:?} from {silent:?}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
