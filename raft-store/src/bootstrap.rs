//! The IO around `wsgateway_cluster::bootstrap::decide`: probes the seeds, carries out the step, lets others in, and
//! announces a changed address; a member that nobody leads asks what became of it. Started by `store`; its [`Node::admit`] is called by `service`.
//!
//! Invariants: a promise and a cluster id are on disk before anybody hears of them; a node counts as initialised only
//! with both a cluster id and a membership in its log; one membership change at a time.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use futures::future::join_all;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers, ServerState};
use rand::Rng;
use tokio::time::{sleep, timeout};
use wsgateway_cluster::bootstrap::{decide, BootstrapInput, BootstrapStep, ProbeAnswer};
use wsgateway_cluster::{ClusterId, NodeId, PeerAddress};

use crate::keys::raft_meta;
use crate::node::{Node, SILENCE_MAX};
use crate::planted::{is_planted, Bug};
use crate::rpc::{self, kind, JoinAnswer, JoinRequest, ProbeReply, ProbeRequest};

const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// A join waits for a committed membership change on the leader.
const JOIN_DEADLINE: Duration = Duration::from_secs(6);
/// How long a leader waits for a membership change before it answers "later".
const CHANGE_DEADLINE: Duration = Duration::from_secs(5);
/// After being let in, how long to wait for the leader's first entries before asking again.
const FIRST_ENTRIES_DEADLINE: Duration = Duration::from_secs(5);
/// From a seed to its leader, and once more if that one has just changed.
const REDIRECTS_MAX: usize = 3;
/// Between two announcements of a changed address.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);
/// Without a leader for so long, a member asks whether it is one still.
const LONELY_AFTER: Duration = Duration::from_secs(3);
const LONELY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until this node is in a cluster that knows its present address, or the store is gone.
pub async fn run(weak: Weak<Node>) {
    loop {
        let Some(node) = weak.upgrade() else { return };
        let pause = node.options.probe_interval;
        match step(&node).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(reason) => {
                if *node.waiting_for.borrow() != reason {
                    tracing::info!(%reason, "not in a cluster yet");
                }
                node.waiting_for.send_replace(reason);
            }
        }
        drop(node);
        // With some chance in it, so that nodes started together do not probe in step.
        let pause = pause.mul_f64(rand::rng().random_range(0.75..1.25));
        sleep(pause).await;
    }
    if let Some(node) = weak.upgrade() {
        node.waiting_for.send_replace(String::new());
        tracing::info!(node = format!("{:016x}", node.id()), cluster = ?node.cluster_id(), "in a cluster");
    }
    loop {
        let Some(node) = weak.upgrade() else { return };
        if announce(&node).await {
            break;
        }
        drop(node);
        sleep(ANNOUNCE_PAUSE).await;
    }
    loop {
        sleep(LONELY_PAUSE).await;
        let Some(node) = weak.upgrade() else { return };
        if node.contact.silent_for() > LONELY_AFTER {
            ask_what_became_of_us(&node).await;
        }
        if node.evicted.borrow().is_some() {
            return;
        }
    }
}

/// Nobody leads this node any more: there may be no leader, or it was removed while it was away. Whoever knows says so;
/// and a node that was forgotten without a record is let in again.
async fn ask_what_became_of_us(node: &Node) {
    let Ok(members) = node.members().await else { return };
    let seeds = probe_seeds(node).await.into_iter().map(|answer| (answer.node_id, answer.addr));
    let everybody: BTreeMap<NodeId, String> = members.into_iter().chain(seeds).collect();
    let others = everybody.iter().filter(|(id, _)| **id != node.id());
    let asked = others.map(|(id, addr)| async { ask_to_join(node, &node.peers.address(*id, addr)).await });
    for answer in join_all(asked).await {
        if let Err(error) = answer {
            tracing::debug!(%error, "a member does not say what became of this node");
        }
    }
}

