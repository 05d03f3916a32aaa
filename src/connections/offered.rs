//! A message on its way to one client's socket, and what became of it at once. Used by outlet.

use bytes::Bytes;

use super::outbox::{frame, Opcode};
use crate::model::coalesce::CoalesceKey;
use crate::model::endpoint::OutboxSettings;

/// What the socket took of a frame at once.
pub(super) enum Written {
    Whole,
    /// Its rest is queued.
    Partly,
    No,
}

/// A message on its way to the socket.
pub(super) enum Offered<'a> {
    Payload(Opcode, &'a [u8]),
    /// Encoded already; what the socket does not take is not copied.
    Frame(&'a Bytes),
}

impl Offered<'_> {
    pub fn len_at_most(&self) -> usize {
        match self {
            // A frame's header has at most ten bytes.
            Offered::Payload(_, payload) => payload.len() + 10,
            Offered::Frame(frame) => frame.len(),
        }
    }

    /// The message itself.
    pub fn payload(&self) -> &[u8] {
        match *self {
            Offered::Payload(_, payload) => payload,
            // RFC 6455 §5.2: the length's first seven bits say how many more bytes tell it. Never masked here.
            Offered::Frame(frame) => match frame.get(1) {
                Some(126) => frame.get(4..),
                Some(127) => frame.get(10..),
                _ => frame.get(2..),
            }
            .unwrap_or_default(),
        }
    }

    /// By what it may take the place of another that waits. Looks into the message, so only one that must wait is asked.
    pub fn key(&self, policy: &OutboxSettings) -> Option<CoalesceKey> {
        policy.coalesce_by.as_ref().and_then(|by| by.key(self.payload()))
    }

    pub fn frame(&self) -> Bytes {
        match *self {
            Offered::Payload(opcode, payload) => frame(opcode, payload),
            Offered::Frame(frame) => frame.clone(),
        }
    }
}
