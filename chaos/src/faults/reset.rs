//! The connections between two nodes are reset, in the middle of whatever is under way on them.

use crate::cluster::{name, Cluster};
use crate::history::{History, Op};

/// How many connections there were.
pub fn reset(cluster: &Cluster, one: usize, other: usize, history: &History) -> anyhow::Result<usize> {
    let count = cluster.network()?.reset(one, other)?;
    for node in [one, other] {
        history.event(Op::Fault { fault: "reset", node });
    }
    history.note(format!("{count} connections between {} and {} were reset", name(one), name(other)));
    Ok(count)
}
