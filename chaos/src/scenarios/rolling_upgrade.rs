//! A cluster of an older program is upgraded under the traffic of `rolling_restart`: one node after the other leaves in order
//! and starts the present program on the same disk. Before the last one is new, another goes back to the old program and
//! forth again: as long as one node is old, nothing may be in the log that it does not know. When all are new, the cluster
//! lets in what only they understand.

use std::time::Duration;

use anyhow::Context;
use rand::seq::SliceRandom;

use super::rolling_restart::Rolling;
use super::traffic::{lost_writes, until, Traffic};
use crate::cluster::name;
use crate::run::Run;

/// What a node logs that leads and has raised the number of what all understand (`docs/adr/0051`); nothing else shows it.
const RAISED: &str = "all nodes understand a newer version";
/// The leader looks every 5 s; a cluster that has just begun has other things to do first.
const RAISED_WITHIN: Duration = Duration::from_secs(15);

/// All nodes begin with the old program.
pub fn prepare(run: &mut Run) -> anyhow::Result<()> {
    let old = run.options.old_binary.clone().context("no older binary is named")?;
    for node in run.all_nodes() {
        run.cluster.set_binary(node, &old);
    }
    Ok(())
}

/// One upgrade a run, whatever the number of cycles.
pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let old = run.options.old_binary.clone().context("no older binary is named")?;
    let new = run.options.binary.clone();
    let mut order = run.all_nodes();
    order.shuffle(&mut run.rng("rolling_upgrade"));
    let (last, first) = order.split_last().context("no node")?;
    let mut rolling = Rolling::default();
    let traffic = Traffic::start(run).await?;
    // An old program that knows the number, too, raises it by itself. One that does not never will.
    let _at_all = until(RAISED_WITHIN, "the old program's own", || raised(run) > 0).await;
    let before = raised(run);
    for node in first {
        change(run, &mut rolling, *node, &new, "new").await?;
    }
    if let Some(back) = first.first() {
        change(run, &mut rolling, *back, &old, "old").await?;
        change(run, &mut rolling, *back, &new, "new").await?;
    }
    let too_early = raised(run) - before;
    change(run, &mut rolling, *last, &new, "new").await?;
    let all_new = run.history.now();
    // Not at all, when both programs understand the same; the figure says so.
    let _at_all = until(RAISED_WITHIN, "the cluster's version rises", || raised(run) > before).await;
    let after = run.history.now() - all_new;
    let rose = raised(run) > before;
    rolling.end(run, traffic).await?;
    lost_writes(run);
    let early = (too_early > 0).then(|| "the cluster's version rose while a node ran the old program".to_owned());
    run.hold("no_version_that_a_node_does_not_understand", early.into_iter().collect());
    let seen = match (rose, before) {
        (true, _) => format!("{:.1} s after the last was new", after as f64 / 1e6),
        (false, 1..) => "no: the old program understands as much".to_owned(),
        (false, 0) => format!("not within {RAISED_WITHIN:?}"),
    };
    run.figure("the cluster's version has risen", seen, Some(("when all are new", rose || before > 0)));
    Ok(())
}

async fn change(
    run: &mut Run,
    rolling: &mut Rolling,
    node: usize,
    binary: &std::path::Path,
    which: &str,
) -> anyhow::Result<()> {
    run.history.note(format!("{} runs the {which} program from its next start on", name(node)));
    rolling.restart(run, node, |run| run.cluster.set_binary(node, binary)).await
}

/// How often the cluster's version has been raised, as the nodes' logs say.
fn raised(run: &Run) -> usize {
    run.cluster.logs().iter().map(|(_, log)| log.matches(RAISED).count()).sum()
}
