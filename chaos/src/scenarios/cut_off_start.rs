//! New nodes are started while none of them can reach another. None may make a cluster by itself; when they can, they are to
//! make one together. Once only, whatever `--cycles` says: another cluster's history would be another one.

use std::time::Duration;

use rand::Rng;

use crate::faults::partition;
use crate::figures::seconds;
use crate::history::SECOND;
use crate::run::Run;
use crate::workload::sampler;

/// Several rounds of looking for the others.
const CUT_MILLIS: std::ops::RangeInclusive<u64> = 3000..=6000;

/// No node runs yet.
pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("cut_off_start");
    let all = run.all_nodes();
    for node in &all {
        partition::partition(&run.cluster, *node, &run.history)?;
    }
    run.start_all()?;
    tokio::time::sleep(Duration::from_millis(rng.random_range(CUT_MILLIS))).await;
    for node in &all {
        sampler::sample(&run.entrances, *node, &run.history).await;
    }
    for node in &all {
        partition::heal(&run.cluster, *node, &run.history)?;
    }
    let healed = run.history.now();
    run.formed().await?;
    let took = run.history.now() - healed;
    run.figure("one cluster after healing", seconds(took), Some(("≤10 s", took <= 10 * SECOND)));
    Ok(())
}
