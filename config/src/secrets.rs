//! The secrets of documents: one table of the fields; kept as hashes or encrypted, never returned, never quoted in an
//! error. Called before a document is stored, shown, compared or served; imports model, settings and document.
//!
//! A secret is written as itself, or as a reference to the environment or a file of each node. What is stored, and so
//! travels and lies on disks, holds hashes, encrypted texts and references only. In its last step before it serves, a
//! node *reveals* a document ([`NodeSecrets::read`]): references and encrypted texts become what they stand for, in the
//! very field where they are written, so that whoever compiles a document finds its plain secrets there, as
//! [`Secret`](wsgateway_model::secret::Secret)s. Nothing that was revealed goes back into a text.

mod hashes;
mod keyring;
mod node;
mod places;
mod references;

use serde_json::Value;

use super::document::Authentication;
use super::findings::Findings;
use hashes::{check_password_hash, Hashing, KEY_REDACTED, PASSWORD_REDACTED};
use keyring::ENCRYPTED;
use places::{edited, objects, Member, Object, Step};

pub use hashes::{key_digest, password_check};
pub use node::{check_sent, NodeSecrets};
pub use references::{has_reference, is_reference};

/// A field with a secret.
struct SecretField {
    /// The objects that have it.
    within: &'static [Step],
    members: Members,
    kept: Kept,
}

/// Which members of the objects.
enum Members {
    Named(&'static str),
    /// All: header names are anybody's. One whose name says so holds a credential; the others may be references.
    Headers,
}

#[derive(Clone, Copy)]
enum Kept {
    /// As its hash, in this member beside it.
    Hashed(Hashing, &'static str),
    /// Encrypted, in the member itself: a node must be able to read it.
    Encrypted,
    /// As it is written: no secret, but it may be a reference.
    Plain,
}

const fn object(name: &'static str, identity: &'static [&'static str]) -> Step {
    Step { name, list: false, identity }
}

const fn each(name: &'static str, identity: &'static [&'static str]) -> Step {
    Step { name, list: true, identity }
}

/// What a backend is told apart by is also where its secrets go: in a document that was read, edited and sent back, they
/// follow it to no other service. Whoever cannot read them could otherwise have them sent to himself.
const BACKENDS: Step = each("backends", &["type", "destination", "bootstrapServers", "topic"]);
const ROUTES: Step = each("routes", &["type", "name"]);
const DEAD_LETTER: Step = object("deadLetter", &["type", "destination", "bootstrapServers", "topic"]);
/// A password follows no change of the protocol either: it may have been SASL_SSL, and be PLAIN.
const SECURITY: Step = object("security", &["protocol", "saslMechanism"]);

/// Members of `security`.
const fn of_security(within: &'static [Step], name: &'static str, kept: Kept) -> SecretField {
    SecretField { within, members: Members::Named(name), kept }
}

const OF_BACKENDS: &[Step] = &[ROUTES, BACKENDS, SECURITY];
const OF_DEAD_LETTERS: &[Step] = &[DEAD_LETTER, SECURITY];
const OF_ROUTES_DEAD_LETTERS: &[Step] = &[ROUTES, DEAD_LETTER, SECURITY];
const OF_SOURCES: &[Step] = &[each("sources", &["type", "bootstrapServers", "topic"]), SECURITY];

/// One line a field; a new one needs nothing else but its type in `document` to be a `Secret`.
const FIELDS: &[SecretField] = &[
    SecretField {
        within: &[object("authentication", &[])],
        members: Members::Named("password"),
        kept: Kept::Hashed(Hashing::Argon2id, "passwordHash"),
    },
    SecretField {
        within: &[object("authentication", &[]), each("users", &["username"])],
        members: Members::Named("password"),
        kept: Kept::Hashed(Hashing::Argon2id, "passwordHash"),
    },
    SecretField {
        within: &[object("authentication", &[]), each("keys", &["id"])],
        members: Members::Named("key"),
        kept: Kept::Hashed(Hashing::Sha256, "keyHash"),
    },
    SecretField {
        within: &[object("authentication", &["introspectionUrl", "issuer"])],
        members: Members::Named("clientSecret"),
        kept: Kept::Encrypted,
    },
    SecretField {
        within: &[ROUTES, BACKENDS, object("additionalHeaders", &[])],
        members: Members::Headers,
        kept: Kept::Encrypted,
    },
    SecretField {
        within: &[ROUTES, BACKENDS, object("headers", &[])],
        members: Members::Headers,
        kept: Kept::Encrypted,
    },
    of_security(OF_BACKENDS, "password", Kept::Encrypted),
    of_security(OF_BACKENDS, "privateKey", Kept::Encrypted),
    of_security(OF_BACKENDS, "ca", Kept::Plain),
    of_security(OF_BACKENDS, "certificate", Kept::Plain),
    of_security(OF_SOURCES, "password", Kept::Encrypted),
    of_security(OF_SOURCES, "privateKey", Kept::Encrypted),
    of_security(OF_SOURCES, "ca", Kept::Plain),
    of_security(OF_SOURCES, "certificate", Kept::Plain),
    SecretField {
        within: &[ROUTES, DEAD_LETTER, object("additionalHeaders", &[])],
        members: Members::Headers,
        kept: Kept::Encrypted,
    },
    SecretField {
        within: &[ROUTES, DEAD_LETTER, object("headers", &[])],
        members: Members::Headers,
        kept: Kept::Encrypted,
    },
    SecretField {
        within: &[DEAD_LETTER, object("additionalHeaders", &[])],
        members: Members::Headers,
        kept: Kept::Encrypted,
    },
    SecretField { within: &[DEAD_LETTER, object("headers", &[])], members: Members::Headers, kept: Kept::Encrypted },
    of_security(OF_DEAD_LETTERS, "password", Kept::Encrypted),
    of_security(OF_DEAD_LETTERS, "privateKey", Kept::Encrypted),
    of_security(OF_DEAD_LETTERS, "ca", Kept::Plain),
    of_security(OF_DEAD_LETTERS, "certificate", Kept::Plain),
    of_security(OF_ROUTES_DEAD_LETTERS, "password", Kept::Encrypted),
    of_security(OF_ROUTES_DEAD_LETTERS, "privateKey", Kept::Encrypted),
    of_security(OF_ROUTES_DEAD_LETTERS, "ca", Kept::Plain),
    of_security(OF_ROUTES_DEAD_LETTERS, "certificate", Kept::Plain),
    SecretField { within: &[ROUTES, BACKENDS], members: Members::Named(SIGNING_SECRET), kept: Kept::Encrypted },
    SecretField { within: &[ROUTES, DEAD_LETTER], members: Members::Named(SIGNING_SECRET), kept: Kept::Encrypted },
    SecretField { within: &[DEAD_LETTER], members: Members::Named(SIGNING_SECRET), kept: Kept::Encrypted },
];

/// The secrets among the members of `security`.
const SECURITY_SECRETS: [&str; 2] = ["password", "privateKey"];
/// Of HTTP backends.
const SIGNING_SECRET: &str = "signingSecret";

/// An encrypted text that a reader may not see.
const ENCRYPTED_REDACTED: &str = "enc:redacted";
/// Stands for a secret in a diff.
const HIDDEN: &str = "(hidden)";

/// Parts of header names that say that the value is a credential.
const CREDENTIAL_NAMES: [&str; 12] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "api-key",
    "apikey",
    "api_key",
    "password",
    "passwd",
    "credential",
    "signature",
    "private-key",
];

/// Whether a header of this name holds a credential of the gateway at a service.
pub fn is_credential_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIAL_NAMES.iter().any(|part| name.contains(part))
}

impl SecretField {
    fn objects<'a>(&self, document: &'a str) -> Result<Vec<Object<'a>>, serde_json::Error> {
        objects(document, self.within)
    }

