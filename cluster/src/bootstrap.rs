//! Who makes the cluster: the decision alone, without IO. The raft-store asks all seeds, feeds the answers to
//! [`decide`] again and again, and carries out the step that comes back. May import `identity` only.
//!
//! Invariants:
//! - Only the owner of the lowest entry of the static seed list ever initialises, and only itself.
//! - It needs `expect` uninitialised nodes (itself included) with the same seed list, that durably promised to *it*.
//! - A promise is given once and never changes. So when the lowest seed comes back with an empty disk (a new node id),
//!   nodes that promised to its former self do not count for it, and it cannot make a second cluster.
//! - For that to hold, two sets of `expect - 1` other seeds must overlap; a smaller `expect` is refused.
//! - Wherever an initialised node is seen, it is joined; nothing is initialised.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::identity::{ClusterId, NodeId};

/// Identifies a seed list independent of order, case and blanks. See [`seed_list_hash`].
pub type SeedListHash = u128;

/// What a node answers to a bootstrap probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// The seed entry that was asked, as it stands in the prober's list.
    pub addr: String,
    /// Who answered, as *proven in the handshake*, not as claimed in the payload.
    pub node_id: NodeId,
    /// The answerer's cluster, when it has one.
    pub initialised: Option<ClusterId>,
    pub seed_list_hash: SeedListHash,
    /// Its durable promise: the only node whose cluster it will help to start.
    pub promised_to: Option<NodeId>,
}

/// Everything that [`decide`] looks at.
#[derive(Clone, Debug)]
pub struct BootstrapInput {
    pub my_node_id: NodeId,
    /// My advertised cluster address, written as in the seed list.
    pub my_addr: String,
    /// The static seed list, in any order.
    pub seeds: Vec<String>,
    /// `--bootstrap-expect`; 0 means: never initialise, only join.
    pub expect: usize,
    pub initialised: Option<ClusterId>,
    /// My own durable promise.
    pub promised_to: Option<NodeId>,
    /// The answers of the latest round, at most one per seed; my own seed entry may be among them or not.
    pub answers: Vec<ProbeAnswer>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootstrapStep {
    /// Nothing: this node has a cluster.
    Done(ClusterId),
    /// Make a fresh cluster id and a Raft group of this node alone.
    Initialise,
    /// Ask this node to be let in.
    Join { addr: String, node_id: NodeId, cluster_id: ClusterId },
    /// Write the promise to disk, synced, and show it in later probe answers.
    PromiseTo { addr: String, node_id: NodeId },
    /// Probe again after a pause. The text says what is missing, for logs and the readiness answer.
    Wait { reason: String },
    /// Settings or state that no waiting repairs; a person has to act.
    Refuse { reason: String },
}

/// Someone asks for this node's promise instead of waiting for it to probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseRequest {
    /// Who asks, as proven in the handshake.
    pub node_id: NodeId,
    /// Its advertised address.
    pub addr: String,
    pub seed_list_hash: SeedListHash,
}

/// The hash by which nodes compare their seed lists.
pub fn seed_list_hash(seeds: &[String]) -> SeedListHash {
    let mut hash = Sha256::new();
    for seed in sorted(seeds) {
        hash.update((seed.len() as u64).to_be_bytes());
        hash.update(seed.as_bytes());
    }
    let digest = hash.finalize();
    let mut first = [0_u8; 16];
    first.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(first)
}

/// The next step towards being in a cluster. Pure: the same input gives the same step.
pub fn decide(input: &BootstrapInput) -> BootstrapStep {
    if let Some(cluster_id) = input.initialised {
        return BootstrapStep::Done(cluster_id);
    }
    if let Some(step) = join_what_exists(input) {
        return step;
    }
    if input.expect == 0 {
        return wait("no seed is in a cluster yet, and this node only joins (bootstrap-expect is not set)");
    }
    let seeds = sorted(&input.seeds);
    let alone = seeds.is_empty() || (seeds.len() == 1 && owner_is_me(input, &seeds[0]));
    if let Err(reason) = check_expect(input.expect, seeds.len(), alone) {
        return BootstrapStep::Refuse { reason };
    }
    if let Some(step) = different_seed_list(input) {
        return step;
    }
    if alone {
        return match input.promised_to {
            Some(other) if other != input.my_node_id => wait_for_promised(other),
            _ => BootstrapStep::Initialise,
        };
    }
    // check_expect made sure that a list that is not `alone` has entries.
    match seeds.first() {
        Some(lowest) if owner_is_me(input, lowest) => as_initialiser(input, &seeds),
        Some(lowest) => as_joiner(input, lowest),
        None => wait("the seed list is empty"),
    }
}

/// Whether this node (described by `input`; its answers are not looked at) may give its promise to the asker. `Ok`
/// means: it is to be on disk, synced, before the asker hears of it; it may be there already.
pub fn decide_promise(input: &BootstrapInput, request: &PromiseRequest) -> Result<NodeId, String> {
    if let Some(cluster_id) = input.initialised {
        return Err(format!("already in cluster {cluster_id}"));
    }
    if request.seed_list_hash != seed_list_hash(&input.seeds) {
        return Err(format!("the seed list of {} differs from the one here", request.addr));
    }
    let lowest = sorted(&input.seeds).into_iter().next().ok_or("no seed list here")?;
    if normal(&request.addr) != lowest {
        return Err(format!("{} is not the lowest seed; {lowest} is", request.addr));
    }
    match input.promised_to {
        Some(other) if other != request.node_id => Err(format!("promised to node {other:016x} already")),
        _ => Ok(request.node_id),
    }
}

