//! A node that has ended starts again, on the disk that it finds.

use crate::cluster::Cluster;
use crate::history::{History, Op};

/// Clients and writers may use it from now on: that it isn't ready yet is theirs to bear.
pub fn restart(cluster: &mut Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    history.event(Op::Fault { fault: "restart", node });
    cluster.start(node)?;
    cluster.entrances.set_usable(node, true);
    Ok(())
}
