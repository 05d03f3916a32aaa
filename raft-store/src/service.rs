//! Answers other nodes' stores: the receiving end of `network`, `propose` and `bootstrap`. Registered by `store` for all
//! kinds of this crate.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::Snapshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wsgateway_cluster::{NodeId, PeerService};

use crate::node::Node;
use crate::raft_types::{Raft, TypeConfig};
use crate::rpc::{
    self, kind, ChunkAnswer, ChunkHeader, JoinRequest, PingAnswer, ProbeReply, ProbeRequest, ProposeRequest,
};
use crate::snapshot::SnapshotFile;

/// An installation that takes longer is answered with "ask again".
const INSTALL_ANSWER_AFTER: Duration = Duration::from_secs(1);
/// Between two tries of a leader to send a snapshot to a node without room.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(1);

/// The service of one node. Holds it weakly: the table of services outlives a store that was shut down.
pub struct StoreService {
    pub node: Weak<Node>,
}

/// A snapshot of which some chunks have arrived.
pub struct Incoming {
    from: NodeId,
    transfer: u64,
    file: SnapshotFile,
    next_offset: u64,
    /// Set once all of it is here.
    installing: Option<JoinHandle<ChunkAnswer>>,
}

impl PeerService for StoreService {
    fn handle(&self, from: NodeId, kind: u16, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let node = self.node.upgrade();
        Box::pin(async move {
            let node = node.ok_or("the store has stopped")?;
            answer(&node, from, kind, payload).await.map_err(|error| error.to_string())
        })
    }
}

type Answer = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

async fn answer(node: &Node, from: NodeId, kind: u16, payload: Bytes) -> Answer {
    // It may ask what became of it, and nothing else: it must not vote, lead or write any more.
    if let Some(farewell) = node.farewell(from).filter(|_| !matches!(kind, kind::PROBE | kind::JOIN)) {
        return Err(farewell.into());
    }
    if matches!(kind, kind::VOTE | kind::SNAPSHOT_CHUNK | kind::ELECT | kind::ROOM) && node.storage.is_low_on_room() {
        if kind == kind::SNAPSHOT_CHUNK {
            hear(node, from);
            // The leader begins anew, and reads all of it again for that.
            tokio::time::sleep(FULL_DISK_PAUSE).await;
        }
        return Err("the disk of this node is full".into());
    }
    Ok(match kind {
        kind::ROOM => Bytes::new(),
        kind::APPEND_ENTRIES => return append_entries(node, from, &payload).await,
        kind::VOTE => {
            let request: VoteRequest<u64> = rpc::from_json(&payload)?;
            check_sender(from, request.vote.leader_id().voted_for())?;
            rpc::to_json(&node.raft.vote(request).await?)?
        }
        kind::SNAPSHOT_CHUNK => {
            let (header, bytes) = rpc::chunk_from_bytes(payload)?;
            check_sender(from, header.vote.leader_id().voted_for())?;
            rpc::to_json(&snapshot_chunk(node, from, header, bytes).await?)?
        }
        kind::PROPOSE => {
            let request: ProposeRequest = rpc::from_json(&payload)?;
            rpc::to_json(&node.propose_here(&request).await)?
        }
        kind::READ_INDEX => rpc::to_json(&node.read_index_here().await)?,
        kind::ELECT => {
            if node.metrics().current_leader == Some(from) {
                node.raft.trigger().elect().await?;
            }
            Bytes::new()
        }
        kind::PING => {
            let leader_silent_millis = u64::try_from(node.contact.silent_for().as_millis())?;
            rpc::to_postcard(&PingAnswer { leader_silent_millis, understands: node.options.understands })?
        }
        kind::PROBE => {
            let request: ProbeRequest = rpc::from_postcard(&payload)?;
            node.peers.heard(from, &request.addr);
            rpc::to_postcard(&probe(node).await?)?
        }
        kind::JOIN => {
            let request: JoinRequest = rpc::from_postcard(&payload)?;
            node.peers.heard(from, &request.addr);
            rpc::to_postcard(&node.admit(from, &request).await)?
        }
        unknown => return Err(format!("kind {unknown} is not known to this version of the store").into()),
    })
}

/// What cannot be handed to Raft now was a sign of its leader all the same.
fn hear(node: &Node, from: NodeId) {
    if node.metrics().current_leader == Some(from) {
        node.contact.heard();
    }
}

/// A vote names its candidate: nobody may lead in another node's name.
fn check_sender(from: NodeId, voted_for: Option<NodeId>) -> Result<(), String> {
    if voted_for == Some(from) {
        return Ok(());
    }
    Err(format!("node {from:016x} sent a request in the name of {voted_for:016x?}"))
}

