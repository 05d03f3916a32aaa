//! A follower is killed and loses its disk. It comes back as a new node of the same cluster; the old one stays a voter
//! that is never heard of again, so from then on the two others are needed for a majority.

use std::time::Duration;

use anyhow::Context;
use rand::seq::IndexedRandom;

use super::traffic::wait_for_writes;
use crate::cluster::name;
use crate::faults::{kill::kill, restart::restart, wipe::wipe};
use crate::figures::seconds;
use crate::run::{Run, HEALED_WITHIN};
use crate::view::{self, View};
use crate::workload::{config_writer, sampler};

const WRITES: usize = 50;
const BETWEEN_WRITES: Duration = Duration::from_millis(20);
const LABEL: &str = "wiped-";

/// One wipe a run, whatever the number of cycles: with each one the cluster keeps one more dead voter.
pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("wiped_disk");
    let all = run.all_nodes();
    let sampler = sampler::start(&run.entrances, &run.history);
    let seed = run.options.seed;
    let writers = config_writer::start(2, BETWEEN_WRITES, LABEL, seed, &run.entrances, &run.history);
    wait_for_writes(run, WRITES).await?;
    let leader = view::leader(&run.entrances, HEALED_WITHIN).await?;
    let followers: Vec<usize> = all.iter().copied().filter(|node| *node != leader).collect();
    let victim = *followers.choose(&mut rng).context("no follower")?;
    let before = view::ask(&run.entrances, victim).await?;

    kill(&mut run.cluster, victim, &run.history).await?;
    wipe(&run.cluster, victim, &run.history)?;
    let committed = view::ask(&run.entrances, leader).await?.state_index;
    let restarted = run.history.now();
    restart(&mut run.cluster, victim, &run.history)?;
    view::ready(&run.entrances, victim, HEALED_WITHIN).await?;
    let back = run.history.now() - restarted;
    let there = view::ask(&run.entrances, victim).await?.state_index;
    run.hold("ready_means_caught_up", caught_up(there, committed));
    wait_for_writes(run, WRITES).await?;
    writers.end().await?;
    let views = run.healed(&all).await?;
    sampler.end().await?;

    run.hold("wiped_node_is_a_new_one", is_new(&before, &views[victim]));
    run.check_configuration(&all, LABEL).await?;
    run.figure(format!("{} back with everything, on an empty disk", name(victim)), seconds(back), None);
    let raft = &views[leader].raft;
    let shape = format!("{} voters (one of them dead), {} learners", raft.voters.len(), raft.learners.len());
    run.figure("membership afterwards", shape, None);
    Ok(())
}

fn caught_up(there: u64, committed: u64) -> Vec<String> {
    if there >= committed {
        return Vec::new();
    }
    vec![format!("ready at index {there}, although {committed} was committed before it started")]
}

fn is_new(before: &View, after: &View) -> Vec<String> {
    let mut breaks = Vec::new();
    if before.node_id == after.node_id {
        breaks.push(format!("{} has its old id on an empty disk", after.node_id));
    }
    if before.cluster_id.is_none() || before.cluster_id != after.cluster_id {
        breaks.push(format!("the cluster was {:?} and is {:?}", before.cluster_id, after.cluster_id));
    }
    breaks
}
