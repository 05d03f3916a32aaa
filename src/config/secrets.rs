//! API keys of documents: kept as hashes, never returned. Called before a document is stored and before one is shown;
//! imports model and document.

use serde_json::value::RawValue;
use serde_json::Value;

use crate::model::endpoint::sha256;

use super::document::ApiKey;
use super::unsupported;

/// Says how a stored key was hashed.
const PREFIX: &str = "sha256:";

/// The digest of a key that is written literally or as its hash.
pub fn key_digest(key: &ApiKey) -> Result<[u8; 32], String> {
    match (key.key.as_deref(), key.key_hash.as_deref()) {
        (Some(_), Some(_)) => Err("has either \"key\" or \"keyHash\", not both".to_owned()),
        (None, None) => Err("needs a \"key\" or its \"keyHash\"".to_owned()),
        (Some(""), None) => Err("must not have an empty key".to_owned()),
        (Some(text), None) if is_reference(text) => Err(format!("the reference {text:?} {}", unsupported::MESSAGE)),
        (Some(text), None) => Ok(sha256(text.as_bytes())),
        (None, Some(hash)) => from_hex(hash).ok_or_else(|| format!("keyHash is {PREFIX:?} and 64 hexadecimal digits")),
    }
}

/// `${env:NAME}` or `${file:/path}`, resolved on each node.
fn is_reference(text: &str) -> bool {
    text.ends_with('}') && (text.starts_with("${env:") || text.starts_with("${file:"))
}

fn to_hex(digest: [u8; 32]) -> String {
    digest.iter().fold(PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix(PREFIX)?;
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0u8; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(digest)
}
