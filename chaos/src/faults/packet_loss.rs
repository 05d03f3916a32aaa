//! Of all that nodes send each other, TCP and UDP, some is lost by chance.

use crate::cluster::Cluster;
use crate::history::{History, Op};

pub fn lose(cluster: &Cluster, percent: u8, history: &History) -> anyhow::Result<()> {
    cluster.network()?.change(|cuts| cuts.loss_percent = percent)?;
    for node in 0..cluster.len() {
        history.event(Op::Fault { fault: "packet_loss", node });
    }
    Ok(())
}

pub fn heal(cluster: &Cluster, history: &History) -> anyhow::Result<()> {
    for node in 0..cluster.len() {
        history.event(Op::Fault { fault: "packet_loss_healed", node });
    }
    cluster.network()?.change(|cuts| cuts.loss_percent = 0)
}