    fn members<'o, 'a>(&self, object: &'o Object<'a>) -> impl Iterator<Item = (&'o Member<'a>, String)> {
        let wanted = match self.members {
            Members::Named(name) => Some(name),
            Members::Headers => None,
        };
        let of_field = move |member: &&Member<'_>| wanted.is_none_or(|name| member.name == name);
        object.members().iter().filter(of_field).filter_map(|member| Some((member, member.text()?)))
    }

    /// Whether a literal in this member is a secret.
    fn holds_secret(&self, member: &Member<'_>) -> bool {
        match self.members {
            Members::Named(_) => !matches!(self.kept, Kept::Plain),
            Members::Headers => is_credential_header(&member.name),
        }
    }

    /// Names what an encrypted text belongs to, and is authenticated with it: the field, whichever object has it. Not the
    /// endpoint, so that a copy of all configuration can be restored under other ids; nobody but a node writes
    /// encrypted texts into documents.
    fn place(&self, member: &Member<'_>) -> String {
        let step = |step: &Step| format!("{}{}.", step.name, if step.list { "[]" } else { "" });
        self.within.iter().map(step).chain([member.name.to_ascii_lowercase()]).collect()
    }
}

/// The object of another version that is the same one.
fn same_object<'o, 'a>(known: &'o [Object<'a>], object: &Object<'_>) -> Option<&'o Object<'a>> {
    known.iter().find(|other| other.identity == object.identity)
}

/// Reports what is wrong with the keys and passwords of a document, whatever its mode: they are stored with it.
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
            (None, Some(hash)) => {
                findings.take(format!("{path}.passwordHash"), check_password_hash(hash));
            }
            _ => {}
        }
    }
}

/// A field of a backend, a dead letter or a source, by its path without indexes.
fn of_service(plain: &str) -> &str {
    let places = ["routes.backends.", "routes.deadLetter.", "deadLetter.", "sources."];
    places.iter().find_map(|place| plain.strip_prefix(place)).unwrap_or_default()
}

/// Whether this stands for a secret where a document is read without its secrets, by its words or by a reference.
pub fn is_unknown(text: &str) -> bool {
    text == HIDDEN || has_reference(text)
}

