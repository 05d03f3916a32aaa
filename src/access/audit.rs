//! The audit log: who did what, when and from where. A change of configuration or of tokens carries its note through the
//! Raft log, so that neither is there without the other; what is done elsewhere (closing a connection) is noted after the
//! deed. Called by the admin side; imports the replicated store.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use wsgateway_raft_store::types::{Audited, Command, Reply, UnixMillis};
use wsgateway_raft_store::{RaftStore, StoreError};

/// Notes of deeds that are done and wait for the log; one that finds no room is in the node's own log only.
const WAITING_MAX: usize = 1_000;
/// Between two tries to commit a note: without a leader they go on until there is one.
const PAUSE: Duration = Duration::from_secs(1);
/// Of a message in a note, so that ten thousand of them stay small; versions keep the whole.
pub const MESSAGE_CHARS_MAX: usize = 200;

/// What an act leaves behind, beside what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    pub at: UnixMillis,
    /// Name of the token.
    pub author: String,
    /// Its id; None: the setting admin.token, or no token.
    pub token: Option<String>,
    pub method: String,
    /// As in the table of rules.
    pub route: String,
    /// What the path names.
    pub target: Option<String>,
    /// The node that was asked.
    pub node: String,
    /// Who asked it.
    pub address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Note {
    /// As the store keeps it.
    pub fn text(&self) -> String {
        // Texts and numbers: always serializable.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Grows with each entry; not without gaps.
    pub id: u64,
    pub note: Note,
    /// What the act was about: what the path names, or what it made.
    pub target: Option<String>,
    /// The version of an endpoint that it made, activated or deleted.
    pub version: Option<u64>,
    /// Why it was refused.
    pub refused: Option<String>,
}

/// Which entries are wanted.
#[derive(Default)]
pub struct Wanted {
    /// Only older ones than this.
    pub below: Option<u64>,
    pub author: Option<String>,
    pub target: Option<String>,
    pub limit: usize,
}

/// Writes and reads the log.
pub struct AuditLog {
    store: RaftStore,
    waiting: mpsc::Sender<Note>,
}

/// Commits what waits; to be run for as long as the node lives.
pub struct Recorder {
    store: RaftStore,
    waiting: mpsc::Receiver<Note>,
}

impl AuditLog {
    pub fn new(store: RaftStore) -> (Arc<AuditLog>, Recorder) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Arc::new(AuditLog { store: store.clone(), waiting: sender }), Recorder { store, waiting: receiver })
    }

    /// Notes a deed that is done.
    pub fn record(&self, note: Note) {
        if let Err(err) = self.waiting.try_send(note) {
            let note = err.into_inner();
            tracing::error!(note = %note.text(), "an act is not in the audit log: too many wait for a leader");
        }
    }

    /// Entries, newest first, and whether there are more. Blocks on IO.
    pub fn read(&self, wanted: &Wanted) -> Result<(Vec<Entry>, bool), StoreError> {
        let mut entries = Vec::new();
        let mut more = false;
        self.store.audited(wanted.below.unwrap_or(u64::MAX), |id, audited| {
            let entry = entry(id, audited);
            let fits = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
            if fits(&wanted.author, Some(entry.note.author.as_str())) && fits(&wanted.target, entry.target.as_deref()) {
                more = entries.len() == wanted.limit;
                if !more {
                    entries.push(entry);
                }
            }
            !more
        })?;
        Ok((entries, more))
    }
}

fn entry(id: u64, audited: Audited) -> Entry {
    let note: Note = serde_json::from_str(&audited.note).unwrap_or_else(|err| Note {
        at: 0,
        author: String::new(),
        token: None,
        method: String::new(),
        route: String::new(),
        target: None,
        node: String::new(),
        address: String::new(),
        message: format!("cannot be read by this version of the program: {err}"),
    });
    let (made, version, refused) = match audited.reply {
        Reply::Done { id, version, .. } => (Some(id).filter(|id| !id.is_empty()), version, None),
        Reply::Rejected { rejection } => (None, 0, Some(rejection.to_string())),
    };
    let is_of_endpoint = note.route.starts_with("/api/v1/endpoints");
    let version = Some(version).filter(|version| *version > 0 && is_of_endpoint);
    Entry { id, target: note.target.clone().or(made), note, version, refused }
}

impl Recorder {
    pub async fn run(mut self) {
        while let Some(note) = self.waiting.recv().await {
            // One id for all tries: whatever is unknown about one, the note is there once.
            let request_id = format!("audit:{:032x}", rand::random::<u128>());
            while let Err(err) =
                self.store.propose_noted(request_id.clone(), Command::Record {}, Some(note.text())).await
            {
                tracing::debug!("a note waits for the audit log: {err}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wsgateway_raft_store::types::Rejection;

    fn note(route: &str, target: Option<&str>) -> String {
        let text = |text: &str| text.to_owned();
        Note {
            at: 5,
            author: text("ci"),
            token: None,
            method: text("PUT"),
            route: text(route),
            target: target.map(text),
            node: text("n1"),
            address: text("127.0.0.1"),
            message: String::new(),
        }
        .text()
    }

    #[test]
    fn an_entry_says_what_became_of_the_act() {
        let done = Reply::Done { id: "ep-1".to_owned(), version: 3, index: 9 };
        let made = entry(9, Audited { note: note("/api/v1/endpoints", None), reply: done.clone() });
        assert_eq!((made.target.as_deref(), made.version, made.refused), (Some("ep-1"), Some(3), None));
        let token = entry(9, Audited { note: note("/api/v1/tokens/{id}", Some("tok-1")), reply: done });
        assert_eq!((token.target.as_deref(), token.version), (Some("tok-1"), None));
        let rejection = Rejection::VersionMismatch { expected: 1, active: 2 };
        let refused =
            Audited { note: note("/api/v1/endpoints/{id}", Some("ep-1")), reply: Reply::Rejected { rejection } };
        assert!(entry(9, refused).refused.is_some_and(|reason| reason.contains("version 1 was expected")));
    }

    #[test]
    fn a_note_of_another_program_is_shown_and_not_hidden() {
        let reply = Reply::Done { id: String::new(), version: 0, index: 9 };
        let found = entry(9, Audited { note: "{\"at\": \"noon\"}".to_owned(), reply });
        assert!(found.note.message.contains("cannot be read"));
    }
}
