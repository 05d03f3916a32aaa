//! Asks every usable node now and then which configuration it has: cluster id, index, hash.

use std::sync::Arc;
use std::time::Duration;

use super::{is_over, Phase, Workload};
use crate::cluster::Entrances;
use crate::history::{History, Op, Outcome, Sample};
use crate::view;

const INTERVAL: Duration = Duration::from_millis(200);

pub fn start(entrances: &Arc<Entrances>, history: &Arc<History>) -> Workload {
    let mut workload = Workload::new();
    for node in 0..entrances.len() {
        let (entrances, history, mut phase) = (entrances.clone(), history.clone(), workload.phase());
        workload.spawn(async move {
            while !is_over(&phase) {
                if entrances.is_usable(node) {
                    sample(&entrances, node, &history).await;
                }
                let _over = tokio::time::timeout(INTERVAL, phase.wait_for(|phase| *phase > Phase::Act)).await;
            }
        });
    }
    workload
}

/// One look; what does not answer is no sample.
pub async fn sample(entrances: &Entrances, node: usize, history: &History) {
    let start = history.now();
    if let Ok(view) = view::ask(entrances, node).await {
        let sample = Sample {
            node,
            leader: view.leader_name(),
            not_live: view.not_live(),
            cluster_id: view.cluster_id.unwrap_or_default(),
            index: view.state_index,
            hash: view.state_hash,
            term: view.term,
            voters: view.raft.voters.len(),
        };
        history.add(start, Outcome::Ok, Op::Sample(sample));
    }
}
