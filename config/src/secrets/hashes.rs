//! Secrets that need never be read again: what is kept of keys and passwords. Called by secrets and compile; imports
//! document and model.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use serde::de::Error as _;

use crate::document::ApiKey;
use wsgateway_model::authentication::{sha256, PasswordCheck};

use super::references::is_reference;

#[derive(Clone, Copy)]
pub enum Hashing {
    /// For random keys: looked up at every handshake.
    Sha256,
    /// For passwords, which can be guessed: slow on purpose, salted.
    Argon2id,
}

/// Says how a stored key was hashed.
const PREFIX: &str = "sha256:";
/// Hashes that a reader may not see.
pub const KEY_REDACTED: &str = "sha256:redacted";
pub const PASSWORD_REDACTED: &str = "$argon2id$redacted";

/// What checking one password may cost, also with a hash that was made elsewhere: 64 MiB, ten passes, four lanes.
const ARGON2_KIB_MAX: u32 = 65_536;
const ARGON2_PASSES_MAX: u32 = 10;
const ARGON2_LANES_MAX: u32 = 4;

impl Hashing {
    pub fn hash(self, literal: &str) -> Result<String, serde_json::Error> {
        match self {
            Hashing::Sha256 => Ok(to_hex(sha256(literal.as_bytes()))),
            Hashing::Argon2id => {
                let hash: Result<PasswordHash, _> = Argon2::default().hash_password(literal.as_bytes());
                hash.map(|hash| hash.to_string()).map_err(serde_json::Error::custom)
            }
        }
    }

    /// Whether `stored` was made from `literal`.
    pub fn matches(self, literal: &str, stored: &str) -> bool {
        match self {
            Hashing::Sha256 => to_hex(sha256(literal.as_bytes())) == stored,
            Hashing::Argon2id => check_password_hash(stored).is_ok_and(|hash| hash_matches(literal.as_bytes(), &hash)),
        }
    }

    pub fn redacted(self) -> &'static str {
        match self {
            Hashing::Sha256 => KEY_REDACTED,
            Hashing::Argon2id => PASSWORD_REDACTED,
        }
    }
}

fn hash_matches(password: &[u8], hash: &PasswordHash) -> bool {
    Argon2::default().verify_password(password, hash).is_ok()
}

/// A password's hash that may be checked here: argon2id, in the PHC string format, within what a check may cost.
pub fn check_password_hash(text: &str) -> Result<PasswordHash, String> {
    let rule = "must be an argon2id hash in the PHC string format ($argon2id$v=19$m=…,t=…,p=…$salt$hash)";
    let hash = PasswordHash::new(text).map_err(|_| rule.to_owned())?;
    if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
        return Err(rule.to_owned());
    }
    let params = Params::try_from(&hash).map_err(|_| rule.to_owned())?;
    let affordable = params.m_cost() <= ARGON2_KIB_MAX
        && params.t_cost() <= ARGON2_PASSES_MAX
        && params.p_cost() <= ARGON2_LANES_MAX;
    match affordable {
        true => Ok(hash),
        false => Err(format!("must have m ≤ {ARGON2_KIB_MAX}, t ≤ {ARGON2_PASSES_MAX} and p ≤ {ARGON2_LANES_MAX}")),
    }
}

/// The digest of a key that is written literally or as its hash.
pub fn key_digest(key: &ApiKey) -> Result<[u8; 32], String> {
    match (key.key.as_deref(), key.key_hash.as_deref()) {
        (Some(_), Some(_)) => Err("has either \"key\" or \"keyHash\", not both".to_owned()),
        (None, None) => Err("needs a \"key\" or its \"keyHash\"".to_owned()),
        (Some(""), None) => Err("must not have an empty key".to_owned()),
        // Where nothing is served its value is not known. The digest is one that no key has: should such an endpoint ever
        // be served, the reference itself does not open it.
        (Some(text), None) if is_reference(text) => Ok(sha256(text.as_bytes()).map(|byte| !byte)),
        (Some(text), None) => Ok(sha256(text.as_bytes())),
        (None, Some(hash)) => from_hex(hash).ok_or_else(|| format!("keyHash is {PREFIX:?} and 64 hexadecimal digits")),
    }
}

/// What a user's password is compared with. A literal one is what this node has found at its reference; in documents that
/// are stored, others are hashes.
pub fn password_check(literal: Option<&str>, hash: Option<&str>) -> Result<PasswordCheck, String> {
    match (literal, hash) {
        (Some(_), Some(_)) => Err("has either a \"password\" or its \"passwordHash\", not both".to_owned()),
        (None, None) => Err("needs a \"password\" or its \"passwordHash\"".to_owned()),
        // As for keys: where its value is not known, nothing is the password.
        (Some(text), None) if is_reference(text) => {
            Ok(PasswordCheck::Digest(sha256(text.as_bytes()).map(|byte| !byte)))
        }
        (Some(text), None) => Ok(PasswordCheck::Digest(sha256(text.as_bytes()))),
        (None, Some(hash)) => check_password_hash(hash).map(|_| PasswordCheck::Argon2id(hash.into())),
    }
}

pub fn to_hex(digest: [u8; 32]) -> String {
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
