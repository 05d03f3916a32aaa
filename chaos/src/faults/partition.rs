//! One node is cut off from the others, in both directions; its clients still reach it. Nobody refuses, all is silence.

use crate::cluster::Cluster;
use crate::history::{History, Op};

pub fn partition(cluster: &Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    cluster.network()?.change(|cuts| {
        cuts.mute.insert(node);
        cuts.deaf.insert(node);
    })?;
    history.event(Op::Fault { fault: "partition", node });
    Ok(())
}

pub fn heal(cluster: &Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    history.event(Op::Fault { fault: "partition_healed", node });
    cluster.network()?.change(|cuts| {
        cuts.mute.remove(&node);
        cuts.deaf.remove(&node);
    })
}
