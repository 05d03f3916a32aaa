//! The scenarios: what is done to which node under which traffic, and what must hold. Each runs on a cluster of its own.

mod bad_lines;
mod bit_flips;
mod clients_cut;
mod clock_jump;
mod cut_off;
mod cut_off_start;
mod disk_full;
mod failed_elections;
mod kill_leader;
mod kill_owner;
mod one_way_partition;
mod packet_loss;
mod partition;
mod pause_node;
mod power_failure;
mod random;
mod resets;
mod rolling_restart;
mod rolling_upgrade;
mod slow_line;
mod traffic;
mod wiped_disk;

use crate::run::Run;

pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    /// Whether nodes must be in a network where they can be cut off from each other.
    pub needs_network: bool,
    /// Whether an older binary of the gateway must be named.
    pub needs_old_binary: bool,
    /// Whether a library must be in front of the nodes' libc.
    pub needs_shim: bool,
    /// Whether each node must have a small disk of its own.
    pub needs_small_disks: bool,
}

const fn on_loopback(name: &'static str, what: &'static str) -> Scenario {
    let needs_old_binary = false;
    Scenario { name, what, needs_network: false, needs_old_binary, needs_shim: false, needs_small_disks: false }
}

const fn in_a_network(name: &'static str, what: &'static str) -> Scenario {
    Scenario { needs_network: true, ..on_loopback(name, what) }
}

const fn from_an_older_one(name: &'static str, what: &'static str) -> Scenario {
    Scenario { needs_old_binary: true, ..on_loopback(name, what) }
}

const fn behind_a_shim(name: &'static str, what: &'static str) -> Scenario {
    Scenario { needs_shim: true, ..on_loopback(name, what) }
}

const fn on_small_disks(name: &'static str, what: &'static str) -> Scenario {
    Scenario { needs_small_disks: true, ..on_loopback(name, what) }
}

/// In the order of running.
pub const ALL: &[Scenario] = &[
    on_loopback("kill_leader", "kill -9 the leader under configuration writes, start it again after 1–2 s"),
    on_loopback(
        "kill_owner",
        "kill -9 a node under 60 talking clients and pushes; its connections are gone, the others stay",
    ),
    on_loopback("pause_node", "stop a node for 5–8 s (30 s from the second cycle on) under the same traffic, the leader perhaps, and let it go on"),
    on_loopback(
        "rolling_restart",
        "ask the nodes to leave one after the other, and start them again, under the same traffic",
    ),
    from_an_older_one(
        "rolling_upgrade",
        "the same, from the program of --old-binary to this one, with one node going back on the way",
    ),
    on_loopback("wiped_disk", "kill -9 a follower, remove its disk, start it again"),
    behind_a_shim(
        "failed_elections",
        "let the power fail for all nodes just when one of them is in a new term, on disks whose syncs take long",
    ),
    behind_a_shim(
        "power_failure",
        "kill -9 all nodes at once under configuration writes, and drop what none of them had synced; three times a cycle",
    ),
    on_loopback(
        "bit_flips",
        "kill -9 a follower and flip a bit of a file of its, or cut the file's end off; four times a cycle",
    ),
    on_small_disks("disk_full", "fill the disk of a follower, of the leader, then of all, for 5.5 s each, under the same traffic"),
    behind_a_shim("clock_jump", "put a node's clock an hour forward and back, then an hour back and forward; then all clocks"),
    in_a_network("cut_off_start", "start new nodes while none can reach another, for 3–6 s"),
    in_a_network("partition", "cut a follower off from the others for 8–11 s under the same traffic, then the leader"),
    in_a_network("one_way_partition", "make a node mute for 8–11 s, then one deaf, the leader perhaps"),
    in_a_network("packet_loss", "lose 5 % of all that nodes send each other, for 25 s a cycle"),
    in_a_network(
        "slow_line",
        "delay all that nodes send each other by 50–300 ms, and then what goes from and to one of them, for 7 s a cycle each",
    ),
    in_a_network("resets", "reset the connections between two nodes by chance every 1–3 s, on fast and on slow lines, for 8 s a cycle each"),
    in_a_network("clients_cut", "cut a node off from its clients, silently, until it has noticed"),
    in_a_network("random", "several of all these faults, one over the other, for --seconds; then all is healed"),
];

/// Nodes of each scenario's cluster.
pub const NODES: usize = 3;

/// Starts the cluster and plays a scenario. An error is as bad as a broken invariant: something did not come back.
pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    if run.scenario == "rolling_upgrade" {
        rolling_upgrade::prepare(run)?;
    }
    if run.scenario != "cut_off_start" {
        run.start().await?;
    }
    match run.scenario {
        "cut_off_start" => cut_off_start::play(run).await?,
        "kill_leader" => kill_leader::play(run).await?,
        "kill_owner" => kill_owner::play(run).await?,
        "pause_node" => pause_node::play(run).await?,
        "rolling_restart" => rolling_restart::play(run).await?,
        "failed_elections" => failed_elections::play(run).await?,
        "power_failure" => power_failure::play(run).await?,
        "bit_flips" => bit_flips::play(run).await?,
        "disk_full" => disk_full::play(run).await?,
        "clock_jump" => clock_jump::play(run).await?,
        "wiped_disk" => wiped_disk::play(run).await?,
        "partition" => partition::play(run).await?,
        "one_way_partition" => one_way_partition::play(run).await?,
        "random" => random::play(run).await?,
        "packet_loss" => packet_loss::play(run).await?,
        "slow_line" => slow_line::play(run).await?,
        "resets" => resets::play(run).await?,
        "clients_cut" => clients_cut::play(run).await?,
        "rolling_upgrade" => rolling_upgrade::play(run).await?,
        other => anyhow::bail!("there is no scenario {other}"),
    }
    run.check_always();
    Ok(())
}
