//! openraft's network over peer links: it asks, `service` answers. Also where this node's knowledge of addresses lives.
//! Called by openraft; imports `rpc`.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{select, Either};
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{BasicNode, RPCTypes, RaftNetwork, RaftNetworkFactory, Snapshot, Vote};
use serde::de::DeserializeOwned;
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerError, PeerTransport};

use crate::raft_types::TypeConfig;
use crate::rpc::{self, kind, ChunkAnswer, ChunkHeader, CodecError};

/// Small enough that a heartbeat behind a chunk on the same link is not late.
const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;
/// Storing a chunk takes milliseconds; installing is answered with "ask again" well before this.
const CHUNK_DEADLINE: Duration = Duration::from_secs(2);
/// How often one chunk is repeated before the whole transfer fails; openraft begins a new one then.
const CHUNK_RETRIES: usize = 3;
/// How long openraft leaves a node alone that could not be reached. Links reopen with a backoff of their own.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(250);

/// Sends requests of this crate to other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    me: NodeId,
    transport: Arc<dyn PeerTransport>,
    /// Where nodes were last heard of, by themselves over an authenticated link; goes before the address in the
    /// membership. A wrong one does no harm, since the handshake demands the expected node id.
    heard_at: Arc<RwLock<BTreeMap<NodeId, HeardAt>>>,
}

struct HeardAt {
    addr: String,
    /// What the membership said then. When it says something else later, that is newer than what was heard.
    instead_of: Option<String>,
}

impl Peers {
    pub fn new(me: NodeId, transport: Arc<dyn PeerTransport>) -> Peers {
        Peers { me, transport, heard_at: Arc::default() }
    }

    /// Notes where a node says it listens.
    pub fn heard(&self, node_id: NodeId, addr: &str) {
        let mut heard_at = self.heard_at.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = heard_at.insert(node_id, HeardAt { addr: addr.to_owned(), instead_of: None });
        drop(heard_at);
        if let Some(before) = before.filter(|before| before.addr != addr) {
            self.transport.forget(&PeerAddress { node_id: Some(node_id), addr: before.addr });
        }
    }

    /// Notes where a node was found, unless it has said itself where it listens.
    pub fn found(&self, node_id: NodeId, addr: &str) {
        let mut heard_at = self.heard_at.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        heard_at.entry(node_id).or_insert_with(|| HeardAt { addr: addr.to_owned(), instead_of: None });
    }

    /// Forgets a node that is a member no more.
    pub fn forget(&self, node_id: NodeId) {
        let mut heard_at = self.heard_at.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = heard_at.remove(&node_id);
        drop(heard_at);
        if let Some(before) = before {
            self.transport.forget(&PeerAddress { node_id: Some(node_id), addr: before.addr });
        }
    }

    /// The address of a node: where it was heard of last, else what the membership says, which is `known`.
    pub fn address(&self, node_id: NodeId, known: &str) -> PeerAddress {
        let mut heard_at = self.heard_at.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(heard) = heard_at.get_mut(&node_id) else {
            return PeerAddress { node_id: Some(node_id), addr: known.to_owned() };
        };
        if heard.instead_of.get_or_insert_with(|| known.to_owned()) == known {
            return PeerAddress { node_id: Some(node_id), addr: heard.addr.clone() };
        }
        heard_at.remove(&node_id);
        PeerAddress { node_id: Some(node_id), addr: known.to_owned() }
    }

    /// Who listens at an address, as proven in the handshake.
    pub async fn whois(&self, addr: &str) -> Result<NodeId, PeerError> {
        self.transport.whois(addr).await
    }

