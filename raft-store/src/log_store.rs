//! openraft's log and vote on RocksDB. Called by openraft only; imports `storage` and `keys`.
//!
//! Invariants: an append is acknowledged only after its sync; a vote is on disk before `save_vote` returns, and one that
//! does not decode is an error; entries at or below `last_purged` do not exist, and no entry above it is missing.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, RaftLogReader, StorageIOError, Vote};
use rocksdb::{Direction, IteratorMode, WriteBatch, DB};

use crate::disk::DiskError;
use crate::keys::{self, raft_meta};
use crate::planted::{is_planted, Bug};
use crate::raft_types::{Entry, LogId, StorageError, TypeConfig};
use crate::storage::{self, Durability, Storage};

/// How much of the log one replication request carries, in bytes of JSON: it has to be sent, synced and answered within
/// one heartbeat interval. At least one entry is always sent.
const REPLICATION_BYTES_MAX: usize = 512 << 10;

/// The log half of the storage. Cheap to clone.
#[derive(Clone)]
pub struct LogStore {
    storage: Storage,
    committed: Arc<Mutex<Option<LogId>>>,
}

impl LogStore {
    pub fn new(storage: Storage) -> Result<LogStore, DiskError> {
        let committed = storage.meta::<Option<LogId>>(raft_meta::COMMITTED)?;
        Ok(LogStore { storage, committed: Arc::new(Mutex::new(committed.flatten())) })
    }

    /// The newest log id that this node knows to be committed.
    pub fn committed(&self) -> Option<LogId> {
        *self.committed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Appends and, on the storage thread right after the sync, calls `synced`.
    async fn append_then<F>(&self, entries: Vec<Entry>, synced: F) -> Result<(), DiskError>
    where
        F: FnOnce(Result<(), io::Error>) + Send + 'static,
    {
        let mut batch = WriteBatch::default();
        let log = storage::family(self.storage.db(), keys::RAFT_LOG);
        for entry in &entries {
            batch.put_cf(log, keys::log(entry.log_id.index), storage::encode(entry)?);
        }
        let written = self.storage.run(move |db| {
            if is_planted(Bug::AcknowledgedBeforeSync) {
                synced(Ok(()));
                return storage::write(db, "append", Durability::Later, batch);
            }
            let written = storage::write(db, "append", Durability::Synced, batch);
            synced(match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::other(error.to_string())),
            });
            written
        });
        written.await?
    }

    fn entries(&self, from: u64, to: Option<u64>, bytes_max: usize) -> Result<Vec<Entry>, DiskError> {
        let db = self.storage.db();
        let mut entries = Vec::new();
        let mut bytes = 0;
        let start = keys::log(from);
        for item in db.iterator_cf(storage::family(db, keys::RAFT_LOG), IteratorMode::From(&start, Direction::Forward))
        {
            let (key, value) = item?;
            bytes += value.len();
            if to.is_some_and(|to| keys::log_index(&key).is_none_or(|index| index >= to))
                || (bytes > bytes_max && !entries.is_empty())
            {
                break;
            }
            entries.push(storage::decode(keys::RAFT_LOG, &key, &value)?);
        }
        Ok(entries)
    }

    fn log_state(&self) -> Result<LogState<TypeConfig>, DiskError> {
        let last_purged_log_id = self.storage.meta(raft_meta::LAST_PURGED)?;
        let last_log_id = last_entry(self.storage.db())?.map(|entry| entry.log_id).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }
}

