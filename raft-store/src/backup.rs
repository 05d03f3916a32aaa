//! What is in the state, to be kept elsewhere: documents with their versions, as of one log index, and the commands that
//! make them anew in another cluster. Part of the store's handle; imports `types` and `keys`. What only this cluster has
//! use of – remembered requests, notes, records of removed nodes – is not in it.

use std::collections::BTreeMap;

use futures::StreamExt;
use rocksdb::{Direction, IteratorMode};
use serde::{Deserialize, Serialize};

use crate::cluster_version;
use crate::disk::DiskError;
use crate::keys::{self, sm_meta};
use crate::raft_types::LogId;
use crate::removed;
use crate::state_machine::View;
use crate::storage::{self, Storage};
use crate::store::{RaftStore, StoreError};
use crate::types::{Command, Head, ProposeError, Rejection, Reply, Version};

/// Documents that are restored at the same time: their writes share a sync.
const WRITTEN_AT_ONCE: usize = 16;

/// A document as it is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    pub kind: String,
    pub id: String,
    pub key: String,
    /// 0: none.
    pub active_version: u64,
    /// From 1 on, without a gap.
    pub versions: Vec<Version>,
}

/// All documents, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The log index of the last command that is in it.
    pub index: u64,
    pub documents: Vec<Document>,
}

impl View {
    /// Blocks on IO, and holds all of it in memory.
    pub fn export(&self) -> Result<Export, DiskError> {
        export(self.storage())
    }
}

fn export(storage: &Storage) -> Result<Export, DiskError> {
    let db = storage.db();
    let view = db.snapshot();
    let index = match view.get_cf(storage::family(db, keys::SM_META), sm_meta::LAST_APPLIED)? {
        Some(bytes) => storage::decode::<LogId>(keys::SM_META, sm_meta::LAST_APPLIED, &bytes)?.index,
        None => 0,
    };
    let data = storage::family(db, keys::SM_DATA);
    let mut documents = BTreeMap::new();
    let from = [keys::HEAD];
    for item in view.iterator_cf(data, IteratorMode::From(&from, Direction::Forward)) {
        let (key, value) = item?;
        if key.first() != Some(&keys::HEAD) {
            break;
        }
        let head: Head = storage::decode(keys::SM_DATA, &key, &value)?;
        if head.kind != removed::KIND && head.kind != cluster_version::KIND {
            documents.insert((head.kind.clone(), head.id.clone()), head);
        }
    }
    let mut whole = Vec::with_capacity(documents.len());
    for ((kind, id), head) in documents {
        let (from, to) = keys::versions(&kind, &id);
        let mut versions = Vec::new();
        for item in view.iterator_cf(data, IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = item?;
            if *key >= *to {
                break;
            }
            versions.push(storage::decode(keys::SM_DATA, &key, &value)?);
        }
        whole.push(Document { kind, id, key: head.key, active_version: head.active_version, versions });
    }
    Ok(Export { index, documents: whole })
}

impl Document {
    /// What is wrong with it; a document of an export has nothing.
    pub fn check(&self) -> Result<(), String> {
        let numbers = self.versions.iter().map(|version| version.version);
        if self.versions.is_empty() || !numbers.eq(1..=self.versions.len() as u64) {
            return Err(format!("{} {}: versions must count from 1 without a gap", self.kind, self.id));
        }
        if self.active_version > self.versions.len() as u64 {
            return Err(format!("{} {}: there is no version {}", self.kind, self.id, self.active_version));
        }
        match self.versions.iter().find(|version| version.hash != crate::apply::document_hash(&version.document)) {
            Some(broken) => {
                Err(format!("{} {}: version {} is not what its hash says", self.kind, self.id, broken.version))
            }
            None => Ok(()),
        }
    }

    /// The commands that make it, in their order. It holds the key of today from the first on, which no other document of
    /// the same export has; nothing is active before the last.
    pub fn commands(&self) -> Vec<Command> {
        let (kind, id) = (&self.kind, &self.id);
        let text = |version: &Version| (version.by.clone(), version.document.to_string());
        if let ([only], 1) = (self.versions.as_slice(), self.active_version) {
            let (by, document) = text(only);
            return vec![Command::Create { kind: kind.clone(), id: id.clone(), key: only.key.clone(), document, by }];
        }
        let mut commands = Vec::with_capacity(self.versions.len() + 1);
        for version in &self.versions {
            let (by, document) = text(version);
            commands.push(match version.version {
                1 => Command::Restore {
                    kind: kind.clone(),
                    id: id.clone(),
                    key: self.key.clone(),
                    first_key: version.key.clone(),
                    document,
                    by,
                },
                _ => Command::Update {
                    kind: kind.clone(),
                    id: id.clone(),
                    key: version.key.clone(),
                    document,
                    activate: false,
                    expected: None,
                    by,
                },
            });
        }
        let active = self.versions.iter().find(|version| version.version == self.active_version);
        commands.extend(active.map(|active| Command::Activate {
            kind: kind.clone(),
            id: id.clone(),
            version: active.version,
            expected: None,
            by: active.by.clone(),
        }));
        commands
    }
}

