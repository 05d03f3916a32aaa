//! A follower is killed and loses its disk. It comes back as a new node of the same cluster, and takes the vote of the old
//! one: before, a further loss would have ended configuration writes.

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
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
const LABEL: &str = "wiped-";

/// The old one has to be silent for ten seconds, and missed by gossip.
const REPLACED_WITHIN: Duration = Duration::from_secs(60);

/// One wipe a run, whatever the number of cycles.
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
    let replaced = wait_until_it_votes(run, leader, &all).await?.map(|at| at - restarted);
    writers.end().await?;
    let views = run.healed(&all).await?;
    sampler.end().await?;

    run.hold("wiped_node_is_a_new_one", is_new(&before, &views[victim]));
    run.check_configuration(&all, LABEL).await?;
    run.figure(format!("{} back with everything, on an empty disk", name(victim)), seconds(back), None);
    let missing = || vec![format!("not within {REPLACED_WITHIN:?}: {:?}", views[leader].raft)];
    run.hold("the_new_node_votes_and_the_old_one_is_forgotten", replaced.map_or_else(missing, |_| Vec::new()));
    if let Some(replaced) = replaced {
        run.figure("it votes in the place of the old one", seconds(replaced), None);
    }
    Ok(())
}

/// When exactly the nodes that run are voters; None: not in time.
async fn wait_until_it_votes(run: &Run, leader: usize, all: &[usize]) -> anyhow::Result<Option<u64>> {
    let began = std::time::Instant::now();
    while began.elapsed() < REPLACED_WITHIN {
        let mut ids = Vec::new();
        for node in all {
            ids.push(view::ask(&run.entrances, *node).await?.node_id);
        }
        ids.sort();
        let mut raft = view::ask(&run.entrances, leader).await?.raft;
        raft.voters.sort();
        if raft.voters == ids && raft.learners.is_empty() {
            return Ok(Some(run.history.now()));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Ok(None)
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
