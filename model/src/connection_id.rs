//! Connection ids: URL-safe text from which a node reads the connection's owner, with no directory.
//!
//! Called by connections (to mint), push and the admin surface (to decode). Imports nothing of the crate.

use std::fmt;
use std::str::FromStr;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;

/// The only format version there is.
pub const VERSION: u8 = 1;
/// 1 byte version, 8 node, 8 generation, 16 random; a multiple of 3, so base64 leaves no spare bits and every id has one text.
const BYTES: usize = 33;
/// Length of the text form.
pub const TEXT_LEN: usize = 44;

/// Who owns a connection, and which one it is. Unguessable by its 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Cluster-wide id of the node that holds the socket.
    pub node: u64,
    /// Boot generation of that node: grows at each start, so ids of an earlier life are known to be gone.
    pub generation: u64,
    /// 128 bits from a cryptographic generator.
    pub random: u128,
}

/// Why a text is no connection id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionIdError {
    /// Not exactly [`TEXT_LEN`] bytes.
    #[error("a connection id has {TEXT_LEN} characters, this has {0}")]
    Length(usize),
    /// A character outside the URL-safe base64 alphabet.
    #[error("a connection id has only letters, digits, '-' and '_'")]
    Alphabet,
    /// A format of another build.
    #[error("connection id format {0} is not known here")]
    Version(u8),
}

impl ConnectionId {
    /// A new id of the given owner.
    pub fn generate(node: u64, generation: u64) -> Self {
        Self { node, generation, random: rand::random() }
    }

    /// The text form without an allocation.
    pub fn to_text(self) -> ConnectionIdText {
        let mut bytes = [0u8; BYTES];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.node.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.generation.to_be_bytes());
        bytes[17..].copy_from_slice(&self.random.to_be_bytes());
        let mut text = [0u8; TEXT_LEN];
        // Cannot fail: 33 bytes are 44 characters.
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(TEXT_LEN));
        ConnectionIdText(text)
    }
}

/// A connection id as text, on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectionIdText([u8; TEXT_LEN]);

impl ConnectionIdText {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_text().as_str())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

impl FromStr for ConnectionId {
    type Err = ConnectionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != TEXT_LEN {
            return Err(ConnectionIdError::Length(text.len()));
        }
        let mut bytes = [0u8; BYTES];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(BYTES) => {}
            _ => return Err(ConnectionIdError::Alphabet),
        }
        if bytes[0] != VERSION {
            return Err(ConnectionIdError::Version(bytes[0]));
        }
        Ok(Self {
            node: be_u64(&bytes[1..9]),
            generation: be_u64(&bytes[9..17]),
            random: (u128::from(be_u64(&bytes[17..25])) << 64) | u128::from(be_u64(&bytes[25..33])),
        })
    }
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let corners = [(0, 0, 0), (u64::MAX, u64::MAX, u128::MAX), (1, 2, 3), (1 << 63, 1, 1 << 127)];
        for (node, generation, random) in corners {
            let id = ConnectionId { node, generation, random };
            let text = id.to_string();
            assert_eq!(text.len(), TEXT_LEN);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{text}");
            assert_eq!(text.parse(), Ok(id));
        }
        let id = ConnectionId::generate(7, 9);
        assert_eq!(id.to_text().as_str().parse(), Ok(id));
        assert_ne!(id, ConnectionId::generate(7, 9));
    }

    #[test]
    fn refuses_malformed_text() {
        let good = ConnectionId { node: 1, generation: 1, random: 1 }.to_string();
        for bad in ["", "a", &good[1..], &format!("{good}="), &format!("{good}A"), &"é".repeat(21)] {
            assert!(matches!(bad.parse::<ConnectionId>(), Err(ConnectionIdError::Length(_))), "{bad}");
        }
        for bad in [good.replacen('A', "=", 1), good.replacen('A', "+", 1), good.replacen('A', "/", 1), "é".repeat(22)]
        {
            assert_eq!(bad.parse::<ConnectionId>(), Err(ConnectionIdError::Alphabet), "{bad}");
        }
        assert_eq!(format!("{}=", &good[..43]).parse::<ConnectionId>(), Err(ConnectionIdError::Alphabet));
        assert_eq!(good.replacen("AQ", "Ag", 1).parse::<ConnectionId>(), Err(ConnectionIdError::Version(2)));
        assert_eq!("A".repeat(44).parse::<ConnectionId>(), Err(ConnectionIdError::Version(0)));
    }
}
