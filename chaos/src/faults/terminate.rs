//! SIGTERM: the node is asked to leave in order.

use std::time::Duration;

use anyhow::ensure;

use crate::cluster::{name, Cluster};
use crate::history::{History, Op};

/// Drain (1 s), unanswered deliveries (15 s at most) and the end of the cluster side (10 s at most).
const WITHIN: Duration = Duration::from_secs(40);

pub async fn terminate(cluster: &mut Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    history.event(Op::Fault { fault: "terminate", node });
    cluster.entrances.set_usable(node, false);
    cluster.signal(node, libc::SIGTERM)?;
    let status = cluster.ended(node, WITHIN).await?;
    history.event(Op::Fault { fault: "left", node });
    ensure!(status.success(), "{} was asked to leave and ended with {status}", name(node));
    Ok(())
}
