//! The replicated state on RocksDB: carries out what `apply` decides, builds and installs snapshots. Called by openraft
//! and, for reading through [`View`], by the store's handle. Imports `apply`, `snapshot`, `storage`.
//!
//! Invariants: one batch per apply call, with last_applied inside; the memory copy changes only together with the disk
//! (under one lock, on the storage thread); a snapshot and its last_applied come from one view of the database.
//!
//! The apply batch is not synced: every entry in it is in the synced log, and is applied again after a crash that loses
//! the batch. `committed` was written before the batch and purging (synced) comes after, so
//! purged ≤ applied ≤ committed ≤ last log holds on disk at every moment. Two steps do sync: a snapshot is published
//! only when the state it shows is durable, and installing one (which has no log entries behind it) is a synced batch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, RaftSnapshotBuilder, Snapshot, StorageIOError};
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch, DB};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::apply::{self, Request, State, Write};
use crate::disk::DiskError;
use crate::keys::{self, raft_meta, sm_meta};
use crate::planted::{is_planted, one_in, Bug};
use crate::raft_types::{Answer, Entry, LogId, Proposal, SnapshotMeta, StorageError, StoredMembership, TypeConfig};
use crate::snapshot::{SnapshotDir, SnapshotFile};
use crate::storage::{self, Database, Durability, Storage};
use crate::types::{Audited, Head, Reply, Version};

/// The state-machine half of the storage.
pub struct StateMachine {
    view: View,
    snapshots: SnapshotDir,
}

/// What readers see. Cheap to clone.
#[derive(Clone)]
pub struct View {
    storage: Storage,
    memory: Arc<RwLock<Memory>>,
    applied: Arc<watch::Sender<u64>>,
    hashed: Arc<Mutex<Option<(u64, String)>>>,
}

#[derive(Default)]
struct Memory {
    state: State,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

impl StateMachine {
    /// Rebuilds the memory copy from disk. Removes a snapshot that does not fit it: a broken one, one whose
    /// installation a crash cut short, or one that the log has no continuation for. openraft makes a new one.
    pub fn open(storage: Storage) -> Result<StateMachine, DiskError> {
        let memory = load(storage.db())?;
        check_the_rest(storage.db())?;
        let snapshots = SnapshotDir::new(storage.snapshot_dir());
        let purged = storage.meta::<LogId>(raft_meta::LAST_PURGED)?;
        let usable = match snapshots.current() {
            Ok(None) => true,
            Ok(Some((meta, _))) => meta.last_log_id <= memory.last_applied && meta.last_log_id >= purged,
            Err(DiskError::File(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                return Err(error.into())
            }
            Err(error) => {
                tracing::warn!(%error, "the snapshot on disk is broken and is made anew");
                false
            }
        };
        if !usable {
            snapshots.remove()?;
        }
        let applied = memory.last_applied.map_or(0, |log_id| log_id.index);
        let view = View {
            storage,
            memory: Arc::new(RwLock::new(memory)),
            applied: Arc::new(watch::Sender::new(applied)),
            hashed: Arc::default(),
        };
        Ok(StateMachine { view, snapshots })
    }

    /// The readers' side.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    async fn apply_entries(&mut self, entries: Vec<Entry>) -> Result<Vec<Answer>, DiskError> {
        let view = self.view.clone();
        let (answers, applied) = self.view.storage.run(move |db| apply_on_thread(db, &view, entries)).await??;
        self.view.applied.send_replace(applied);
        Ok(answers)
    }

    async fn install(&mut self, meta: SnapshotMeta, file: SnapshotFile) -> Result<(), DiskError> {
        let (view, snapshots) = (self.view.clone(), self.snapshots.clone());
        let applied = meta.last_log_id.map_or(0, |log_id| log_id.index);
        self.view.storage.run(move |db| install_on_thread(db, &view, &snapshots, &meta, &file)).await??;
        self.view.applied.send_replace(applied);
        Ok(())
    }