    /// One request on the control channel.
    pub async fn call(
        &self,
        peer: &PeerAddress,
        kind: u16,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        self.transport.call(peer, Channel::Control, kind, payload, deadline).await
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Peer {
        Peer { peers: self.clone(), target, addr: node.addr.clone() }
    }
}

/// The way to one node.
pub struct Peer {
    peers: Peers,
    target: NodeId,
    /// As it stands in the membership.
    addr: String,
}

/// Why a request has no answer, before it becomes one of openraft's error types.
enum CallError {
    Peer(PeerError),
    Codec(CodecError),
}

impl Peer {
    async fn ask<T: DeserializeOwned>(
        &self,
        kind: u16,
        payload: Result<Bytes, CodecError>,
        deadline: Duration,
    ) -> Result<T, CallError> {
        let address = self.peers.address(self.target, &self.addr);
        let payload = payload.map_err(CallError::Codec)?;
        let answer = self.peers.call(&address, kind, payload, deadline).await.map_err(CallError::Peer)?;
        rpc::from_json(&answer).map_err(CallError::Codec)
    }

    fn rpc_error<E: std::error::Error>(
        &self,
        action: RPCTypes,
        deadline: Duration,
        error: CallError,
    ) -> RPCError<NodeId, BasicNode, E> {
        match error {
            CallError::Peer(PeerError::Timeout { .. }) => {
                Timeout { action, id: self.peers.me, target: self.target, timeout: deadline }.into()
            }
            // Anything else is worth a pause: openraft repeats a `NetworkError` at once, in a hot loop.
            CallError::Peer(error) => Unreachable::new(&error).into(),
            CallError::Codec(error) => Unreachable::new(&error).into(),
        }
    }

    /// Chunk by chunk, each with a deadline of its own and repeated when it was lost: a link that is cut for a moment
    /// must not hold up the transfer for the time that installing a large snapshot may take.
    async fn send_snapshot(
        &self,
        vote: Vote<u64>,
        snapshot: Snapshot<TypeConfig>,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let transfer = rand::random();
        let len = snapshot.snapshot.len().map_err(|error| NetworkError::new(&error))?;
        let mut offset = 0;
        loop {
            let file = snapshot.snapshot.clone();
            let read = tokio::task::spawn_blocking(move || file.read_at(offset, SNAPSHOT_CHUNK_BYTES));
            let bytes = read.await.map_err(|error| Unreachable::new(&error))?;
            let bytes = bytes.map_err(|error| Unreachable::new(&error))?;
            let next = offset + bytes.len() as u64;
            let header = ChunkHeader { transfer, vote, meta: snapshot.meta.clone(), offset, last: next >= len };
            let chunk = rpc::chunk_to_bytes(&header, &bytes).map_err(|error| Unreachable::new(&error))?;
            match self.send_chunk(chunk).await {
                Ok(ChunkAnswer::Stored | ChunkAnswer::Installing) => offset = next,
                Ok(ChunkAnswer::Installed(response)) => return Ok(response),
                Ok(ChunkAnswer::Restart(reason)) => {
                    return Err(Unreachable::new(&std::io::Error::other(reason)).into());
                }
                Err(CallError::Peer(error)) => return Err(Unreachable::new(&error).into()),
                Err(CallError::Codec(error)) => return Err(Unreachable::new(&error).into()),
            }
        }
    }

    async fn send_chunk(&self, chunk: Bytes) -> Result<ChunkAnswer, CallError> {
        let mut tries = 0;
        loop {
            match self.ask(kind::SNAPSHOT_CHUNK, Ok(chunk.clone()), CHUNK_DEADLINE).await {
                Err(CallError::Peer(PeerError::Timeout { .. } | PeerError::Unreachable { .. }))
                    if tries < CHUNK_RETRIES =>
                {
                    tries += 1;
                    tokio::time::sleep(UNREACHABLE_PAUSE).await;
                }
                answered => return answered,
            }
        }
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let deadline = option.hard_ttl();
        let answer = self.ask(kind::APPEND_ENTRIES, rpc::to_json(&rpc), deadline).await;
        answer.map_err(|error| self.rpc_error(RPCTypes::AppendEntries, deadline, error))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let deadline = option.hard_ttl();
        let answer = self.ask(kind::VOTE, rpc::to_json(&rpc), deadline).await;
        answer.map_err(|error| self.rpc_error(RPCTypes::Vote, deadline, error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let send = pin!(self.send_snapshot(vote, snapshot));
        match select(send, pin!(cancel)).await {
            Either::Left((sent, _)) => sent,
            Either::Right((closed, _)) => Err(closed.into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
