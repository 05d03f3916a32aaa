//! The disk of a node that has ended is gone.

use crate::cluster::Cluster;
use crate::history::{History, Op};

pub fn wipe(cluster: &Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    history.event(Op::Fault { fault: "wipe", node });
    cluster.wipe(node)
}
