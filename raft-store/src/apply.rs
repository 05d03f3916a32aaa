//! What a committed command does: a pure function of the state and the command, the same on every node. No clock, no
//! randomness, no hash-map order, no IO: reading a version's key is a parameter, and writes are returned as data.
//! Called by `state_machine`; imports `types` only.
//!
//! Invariants: a key of a kind is held by at most one document; the active version exists, or is 0; versions count from
//! 1 without a gap; a request id that is remembered has exactly one effect, and one note.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::planted::{is_planted, Bug};
use crate::types::{Audited, Authorship, Command, Head, Rejection, Reply, Version};

/// How many request ids are remembered with their replies. A retry comes within seconds; this is hours of writes.
pub const REQUESTS_MAX: usize = 10_000;

/// How many notes the audit log holds; the oldest go first. A team makes some dozens of changes a day: this is years, or
/// a few hours of a runaway script.
pub const AUDITED_MAX: usize = 10_000;

/// A change to what is stored, in the order in which it has to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    PutHead(Head),
    DeleteHead { kind: String, id: String },
    PutVersion { kind: String, id: String, version: Version },
    DeleteVersions { kind: String, id: String },
    PutRequest { index: u64, request: Request },
    DeleteRequest { index: u64 },
    PutAudited { index: u64, audited: Audited },
    DeleteAudited { index: u64 },
}

/// A request that was applied, and what it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub request_id: String,
    pub reply: Reply,
}

/// The part of the state that is kept in memory. Versions stay on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By kind and id.
    heads: BTreeMap<(String, String), Head>,
    /// Which document holds a key: (kind, key) → id.
    holders: BTreeMap<(String, String), String>,
    /// By log index, so that the first entry is the oldest.
    requests: BTreeMap<u64, Request>,
    request_index: BTreeMap<String, u64>,
    /// Log indexes of the notes; they themselves stay on disk.
    audited: BTreeSet<u64>,
}

/// Reads the key of a stored version: `(kind, id, version)`.
pub type KeyOfVersion<'a, E> = &'a dyn Fn(&str, &str, u64) -> Result<Option<String>, E>;

impl State {
    /// Applies one command at log index `index`. An `Err` comes from `key_of_version` only; nothing has changed then.
    pub fn apply<E>(
        &mut self,
        index: u64,
        request_id: &str,
        command: Command,
        note: Option<String>,
        key_of_version: KeyOfVersion<'_, E>,
    ) -> Result<(Reply, Vec<Write>), E> {
        let repeated = self.request_index.get(request_id);
        if let Some(known) = repeated.filter(|_| !is_planted(Bug::NoDeduplication)) {
            if let Some(request) = self.requests.get(known) {
                return Ok((request.reply.clone(), Vec::new()));
            }
        }
        let mut writes = Vec::new();
        let reply = match self.execute(index, command, key_of_version, &mut writes)? {
            Ok((id, version)) => Reply::Done { id, version, index },
            Err(rejection) => Reply::Rejected { rejection },
        };
        if let Some(note) = note {
            self.audit(index, Audited { note, reply: reply.clone() }, &mut writes);
        }
        if !request_id.is_empty() {
            self.remember(index, Request { request_id: request_id.to_owned(), reply: reply.clone() }, &mut writes);
        }
        Ok((reply, writes))
    }

    /// All heads of a kind, by id.
    pub fn heads(&self, kind: &str) -> Vec<Head> {
        let from = Bound::Included((kind.to_owned(), String::new()));
        let heads = self.heads.range((from, Bound::Unbounded));
        heads.take_while(|((of, _), _)| of == kind).map(|(_, head)| head.clone()).collect()
    }

    pub fn head(&self, kind: &str, id: &str) -> Option<Head> {
        self.heads.get(&(kind.to_owned(), id.to_owned())).cloned()
    }

    /// Takes in a head as found on disk.
    pub fn load_head(&mut self, head: Head) {
        self.holders.insert((head.kind.clone(), head.key.clone()), head.id.clone());
        self.heads.insert((head.kind.clone(), head.id.clone()), head);
    }

    /// Takes in a remembered request as found on disk.
    pub fn load_request(&mut self, index: u64, request: Request) {
        self.request_index.insert(request.request_id.clone(), index);
        self.requests.insert(index, request);
    }

    /// Takes in a note as found on disk.
    pub fn load_audited(&mut self, index: u64) {
        self.audited.insert(index);
    }

    fn execute<E>(
        &mut self,
        index: u64,
        command: Command,
        key_of_version: KeyOfVersion<'_, E>,
        writes: &mut Vec<Write>,
    ) -> Result<Result<(String, u64), Rejection>, E> {
        Ok(match command {
            Command::Create { kind, id, key, document, by } => {
                self.create(index, kind, id, First { first_key: key.clone(), key, document, active: true, by }, writes)
            }
            Command::Draft { kind, id, key, document, by } => {
                self.create(index, kind, id, First { first_key: key.clone(), key, document, active: false, by }, writes)
            }
            Command::Restore { kind, id, key, first_key, document, by } => {
                self.create(index, kind, id, First { key, first_key, document, active: false, by }, writes)
            }
            Command::Record {} => Ok((String::new(), 0)),
            Command::Update { kind, id, key, document, activate, expected, by } => {
                let update = Update { key, document, activate, by };
                self.existing(&kind, &id, expected).and_then(|head| self.update(index, head, update, writes))
            }
            Command::Activate { kind, id, version, expected, by } => match self.existing(&kind, &id, expected) {
                Err(rejection) => Err(rejection),
                Ok(head) => match key_of_version(&kind, &id, version)? {
                    None => Err(Rejection::VersionNotFound { id, version }),
                    Some(key) => self.activate(index, head, version, key, by, writes),
                },
            },
            Command::Delete { kind, id, expected, by: _ } => {
                self.existing(&kind, &id, expected).map(|head| self.delete(head, writes))
            }
        })
    }

