//! What nodes send each other, TCP and UDP, takes its time, on all lines or on those of one node.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::cluster::Cluster;
use crate::history::{History, Op};
use crate::network::Slow;

/// One way: from another city, up to the other side of the world over a bad line.
pub const MILLIS: RangeInclusive<u64> = 50..=300;

pub fn slow(cluster: &Cluster, nodes: &BTreeSet<usize>, history: &History) -> anyhow::Result<()> {
    let slow = Slow { nodes: nodes.clone(), millis: MILLIS };
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
