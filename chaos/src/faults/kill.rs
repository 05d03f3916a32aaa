//! SIGKILL: the process ends between two instructions; its disk stays as it is.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::history::{History, Op};

/// The kernel has to take the process down, nothing else.
const WITHIN: Duration = Duration::from_secs(20);

pub async fn kill(cluster: &mut Cluster, node: usize, history: &History) -> anyhow::Result<()> {
    history.event(Op::Fault { fault: "kill", node });
    cluster.entrances.set_usable(node, false);
    cluster.signal(node, libc::SIGKILL)?;
    cluster.ended(node, WITHIN).await.map(|_killed| ())
}
