//! SIGSTOP and SIGCONT: the process stands still, its sockets stay open, its clock jumps.

use crate::cluster::Cluster;
use crate::history::{History, Op};

pub fn pause(cluster: &Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    history.event(Op::Fault { fault: "pause", node });
    cluster.entrances.set_usable(node, false);
    cluster.signal(node, libc::SIGSTOP)
}

pub fn go_on(cluster: &Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    history.event(Op::Fault { fault: "go_on", node });
    cluster.signal(node, libc::SIGCONT)?;
    cluster.entrances.set_usable(node, true);
    Ok(())
}
