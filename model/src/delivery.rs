//! What services and operators ask of a connection, and what becomes of it: the words that the rooms which carry such
//! requests share, and that travel between nodes. Imports plain tables; imported by every room.

use crate::close_code::CloseCode;
use crate::limits::GROUP_BYTES_MAX;

/// Who ended a connection; part of the disconnect event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Initiator {
    Client,
    Gateway,
    Service,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseCause {
    pub code: u16,
    pub reason: String,
    pub initiator: Initiator,
}

impl CloseCause {
    pub fn gateway(close: CloseCode) -> CloseCause {
        CloseCause { code: close.code, reason: close.reason.to_owned(), initiator: Initiator::Gateway }
    }

    /// The client's socket ended without a close frame (RFC 6455 §7.1.5: 1006 is never sent).
    pub fn lost() -> CloseCause {
        CloseCause { code: 1006, reason: "connection lost".to_owned(), initiator: Initiator::Client }
    }
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PushOutcome {
    /// In the socket or in the outbox.
    Queued,
    /// The outbox is full and its policy keeps what is there: 429.
    Full,
    /// Larger than the outbox's `maxBytes`: 413.
    TooBig,
    /// The connection is gone or closing: 410.
    Gone,
    /// The endpoint's outbound template has failed on it, and why: 422.
    TransformFailed(String),
}

impl PushOutcome {
    pub fn as_str(&self) -> &'static str {
        match self {
            PushOutcome::Queued => "queued",
            PushOutcome::Full => "outbox_full",
            PushOutcome::TooBig => "too_big",
            PushOutcome::Gone => "gone",
            PushOutcome::TransformFailed(_) => "transform_failed",
        }
    }
}

/// What connections have in common that get the same message.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Recipients {
    /// Those of this user.
    User(String),
    /// Those in this group.
    Group(String),
    /// All.
    All,
}

/// Whom a message is for that has no single connection as its address. Connections that fulfil all of it get it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Selection {
    /// Only connections of the endpoint with this id.
    pub endpoint: Option<String>,
    pub to: Recipients,
    /// The text of a condition on their descriptions; checked where it came in, read again on each node.
    pub filter: Option<String>,
}

/// A change of what a connection is called.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Labelling {
    Join(String),
    Leave(String),
    /// All of its tags: a JSON object as text.
    Tag(String),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Labelled {
    /// It is so now, and may have been before.
    Done,
    /// It is in as many groups as it may be.
    TooMany,
    Gone,
}

/// Whether groups may be called this.
pub fn is_group_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= GROUP_BYTES_MAX && !name.chars().any(char::is_control)
}

/// How many connections a message for several of them has reached, and how many not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    pub queued: u64,
    pub full: u64,
    pub too_big: u64,
    /// Went while the message was on its way.
    pub gone: u64,
    pub transform_failed: u64,
}

impl Tally {
    pub fn count(&mut self, outcome: &PushOutcome) {
        let count = match outcome {
            PushOutcome::Queued => &mut self.queued,
            PushOutcome::Full => &mut self.full,
            PushOutcome::TooBig => &mut self.too_big,
            PushOutcome::Gone => &mut self.gone,
            PushOutcome::TransformFailed(_) => &mut self.transform_failed,
        };
        *count += 1;
    }

    /// Whom the message was for.
    pub fn matched(&self) -> u64 {
        self.queued + self.full + self.too_big + self.gone + self.transform_failed
    }

    pub fn add(&mut self, other: &Tally) {
        self.queued += other.queued;
        self.full += other.full;
        self.too_big += other.too_big;
        self.gone += other.gone;
        self.transform_failed += other.transform_failed;
    }
}

/// A connection as an operator sees it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionView {
    pub id: String,
    pub endpoint: String,
    pub path: String,
    pub node: String,
    pub user: Option<String>,
    pub groups: Vec<String>,
    /// A JSON object as text; None: it has none.
    pub tags: Option<String>,
    pub source_ip: String,
    pub user_agent: Option<String>,
    pub connected_at_millis: u64,
    pub last_active_at_millis: u64,
    pub events_in: u64,
    pub events_out: u64,
    pub pending_bytes: usize,
    pub in_flight: u32,
}