/// Why a backup is not restored, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0}")]
    Broken(String),
    #[error("{kind} {id} is there already, and differs: restore into an empty cluster, or delete it first")]
    Differs { kind: String, id: String },
    #[error("{kind} {id} is not taken: {rejection}")]
    Rejected { kind: String, id: String, rejection: Rejection },
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a restore has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub restored: usize,
    /// They were there already, just so.
    pub unchanged: usize,
}

impl RaftStore {
    pub fn export(&self) -> Result<Export, StoreError> {
        Ok(self.view().export()?)
    }

    /// Makes the documents of an export, kind after kind as they come. Everything is looked at before anything is written;
    /// one that was cut short goes on where it ended, when it is asked for again.
    pub async fn import(&self, documents: Vec<Document>) -> Result<Imported, ImportError> {
        self.linearize().await?;
        let mut imported = Imported::default();
        let mut waiting: Vec<(usize, Document)> = Vec::new();
        for document in documents {
            document.check().map_err(ImportError::Broken)?;
            match self.how_much_is_here(&document)? {
                Some(all) if all == document.versions.len() && self.is_active(&document) => imported.unchanged += 1,
                Some(some) => waiting.push((some, document)),
                None => return Err(ImportError::Differs { kind: document.kind, id: document.id }),
            }
        }
        let mut holders = std::collections::HashMap::new();
        for kind in waiting.iter().map(|(_, document)| &document.kind).collect::<std::collections::BTreeSet<_>>() {
            holders.extend(self.heads(kind).into_iter().map(|head| ((head.kind, head.key), head.id)));
        }
        for (_, document) in &waiting {
            let (kind, id, key) = (document.kind.clone(), document.id.clone(), document.key.clone());
            match holders.get(&(kind.clone(), key.clone())) {
                Some(holder) if *holder != id => {
                    let rejection = Rejection::KeyTaken { key, holder: holder.clone() };
                    return Err(ImportError::Rejected { kind, id, rejection });
                }
                _ => {}
            }
        }
        // The same export may be restored again and again, with other things done in between.
        let run = format!("restore:{:032x}", rand::random::<u128>());
        while !waiting.is_empty() {
            let kind = waiting[0].1.kind.clone();
            let (now, later) = waiting.into_iter().partition::<Vec<_>, _>(|(_, document)| document.kind == kind);
            let run = run.as_str();
            let mut writing = futures::stream::iter(now)
                .map(|(has, document)| async move { self.import_one(&document, has, run).await })
                .buffer_unordered(WRITTEN_AT_ONCE);
            while let Some(written) = writing.next().await {
                written?;
                imported.restored += 1;
            }
            waiting = later;
        }
        Ok(imported)
    }

    fn is_active(&self, document: &Document) -> bool {
        let active = self.head(&document.kind, &document.id).map_or(0, |head| head.active_version);
        active == document.active_version
    }

    /// How many of its versions are here; `None`: something else is.
    fn how_much_is_here(&self, document: &Document) -> Result<Option<usize>, StoreError> {
        let has = self.versions(&document.kind, &document.id)?;
        let active = self.head(&document.kind, &document.id).map_or(0, |head| head.active_version);
        let same = |(here, there): (&Version, &Version)| here.hash == there.hash;
        let begins_so = has.len() <= document.versions.len() && has.iter().zip(&document.versions).all(same);
        Ok((begins_so && (active == 0 || active == document.active_version)).then_some(has.len()))
    }

    async fn import_one(&self, document: &Document, has: usize, run: &str) -> Result<(), ImportError> {
        for (number, command) in document.commands().into_iter().enumerate().skip(has) {
            let request_id = format!("{run}:{}:{}:{number}", document.kind, document.id);
            if let Reply::Rejected { rejection } = self.propose(request_id, command).await? {
                let (kind, id) = (document.kind.clone(), document.id.clone());
                return Err(ImportError::Rejected { kind, id, rejection });
            }
        }
        Ok(())
    }
}
