//! What callers say to the store and what they get back: commands, replies, heads and versions. Plain data, no IO.
//! Documents are opaque text here: the store knows that they have a kind, an id, a unique key and versions, no more.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, read by the proposer: applying a command never looks at a clock.
pub type UnixMillis = u64;

/// Who, when and why; kept with the version that a command makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorship {
    pub author: String,
    pub message: String,
    pub at: UnixMillis,
}

/// A change to the replicated state. `kind` is a namespace ("endpoint"); ids and keys are unique within one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub enum Command {
    /// Stores version 1 and activates it. Refused with `KeyTaken` or, for an existing id, `IdTaken`.
    Create { kind: String, id: String, key: String, document: String, by: Authorship },
    /// As `Create`, but nothing is active: the active version is 0 until one is activated. The key is held already.
    Draft { kind: String, id: String, key: String, document: String, by: Authorship },
    /// Stores the next version. `key` is the unique key from the activation of this version on, so a taken one is
    /// refused at once when `activate`, else at activation. `expected` is the active version the author looked at.
    Update {
        kind: String,
        id: String,
        key: String,
        document: String,
        activate: bool,
        expected: Option<u64>,
        by: Authorship,
    },
    /// Makes a stored version the active one.
    Activate { kind: String, id: String, version: u64, expected: Option<u64>, by: Authorship },
    /// Deletes a document with all its versions.
    Delete { kind: String, id: String, expected: Option<u64>, by: Authorship },
    /// As `Draft`, for a document that is brought back: it holds the key of its version that was active, while its first
    /// version keeps a key of its own.
    Restore { kind: String, id: String, key: String, first_key: String, document: String, by: Authorship },
    /// Changes no document: for acts elsewhere that leave a note in the audit log.
    Record {},
}

/// What was proposed with a note, and what became of it. Kept by the state machine with the command's own effect; the
/// note is opaque here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    pub note: String,
    pub reply: Reply,
}

/// The state machine's answer to a command that was committed. The same on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum Reply {
    /// The command took effect at this log index; `version` is the one it made, activated or deleted.
    Done {
        id: String,
        version: u64,
        index: u64,
    },
    Rejected {
        rejection: Rejection,
    },
}

/// Why a committed command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "camelCase")]
pub enum Rejection {
    #[error("the key {key} is held by document {holder}")]
    KeyTaken { key: String, holder: String },
    #[error("a document with id {id} exists already")]
    IdTaken { id: String },
    #[error("there is no document {id}")]
    NotFound { id: String },
    #[error("document {id} has no version {version}")]
    VersionNotFound { id: String, version: u64 },
    #[error("version {expected} was expected to be active, but {active} is")]
    VersionMismatch { expected: u64, active: u64 },
}

/// The current state of one document, without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub kind: String,
    pub id: String,
    pub key: String,
    /// 0: none yet.
    pub active_version: u64,
    pub latest_version: u64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
    /// Log index of the last command that changed this document.
    pub modified_index: u64,
}

/// One immutable version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub version: u64,
    pub by: Authorship,
    /// SHA-256 of `document`, lower-case hex.
    pub hash: String,
    pub key: String,
    pub document: Arc<str>,
}

/// Why a proposal has no answer from the state machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ProposeError {
    /// Nobody leads, or the leader cannot be reached; nothing was written. HTTP 503 with Retry-After.
    #[error("no leader: {0}")]
    NoLeader(String),
    /// It may or may not have been committed; retrying with the same request id is safe. HTTP 503 that says so.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// Some node might not understand it, and nothing was written. HTTP 503.
    #[error("not every node understands this yet: {0}")]
    MixedVersions(String),
    /// The disk of the leader has no room, and nothing was written. HTTP 507.
    #[error("the disk is full: {0}")]
    Full(String),
    /// This node's storage failed or the store has stopped.
    #[error("storage: {0}")]
    Storage(String),
}

/// How this node sees Raft; for `/cluster`, `/metrics` and readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftStatus {
    pub node_id: u64,
    pub leader: Option<u64>,
    pub term: u64,
    /// leader, follower, candidate, learner or uninitialised.
    pub role: String,
    pub last_log_index: Option<u64>,
    pub committed_index: Option<u64>,
    pub applied_index: Option<u64>,
    pub snapshot_index: Option<u64>,
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    /// Milliseconds since a quorum acknowledged this node as the leader; only on the leader.
    pub millis_since_quorum_ack: Option<u64>,
}
