//! The scenarios: what is done to which node under which traffic, and what must hold. Each runs on a cluster of its own.

mod kill_leader;
mod kill_owner;
mod pause_node;
mod rolling_restart;
mod traffic;
mod wiped_disk;

use crate::run::Run;

/// Name and what it does, in the order of running.
pub const ALL: &[(&str, &str)] = &[
    ("kill_leader", "kill -9 the leader under configuration writes, start it again after 1–2 s"),
    ("kill_owner", "kill -9 a node under 60 talking clients and pushes; its connections are gone, the others stay"),
    ("pause_node", "stop a node for 5–8 s under the same traffic, the leader perhaps, and let it go on"),
    ("rolling_restart", "ask the nodes to leave one after the other, and start them again, under the same traffic"),
    ("wiped_disk", "kill -9 a follower, remove its disk, start it again"),
];

/// Nodes of each scenario's cluster.
pub const NODES: usize = 3;

/// Starts the cluster and plays a scenario. An error is as bad as a broken invariant: something did not come back.
pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    run.start().await?;
    match run.scenario {
        "kill_leader" => kill_leader::play(run).await?,
        "kill_owner" => kill_owner::play(run).await?,
        "pause_node" => pause_node::play(run).await?,
        "rolling_restart" => rolling_restart::play(run).await?,
        "wiped_disk" => wiped_disk::play(run).await?,
        other => anyhow::bail!("there is no scenario {other}"),
    }
    run.check_always();
    Ok(())
}
