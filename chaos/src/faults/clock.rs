//! A node's wall clock is put forward or back, while it runs, as by an administrator or a clock that was wrong.

use crate::cluster::Cluster;
use crate::history::{History, Op};

/// To so many seconds after (or before) the real time.
pub fn set(cluster: &Cluster, node: usize, seconds: i64, history: &History) -> anyhow::Result<()> {
    let fault = match seconds {
        0 => "clock_right",
        1.. => "clock_ahead",
        _ => "clock_behind",
    };
    history.event(Op::Fault { fault, node });
    cluster.set_clock(node, seconds)
}
