//! A file of a node that has ended is damaged: a bit is flipped, or the end is missing, as disks and the controllers
//! before them do it now and then. What was done can be undone.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::Rng;

use crate::cluster::Cluster;
use crate::history::{History, Op};

/// What is torn off at most.
const TORN_BYTES_MAX: u64 = 4096;

/// What a file is for. Drawn first, so that few and small ones come up like the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Wal,
    Sst,
    Manifest,
    Current,
    Options,
    Identity,
    Snapshot,
}

/// How often each kind comes up, if there is one.
const WEIGHTS: [(Kind, usize); 7] = [
    (Kind::Wal, 6),
    (Kind::Sst, 6),
    (Kind::Snapshot, 4),
    (Kind::Manifest, 3),
    (Kind::Current, 1),
    (Kind::Options, 1),
    (Kind::Identity, 1),
];

impl Kind {
    fn of(path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_str()?;
        Some(match name {
            "CURRENT" => Kind::Current,
            "IDENTITY" => Kind::Identity,
            "current" => Kind::Snapshot,
            _ if name.starts_with("MANIFEST-") => Kind::Manifest,
            _ if name.starts_with("OPTIONS-") => Kind::Options,
            _ if name.ends_with(".log") => Kind::Wal,
            _ if name.ends_with(".sst") => Kind::Sst,
            _ => return None, // nobody reads RocksDB's texts and lock
        })
    }
}

enum What {
    /// The byte there was this one.
    Flipped { at: u64, was: u8, is: u8 },
    /// These bytes are missing, from there on.
    Torn { at: u64, bytes: Vec<u8> },
}

pub struct Damage {
    pub kind: Kind,
    /// What was done to what, in words.
    pub text: String,
    path: PathBuf,
    inode: u64,
    what: What,
}

/// Damages some file of a node that is not running.
pub fn damage(cluster: &Cluster, node: usize, rng: &mut StdRng, history: &History) -> anyhow::Result<Damage> {
    let mut files = Vec::new();
    list(cluster.folder(node), &mut files)?;
    files.sort();
    let kinds: Vec<(Kind, usize)> =
        WEIGHTS.into_iter().filter(|(kind, _)| files.iter().any(|(of, _)| of == kind)).collect();
    let (kind, _) = *kinds.choose_weighted(rng, |(_, weight)| *weight).context("there is nothing to be damaged")?;
    let of_kind: Vec<&PathBuf> = files.iter().filter(|(of, _)| *of == kind).map(|(_, path)| path).collect();
    let path = (*of_kind.choose(rng).context("no file of the kind")?).clone();

    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let metadata = file.metadata()?;
    let shown = path.strip_prefix(cluster.folder(node)).unwrap_or(&path).display().to_string();
    let (what, text) = if rng.random_bool(0.5) {
        let at = rng.random_range(0..metadata.len());
        let bit = rng.random_range(0..8);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        let (was, is) = (byte[0], byte[0] ^ (1 << bit));
        file.write_all_at(&[is], at)?;
        (What::Flipped { at, was, is }, format!("bit {bit} of byte {at} of {} flipped in {shown}", metadata.len()))
    } else {
        let count = rng.random_range(1..=TORN_BYTES_MAX.min(metadata.len()));
        let at = metadata.len() - count;
        let mut bytes = vec![0; usize::try_from(count)?];
        file.read_exact_at(&mut bytes, at)?;
        file.set_len(at)?;
        (What::Torn { at, bytes }, format!("the last {count} of {} bytes cut off {shown}", metadata.len()))
    };
    let fault = match what {
        What::Flipped { .. } => "bit_flipped",
        What::Torn { .. } => "end_cut_off",
    };
    history.event(Op::Fault { fault, node });
    history.note(format!("node {node}: {text}"));
    Ok(Damage { kind, text, path, inode: metadata.ino(), what })
}

impl Damage {
    /// Makes it good, as far as the damage is still there. The node must not be running.
    pub fn undo(&self) -> anyhow::Result<()> {
        let Ok(file) = OpenOptions::new().read(true).write(true).open(&self.path) else { return Ok(()) };
        let metadata = file.metadata()?;
        if metadata.ino() != self.inode {
            return Ok(()); // another file of this name has taken its place
        }
        match &self.what {
            What::Flipped { at, was, is } => {
                let mut byte = [0];
                if file.read_exact_at(&mut byte, *at).is_ok() && byte[0] == *is {
                    file.write_all_at(&[*was], *at)?;
                }
            }
            What::Torn { at, bytes } if metadata.len() == *at => file.write_all_at(bytes, *at)?,
            What::Torn { .. } => {}
        }
        Ok(())
    }
}

fn list(folder: &Path, files: &mut Vec<(Kind, PathBuf)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if let Some(kind) = Kind::of(&path) {
            if File::open(&path)?.metadata()?.len() > 0 {
                files.push((kind, path));
            }
        }
    }
    Ok(())
}