fn last_entry(db: &DB) -> Result<Option<Entry>, DiskError> {
    match db.iterator_cf(storage::family(db, keys::RAFT_LOG), IteratorMode::End).next() {
        None => Ok(None),
        Some(item) => {
            let (key, value) = item?;
            storage::decode(keys::RAFT_LOG, &key, &value).map(Some)
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.checked_add(1),
            Bound::Excluded(index) => Some(*index),
            Bound::Unbounded => None,
        };
        self.entries(from, to, usize::MAX).map_err(read_logs)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.entries(start, Some(end), REPLICATION_BYTES_MAX).map_err(read_logs)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.log_state().map_err(read_logs)
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError> {
        let put = |vote: &Vote<u64>| -> Result<WriteBatch, DiskError> {
            let mut batch = WriteBatch::default();
            let meta = storage::family(self.storage.db(), keys::RAFT_META);
            batch.put_cf(meta, raft_meta::VOTE, storage::encode(vote)?);
            Ok(batch)
        };
        let batch = put(vote).map_err(|error| StorageIOError::write_vote(&error))?;
        let durability = if is_planted(Bug::VoteNotSynced) { Durability::Later } else { Durability::Synced };
        let written = self.storage.write("vote", durability, batch).await;
        written.map_err(|error| StorageIOError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError> {
        self.storage.meta(raft_meta::VOTE).map_err(|error| StorageIOError::read_vote(&error).into())
    }

    /// Not synced: it comes before the apply that it stands for, and so is never older than the applied state.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let put = || -> Result<WriteBatch, DiskError> {
            let mut batch = WriteBatch::default();
            let meta = storage::family(self.storage.db(), keys::RAFT_META);
            batch.put_cf(meta, raft_meta::COMMITTED, storage::encode(&committed)?);
            Ok(batch)
        };
        let batch = put().map_err(write_logs)?;
        self.storage.write("committed", Durability::Later, batch).await.map_err(write_logs)?;
        *self.committed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let committed = self.storage.meta::<Option<LogId>>(raft_meta::COMMITTED);
        committed.map(Option::flatten).map_err(read_logs)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().collect();
        self.append_then(entries, |result| callback.log_io_completed(result)).await.map_err(write_logs)
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        let log = storage::family(self.storage.db(), keys::RAFT_LOG);
        batch.delete_range_cf(log, keys::log(log_id.index).as_slice(), keys::LOG_END.as_slice());
        self.storage.write("truncate", Durability::Synced, batch).await.map_err(write_logs)
    }

    /// `last_purged` comes first and in the same batch: a log that starts above it would look like a lost entry.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let put = || -> Result<WriteBatch, DiskError> {
            let mut batch = WriteBatch::default();
            let db = self.storage.db();
            batch.put_cf(storage::family(db, keys::RAFT_META), raft_meta::LAST_PURGED, storage::encode(&log_id)?);
            let log = storage::family(db, keys::RAFT_LOG);
            batch.delete_range_cf(log, keys::log(0).as_slice(), keys::log(log_id.index + 1).as_slice());
            Ok(batch)
        };
        let batch = put().map_err(write_logs)?;
        self.storage.write("purge", Durability::Synced, batch).await.map_err(write_logs)
    }
}

fn read_logs(error: DiskError) -> StorageError {
    StorageIOError::read_logs(&error).into()
}

fn write_logs(error: DiskError) -> StorageError {
    StorageIOError::write_logs(&error).into()
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::*;
    use openraft::CommittedLeaderId;

    /// No other unit test of this crate appends, so the points fire for this one only.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_append_is_acknowledged_after_its_sync_and_a_failed_one_never() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::new(Storage::open(dir.path()).unwrap()).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let note = |event: &'static str| {
            let events = events.clone();
            move || events.lock().unwrap().push(event)
        };
        fail::cfg_callback("append-before", note("write")).unwrap();
        fail::cfg_callback("append-synced", note("synced")).unwrap();
        let entry = |index| Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: openraft::EntryPayload::Blank,
        };
        let (ok, failed) = (note("acknowledged"), note("refused"));
        log.append_then(vec![entry(0), entry(1)], move |result| result.map(|()| ok()).unwrap()).await.unwrap();
        assert_eq!(*events.lock().unwrap(), ["write", "synced", "acknowledged"]);
        events.lock().unwrap().clear();
        fail::cfg("append-fails", "return").unwrap();
        let appended = log.append_then(vec![entry(2)], move |result| result.map_err(|_| failed()).unwrap_err()).await;
        for point in ["append-before", "append-synced", "append-fails"] {
            fail::remove(point);
        }
        assert!(appended.is_err());
        assert_eq!(*events.lock().unwrap(), ["write", "refused"]);
        assert_eq!(log.entries(0, None, usize::MAX).unwrap().len(), 2);
    }
}
