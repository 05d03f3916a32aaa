//! What travels between stores of different nodes: kinds, messages, encodings. Plain data. Used by `network` (asks),
//! `service` (answers), `propose` and `bootstrap`; imports `types` and `raft_types`.
//!
//! Raft messages and commands are JSON (they hold raw JSON and tagged enums); bootstrap messages are postcard.

use bytes::Bytes;
use openraft::raft::SnapshotResponse;
use openraft::Vote;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wsgateway_cluster::bootstrap::SeedListHash;
use wsgateway_cluster::{ClusterId, NodeId};

use crate::raft_types::SnapshotMeta;
use crate::types::{Command, ProposeError, Reply};

/// Request kinds, within `wsgateway_cluster::kinds::RAFT_STORE`. Part of the wire format: never renumber.
pub mod kind {
    pub const APPEND_ENTRIES: u16 = 1;
    pub const VOTE: u16 = 2;
    pub const SNAPSHOT_CHUNK: u16 = 3;
    /// A write for the leader.
    pub const PROPOSE: u16 = 10;
    /// The leader's read index.
    pub const READ_INDEX: u16 = 11;
    /// "Start an election now", from a leader that is leaving.
    pub const ELECT: u16 = 12;
    /// "Are you there, and do you hear a leader?"
    pub const PING: u16 = 13;
    /// "Has your disk room for what a leader has to write?"
    pub const ROOM: u16 = 14;
    /// A bootstrap probe.
    pub const PROBE: u16 = 20;
    /// "Let me in", and "I listen at another address now".
    pub const JOIN: u16 = 21;
}

/// The header of a snapshot chunk; the chunk's bytes follow it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChunkHeader {
    /// Tells apart two transfers of one sender.
    pub transfer: u64,
    pub vote: Vote<u64>,
    pub meta: SnapshotMeta,
    pub offset: u64,
    /// These bytes end at the end of the file.
    pub last: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ChunkAnswer {
    /// Go on with the next chunk.
    Stored,
    /// All is here; ask again with the end of the file and no bytes.
    Installing,
    /// The snapshot was handed to Raft, which answered this.
    Installed(SnapshotResponse<u64>),
    /// Not the chunk that was expected, or the file arrived broken: send it all again.
    Restart(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProposeRequest {
    pub request_id: String,
    pub command: Command,
    /// For the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A leader's answer to a forwarded write or read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeaderAnswer<T> {
    Done(T),
    /// Not executed: the asked node does not lead.
    NotLeader,
    Failed(ProposeError),
}

pub type ProposeAnswer = LeaderAnswer<Reply>;
pub type ReadIndexAnswer = LeaderAnswer<u64>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PingAnswer {
    /// For how long the answerer has had no sign of life of a leader; as a leader, of a quorum.
    pub leader_silent_millis: u64,
    /// The newest version of a proposal that it can apply.
    pub understands: u32,
}

/// An answer of a program that did not say what it understands yet is one of the first version.
pub fn ping_answer(bytes: &[u8]) -> Result<PingAnswer, CodecError> {
    from_postcard(bytes).or_else(|_| {
        let leader_silent_millis = from_postcard(bytes)?;
        Ok(PingAnswer { leader_silent_millis, understands: crate::cluster_version::FIRST })
    })
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// The prober's advertised address: a hint where to find it.
    pub addr: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeReply {
    pub initialised: Option<ClusterId>,
    pub seed_list_hash: SeedListHash,
    pub promised_to: Option<NodeId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Where the sender listens. Its id is the one proven in the handshake.
    pub addr: String,
    /// The cluster that the sender belongs to already, when it only announces an address.
    pub cluster_id: Option<ClusterId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum JoinAnswer {
    Joined {
        cluster_id: ClusterId,
    },
    /// Ask this node instead, if one is known.
    NotLeader {
        leader: Option<(NodeId, String)>,
    },
    /// Not now; the text is for logs.
    Later {
        reason: String,
    },
    /// Not as it is: the sender belongs to another cluster, or its program is too old.
    Refused {
        reason: String,
    },
    /// Never again: the sender was removed.
    Evicted {
        farewell: String,
    },
}

/// A message that does not decode. The text names neither content nor peer.
#[derive(Debug, thiserror::Error)]
#[error("a message cannot be read or written: {0}")]
pub struct CodecError(String);

pub fn to_json<T: Serialize>(message: &T) -> Result<Bytes, CodecError> {
    serde_json::to_vec(message).map(Bytes::from).map_err(|error| CodecError(error.to_string()))
}

pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    serde_json::from_slice(bytes).map_err(|error| CodecError(error.to_string()))
}

pub fn to_postcard<T: Serialize>(message: &T) -> Result<Bytes, CodecError> {
    postcard::to_stdvec(message).map(Bytes::from).map_err(|error| CodecError(error.to_string()))
}

pub fn from_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    postcard::from_bytes(bytes).map_err(|error| CodecError(error.to_string()))
}

/// Length of the header (big-endian u32), header, bytes.
pub fn chunk_to_bytes(header: &ChunkHeader, bytes: &[u8]) -> Result<Bytes, CodecError> {
    let header = to_json(header)?;
    let mut message = Vec::with_capacity(4 + header.len() + bytes.len());
    message.extend_from_slice(&(header.len() as u32).to_be_bytes());
    message.extend_from_slice(&header);
    message.extend_from_slice(bytes);
    Ok(message.into())
}

pub fn chunk_from_bytes(message: Bytes) -> Result<(ChunkHeader, Bytes), CodecError> {
    let short = || CodecError("a snapshot chunk is cut short".to_owned());
    let len: [u8; 4] = message.get(..4).and_then(|len| len.try_into().ok()).ok_or_else(short)?;
    let end = 4 + u32::from_be_bytes(len) as usize;
    let header = from_json(message.get(4..end).ok_or_else(short)?)?;
    Ok((header, message.slice(end..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Authorship, Rejection};

    #[test]
    fn tagged_enums_survive_the_wire() {
        let by = Authorship { author: "a".into(), message: "m".into(), at: 1 };
        let command = Command::Delete { kind: "k".into(), id: "i".into(), expected: Some(3), by };
        let request = ProposeRequest { request_id: "r".into(), command: command.clone(), note: Some("n".into()) };
        assert_eq!(from_json::<ProposeRequest>(&to_json(&request).unwrap()).unwrap().command, command);
        let reply = Reply::Rejected { rejection: Rejection::NotFound { id: "i".into() } };
        let answer = from_json::<ProposeAnswer>(&to_json(&ProposeAnswer::Done(reply.clone())).unwrap()).unwrap();
        assert!(matches!(answer, LeaderAnswer::Done(found) if found == reply));
    }

    #[test]
    fn a_chunk_is_header_and_bytes() {
        let header = ChunkHeader {
            transfer: 7,
            vote: Vote::new_committed(1, 2),
            meta: SnapshotMeta::default(),
            offset: 9,
            last: true,
        };
        let message = chunk_to_bytes(&header, b"data").unwrap();
        let (found, bytes) = chunk_from_bytes(message.clone()).unwrap();
        assert_eq!((found.transfer, found.offset, &bytes[..]), (7, 9, &b"data"[..]));
        for cut in 0..message.len() - 4 {
            assert!(chunk_from_bytes(message.slice(..cut)).is_err());
        }
    }
}
