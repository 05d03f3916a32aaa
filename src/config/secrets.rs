//! The secrets of documents: one table of the fields, kept as hashes, never returned, never quoted in an error. Called
//! before a document is stored, shown or compared; imports model and document.

mod places;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use serde::de::Error as _;

use crate::model::endpoint::sha256;

use super::document::{ApiKey, Authentication};
use super::findings::Findings;
use super::unsupported;
use places::{edited, objects, Edit, Object};

/// A field with a secret, and the one beside it that holds what is kept of it.
struct SecretField {
    /// The objects that have it; `[]`: each of a list.
    within: &'static [&'static str],
    /// The member by which an object of a list is found again in another version.
    identity: Option<&'static str>,
    literal: &'static str,
    stored: &'static str,
    kept: Kept,
}

#[derive(Clone, Copy)]
enum Kept {
    /// For random keys: looked up at every handshake.
    Sha256,
    /// For passwords, which can be guessed: slow on purpose, salted.
    Argon2id,
}

const FIELDS: &[SecretField] = &[
    SecretField {
        within: &["authentication"],
        identity: None,
        literal: "password",
        stored: "passwordHash",
        kept: Kept::Argon2id,
    },
    SecretField {
        within: &["authentication", "users[]"],
        identity: Some("username"),
        literal: "password",
        stored: "passwordHash",
        kept: Kept::Argon2id,
    },
    SecretField {
        within: &["authentication", "keys[]"],
        identity: Some("id"),
        literal: "key",
        stored: "keyHash",
        kept: Kept::Sha256,
    },
];

/// Says how a stored key was hashed.
const PREFIX: &str = "sha256:";
/// Hashes that a reader may not see.
const KEY_REDACTED: &str = "sha256:redacted";
const PASSWORD_REDACTED: &str = "$argon2id$redacted";

/// What checking one password may cost, also with a hash that was made elsewhere: 64 MiB, ten passes, four lanes.
const ARGON2_KIB_MAX: u32 = 65_536;
const ARGON2_PASSES_MAX: u32 = 10;
const ARGON2_LANES_MAX: u32 = 4;

impl Kept {
    fn hash(self, literal: &str) -> Result<String, serde_json::Error> {
        match self {
            Kept::Sha256 => Ok(to_hex(sha256(literal.as_bytes()))),
            Kept::Argon2id => {
                let hash: Result<PasswordHash, _> = Argon2::default().hash_password(literal.as_bytes());
                hash.map(|hash| hash.to_string()).map_err(serde_json::Error::custom)
            }
        }
    }

    /// Whether `stored` was made from `literal`.
    fn matches(self, literal: &str, stored: &str) -> bool {
        match self {
            Kept::Sha256 => to_hex(sha256(literal.as_bytes())) == stored,
            Kept::Argon2id => check_password_hash(stored).is_ok_and(|hash| hash_matches(literal.as_bytes(), &hash)),
        }
    }

    fn redacted(self) -> &'static str {
        match self {
            Kept::Sha256 => KEY_REDACTED,
            Kept::Argon2id => PASSWORD_REDACTED,
        }
    }
}

fn hash_matches(password: &[u8], hash: &PasswordHash) -> bool {
    Argon2::default().verify_password(password, hash).is_ok()
}