/// Whether a field of the document at this path (`authentication.keys[3].key`) must not be quoted.
pub fn is_secret(path: &str) -> bool {
    let plain: String = path.split(['[', ']']).step_by(2).collect();
    let of_backend = of_service(&plain);
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
        || of_backend == "security"
        || SECURITY_SECRETS.iter().any(|name| of_backend.strip_prefix("security.") == Some(name))
        || ["signingSecret", "additionalHeaders", "headers"].iter().any(|name| of_backend.starts_with(name))
}

/// The document as it may be shown: with neither secrets nor what is kept of them; references are none. What else it
/// holds keeps its bytes.
pub fn redacted_for_reading(document: &str) -> Result<String, serde_json::Error> {
    let mut edits = Vec::new();
    for field in FIELDS {
        for object in field.objects(document)? {
            let mut literals = field.members(&object).filter(|(_, text)| !has_reference(text));
            match field.kept {
                Kept::Hashed(hashing, stored) => match literals.next() {
                    Some((member, _)) => edits.extend(object.replace(&member.name, stored, hashing.redacted())),
                    None => {
                        let hash = object.find(stored).filter(|member| member.text().is_some());
                        edits.extend(hash.map(|member| member.set_text(hashing.redacted())));
                    }
                },
                Kept::Encrypted => {
                    let is_secret = |(member, text): &(&Member<'_>, String)| {
                        text.starts_with(ENCRYPTED) || field.holds_secret(member)
                    };
                    edits.extend(literals.filter(is_secret).map(|(member, _)| member.set_text(ENCRYPTED_REDACTED)));
                }
                Kept::Plain => {}
            }
        }
    }
    Ok(edited(document, edits))
}

/// Whether a document was read before, so that its secrets have to be taken from the stored one.
pub fn hides_secrets(document: &str) -> bool {
    [KEY_REDACTED, PASSWORD_REDACTED, ENCRYPTED_REDACTED].iter().any(|redacted| document.contains(redacted))
}

/// Undoes `redacted_for_reading` in a document that was read, edited and sent back: what is kept of its secrets returns
/// from the stored `previous` document, from the same object there. Ones that are unknown there stay redacted, which
/// validation refuses.
pub fn restore_redacted(document: &str, previous: &str) -> Result<String, serde_json::Error> {
    if !hides_secrets(document) {
        return Ok(document.to_owned());
    }
    let mut edits = Vec::new();
    for field in FIELDS {
        let known = field.objects(previous)?;
        for object in field.objects(document)? {
            let Some(other) = same_object(&known, &object) else { continue };
            match field.kept {
                Kept::Hashed(hashing, stored) => {
                    let Some(member) = object.find(stored) else { continue };
                    if member.text().as_deref() == Some(hashing.redacted()) {
                        edits.extend(other.text(stored).map(|hash| member.set_text(&hash)));
                    }
                }
                Kept::Encrypted => {
                    for (member, _) in field.members(&object).filter(|(_, text)| text == ENCRYPTED_REDACTED) {
                        let kept = other.text(&member.name).filter(|text| !has_reference(text));
                        edits.extend(kept.map(|text| member.set_text(&text)));
                    }
                }
                Kept::Plain => {}
            }
        }
    }
    Ok(edited(document, edits))
}

/// Hides the secrets in one side of a difference at `path`.
pub fn hide(path: &str, value: &mut Value) {
    let of_authentication = path.strip_prefix("authentication");
    let plain: String = path.split(['[', ']']).step_by(2).collect();
    let of_backend = of_service(&plain);
    let of_header = ["additionalHeaders", "headers"].iter().any(|name| of_backend.starts_with(name));
    let (within, name) = match (of_authentication, of_header) {
        (Some(_), _) => (Within::Authentication, path.rsplit('.').next().unwrap_or_default()),
        // No other part of the path is like a credential's name.
        (None, true) => (Within::Headers, path),
        (None, false) if of_backend.starts_with("security") => {
            (Within::Security, plain.rsplit('.').next().unwrap_or_default())
        }
        (None, false) => (Within::Other, plain.rsplit('.').next().unwrap_or_default()),
    };
    hide_below(within, name, value);
}

#[derive(Clone, Copy, PartialEq)]
enum Within {
    Authentication,
    Headers,
    Security,
    Other,
}

/// Recursion: bounded by the depth of documents.
fn hide_below(within: Within, name: &str, value: &mut Value) {
    match value {
        Value::String(text) => {
            let named = match within {
                Within::Authentication => {
                    matches!(name, "key" | "keyHash" | "passwordHash" | "password" | "clientSecret")
                }
                Within::Headers => is_credential_header(name) || text.starts_with(ENCRYPTED),
                Within::Security => SECURITY_SECRETS.contains(&name),
                Within::Other => name == SIGNING_SECRET,
            };
            if named && !has_reference(text) {
                *text = HIDDEN.to_owned();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide_below(within, name, item)),
        Value::Object(members) => {
            for (name, value) in members {
                let within = match name.as_str() {
                    "additionalHeaders" | "headers" if within == Within::Other => Within::Headers,
                    "security" if within == Within::Other => Within::Security,
                    _ => within,
                };
                hide_below(within, name, value);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