    /// The current snapshot; one that has become unreadable is replaced by a new one on the spot.
    async fn current(&mut self) -> Result<Option<(SnapshotMeta, SnapshotFile)>, DiskError> {
        let snapshots = self.snapshots.clone();
        match blocking(move || snapshots.current()).await {
            Ok(current) => Ok(current),
            Err(error) => {
                tracing::warn!(%error, "the current snapshot is broken and is made anew");
                let snapshots = self.snapshots.clone();
                blocking(move || snapshots.remove()).await?;
                self.get_snapshot_builder().await.build().await.map(Some)
            }
        }
    }
}

impl View {
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub fn heads(&self, kind: &str) -> Vec<Head> {
        self.read().state.heads(kind)
    }

    pub fn head(&self, kind: &str, id: &str) -> Option<Head> {
        self.read().state.head(kind, id)
    }

    pub fn version(&self, kind: &str, id: &str, version: u64) -> Result<Option<Version>, DiskError> {
        storage::read(self.storage.db(), keys::SM_DATA, &keys::version(kind, id, version))
    }

    /// All versions of a document, ascending.
    pub fn versions(&self, kind: &str, id: &str) -> Result<Vec<Version>, DiskError> {
        let db = self.storage.db();
        let (from, to) = keys::versions(kind, id);
        let mut options = ReadOptions::default();
        options.set_iterate_range(from..to);
        let mut versions = Vec::new();
        for item in db.iterator_cf_opt(storage::family(db, keys::SM_DATA), options, IteratorMode::Start) {
            let (key, value) = item?;
            versions.push(storage::decode(keys::SM_DATA, &key, &value)?);
        }
        Ok(versions)
    }

    /// Notes with a log index below `below`, newest first, for as long as `visit` says to go on.
    pub fn audited(&self, below: u64, mut visit: impl FnMut(u64, Audited) -> bool) -> Result<(), DiskError> {
        let Some(newest) = below.checked_sub(1) else { return Ok(()) };
        let db = self.storage.db();
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(vec![keys::AUDITED]);
        let newest = keys::audited(newest);
        let mode = IteratorMode::From(&newest, Direction::Reverse);
        for item in db.iterator_cf_opt(storage::family(db, keys::SM_DATA), options, mode) {
            let (key, value) = item?;
            let index = keys::log_index(&key[1..]).unwrap_or_default();
            if !visit(index, storage::decode(keys::SM_DATA, &key, &value)?) {
                break;
            }
        }
        Ok(())
    }