/// A password's hash that may be checked here: argon2id, in the PHC string format, within what a check may cost.
fn check_password_hash(text: &str) -> Result<PasswordHash, String> {
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

/// Reports what is wrong with the secrets of a document, whatever its mode: they are stored with it.
pub fn check(from: &Authentication, findings: &mut Findings) {
    for (index, key) in from.keys.iter().flatten().enumerate() {
        findings.take(format!("authentication.keys[{index}]"), key_digest(key));
    }
    let users = from.users.iter().flatten().enumerate().map(|(index, user)| {
        (format!("authentication.users[{index}]"), user.password.as_deref(), user.password_hash.as_deref())
    });
    let single = ("authentication".to_owned(), from.password.as_deref(), from.password_hash.as_deref());
    for (path, literal, hash) in users.chain([single]) {
        match (literal, hash) {
            (Some(_), Some(_)) => findings.add(path, "has either a \"password\" or its \"passwordHash\", not both"),
            (Some(""), None) => findings.add(format!("{path}.password"), "must not be empty"),
            (Some(text), None) if is_reference(text) => {
                findings.add(format!("{path}.password"), format!("as a reference {}", unsupported::MESSAGE));
            }
            (None, Some(hash)) => {
                findings.take(format!("{path}.passwordHash"), check_password_hash(hash));
            }
            _ => {}
        }
    }
}

/// Whether a field of the document at this path (`authentication.keys[3].key`) must not be quoted.
pub fn is_secret(path: &str) -> bool {
    let plain: String = path.split(['[', ']']).step_by(2).collect();
    let of_backend = plain.strip_prefix("routes.backends.").unwrap_or_default();
    matches!(
        plain.as_str(),
        "authentication"
            | "authentication.password"
            | "authentication.passwordHash"
            | "authentication.clientSecret"
            | "authentication.users"
            | "authentication.keys"
    ) || plain.starts_with("authentication.users.")
        || plain.starts_with("authentication.keys.")
        || ["signingSecret", "security", "additionalHeaders", "headers"].iter().any(|name| of_backend.starts_with(name))
}

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

/// `${env:NAME}` or `${file:/path}`.
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

/// The document as it may be stored: literal secrets become their hashes, and the bytes of everything else stay. One
/// that `previous` has as the same secret keeps the hash that is stored there, so that nothing has changed. For
/// validated documents. Takes tens of milliseconds a password: not for a thread that carries connections.
pub fn hash_secrets(document: &str, previous: Option<&str>) -> Result<String, serde_json::Error> {
    let mut edits = Vec::new();
    for field in FIELDS {
        let known = previous.map(|text| objects(text, field.within)).transpose()?.unwrap_or_default();
        for object in objects(document, field.within)? {
            let Some(literal) = object.text(field.literal).filter(|text| !is_reference(text)) else { continue };
            let kept = same_object(&known, &object, field).and_then(|other| other.text(field.stored));
            let hash = match kept.filter(|kept| field.kept.matches(&literal, kept)) {
                Some(kept) => kept,
                None => field.kept.hash(&literal)?,
            };
            replace_literal(&object, field, &hash, &mut edits);
        }
    }
    Ok(edited(document, edits))
}

/// The document as it may be shown: with neither secrets nor their hashes. What else it holds keeps its bytes.
pub fn redacted_for_reading(document: &str) -> Result<String, serde_json::Error> {
    let mut edits = Vec::new();
    for field in FIELDS {
        for object in objects(document, field.within)? {
            let redacted = field.kept.redacted();
            if object.text(field.literal).is_some_and(|text| !is_reference(&text)) {
                replace_literal(&object, field, redacted, &mut edits);
            } else if object.text(field.stored).is_some() {
                edits.extend(object.set(field.stored, &quoted(redacted)));
            }
        }
    }
    Ok(edited(document, edits))
}

/// Whether a document was read before, so that its secrets have to be taken from the stored one.
pub fn hides_secrets(document: &str) -> bool {
    document.contains(KEY_REDACTED) || document.contains(PASSWORD_REDACTED)
}

/// Undoes `redacted_for_reading` in a document that was read, edited and sent back: hashes return from the stored
/// `previous` document, in lists by the identity of their object. Ones that are unknown there stay redacted, which
/// validation refuses.
pub fn restore_redacted(document: &str, previous: &str) -> Result<String, serde_json::Error> {
    if !hides_secrets(document) {
        return Ok(document.to_owned());
    }
    let mut edits = Vec::new();
    for field in FIELDS {
        let known = objects(previous, field.within)?;
        for object in objects(document, field.within)? {
            if object.text(field.stored).as_deref() != Some(field.kept.redacted()) {
                continue;
            }
            if let Some(hash) = same_object(&known, &object, field).and_then(|other| other.text(field.stored)) {
                edits.extend(object.set(field.stored, &quoted(&hash)));
            }
        }
    }
    Ok(edited(document, edits))
}

/// The object of another version that stands for the same user or key.
fn same_object<'a, 'b>(known: &'a [Object<'b>], object: &Object<'_>, field: &SecretField) -> Option<&'a Object<'b>> {
    match field.identity {
        None => known.first(),
        Some(member) => {
            let identity = object.text(member)?;
            known.iter().find(|other| other.text(member).as_ref() == Some(&identity))
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The member becomes its hash. Where a null stands for the hash already, that takes it, and the secret becomes the null:
/// no field may be there twice.
fn replace_literal(object: &Object<'_>, field: &SecretField, hash: &str, edits: &mut Vec<Edit>) {
    match object.set(field.stored, &quoted(hash)) {
        Some(edit) => {
            edits.push(edit);
            edits.extend(object.set(field.literal, "null"));
        }
        None => edits.extend(object.rename(field.literal, &format!("\"{}\": {}", field.stored, quoted(hash)))),
    }
}

#[cfg(test)]
mod tests;
