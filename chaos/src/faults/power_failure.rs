//! The power fails: all nodes end at the same moment, and of their disks only what was synced is there, or some of the
//! rest by chance.

use crate::cluster::Cluster;
use crate::durable::{Loss, Lost};
use crate::history::{History, Op};

pub fn power_failure(cluster: &mut Cluster, loss: &mut Loss, history: &History) -> anyhow::Result<Lost> {
    let nodes = 0..cluster.len();
    for node in nodes.clone() {
        history.event(Op::Fault { fault: "power_failure", node });
        cluster.entrances.set_usable(node, false);
    }
    cluster.kill_all();
    let mut lost = Lost::default();
    for node in nodes {
        let of_node = cluster.lose_what_is_not_durable(node, loss)?;
        history.note(format!("node {node} lost {of_node:?}"));
        lost.add(of_node);
    }
    Ok(lost)
}