    /// The index of the last applied entry, after every applied batch.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// SHA-256 over the membership and all of `sm_data`, with the index at which it was taken. Reads everything once
    /// per index; for checks, not for hot paths.
    pub fn state_hash(&self) -> Result<(u64, String), DiskError> {
        let mut hashed = self.hashed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let db = self.storage.db();
        let snapshot = db.snapshot();
        let last_applied = snapshot.get_cf(storage::family(db, keys::SM_META), sm_meta::LAST_APPLIED)?;
        let index = match last_applied {
            None => 0,
            Some(bytes) => storage::decode::<LogId>(keys::SM_META, sm_meta::LAST_APPLIED, &bytes)?.index,
        };
        if let Some((_, hash)) = hashed.as_ref().filter(|(of, _)| *of == index) {
            return Ok((index, hash.clone()));
        }
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        add(&snapshot.get_cf(storage::family(db, keys::SM_META), sm_meta::MEMBERSHIP)?.unwrap_or_default());
        for item in snapshot.iterator_cf(storage::family(db, keys::SM_DATA), IteratorMode::Start) {
            let (key, value) = item?;
            add(&key);
            add(&value);
        }
        let hash = apply::hex(&hash.finalize());
        *hashed = Some((index, hash.clone()));
        Ok((index, hash))
    }

    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Applies entries and returns their answers and the new applied index.
fn apply_on_thread(db: &Database, view: &View, entries: Vec<Entry>) -> Result<(Vec<Answer>, u64), DiskError> {
    // Decoded first: what this node cannot understand must not be applied by half.
    let mut decoded = Vec::with_capacity(entries.len());
    for entry in entries {
        let command = match &entry.payload {
            EntryPayload::Normal(proposal) => Some(proposal.command()?),
            _ => None,
        };
        decoded.push((entry, command));
    }
    let mut memory = view.write();
    let mut batch = Batch::new(db);
    let mut answers = Vec::with_capacity(decoded.len());
    for (entry, command) in decoded {
        memory.last_applied = Some(entry.log_id);
        let command = command.filter(|_| !(is_planted(Bug::SkippedCommand) && one_in(50)));
        let reply = match (entry.payload, command) {
            (EntryPayload::Normal(proposal), Some(command)) => {
                let index = entry.log_id.index;
                let key_of = |kind: &str, id: &str, version: u64| batch.key_of_version(kind, id, version);
                let Proposal { request_id, note, .. } = proposal;
                let (reply, writes) = memory.state.apply(index, &request_id, command, note, &key_of)?;
                batch.add(writes)?;
                Some(reply)
            }
            (EntryPayload::Membership(membership), _) => {
                memory.membership = StoredMembership::new(Some(entry.log_id), membership);
                None
            }
            _ => None::<Reply>,
        };
        answers.push(Answer(reply));
    }
    let batch = batch.finish(&memory)?;
    let applied = memory.last_applied.map_or(0, |log_id| log_id.index);
    // On a full disk readers see what is applied, and not its versions: they are written when there is room.
    storage::write_releasing(db, "apply", Durability::Later, batch, memory)?;
    Ok((answers, applied))
}

/// Replaces the whole state. The file comes first: a crash in between leaves a snapshot that is ahead of the state, and
/// opening removes it; the leader sends it again.
fn install_on_thread(
    db: &Database,
    view: &View,
    snapshots: &SnapshotDir,
    meta: &SnapshotMeta,
    file: &SnapshotFile,
) -> Result<(), DiskError> {
    if !db.room.wait() {
        return Err(DiskError::Full);
    }
    let mut records = Vec::new();
    file.read(|key, value| records.push((key.into_boxed_slice(), value.into_boxed_slice())))?;
    while let Err(error) = snapshots.publish(meta, records.iter().cloned().map(Ok)) {
        if !error.is_want_of_room() || !db.room.pause() {
            return Err(error);
        }
    }
    let data = storage::family(db, keys::SM_DATA);
    let mut batch = WriteBatch::default();
    let (from, to) = keys::SM_DATA_RANGE;
    batch.delete_range_cf(data, from, to);
    for (key, value) in &records {
        batch.put_cf(data, key, value);
    }
    put_sm_meta(db, &mut batch, meta.last_log_id, &meta.last_membership)?;
    // Without room, readers see the state before; else they see neither half of it.
    let held = storage::write_releasing(db, "install", Durability::Synced, batch, view.write())?;
    let mut memory = held.unwrap_or_else(|| view.write());
    *memory = load(db)?;
    // Another state may now stand at an index that was hashed before.
    *view.hashed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    Ok(())
}

fn put_sm_meta(
    db: &DB,
    batch: &mut WriteBatch,
    last_applied: Option<LogId>,
    membership: &StoredMembership,
) -> Result<(), DiskError> {
    let meta = storage::family(db, keys::SM_META);
    if let Some(last_applied) = last_applied {
        batch.put_cf(meta, sm_meta::LAST_APPLIED, storage::encode(&last_applied)?);
    }
    batch.put_cf(meta, sm_meta::MEMBERSHIP, storage::encode(membership)?);
    Ok(())
}

/// Reads what is not kept in memory once, for its checksums. A damaged disk is to be found now, when the node can say so
/// and end, and not by the first who asks for what was on it: documents and the log are megabytes.
fn check_the_rest(db: &DB) -> Result<(), DiskError> {
    for name in [keys::SM_DATA, keys::RAFT_LOG] {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        for item in db.iterator_cf_opt(storage::family(db, name), options, IteratorMode::Start) {
            item?;
        }
    }
    Ok(())
}

/// The memory copy of what is on disk.
fn load(db: &DB) -> Result<Memory, DiskError> {
    let mut memory = Memory {
        last_applied: storage::read(db, keys::SM_META, sm_meta::LAST_APPLIED)?,
        membership: storage::read(db, keys::SM_META, sm_meta::MEMBERSHIP)?.unwrap_or_default(),
        ..Memory::default()
    };
    // Versions are the bulk of the data and stay on disk: their keys come after all others. Of notes only the place is kept.
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(vec![keys::VERSION]);
    for item in db.iterator_cf_opt(storage::family(db, keys::SM_DATA), options, IteratorMode::Start) {
        let (key, value) = item?;
        match key.first() {
            Some(&keys::HEAD) => memory.state.load_head(storage::decode(keys::SM_DATA, &key, &value)?),
            Some(&keys::AUDITED) => memory.state.load_audited(keys::log_index(&key[1..]).unwrap_or_default()),
            Some(&keys::REQUEST) => {
                let request: Request = storage::decode(keys::SM_DATA, &key, &value)?;
                let index = keys::log_index(&key[1..]).unwrap_or_default();
                memory.state.load_request(index, request);
            }
            _ => {}
        }
    }
    Ok(memory)
}

/// The writes of one apply call, and what they mean for later commands of the same call.
struct Batch<'db> {
    db: &'db DB,
    batch: WriteBatch,
    /// Keys of versions that are in the batch but not on disk yet; `None` for a document deleted in it.
    pending: BTreeMap<(String, String), Pending>,
}

#[derive(Default)]
struct Pending {
    deleted: bool,
    keys: BTreeMap<u64, String>,
}

impl<'db> Batch<'db> {
    fn new(db: &'db DB) -> Batch<'db> {
        Batch { db, batch: WriteBatch::default(), pending: BTreeMap::new() }
    }

    fn key_of_version(&self, kind: &str, id: &str, version: u64) -> Result<Option<String>, DiskError> {
        if let Some(pending) = self.pending.get(&(kind.to_owned(), id.to_owned())) {
            if let Some(key) = pending.keys.get(&version) {
                return Ok(Some(key.clone()));
            }
            if pending.deleted {
                return Ok(None);
            }
        }
        let stored: Option<Version> = storage::read(self.db, keys::SM_DATA, &keys::version(kind, id, version))?;
        Ok(stored.map(|version| version.key))
    }

    fn add(&mut self, writes: Vec<Write>) -> Result<(), DiskError> {
        let data = storage::family(self.db, keys::SM_DATA);
        for write in writes {
            match write {
                Write::PutHead(head) => {
                    self.batch.put_cf(data, keys::head(&head.kind, &head.id), storage::encode(&head)?);
                }
                Write::DeleteHead { kind, id } => self.batch.delete_cf(data, keys::head(&kind, &id)),
                Write::PutVersion { kind, id, version } => {
                    let key = keys::version(&kind, &id, version.version);
                    self.batch.put_cf(data, key, storage::encode(&version)?);
                    self.pending.entry((kind, id)).or_default().keys.insert(version.version, version.key);
                }
                Write::DeleteVersions { kind, id } => {
                    let (from, to) = keys::versions(&kind, &id);
                    self.batch.delete_range_cf(data, from, to);
                    self.pending.insert((kind, id), Pending { deleted: true, keys: BTreeMap::new() });
                }
                Write::PutRequest { index, request } => {
                    self.batch.put_cf(data, keys::request(index), storage::encode(&request)?);
                }
                Write::DeleteRequest { index } => self.batch.delete_cf(data, keys::request(index)),
                Write::PutAudited { index, audited } => {
                    self.batch.put_cf(data, keys::audited(index), storage::encode(&audited)?);
                }
                Write::DeleteAudited { index } => self.batch.delete_cf(data, keys::audited(index)),
            }
        }
        Ok(())
    }

    fn finish(mut self, memory: &Memory) -> Result<WriteBatch, DiskError> {
        put_sm_meta(self.db, &mut self.batch, memory.last_applied, &memory.membership)?;
        Ok(self.batch)
    }
}

/// Builds a snapshot beside the running state machine.
pub struct SnapshotBuilder {
    storage: Storage,
    snapshots: SnapshotDir,
}

impl SnapshotBuilder {
    async fn build(&mut self) -> Result<(SnapshotMeta, SnapshotFile), DiskError> {
        let (storage, snapshots) = (self.storage.clone(), self.snapshots.clone());
        blocking(move || loop {
            let room = &storage.db().room;
            if !room.wait_for_enough() {
                return Err(DiskError::Full);
            }
            match build_now(&storage, &snapshots) {
                // Larger than what was there.
                Err(error) if error.is_want_of_room() && room.pause() => {}
                built => return built,
            }
        })
        .await
    }
}

fn build_now(storage: &Storage, snapshots: &SnapshotDir) -> Result<(SnapshotMeta, SnapshotFile), DiskError> {
    let db = storage.db();
    let view = db.snapshot();
    let meta_family = storage::family(db, keys::SM_META);
    let last_log_id: Option<LogId> = match view.get_cf(meta_family, sm_meta::LAST_APPLIED)? {
        Some(bytes) => Some(storage::decode(keys::SM_META, sm_meta::LAST_APPLIED, &bytes)?),
        None => None,
    };
    let last_membership = match view.get_cf(meta_family, sm_meta::MEMBERSHIP)? {
        Some(bytes) => storage::decode(keys::SM_META, sm_meta::MEMBERSHIP, &bytes)?,
        None => StoredMembership::default(),
    };
    // What the snapshot shows must not be lost by a crash that the snapshot survives. On the storage thread: behind a write
    // that waits for room, RocksDB would take the attempt for a second fault, and not go on any more.
    futures::executor::block_on(storage.run(|db| db.flush_wal(true)))??;
    let index = last_log_id.map_or(0, |log_id| log_id.index);
    let snapshot_id = format!("{index}-{:016x}", rand::random::<u64>());
    let meta = SnapshotMeta { last_log_id, last_membership, snapshot_id };
    snapshots.publish(&meta, view.iterator_cf(storage::family(db, keys::SM_DATA), IteratorMode::Start))
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        match self.build().await {
            Ok((meta, file)) => Ok(Snapshot { meta, snapshot: Box::new(file) }),
            Err(error) => Err(StorageIOError::write_snapshot(None, &error).into()),
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let memory = self.view.read();
        Ok((memory.last_applied, memory.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answer>, StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().collect();
        self.apply_entries(entries).await.map_err(|error| StorageIOError::write_state_machine(&error).into())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { storage: self.view.storage.clone(), snapshots: self.snapshots.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        let file = self.snapshots.receive();
        file.map(Box::new).map_err(|error| StorageIOError::write_snapshot(None, &error).into())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<SnapshotFile>) -> Result<(), StorageError> {
        let installed = self.install(meta.clone(), *snapshot).await;
        installed.map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), &error).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        match self.current().await {
            Ok(current) => Ok(current.map(|(meta, file)| Snapshot { meta, snapshot: Box::new(file) })),
            Err(error) => Err(StorageIOError::read_snapshot(None, &error).into()),
        }
    }
}

async fn blocking<T, F>(job: F) -> Result<T, DiskError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, DiskError> + Send + 'static,
{
    tokio::task::spawn_blocking(job).await.map_err(|_| DiskError::Stopped)?
}
