//! A node's clients are cut off from it: nothing gets through, in neither direction, and nobody is told. Other nodes, the
//! service and the administrator still reach it.

use crate::cluster::Cluster;
use crate::history::{History, Op};

pub fn cut(cluster: &Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    cluster.network()?.change(|cuts| {
        cuts.without_clients.insert(node);
    })?;
    cluster.entrances.set_client_side(node, false);
    history.event(Op::Fault { fault: "clients_cut", node });
    Ok(())
}

pub fn heal(cluster: &Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    history.event(Op::Fault { fault: "clients_cut_healed", node });
    cluster.entrances.set_client_side(node, true);
    cluster.network()?.change(|cuts| {
        cuts.without_clients.remove(&node);
    })
}
