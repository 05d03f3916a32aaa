//! Snapshot files: a header with openraft's metadata, all of `sm_data`, a checksum. One current file per node, replaced
//! by rename. Used by `state_machine` (build, install), `network` (read) and `service` (receive); imports `storage`.
//!
//! Format, integers big-endian: magic, version u32, length u32 + metadata as JSON, then per record key length u32,
//! value length u32, key, value; at the end `END`, the number of records u64, and the CRC-32 of everything before it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::disk::DiskError;
use crate::raft_types::SnapshotMeta;
use crate::storage::crash_point;

const MAGIC: [u8; 8] = *b"WSGSNAP\0";
const VERSION: u32 = 1;
/// Stands where a key length would; no key is that long.
const END: u32 = u32::MAX;
/// A length above this is a broken file, not a reason to allocate.
const FIELD_BYTES_MAX: u32 = 1 << 30;

const CURRENT: &str = "current";
const TEMPORARY: &str = "new.tmp";

/// An open snapshot. It stays readable when the file is replaced or removed meanwhile.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    file: Arc<File>,
}

impl SnapshotFile {
    pub fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    pub fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Up to `max` bytes from `offset` on; blocks on IO.
    pub fn read_at(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; max];
        let mut filled = 0;
        while filled < max {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Blocks on IO.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Reads all of it, handing each record to `record`, and fails unless format and checksum are right. What was
    /// handed over before a failure must be thrown away.
    pub fn read(&self, mut record: impl FnMut(Vec<u8>, Vec<u8>)) -> Result<SnapshotMeta, DiskError> {
        let mut input = Checked { inner: BufReader::new(Cursor { file: &self.file, at: 0 }), crc: Default::default() };
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        let version = input.u32()?;
        if magic != MAGIC || version != VERSION {
            return Err(DiskError::Snapshot(format!("magic {magic:02x?}, version {version}; expected {VERSION}")));
        }
        let meta_len = input.u32()?;
        let meta = input.field(meta_len)?;
        let mut records = 0_u64;
        loop {
            let key_len = input.u32()?;
            if key_len == END {
                break;
            }
            let value_len = input.u32()?;
            let key = input.field(key_len)?;
            let value = input.field(value_len)?;
            record(key, value);
            records += 1;
        }
        let count = input.u64()?;
        let crc = input.crc.clone().finalize();
        let stored = input.u32()?;
        if count != records || crc != stored {
            let text = format!("checksum {stored:08x} and {count} records expected, found {crc:08x} and {records}");
            return Err(DiskError::Snapshot(text));
        }
        serde_json::from_slice(&meta)
            .map_err(|error| DiskError::Decode { place: "the header of a snapshot".to_owned(), error })
    }

    /// Reads all of it for its checksum, and returns the metadata.
    pub fn verify(&self) -> Result<SnapshotMeta, DiskError> {
        self.read(|_, _| {})
    }
}

/// The folder with the current snapshot. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotDir {
    dir: PathBuf,
    /// Building runs beside installing; the newer one must win, and both use one temporary name.
    writing: Arc<Mutex<()>>,
}

impl SnapshotDir {
    pub(crate) fn new(dir: PathBuf) -> SnapshotDir {
        SnapshotDir { dir, writing: Arc::default() }
    }

    /// The current snapshot, checked to its last byte; `None` if there is none. A broken one is an error.
    pub(crate) fn current(&self) -> Result<Option<(SnapshotMeta, SnapshotFile)>, DiskError> {
        match File::open(self.dir.join(CURRENT)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
            Ok(file) => {
                let file = SnapshotFile { file: Arc::new(file) };
                Ok(Some((file.verify()?, file)))
            }
        }
    }

    /// An unnamed file to receive a snapshot into: gone after a crash, without anybody cleaning up.
    pub(crate) fn receive(&self) -> Result<SnapshotFile, DiskError> {
        let path = self.dir.join(format!("receive-{:016x}.tmp", rand::random::<u64>()));
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(SnapshotFile { file: Arc::new(file) })
    }

    /// Writes a snapshot and makes it the current one, durably: temporary file → sync → rename → sync of the folder.
    /// If the current one is newer, that one stays and is returned.
    pub(crate) fn publish(
        &self,
        meta: &SnapshotMeta,
        records: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>>,
    ) -> Result<(SnapshotMeta, SnapshotFile), DiskError> {
        let _writing = self.writing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Ok(Some((current, file))) = self.current() {
            if current.last_log_id > meta.last_log_id {
                return Ok((current, file));
            }
        }
        let temporary = self.dir.join(TEMPORARY);
        crash_point("snapshot-tmp", "before");
        let written = write_file(&temporary, meta, records).and_then(|file| {
            crash_point("snapshot-fsync", "before");
            Ok(file.sync_all()?)
        });
        if let Err(error) = written {
            // What there is of it must not fill the disk.
            std::fs::remove_file(&temporary)?;
            return Err(error);
        }
        crash_point("snapshot-rename", "before");
        std::fs::rename(&temporary, self.dir.join(CURRENT))?;
        crash_point("snapshot-rename", "after");
        File::open(&self.dir)?.sync_all()?;
        crash_point("snapshot-dir", "synced");
        Ok((meta.clone(), SnapshotFile { file: Arc::new(File::open(self.dir.join(CURRENT))?) }))
    }

    /// Removes the current snapshot and whatever a crash has left.
    pub(crate) fn remove(&self) -> Result<(), DiskError> {
        for entry in std::fs::read_dir(&self.dir)? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(File::open(&self.dir)?.sync_all()?)
    }
}

fn write_file(
    path: &std::path::Path,
    meta: &SnapshotMeta,
    records: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>>,
) -> Result<File, DiskError> {
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    let mut output = Checked { inner: BufWriter::new(file), crc: Default::default() };
    output.write_all(&MAGIC)?;
    output.write_all(&VERSION.to_be_bytes())?;
    let meta = serde_json::to_vec(meta).map_err(DiskError::Encode)?;
    output.write_all(&(meta.len() as u32).to_be_bytes())?;
    output.write_all(&meta)?;
    let mut count = 0_u64;
    for record in records {
        let (key, value) = record?;
        output.write_all(&(key.len() as u32).to_be_bytes())?;
        output.write_all(&(value.len() as u32).to_be_bytes())?;
        output.write_all(&key)?;
        output.write_all(&value)?;
        count += 1;
    }
    output.write_all(&END.to_be_bytes())?;
    output.write_all(&count.to_be_bytes())?;
    let crc = output.crc.clone().finalize();
    output.write_all(&crc.to_be_bytes())?;
    output.inner.into_inner().map_err(|error| error.into_error().into())
}

/// Reads a shared file without its position.
struct Cursor<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Sums up what passes.
struct Checked<T> {
    inner: T,
    crc: crc32fast::Hasher,
}

impl<T: Write> Checked<T> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Checked<T> {
    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.crc.update(bytes);
        Ok(())
    }

    fn u32(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn u64(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn field(&mut self, len: u32) -> Result<Vec<u8>, DiskError> {
        if len > FIELD_BYTES_MAX {
            return Err(DiskError::Snapshot(format!("a field of {len} bytes")));
        }
        let mut bytes = vec![0; len as usize];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
