//! Which waiting messages take the place of each other: those with the same value at a path. Asked by connections for
//! messages that must wait, never for those that the socket takes at once. Imports json_path and projection.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::json_path::JsonPath;
use super::projection::{Projection, ReadPart};

/// Where a message says what it is about.
#[derive(Debug, Clone)]
pub struct CoalesceBy {
    path: JsonPath,
    looked_at: Projection,
}

/// What a message is about: a part of its value's SHA-256, so that no two values that anyone can find share one, and a
/// long value costs a waiting message no more than a short one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoalesceKey([u8; 16]);

impl CoalesceBy {
    /// By the first value that `path` finds.
    pub fn new(path: JsonPath) -> CoalesceBy {
        let mut looked_at = Projection::default();
        looked_at.add(&path);
        CoalesceBy { path, looked_at }
    }

    /// None: the message has no such value, or null, or is no JSON.
    pub fn key(&self, message: &[u8]) -> Option<CoalesceKey> {
        let Ok(ReadPart::Read(tree)) = self.looked_at.read(message) else { return None };
        let found = self.path.first(&tree).filter(|found| !found.is_null())?;
        let mut digest = Sha256::new();
        match found {
            // As text it could not be told from the number, with its quotes it can.
            Value::String(text) => {
                digest.update(b"\"");
                digest.update(text);
            }
            other => digest.update(other.to_string()),
        }
        let mut key = [0; 16];
        key.copy_from_slice(&digest.finalize()[..16]);
        Some(CoalesceKey(key))
    }
}

/// The same rule is the same text.
impl PartialEq for CoalesceBy {
    fn eq(&self, other: &CoalesceBy) -> bool {
        self.path.as_str() == other.path.as_str()
    }
}

impl Eq for CoalesceBy {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_values_not_texts() {
        let by = CoalesceBy::new(JsonPath::parse("$.a.symbol").unwrap());
        let key = |message: &str| by.key(message.as_bytes());
        assert!(key(r#"{"a": {"symbol": "X", "price": 1}}"#).is_some());
        assert_eq!(key(r#"{"a": {"symbol": "X", "price": 1}}"#), key(r#"{"a":{"price":2,"symbol":"\u0058"}}"#));
        assert_ne!(key(r#"{"a": {"symbol": "X"}}"#), key(r#"{"a": {"symbol": "Y"}}"#));
        assert_ne!(key(r#"{"a": {"symbol": "1"}}"#), key(r#"{"a": {"symbol": 1}}"#));
        for none in [r#"{"a": {}}"#, r#"{"a": {"symbol": null}}"#, "[1]", "no JSON", ""] {
            assert_eq!(key(none), None, "{none}");
        }
    }
}
