//! A node's disk is full: a file that is nobody's takes all room that there is, and what becomes free. The disk is a small
//! one of the node's own, see `small_disks`.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cluster::Cluster;
use crate::history::{History, Op};

/// A write-ahead log has room ahead that was given to it before, a database's favour to itself: megabytes, into which it
/// could write for minutes. It is taken, but for so much, so that nothing that is being written now is met.
const AHEAD_BYTES: u64 = 128 * 1024;
const PAGE_BYTES: u64 = 4096;

/// Large steps first, then down to single bytes.
const STEPS: [usize; 3] = [1 << 20, 4096, 1];

/// What fills a disk.
pub struct Ballast {
    file: File,
    path: PathBuf,
    folder: PathBuf,
    node: usize,
}

impl Ballast {
    pub fn fill(cluster: &Cluster, node: usize, history: &History) -> anyhow::Result<Ballast> {
        let path = cluster.folder(node).join("ballast");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| path.display().to_string())?;
        let mut ballast = Ballast { file, path, folder: cluster.folder(node).to_owned(), node };
        history.event(Op::Fault { fault: "disk_full", node });
        ballast.press()?;
        Ok(ballast)
    }

    /// Takes what has become free since.
    pub fn press(&mut self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(self.folder.join("db"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                take_room_ahead(&path);
            }
        }
        let zeroes = vec![0; STEPS[0]];
        for step in STEPS {
            loop {
                match self.file.write(&zeroes[..step]) {
                    Ok(_) => {}
                    Err(err) if err.kind() == ErrorKind::StorageFull => break,
                    Err(err) => return Err(err).with_context(|| self.path.display().to_string()),
                }
            }
        }
        Ok(())
    }

    pub fn take_away(self, history: &History) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path).with_context(|| self.path.display().to_string())?;
        history.event(Op::Fault { fault: "room_again", node: self.node });
        Ok(())
    }
}

/// A file that has gone meanwhile has no room ahead.
fn take_room_ahead(path: &Path) {
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return };
    let Ok(metadata) = file.metadata() else { return };
    let from = (metadata.len() + AHEAD_BYTES).next_multiple_of(PAGE_BYTES);
    let Ok(from) = libc::off_t::try_from(from) else { return };
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: takes a descriptor, which is open, and numbers. What a file does not have cannot be taken: no error matters.
    unsafe { libc::fallocate(file.as_raw_fd(), mode, from, 1 << 30) };
}
