//! What nodes send each other, TCP and UDP, takes its time, on all lines or on those of one node.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::cluster::Cluster;
use crate::history::{History, Op};
use crate::network::Slow;

/// One way: from another city, up to the other side of the world over a bad line.
pub const FAR: RangeInclusive<u64> = 50..=300;
/// There and back within the 300 ms after which a leader sends an entry anew: nodes still agree on something.
pub const NEAR: RangeInclusive<u64> = 20..=140;

pub fn slow(
    cluster: &Cluster,
    nodes: &BTreeSet<usize>,
    millis: RangeInclusive<u64>,
    history: &History,
) -> anyhow::Result<()> {
    let slow = Slow { nodes: nodes.clone(), millis };
    cluster.network()?.change(|cuts| cuts.slow = Some(slow))?;
    for node in nodes {
        history.event(Op::Fault { fault: "slow_line", node: *node });
    }
    Ok(())
}

pub fn heal(cluster: &Cluster, nodes: &BTreeSet<usize>, history: &History) -> anyhow::Result<()> {
    for node in nodes {
        history.event(Op::Fault { fault: "slow_line_healed", node: *node });
    }
    cluster.network()?.change(|cuts| cuts.slow = None)
}
