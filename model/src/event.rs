//! Event kinds and event ids. Called by inbound and connections; imports nothing of the crate.

use std::fmt;

use sha2::{Digest, Sha256};

/// What happened on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The handshake was accepted.
    Connect,
    /// The client sent an event.
    Message,
    /// The connection ended.
    Disconnect,
    /// An event could not be taken or delivered.
    Error,
}

impl EventKind {
    /// The CloudEvents attribute `type`.
    pub const fn cloud_event_type(self) -> &'static str {
        match self {
            EventKind::Connect => "io.wsgateway.connect",
            EventKind::Message => "io.wsgateway.message",
            EventKind::Disconnect => "io.wsgateway.disconnect",
            EventKind::Error => "io.wsgateway.error",
        }
    }

    /// The kind whose attribute `type` this is.
    pub fn of_cloud_event(text: &str) -> Option<EventKind> {
        let all = [EventKind::Connect, EventKind::Message, EventKind::Disconnect, EventKind::Error];
        all.into_iter().find(|kind| kind.cloud_event_type() == text)
    }

    /// Short name, for metric labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::Connect => "connect",
            EventKind::Message => "message",
            EventKind::Disconnect => "disconnect",
            EventKind::Error => "error",
        }
    }
}

/// Length of an event id.
pub const EVENT_ID_LEN: usize = 26;
/// Crockford's base 32, as ULIDs use it: sorts like the number, and survives case folding.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A ULID: 48 bits of Unix milliseconds, 80 random bits; its text sorts by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; EVENT_ID_LEN]);

impl EventId {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// An id that was made before.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; EVENT_ID_LEN] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| ALPHABET.contains(byte)).then_some(Self(bytes))
    }

    /// The id of a disconnect event that another node sends for a dead one: the same whoever tells of it, so that a node that
    /// cannot know whether another one has told already does no harm. Its time is that of the connection's beginning.
    pub fn of_end(connected_at_millis: u64, connection_id: &str) -> Self {
        let digest = Sha256::new().chain_update("end of ").chain_update(connection_id).finalize();
        let mut random = [0; 16];
        random[6..].copy_from_slice(&digest[..10]);
        let millis = u128::from(connected_at_millis) & ((1 << 48) - 1);
        Self::from_number((millis << RANDOM_BITS) | u128::from_be_bytes(random))
    }

    fn from_number(number: u128) -> Self {
        let mut text = [0u8; EVENT_ID_LEN];
        for (place, byte) in text.iter_mut().enumerate() {
            let shift = 5 * (EVENT_ID_LEN - 1 - place);
            *byte = ALPHABET[(number >> shift) as usize & 31];
        }
        Self(text)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

/// Bits of an id that are not time.
const RANDOM_BITS: u32 = 80;

/// Makes event ids; one per worker. Ids of one generator strictly grow, also when the clock steps back; generators draw
/// 80 fresh random bits at every millisecond, so they do not meet.
#[derive(Debug, Default)]
pub struct EventIdGenerator {
    last: u128,
}

impl EventIdGenerator {
    /// A generator that has made nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next id at the given Unix time in milliseconds.
    pub fn next_id(&mut self, unix_millis: u64) -> EventId {
        let millis = u128::from(unix_millis) & ((1 << 48) - 1);
        if millis > self.last >> RANDOM_BITS {
            // The top random bit stays clear, so that counting on within this millisecond cannot reach the next one.
            let random = rand::random::<u128>() & ((1 << (RANDOM_BITS - 1)) - 1);
            self.last = (millis << RANDOM_BITS) | random;
        } else {
            self.last += 1;
        }
        EventId::from_number(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_and_grow() {
        let mut generator = EventIdGenerator::new();
        let mut seen = HashSet::new();
        let mut last = None;
        // The clock stands still, steps on, and back.
        for millis in [1_700_000_000_000, 1_700_000_000_000, 1_700_000_000_001, 1_600_000_000_000] {
            for _ in 0..1000 {
                let id = generator.next_id(millis);
                assert!(Some(id) > last);
                assert!(seen.insert(id));
                assert_eq!(id.as_str().len(), EVENT_ID_LEN);
                last = Some(id);
            }
        }
        assert!(!seen.contains(&EventIdGenerator::new().next_id(1_700_000_000_000)));
    }

    #[test]
    fn the_end_of_a_connection_has_one_id() {
        let id = EventId::of_end(1_469_918_176_385, "one");
        assert_eq!(id, EventId::of_end(1_469_918_176_385, "one"));
        assert_ne!(id, EventId::of_end(1_469_918_176_385, "other"));
        assert_ne!(id, EventId::of_end(1_469_918_176_386, "one"));
        assert_eq!((&id.as_str()[..10], EventId::parse(id.as_str())), ("01ARYZ6S41", Some(id)));
    }

    #[test]
    fn text_is_a_ulid() {
        assert_eq!(EventId::from_number(0).as_str(), "0".repeat(26));
        assert_eq!(EventId::parse(&"0".repeat(26)), Some(EventId::from_number(0)));
        for wrong in ["", "0", "01ARYZ6S41TSV4RRFFQ69G5FAI", "01aryz6s41tsv4rrffq69g5fav"] {
            assert_eq!(EventId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(EventId::from_number(u128::MAX).as_str(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert_eq!(&EventIdGenerator::new().next_id(1_469_918_176_385).as_str()[..10], "01ARYZ6S41");
    }
}