/// One round. `true`: this node is in a cluster. `Err`: what it waits for.
async fn step(node: &Node) -> Result<bool, String> {
    let members = node.members().await?;
    let cluster_id = node.cluster_id();
    if cluster_id.is_some() && !members.is_empty() {
        return Ok(true);
    }
    let initialiser = node.storage.meta::<bool>(raft_meta::INITIALISER).map_err(text)?.unwrap_or(false);
    if initialiser && cluster_id.is_some() {
        // A crash came between the cluster id and Raft's first entry.
        initialise_raft(node).await?;
        return Ok(false);
    }
    let mut answers = probe_seeds(node).await;
    if let Some(mine) = cluster_id {
        answers.retain(|answer| answer.initialised.is_none_or(|other| other == mine));
    }
    let input = BootstrapInput {
        my_node_id: node.id(),
        my_addr: node.options.advertise.clone(),
        seeds: node.options.seeds.clone(),
        expect: node.options.bootstrap_expect,
        initialised: None,
        promised_to: node.promised_to(),
        answers,
    };
    let decided = match decide(&input) {
        BootstrapStep::Wait { .. } | BootstrapStep::PromiseTo { .. } if is_planted(Bug::DoubleInitialise) => {
            BootstrapStep::Initialise
        }
        decided => decided,
    };
    match decided {
        BootstrapStep::Initialise if cluster_id.is_some() || !members.is_empty() => {
            Err("the data folder belongs to a cluster whose members cannot be found at the seeds".to_owned())
        }
        BootstrapStep::Initialise => {
            // The mark first: a cluster id without it would look like that of a joiner.
            node.storage.put_meta(raft_meta::INITIALISER, &true).await.map_err(text)?;
            node.set_cluster_id(ClusterId(rand::random())).await.map_err(text)?;
            initialise_raft(node).await?;
            Ok(false)
        }
        BootstrapStep::Join { addr, node_id, .. } => join(node, PeerAddress { node_id: Some(node_id), addr }).await,
        BootstrapStep::PromiseTo { node_id, .. } => {
            node.promise(node_id).await.map_err(text)?;
            Ok(false)
        }
        BootstrapStep::Done(_) => Ok(false),
        BootstrapStep::Wait { reason } => Err(reason),
        BootstrapStep::Refuse { reason } => Err(format!("refused: {reason}")),
    }
}

/// Makes a Raft group of this node alone.
async fn initialise_raft(node: &Node) -> Result<(), String> {
    let alone = BTreeMap::from([(node.id(), BasicNode::new(&node.options.advertise))]);
    node.raft.initialize(alone).await.map_err(text)
}

async fn probe_seeds(node: &Node) -> Vec<ProbeAnswer> {
    let me = &node.options.advertise;
    let seeds = node.options.seeds.iter().filter(|seed| !seed.trim().eq_ignore_ascii_case(me));
    let probes = seeds.map(|seed| async move {
        let answer = timeout(PROBE_DEADLINE, probe(node, seed)).await.unwrap_or_else(|_| Err("no answer".to_owned()));
        answer.inspect_err(|error| tracing::debug!(%seed, %error, "a seed did not answer")).ok()
    });
    join_all(probes).await.into_iter().flatten().collect()
}

async fn probe(node: &Node, seed: &str) -> Result<ProbeAnswer, String> {
    let node_id = node.peers.whois(seed).await.map_err(text)?;
    if node_id != node.id() {
        node.peers.found(node_id, seed);
    }
    let peer = PeerAddress { node_id: Some(node_id), addr: seed.to_owned() };
    let request = rpc::to_postcard(&ProbeRequest { addr: node.options.advertise.clone() }).map_err(text)?;
    let answer = node.peers.call(&peer, kind::PROBE, request, PROBE_DEADLINE).await.map_err(text)?;
    let reply: ProbeReply = rpc::from_postcard(&answer).map_err(text)?;
    Ok(ProbeAnswer {
        addr: seed.to_owned(),
        node_id,
        initialised: reply.initialised,
        seed_list_hash: reply.seed_list_hash,
        promised_to: reply.promised_to,
    })
}

/// Asks to be let in, following the way to the leader. `Ok(false)`: look again.
async fn join(node: &Node, first: PeerAddress) -> Result<bool, String> {
    let mut peer = first;
    for _ in 0..REDIRECTS_MAX {
        match ask_to_join(node, &peer).await? {
            JoinAnswer::Joined { cluster_id } => {
                match node.cluster_id() {
                    Some(mine) if mine != cluster_id => {
                        return Err(format!("{} is in cluster {cluster_id}, this node in {mine}", peer.addr));
                    }
                    Some(_) => {}
                    None => node.set_cluster_id(cluster_id).await.map_err(text)?,
                }
                return wait_for_entries(node).await;
            }
            JoinAnswer::NotLeader { leader: Some((id, addr)) } => peer = node.peers.address(id, &addr),
            JoinAnswer::NotLeader { leader: None } => return Err(format!("{} knows no leader now", peer.addr)),
            JoinAnswer::Later { reason } => return Err(format!("{} cannot let this node in now: {reason}", peer.addr)),
            JoinAnswer::Refused { reason } => return Err(format!("{} does not let this node in: {reason}", peer.addr)),
            JoinAnswer::Evicted { farewell } => return Err(farewell),
        }
    }
    Err("no seed leads to the leader".to_owned())
}

async fn ask_to_join(node: &Node, peer: &PeerAddress) -> Result<JoinAnswer, String> {
    let request = JoinRequest { addr: node.options.advertise.clone(), cluster_id: node.cluster_id() };
    let request = rpc::to_postcard(&request).map_err(text)?;
    let answer = node.peers.call(peer, kind::JOIN, request, JOIN_DEADLINE).await.map_err(text)?;
    let answer = rpc::from_postcard(&answer).map_err(text)?;
    if let JoinAnswer::Evicted { farewell } = &answer {
        node.evicted(farewell.clone()).await;
    }
    Ok(answer)
}

