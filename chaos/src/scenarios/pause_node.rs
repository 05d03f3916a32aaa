//! Clients talk and are pushed to on all nodes; one node, the leader perhaps, stands still for seconds and goes on. It has
//! lost nothing, so its connections are never said to be gone.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;

use super::traffic::{check, wait_for_writes, Traffic};
use crate::cluster::name;
use crate::faults::pause::{go_on, pause};
use crate::figures::{seconds, write_gap};
use crate::history::{Micros, Op, Record, SECOND};
use crate::run::{Run, HEALED_WITHIN};
use crate::view;

const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(2);
const STOPPED_MILLIS: std::ops::RangeInclusive<u64> = 5000..=8000;
/// From the second cycle on: others have taken the node for dead meanwhile.
const STOPPED_LONG: Duration = Duration::from_secs(30);

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("pause_node");
    let mut victims = BTreeSet::new();
    let mut gap: Micros = 0;
    let mut leaders = 0;
    let traffic = Traffic::start(run).await?;
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        tokio::time::sleep(BEFORE).await;
        let leader = view::leader(&run.entrances, HEALED_WITHIN).await?;
        let victim = rng.random_range(0..run.cluster.len());
        victims.insert(victim);
        leaders += u32::from(victim == leader);
        let from = run.history.now();
        pause(&run.cluster, victim, &run.history)?;
        let short = Duration::from_millis(rng.random_range(STOPPED_MILLIS));
        tokio::time::sleep(if cycle == 0 { short } else { STOPPED_LONG }).await;
        go_on(&run.cluster, victim, &run.history)?;
        wait_for_writes(run, 10).await?;
        gap = gap.max(write_gap(&run.history.records(), from, run.history.now()));
        tokio::time::sleep(AFTER).await;
    }
    traffic.settle(run, &BTreeSet::new()).await?;
    // Nobody may lose a connection, the clients of the stopped node neither: it is back before anything gives it up.
    check(run, &BTreeSet::new(), &BTreeSet::new()).await?;
    let names: Vec<String> = victims.into_iter().map(name).collect();
    let what = format!("write gap, {} stopped ({leaders} times the leader)", names.join(", "));
    run.figure(what, seconds(gap), Some(("≤5 s", gap <= 5 * SECOND)));
    let stale = run.breaks.iter().filter(|text| text.starts_with("linearizable_reads_are_fresh")).count();
    let reads = run.history.count(|record| matches!(record.op, Op::Read { .. }));
    run.figure("stale linearizable reads", format!("{stale} of {reads}"), Some(("0", stale == 0)));
    let dropped = run.history.count(|record: &Record| matches!(record.op, Op::Ended { by_client: false, .. }));
    run.figure("clients dropped, the stopped node's included", dropped.to_string(), None);
    Ok(())
}
