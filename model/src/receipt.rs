//! What a sender may want to know of a push beyond that it is queued, and what it hears. Travels between nodes; plain types.

use serde::{Deserialize, Serialize};

use crate::delivery::PushOutcome;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirm {
    /// The message is in the client's socket or outbox.
    Queued,
    /// Its last byte is in the client's socket.
    Written,
    /// The client has said that it has it.
    Client,
}

/// How a message is to be pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushOptions {
    pub confirm: Confirm,
    /// How long that is waited for.
    pub wait_millis: u32,
    /// A message that has waited for so long in the outbox is not sent any more.
    pub ttl_millis: Option<u32>,
    /// What makes a repeated push the same push.
    pub idempotency_key: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receipt {
    /// As of a push without options; `Queued` when nothing more was to be waited for.
    Outcome(PushOutcome),
    Written,
    Confirmed,
    /// Not within the time: it is in the outbox, and may yet be written.
    NotWritten,
    /// Written, and not confirmed within the time.
    NotConfirmed,
    /// It was not sent within its time to live.
    Expired,
    /// The client owes as many confirmations as it may.
    TooManyUnconfirmed,
}

impl Receipt {
    /// Nothing of it has reached the client or will: the same push may be tried again.
    pub fn is_unsent(&self) -> bool {
        match self {
            Receipt::Outcome(outcome) => *outcome != PushOutcome::Queued,
            Receipt::TooManyUnconfirmed => true,
            Receipt::Written | Receipt::Confirmed | Receipt::NotWritten | Receipt::NotConfirmed | Receipt::Expired => {
                false
            }
        }
    }
}
