//! The cluster as this node sees it.

use std::sync::Arc;

use actix_web::{web, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use wsgateway_cluster::membership::Members;
use wsgateway_raft_store::types::RaftStatus;

use super::operation::Operation;
use super::Api;

/// What gossip knows.
pub type GossipView = watch::Receiver<Arc<Members>>;

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/v1/cluster", || web::to(cluster), "getCluster")
        .about("The cluster as this node sees it", "`nodes` is gossip, `raft` this node's own view.")
        .answers::<ClusterBody>(200, "Nodes, Raft, gossip")]
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Cluster")]
pub(super) struct ClusterBody {
    cluster_id: Option<String>,
    node: String,
    node_id: String,
    leader: Option<String>,
    term: u64,
    state_hash: String,
    state_index: u64,
    raft: RaftBody,
    nodes: Vec<NodeBody>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Raft")]
struct RaftBody {
    role: String,
    last_log_index: Option<u64>,
    committed_index: Option<u64>,
    applied_index: Option<u64>,
    snapshot_index: Option<u64>,
    voters: Vec<String>,
    learners: Vec<String>,
    millis_since_quorum_ack: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Node")]
struct NodeBody {
    node_id: String,
    name: String,
    live: bool,
    ready: bool,
    role: &'static str,
    generation: u64,
    version: String,
    cluster_addr: String,
    admin_addr: String,
    client_addr: String,
    /// Where a browser reaches the admin listener; null: not known.
    admin_url: Option<String>,
    /// Where clients reach the node; null: not known.
    client_url: Option<String>,
    applied_index: u64,
    active_connections: u64,
}

pub(super) fn hex(id: u64) -> String {
    format!("{id:016x}")
}

async fn cluster(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::Ok().json(seen(&api))
}

/// Programs of before do not say it.
fn said(url: &str) -> Option<String> {
    (!url.is_empty()).then(|| url.to_owned())
}

/// As it is seen now.
pub(super) fn seen(api: &Api) -> ClusterBody {
    let raft = api.config.raft();
    let status = raft.status();
    let (state_index, state_hash) = raft.state_hash();
    let members = api.gossip.borrow().clone();
    let nodes = members.values().map(|peer| NodeBody {
        node_id: hex(peer.node_id),
        name: peer.facts.name.clone(),
        live: peer.live,
        ready: peer.facts.ready,
        role: role(&status, peer.node_id),
        generation: peer.generation,
        version: peer.facts.version.clone(),
        cluster_addr: peer.facts.cluster_addr.clone(),
        admin_addr: peer.facts.admin_addr.clone(),
        client_addr: peer.facts.client_addr.clone(),
        admin_url: said(&peer.facts.admin_url),
        client_url: said(&peer.facts.client_url),
        applied_index: peer.facts.applied_index,
        active_connections: peer.facts.active_connections,
    });
    // A member that has been dead since before this node started, or for a day, is one all the same.
    let unheard = raft.members().into_iter().filter(|(id, _)| !members.contains_key(id)).map(|(id, addr)| NodeBody {
        node_id: hex(id),
        name: String::new(),
        live: false,
        ready: false,
        role: role(&status, id),
        generation: 0,
        version: String::new(),
        cluster_addr: addr,
        admin_addr: String::new(),
        client_addr: String::new(),
        admin_url: None,
        client_url: None,
        applied_index: 0,
        active_connections: 0,
    });
    ClusterBody {
        // Its own knowledge: gossip learns of it a second later.
        cluster_id: raft.identity().cluster_id.get().map(ToString::to_string),
        node: api.hub.node_name.clone(),
        node_id: hex(api.hub.node_id),
        leader: status.leader.map(hex),
        term: status.term,
        state_hash,
        state_index,
        nodes: nodes.chain(unheard).collect(),
        raft: RaftBody {
            role: status.role,
            last_log_index: status.last_log_index,
            committed_index: status.committed_index,
            applied_index: status.applied_index,
            snapshot_index: status.snapshot_index,
            voters: status.voters.into_iter().map(hex).collect(),
            learners: status.learners.into_iter().map(hex).collect(),
            millis_since_quorum_ack: status.millis_since_quorum_ack,
        },
    }
}

fn role(status: &RaftStatus, node: u64) -> &'static str {
    if status.leader == Some(node) {
        "leader"
    } else if status.voters.contains(&node) {
        "voter"
    } else if status.learners.contains(&node) {
        "learner"
    } else {
        "none"
    }
}