async fn append_entries(node: &Node, from: NodeId, payload: &[u8]) -> Answer {
    let mut request: AppendEntriesRequest<TypeConfig> = rpc::from_json(payload)?;
    check_sender(from, request.vote.leader_id().voted_for())?;
    if node.storage.waits_for_room() {
        // Raft stands still, and would be handed the same ever again.
        hear(node, from);
        return Err("a write of this node waits for room on its disk".into());
    }
    // The leader is heard, and this node stays its follower, but nothing is written. The very first entries are few, and
    // there is nothing before them to be answered with.
    let left_out = !request.entries.is_empty() && request.prev_log_id.is_some() && node.storage.is_low_on_room();
    let before = request.prev_log_id;
    if left_out {
        request.entries.clear();
    }
    let response = node.raft.append_entries(request).await?;
    if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
        node.contact.heard();
    }
    if left_out && matches!(response, AppendEntriesResponse::Success) {
        // The leader sends them again as soon as it has the answer.
        tokio::time::sleep(node.options.heartbeat / 2).await;
        return Ok(rpc::to_json(&AppendEntriesResponse::<NodeId>::PartialSuccess(before))?);
    }
    Ok(rpc::to_json(&response)?)
}

/// Takes the chunks of one transfer in order; a first chunk replaces whatever was under way, and a repeated one is
/// answered again.
async fn snapshot_chunk(
    node: &Node,
    from: NodeId,
    header: ChunkHeader,
    bytes: Bytes,
) -> Result<ChunkAnswer, Box<dyn std::error::Error + Send + Sync>> {
    let mut slot = node.incoming.lock().await;
    let of_this_transfer =
        slot.as_mut().filter(|incoming| (incoming.from, incoming.transfer) == (from, header.transfer));
    let incoming = match of_this_transfer {
        Some(incoming) => incoming,
        None if header.offset == 0 => {
            let file = *node.raft.begin_receiving_snapshot().await?;
            slot.insert(Incoming { from, transfer: header.transfer, file, next_offset: 0, installing: None })
        }
        None => return Ok(ChunkAnswer::Restart("a transfer begins with its first chunk".to_owned())),
    };
    let end = header.offset + bytes.len() as u64;
    if header.offset == incoming.next_offset && incoming.installing.is_none() {
        let file = incoming.file.clone();
        tokio::task::spawn_blocking(move || file.write_at(header.offset, &bytes)).await??;
        incoming.next_offset = end;
    } else if end != incoming.next_offset {
        return Ok(ChunkAnswer::Restart("this chunk does not follow the last one".to_owned()));
    }
    node.contact.heard();
    if !header.last {
        return Ok(ChunkAnswer::Stored);
    }
    let (raft, file) = (node.raft.clone(), incoming.file.clone());
    let installing = incoming.installing.get_or_insert_with(|| tokio::spawn(install(raft, header, file)));
    match timeout(INSTALL_ANSWER_AFTER, installing).await {
        Err(_) => Ok(ChunkAnswer::Installing),
        Ok(installed) => {
            *slot = None;
            Ok(installed?)
        }
    }
}

/// Hands a complete snapshot to Raft. A broken one is the sender's to repeat; openraft would stop this node.
async fn install(raft: Raft, header: ChunkHeader, file: SnapshotFile) -> ChunkAnswer {
    let checked = file.clone();
    match tokio::task::spawn_blocking(move || checked.verify()).await {
        Ok(Ok(meta)) if meta == header.meta => {}
        Ok(Ok(_)) => return ChunkAnswer::Restart("the snapshot's header and its transfer differ".to_owned()),
        Ok(Err(error)) => return ChunkAnswer::Restart(error.to_string()),
        Err(error) => return ChunkAnswer::Restart(error.to_string()),
    }
    let snapshot = Snapshot { meta: header.meta, snapshot: Box::new(file) };
    match raft.install_full_snapshot(header.vote, snapshot).await {
        Ok(response) => ChunkAnswer::Installed(response),
        Err(fatal) => ChunkAnswer::Restart(fatal.to_string()),
    }
}

async fn probe(node: &Node) -> Result<ProbeReply, String> {
    let in_cluster = !node.members().await?.is_empty();
    Ok(ProbeReply {
        initialised: node.cluster_id().filter(|_| in_cluster),
        seed_list_hash: node.seed_list_hash(),
        promised_to: node.promised_to(),
    })
}
