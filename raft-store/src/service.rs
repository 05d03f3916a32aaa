//! Answers other nodes' stores: the receiving end of `network`, `propose` and `bootstrap`. Registered by `store` for all
//! kinds of this crate.

use std::sync::Weak;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::Snapshot;
use wsgateway_cluster::{NodeId, PeerService};

use crate::node::Node;
use crate::raft_types::TypeConfig;
use crate::rpc::{
    self, kind, ChunkAnswer, ChunkHeader, JoinRequest, PingAnswer, ProbeReply, ProbeRequest, ProposeRequest,
};
use crate::snapshot::SnapshotFile;

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
    Ok(match kind {
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
            rpc::to_postcard(&PingAnswer { leader_silent_millis })?
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

/// A vote names its candidate: nobody may lead in another node's name.
fn check_sender(from: NodeId, voted_for: Option<NodeId>) -> Result<(), String> {
    if voted_for == Some(from) {
        return Ok(());
    }
    Err(format!("node {from:016x} sent a request in the name of {voted_for:016x?}"))
}

async fn append_entries(node: &Node, from: NodeId, payload: &[u8]) -> Answer {
    let request: AppendEntriesRequest<TypeConfig> = rpc::from_json(payload)?;
    check_sender(from, request.vote.leader_id().voted_for())?;
    let response = node.raft.append_entries(request).await?;
    if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
        node.contact.heard();
    }
    Ok(rpc::to_json(&response)?)
}

/// Takes the chunks of one transfer in order; a first chunk replaces whatever was under way.
async fn snapshot_chunk(
    node: &Node,
    from: NodeId,
    header: ChunkHeader,
    bytes: Bytes,
) -> Result<ChunkAnswer, Box<dyn std::error::Error + Send + Sync>> {
    let mut slot = node.incoming.lock().await;
    if header.offset == 0 {
        let file = *node.raft.begin_receiving_snapshot().await?;
        *slot = Some(Incoming { from, transfer: header.transfer, file, next_offset: 0 });
    }
    let expected = slot.as_mut().filter(|incoming| {
        (incoming.from, incoming.transfer, incoming.next_offset) == (from, header.transfer, header.offset)
    });
    let Some(incoming) = expected else {
        return Ok(ChunkAnswer::Restart("this chunk does not follow the last one".to_owned()));
    };
    incoming.next_offset += bytes.len() as u64;
    let (file, last) = (incoming.file.clone(), header.last);
    let stored = tokio::task::spawn_blocking(move || {
        file.write_at(header.offset, &bytes)?;
        // A broken transfer is the sender's to repeat; handed to openraft, it would stop this node.
        Ok::<_, std::io::Error>(last.then(|| file.verify()))
    });
    let verified = stored.await??;
    node.contact.heard();
    let Some(verified) = verified else { return Ok(ChunkAnswer::Stored) };
    let Some(incoming) = slot.take() else { return Ok(ChunkAnswer::Stored) };
    drop(slot);
    match verified {
        Ok(meta) if meta == header.meta => {
            let snapshot = Snapshot { meta, snapshot: Box::new(incoming.file) };
            let response = node.raft.install_full_snapshot(header.vote, snapshot).await?;
            Ok(ChunkAnswer::Installed(response))
        }
        Ok(_) => Ok(ChunkAnswer::Restart("the snapshot's header and its transfer differ".to_owned())),
        Err(error) => Ok(ChunkAnswer::Restart(error.to_string())),
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
