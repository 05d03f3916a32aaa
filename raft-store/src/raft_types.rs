//! The types that openraft is set up with: what a log entry carries and what applying it answers. Plain data.
//! Used by every module of this crate that touches openraft; imports `types` and `snapshot`.

use openraft::BasicNode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::snapshot::SnapshotFile;
use crate::types::{Command, Reply};

openraft::declare_raft_types!(
    /// openraft as this crate uses it. A node is its cluster address; ids are the permanent node ids.
    pub TypeConfig:
        D = Proposal,
        R = Answer,
        NodeId = u64,
        Node = BasicNode,
        SnapshotData = SnapshotFile,
);

/// The newest version of [`Proposal`] that this program can apply. It writes the oldest that can carry what is proposed:
/// 1, with a note or `Draft` or `Record` 2, with `Restore` 3.
pub const PROPOSAL_VERSION: u32 = 3;
/// Of the first program that knew notes.
const NOTES_SINCE: u32 = 2;

/// What a log entry carries. The command stays raw JSON until it is applied: a node that does not know it can still
/// store and forward it, and halts with a clear error only when it would have to apply it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proposal {
    pub v: u32,
    /// Chosen by the proposer; a second proposal with the same id gets the first one's reply. Empty: not deduplicated.
    pub request_id: String,
    pub command: Box<RawValue>,
    /// Kept in the audit log, together with the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A proposal that this program cannot make or apply.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    #[error("the log holds a command of version {found}, but this program knows versions up to {PROPOSAL_VERSION}; upgrade this node")]
    UnknownVersion { found: u32 },
    #[error("the log holds a command that this program does not know: {0}; upgrade this node")]
    UnknownCommand(serde_json::Error),
    #[error("the command cannot be written as JSON: {0}")]
    Unwritable(serde_json::Error),
}

impl Proposal {
    /// Wraps a command for the log.
    pub fn new(request_id: String, command: &Command) -> Result<Proposal, ProposalError> {
        let v = match command {
            Command::Draft { .. } | Command::Record {} => 2,
            Command::Restore { .. } => 3,
            _ => 1,
        };
        let command = serde_json::value::to_raw_value(command).map_err(ProposalError::Unwritable)?;
        Ok(Proposal { v, request_id, command, note: None })
    }

    /// The same with a note: a program that does not know notes must not apply it without.
    pub fn with_note(self, note: Option<String>) -> Proposal {
        let v = if note.is_some() { self.v.max(NOTES_SINCE) } else { self.v };
        Proposal { v, note, ..self }
    }

    /// The command, if this program understands it.
    pub fn command(&self) -> Result<Command, ProposalError> {
        if self.v > PROPOSAL_VERSION {
            return Err(ProposalError::UnknownVersion { found: self.v });
        }
        serde_json::from_str(self.command.get()).map_err(ProposalError::UnknownCommand)
    }
}

/// What applying an entry answers: nothing for openraft's own entries (blank, membership).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer(pub Option<Reply>);

/// Shorthands for openraft's generics.
pub type Raft = openraft::Raft<TypeConfig>;
pub type Entry = openraft::Entry<TypeConfig>;
pub type LogId = openraft::LogId<u64>;
pub type StorageError = openraft::StorageError<u64>;
pub type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
pub type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