    fn create(
        &mut self,
        index: u64,
        kind: String,
        id: String,
        first: First,
        writes: &mut Vec<Write>,
    ) -> Result<(String, u64), Rejection> {
        if self.heads.contains_key(&(kind.clone(), id.clone())) {
            return Err(Rejection::IdTaken { id });
        }
        let First { key, first_key, document, active, by } = first;
        self.check_key(&kind, &id, &key)?;
        let at = by.at;
        let version = new_version(1, by, first_key, document);
        writes.push(Write::PutVersion { kind: kind.clone(), id: id.clone(), version });
        let head = Head {
            kind,
            id: id.clone(),
            key,
            active_version: u64::from(active),
            latest_version: 1,
            created_at: at,
            updated_at: at,
            modified_index: index,
        };
        self.put_head(head, writes);
        Ok((id, 1))
    }

    fn update(
        &mut self,
        index: u64,
        mut head: Head,
        update: Update,
        writes: &mut Vec<Write>,
    ) -> Result<(String, u64), Rejection> {
        if update.activate {
            self.check_key(&head.kind, &head.id, &update.key)?;
        }
        let number = head.latest_version + 1;
        head.latest_version = number;
        head.updated_at = update.by.at;
        head.modified_index = index;
        if update.activate {
            head.active_version = number;
            head.key = update.key.clone();
        }
        let version = new_version(number, update.by, update.key, update.document);
        writes.push(Write::PutVersion { kind: head.kind.clone(), id: head.id.clone(), version });
        let id = head.id.clone();
        self.put_head(head, writes);
        Ok((id, number))
    }

    fn activate(
        &mut self,
        index: u64,
        mut head: Head,
        version: u64,
        key: String,
        by: Authorship,
        writes: &mut Vec<Write>,
    ) -> Result<(String, u64), Rejection> {
        self.check_key(&head.kind, &head.id, &key)?;
        head.active_version = version;
        head.key = key;
        head.updated_at = by.at;
        head.modified_index = index;
        let id = head.id.clone();
        self.put_head(head, writes);
        Ok((id, version))
    }

    fn delete(&mut self, head: Head, writes: &mut Vec<Write>) -> (String, u64) {
        self.holders.remove(&(head.kind.clone(), head.key.clone()));
        self.heads.remove(&(head.kind.clone(), head.id.clone()));
        writes.push(Write::DeleteHead { kind: head.kind.clone(), id: head.id.clone() });
        writes.push(Write::DeleteVersions { kind: head.kind, id: head.id.clone() });
        (head.id, head.active_version)
    }

    /// The head of a document whose active version is the one that the author looked at.
    fn existing(&self, kind: &str, id: &str, expected: Option<u64>) -> Result<Head, Rejection> {
        let head = self.head(kind, id).ok_or_else(|| Rejection::NotFound { id: id.to_owned() })?;
        match expected {
            Some(expected) if expected != head.active_version => {
                Err(Rejection::VersionMismatch { expected, active: head.active_version })
            }
            _ => Ok(head),
        }
    }

    fn check_key(&self, kind: &str, id: &str, key: &str) -> Result<(), Rejection> {
        match self.holders.get(&(kind.to_owned(), key.to_owned())) {
            Some(holder) if holder != id => Err(Rejection::KeyTaken { key: key.to_owned(), holder: holder.clone() }),
            _ => Ok(()),
        }
    }

    fn put_head(&mut self, head: Head, writes: &mut Vec<Write>) {
        if let Some(before) = self.heads.get(&(head.kind.clone(), head.id.clone())) {
            self.holders.remove(&(before.kind.clone(), before.key.clone()));
        }
        self.load_head(head.clone());
        writes.push(Write::PutHead(head));
    }

    /// Keeps a note and lets go of the oldest ones, by log order, so that all nodes keep the same ones.
    fn audit(&mut self, index: u64, audited: Audited, writes: &mut Vec<Write>) {
        self.load_audited(index);
        writes.push(Write::PutAudited { index, audited });
        while self.audited.len() > AUDITED_MAX {
            let Some(index) = self.audited.pop_first() else { break };
            writes.push(Write::DeleteAudited { index });
        }
    }

    /// Remembers a request and forgets the oldest ones, by log order, so that all nodes remember the same ones.
    fn remember(&mut self, index: u64, request: Request, writes: &mut Vec<Write>) {
        self.load_request(index, request.clone());
        writes.push(Write::PutRequest { index, request });
        while self.requests.len() > REQUESTS_MAX {
            let Some((oldest, request)) = self.requests.pop_first() else { break };
            self.request_index.remove(&request.request_id);
            writes.push(Write::DeleteRequest { index: oldest });
        }
    }
}

/// What a new document brings, beside what it is called.
struct First {
    /// That the document holds.
    key: String,
    /// That of its first version.
    first_key: String,
    document: String,
    active: bool,
    by: Authorship,
}

/// What an update brings, beside the document that it is for.
struct Update {
    key: String,
    document: String,
    activate: bool,
    by: Authorship,
}

/// As in [`Version::hash`].
pub fn document_hash(document: &str) -> String {
    hex(&Sha256::digest(document.as_bytes()))
}

fn new_version(version: u64, by: Authorship, key: String, document: String) -> Version {
    let hash = document_hash(&document);
    Version { version, by, hash, key, document: document.into() }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