async fn wait_for_entries(node: &Node) -> Result<bool, String> {
    let waiting = async {
        while node.members().await?.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(true)
    };
    let late = || Err("let in, but the leader's first entries have not come yet".to_owned());
    timeout(FIRST_ENTRIES_DEADLINE, waiting).await.unwrap_or_else(|_| late())
}

/// `true` once the membership has this node's present address.
async fn announce(node: &Node) -> bool {
    let Ok(members) = node.members().await else { return true };
    match members.get(&node.id()) {
        Some(addr) if *addr == node.options.advertise => return true,
        // Not (or no longer) a member: whoever leads has to decide that, it is not a matter of addresses.
        None => return true,
        Some(addr) => {
            tracing::info!(before = %addr, now = %node.options.advertise, "announcing this node's new address")
        }
    }
    let request = JoinRequest { addr: node.options.advertise.clone(), cluster_id: node.cluster_id() };
    if matches!(node.admit(node.id(), &request).await, JoinAnswer::Joined { .. }) {
        return true;
    }
    // Everybody hears it, not only the leader: without their new addresses there may be no leader at all.
    probe_seeds(node).await;
    let others = members.iter().filter(|(id, _)| **id != node.id());
    let asked = others.map(|(id, addr)| async { ask_to_join(node, &node.peers.address(*id, addr)).await });
    let answers = join_all(asked).await;
    answers.iter().any(|answer| matches!(answer, Ok(JoinAnswer::Joined { .. })))
}

impl Node {
    /// Lets a node in as a learner, or notes its new address, if this node leads. Its id was proven in the handshake.
    pub async fn admit(&self, from: NodeId, request: &JoinRequest) -> JoinAnswer {
        let Some(cluster_id) = self.cluster_id() else {
            return JoinAnswer::Later { reason: "not in a cluster itself".to_owned() };
        };
        if let Some(other) = request.cluster_id.filter(|other| *other != cluster_id) {
            let reason = format!("it belongs to cluster {other}, and this is cluster {cluster_id}");
            return JoinAnswer::Refused { reason };
        }
        if let Some(farewell) = self.farewell(from) {
            return JoinAnswer::Evicted { farewell };
        }
        let _one_at_a_time = self.membership_change.lock().await;
        if let Some(farewell) = self.farewell(from) {
            return JoinAnswer::Evicted { farewell };
        }
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            let leader = metrics.current_leader.filter(|leader| *leader != self.id());
            let address = leader.and_then(|leader| self.member_address(&metrics, leader));
            return JoinAnswer::NotLeader { leader: leader.zip(address.map(|address| address.addr)) };
        }
        if metrics.millis_since_quorum_ack.is_none_or(|millis| u128::from(millis) > SILENCE_MAX.as_millis()) {
            return JoinAnswer::Later { reason: "no quorum".to_owned() };
        }
        let node = BTreeMap::from([(from, BasicNode::new(&request.addr))]);
        let change = match metrics.membership_config.membership().get_node(&from) {
            Some(known) if known.addr == request.addr => return JoinAnswer::Joined { cluster_id },
            // Safe although openraft warns of it: the handshake has proven that this very node listens there.
            Some(_) => ChangeMembers::SetNodes(node),
            None => match self.not_now(from, &request.addr).await {
                Some(answer) => return answer,
                None => ChangeMembers::AddNodes(node),
            },
        };
        tracing::info!(node = format!("{from:016x}"), addr = %request.addr, "letting a node in, or noting its new address");
        match timeout(CHANGE_DEADLINE, self.raft.change_membership(change, true)).await {
            Ok(Ok(_)) => JoinAnswer::Joined { cluster_id },
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                JoinAnswer::NotLeader { leader: to.leader_id.zip(to.leader_node.map(|node| node.addr)) }
            }
            Ok(Err(error)) => JoinAnswer::Later { reason: error.to_string() },
            Err(_) => JoinAnswer::Later { reason: "the membership change takes long".to_owned() },
        }
    }

    /// Why a node that is no member is not made one: a leader has to reach it, and it has to understand what is in the log.
    async fn not_now(&self, from: NodeId, addr: &str) -> Option<JoinAnswer> {
        // What a leader before this one has agreed on may not be applied here yet.
        if let Err(error) = self.linearize().await {
            return Some(JoinAnswer::Later { reason: error.to_string() });
        }
        match crate::autopilot::ping(self, &self.peers.address(from, addr)).await {
            Err(error) => {
                let reason = format!("this node, which leads, does not reach it at {addr}: {error}");
                Some(JoinAnswer::Later { reason })
            }
            Ok(answer) => self.too_old(answer.understands).map(|reason| JoinAnswer::Refused { reason }),
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