/// An initialised node anywhere ends the question. Of several, the lowest address, so that all ask the same one.
fn join_what_exists(input: &BootstrapInput) -> Option<BootstrapStep> {
    let mut found: Vec<(&ProbeAnswer, ClusterId)> = input
        .answers
        .iter()
        .filter(|answer| answer.node_id != input.my_node_id)
        .filter_map(|answer| answer.initialised.map(|cluster_id| (answer, cluster_id)))
        .collect();
    found.sort_by_key(|(answer, _)| normal(&answer.addr));
    let (first, cluster_id) = *found.first()?;
    if let Some((other, other_id)) = found.iter().find(|(_, id)| *id != cluster_id) {
        let reason = format!(
            "the seeds belong to different clusters: {} to {cluster_id}, {} to {other_id}; correct the seed list",
            first.addr, other.addr
        );
        return Some(BootstrapStep::Refuse { reason });
    }
    Some(BootstrapStep::Join { addr: first.addr.clone(), node_id: first.node_id, cluster_id })
}

/// Refuses a number that cannot be reached, or that is too small to rule out a second cluster.
fn check_expect(expect: usize, seeds: usize, alone: bool) -> Result<(), String> {
    if alone && expect == 1 {
        return Ok(());
    }
    if expect > seeds {
        return Err(format!("bootstrap-expect is {expect}, but the seed list names only {seeds} node(s)"));
    }
    // A single seed that is someone else: this node is a joiner and its `expect` decides nothing.
    if seeds > 1 && 2 * (expect - 1) < seeds {
        let least = seeds / 2 + seeds % 2 + 1;
        return Err(format!(
            "bootstrap-expect is {expect} with {seeds} seeds; less than {least} could start two clusters, if the first \
             seed lost its disk. Set it to the number of seeds"
        ));
    }
    Ok(())
}

fn different_seed_list(input: &BootstrapInput) -> Option<BootstrapStep> {
    let mine = seed_list_hash(&input.seeds);
    let mut different: Vec<&str> = input
        .answers
        .iter()
        .filter(|answer| answer.node_id != input.my_node_id && answer.seed_list_hash != mine)
        .map(|answer| answer.addr.as_str())
        .collect();
    different.sort_unstable();
    if different.is_empty() {
        return None;
    }
    let reason = format!(
        "the seed list here [{}] differs from the one of {}; all nodes that start a cluster need the same list",
        sorted(&input.seeds).join(", "),
        different.join(", ")
    );
    Some(BootstrapStep::Refuse { reason })
}

fn as_initialiser(input: &BootstrapInput, seeds: &[String]) -> BootstrapStep {
    if let Some(other) = input.promised_to.filter(|other| *other != input.my_node_id) {
        return wait_for_promised(other);
    }
    // By node id: one node behind two names counts once.
    let others: BTreeMap<NodeId, &ProbeAnswer> = input
        .answers
        .iter()
        .filter(|answer| answer.node_id != input.my_node_id && seeds.contains(&normal(&answer.addr)))
        .map(|answer| (answer.node_id, answer))
        .collect();
    let promised = others.values().filter(|answer| answer.promised_to == Some(input.my_node_id)).count() + 1;
    if promised >= input.expect {
        return BootstrapStep::Initialise;
    }
    let elsewhere = others.values().find_map(|answer| match answer.promised_to {
        Some(other) if other != input.my_node_id => Some((&answer.addr, other)),
        _ => None,
    });
    if let Some((addr, other)) = elsewhere {
        return wait(&format!(
            "{addr} promised to start with node {other:016x}, not with this one ({:016x}): did this seed lose its disk? \
             Bring that node back; or, if it never was in use, empty the data folder of {addr} too",
            input.my_node_id
        ));
    }
    wait(&format!(
        "{promised} of {} expected nodes are ready to start a cluster ({} of the other seeds answered)",
        input.expect,
        others.len()
    ))
}

fn as_joiner(input: &BootstrapInput, lowest: &str) -> BootstrapStep {
    let answer = input.answers.iter().find(|answer| normal(&answer.addr) == lowest);
    match (answer, input.promised_to) {
        (None, _) => wait(&format!("waiting for the first seed {lowest}, which starts the cluster")),
        (Some(answer), None) => BootstrapStep::PromiseTo { addr: answer.addr.clone(), node_id: answer.node_id },
        (Some(answer), Some(promised)) if promised == answer.node_id => {
            wait(&format!("waiting for {lowest} to start the cluster"))
        }
        (Some(answer), Some(promised)) => wait(&format!(
            "this node promised to start with node {promised:016x}, but {lowest} is now node {:016x}: did it lose its \
             disk? Bring the former back; or, if it never was in use, empty the data folder here too",
            answer.node_id
        )),
    }
}

/// By address, or because the node that answered there is this one (an alias of the advertised address).
fn owner_is_me(input: &BootstrapInput, seed: &str) -> bool {
    normal(&input.my_addr) == seed
        || input.answers.iter().any(|answer| normal(&answer.addr) == seed && answer.node_id == input.my_node_id)
}

fn sorted(seeds: &[String]) -> Vec<String> {
    let mut seeds: Vec<String> = seeds.iter().map(|seed| normal(seed)).filter(|seed| !seed.is_empty()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    seeds
}

fn normal(addr: &str) -> String {
    addr.trim().to_ascii_lowercase()
}

fn wait(reason: &str) -> BootstrapStep {
    BootstrapStep::Wait { reason: reason.to_owned() }
}

fn wait_for_promised(other: NodeId) -> BootstrapStep {
    wait(&format!("this node promised to start with node {other:016x} and will not start a cluster itself"))
}

#[cfg(test)]
mod tests;
