//! Whether the disk has room. A full disk must not end a node: its traffic needs none. So what would write is refused
//! early, while [`LOW_BYTES`] are left – proposals, log entries, votes, snapshots – and what is under way then has these
//! to be finished with. When even they are gone (others fill the disk too), a write waits until there is room again, and
//! Raft with it: to the cluster such a node is one that has stopped for a while. Owned by `storage`; asked by `propose`,
//! `service`, `election`, `autopilot`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Below this much free space nothing new is begun. RocksDB may write out its buffers (16 MiB) and begin a new
/// write-ahead log and manifest at any time.
pub const LOW_BYTES: u64 = 24 << 20;
/// As much must be free until it counts as enough again: no state that flickers.
pub const ENOUGH_BYTES: u64 = LOW_BYTES + (4 << 20);
/// Below this a write is not even tried: a write-ahead log that breaks off must be written out before it goes on.
const NEEDED_BYTES: u64 = 1 << 20;
/// Between two tries of a write that has no room.
const PAUSE: Duration = Duration::from_millis(250);

pub struct Room {
    dir: PathBuf,
    low: AtomicBool,
    /// A write waits for room, or for RocksDB to go on after it had none.
    waiting: AtomicBool,
    closing: AtomicBool,
}

impl Room {
    pub fn new(dir: &Path) -> Room {
        Room {
            dir: dir.to_owned(),
            low: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    /// Bytes that this process may still write to the file system of the data folder. One system call.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        let told = rustix::fs::statvfs(&self.dir)?;
        Ok(told.f_bavail.saturating_mul(told.f_frsize))
    }

    /// Whether nothing new should be begun. Says so in the log when it changes. A file system that does not tell has
    /// room: its writes say what is wrong with it.
    pub fn is_low(&self) -> bool {
        #[cfg(feature = "failpoints")]
        fail::fail_point!(&format!("low-on-room {}", self.dir.display()), |_| true);
        let Ok(free) = self.free_bytes() else { return false };
        let before = self.low.load(Ordering::Relaxed);
        // A write that waits comes first: what is behind it would only pile up.
        let now = self.is_waited_for() || free < if before { ENOUGH_BYTES } else { LOW_BYTES };
        if now != before && self.low.swap(now, Ordering::Relaxed) != now {
            let folder = self.dir.display();
            if now {
                tracing::error!(
                    %folder, free_bytes = free, needed_bytes = ENOUGH_BYTES,
                    "the disk is full: traffic goes on, this node takes part in no change of the configuration until there is room"
                );
            } else {
                tracing::info!(%folder, free_bytes = free, "the disk has room again");
            }
        }
        now
    }

    /// Whether a write waits, and Raft with it.
    pub fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waited_for(&self, waited_for: bool) {
        self.waiting.store(waited_for, Ordering::Relaxed);
    }

    /// Whether a write is worth a try.
    pub(crate) fn has_any(&self) -> bool {
        !self.free_bytes().is_ok_and(|free| free < NEEDED_BYTES)
    }

    /// Waits for as long as there is no room at all. False: the storage closes, and is not to be waited for. Blocks the
    /// thread.
    pub(crate) fn wait(&self) -> bool {
        while !self.has_any() {
            if !self.pause() {
                return false;
            }
        }
        true
    }

    /// Waits until something new may be begun. False: the storage closes. Blocks the thread.
    pub(crate) fn wait_for_enough(&self) -> bool {
        while self.is_low() {
            if !self.pause() {
                return false;
            }
        }
        true
    }

    /// Between two tries. False: the storage closes.
    pub(crate) fn pause(&self) -> bool {
        // Notes it in the log.
        self.is_low();
        if self.closing.load(Ordering::Relaxed) {
            return false;
        }
        #[allow(clippy::disallowed_methods, reason = "the storage thread, or one for blocking work")]
        std::thread::sleep(PAUSE);
        true
    }

    /// Nobody waits for room from now on.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

/// Whether a failed write failed for want of room. RocksDB gives no code for it, but always this text.
pub(crate) fn is_want_of_room(error: &rocksdb::Error) -> bool {
    error.kind() == rocksdb::ErrorKind::IOError && error.as_ref().contains("No space left on device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_not_full() {
        let room = Room::new(Path::new("/nonexistent/wsgateway"));
        assert!(room.free_bytes().is_err());
        assert!(room.has_any() && !room.is_low() && room.wait());
    }

    #[test]
    fn a_disk_without_room_is_low_and_nobody_waits_for_it_once_the_storage_closes() {
        // No file system has less: it says 0 bytes of 0.
        let room = Room::new(Path::new("/proc"));
        assert_eq!(room.free_bytes().unwrap(), 0);
        assert!(room.is_low() && !room.has_any());
        room.close();
        assert!(!room.wait() && !room.wait_for_enough() && !room.pause());
    }

    #[test]
    fn want_of_room_is_told_from_other_errors() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = rocksdb::DB::open_default(&file).expect_err("a file is no folder");
        assert!(!is_want_of_room(&error), "{error}");
    }
}
