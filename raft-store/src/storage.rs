//! The opened RocksDB and the one thread that writes to it. Every write of this crate goes through [`Storage::run`] in
//! the order of the calls, so that openraft's rule "all write IO is serialised" holds for votes, log and state alike,
//! and a slow fsync blocks no async worker. Reads go to RocksDB directly. Used by `disk`, `log_store`, `state_machine`,
//! `snapshot`; imports `keys` and `room`.
//!
//! Why some writes need no sync: all column families share one write-ahead log, and recovery keeps a prefix of it
//! (RocksDB syncs closed logs before it flushes one family of several). So what was written later is never there
//! without what was written before, and every synced write also makes all earlier ones durable.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DBRecoveryMode, LogLevel, Options, WriteBatch, WriteOptions, DB};
use serde::de::DeserializeOwned;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::disk::DiskError;
use crate::keys;
use crate::room::{is_want_of_room, Room};

/// Jobs waiting for the storage thread. Callers wait for their job, and only a handful of tasks write, so the bound is
/// never felt; it is there so that a bug shows as waiting, not as memory.
const JOBS_MAX: usize = 64;
/// Unflushed writes of all column families together. The data is small; RocksDB's default would keep 256 MB.
const WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Old write-ahead logs are kept until all families are flushed; this bounds disk use and the time of recovery.
const WAL_BYTES_MAX: u64 = 64 << 20;

type Job = Box<dyn FnOnce(&Database) + Send>;

/// What the storage thread writes to.
pub(crate) struct Database {
    db: DB,
    pub room: Room,
}

impl Deref for Database {
    type Target = DB;

    fn deref(&self) -> &DB {
        &self.db
    }
}

/// Whether a write must be on disk before it is acknowledged. See the module's words on why `Later` is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Synced,
    Later,
}

/// The opened database. Cheap to clone; it closes with the last clone.
#[derive(Clone)]
pub struct Storage {
    db: Arc<Database>,
    writer: Arc<Writer>,
    dir: Arc<PathBuf>,
}

struct Writer {
    db: Arc<Database>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Storage {
    /// Opens or creates the database below `data_dir` and starts its thread.
    pub fn open(data_dir: &Path) -> Result<Storage, DiskError> {
        std::fs::create_dir_all(snapshot_dir(data_dir))?;
        let families = keys::ALL.map(|name| ColumnFamilyDescriptor::new(name, family_options()));
        let db = DB::open_cf_descriptors(&db_options(), data_dir.join("db"), families)?;
        let db = Arc::new(Database { db, room: Room::new(data_dir) });
        let (jobs, mut waiting) = mpsc::channel::<Job>(JOBS_MAX);
        let writes_to = db.clone();
        let thread = std::thread::Builder::new().name("raft-storage".to_owned()).spawn(move || {
            while let Some(job) = waiting.blocking_recv() {
                job(&writes_to);
            }
        })?;
        let writer = Arc::new(Writer { db: db.clone(), jobs: Some(jobs), thread: Mutex::new(Some(thread)) });
        Ok(Storage { db, writer, dir: Arc::new(data_dir.to_owned()) })
    }

    /// The database for reading.
    pub(crate) fn db(&self) -> &Database {
        &self.db
    }

    /// Whether the disk is so full that nothing new should be begun.
    pub fn is_low_on_room(&self) -> bool {
        self.db.room.is_low()
    }

    /// What may still be written to the disk, in bytes.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        self.db.room.free_bytes()
    }

    /// Where snapshot files lie.
    pub(crate) fn snapshot_dir(&self) -> PathBuf {
        snapshot_dir(&self.dir)
    }

    /// Whether a write waits for room: what is handed to Raft now would wait behind it.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.db.room.is_waited_for()
    }

    /// From now on, what has no room fails.
    pub(crate) fn stop_waiting_for_room(&self) {
        self.db.room.close();
    }

    /// Runs a job on the storage thread, after all jobs that were handed in before. It runs to its end even when the
    /// caller stops waiting.
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T, DiskError>
    where
        T: Send + 'static,
        F: FnOnce(&Database) -> T + Send + 'static,
    {
        let (answer, wait) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            // The caller may have stopped waiting.
            let _ = answer.send(job(db));
        });
        let jobs = self.writer.jobs.as_ref().ok_or(DiskError::Stopped)?;
        jobs.send(job).await.map_err(|_| DiskError::Stopped)?;
        wait.await.map_err(|_| DiskError::Stopped)
    }

    /// Writes one batch. `point` names the crash points around it.
    pub(crate) async fn write(
        &self,
        point: &'static str,
        durability: Durability,
        batch: WriteBatch,
    ) -> Result<(), DiskError> {
        self.run(move |db| write(db, point, durability, batch)).await?
    }

    /// Writes one value of `raft_meta`, synced.
    pub(crate) async fn put_meta<T: Serialize>(&self, key: &'static [u8], value: &T) -> Result<(), DiskError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(family(&self.db, keys::RAFT_META), key, encode(value)?);
        self.write("meta", Durability::Synced, batch).await
    }

    /// Reads one value of `raft_meta`. One that does not decode is an error, never "none".
    pub(crate) fn meta<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, DiskError> {
        read(&self.db, keys::RAFT_META, key)
    }
}

impl Drop for Writer {
    /// Waits for the thread, so that the database is closed when the last handle is gone (the thread holds one).
    fn drop(&mut self) {
        self.db.room.close();
        self.jobs = None;
        let thread = self.thread.get_mut().ok().and_then(Option::take);
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

/// Writes a batch; only for jobs on the storage thread, and for opening. Waits while the disk is full.
pub(crate) fn write(
    db: &Database,
    point: &'static str,
    durability: Durability,
    batch: WriteBatch,
) -> Result<(), DiskError> {
    write_releasing(db, point, durability, batch, ()).map(|_guard| ())
}

/// As `write`; what readers wait for is let go when there is no room, and else given back.
pub(crate) fn write_releasing<G>(
    db: &Database,
    point: &'static str,
    durability: Durability,
    batch: WriteBatch,
    guard: G,
) -> Result<Option<G>, DiskError> {
    crash_point(point, "before");
    fail_here(point)?;
    let mut options = WriteOptions::default();
    options.set_sync(durability == Durability::Synced);
    // RocksDB takes the batch away, and it may be needed once more.
    let again = batch.data().to_vec();
    let mut guard = Some(guard);
    let mut batch = Some(batch);
    let written = loop {
        if !db.room.has_any() {
            guard = None;
            db.room.set_waited_for(true);
            if !db.room.wait() {
                break Err(DiskError::Full);
            }
        }
        let this = batch.take().unwrap_or_else(|| WriteBatch::from_data(&again));
        match db.write_opt(this, &options) {
            Ok(()) => break Ok(()),
            // RocksDB writes nothing more until it has written out its buffers, which it tries every five seconds.
            Err(error) if is_want_of_room(&error) => {
                guard = None;
                db.room.set_waited_for(true);
                if !db.room.pause() {
                    break Err(DiskError::Full);
                }
            }
            Err(error) => break Err(error.into()),
        }
    };
    db.room.set_waited_for(false);
    written?;
    crash_point(point, if durability == Durability::Synced { "synced" } else { "written" });
    Ok(guard)
}

/// Where tests abort the process, or watch the order of events. Compiles to nothing without the feature.
#[inline]
pub(crate) fn crash_point(_point: &str, _when: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(&format!("{_point}-{_when}"));
}

/// Where tests make a write fail, as a full or broken disk would.
#[inline]
fn fail_here(_point: &str) -> Result<(), DiskError> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(&format!("{_point}-fails"), |_| Err(std::io::Error::other("as the test wants it").into()));
    Ok(())
}

/// A column family's handle.
pub(crate) fn family<'db>(db: &'db DB, name: &str) -> &'db ColumnFamily {
    db.cf_handle(name).expect("the database was opened with this column family")
}

/// Reads and decodes one value.
pub(crate) fn read<T: DeserializeOwned>(db: &DB, of: &str, key: &[u8]) -> Result<Option<T>, DiskError> {
    match db.get_pinned_cf(family(db, of), key)? {
        None => Ok(None),
        Some(bytes) => decode(of, key, &bytes).map(Some),
    }
}

/// All values on disk are JSON: readable with RocksDB's own tools, and tagged enums survive.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, DiskError> {
    serde_json::to_vec(value).map_err(DiskError::Encode)
}

pub(crate) fn decode<T: DeserializeOwned>(of: &str, key: &[u8], bytes: &[u8]) -> Result<T, DiskError> {
    serde_json::from_slice(bytes).map_err(|error| DiskError::Decode {
        place: format!("{of}/{}", String::from_utf8_lossy(key).escape_debug()),
        error,
    })
}

fn snapshot_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("snapshots")
}

fn db_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A torn record at the end is an unacknowledged write; one in the middle is corruption, and opening fails.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options.set_db_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(4);
    options.set_log_level(LogLevel::Warn);
    options
}

fn family_options() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(WRITE_BUFFER_BYTES / 2);
    options
}
