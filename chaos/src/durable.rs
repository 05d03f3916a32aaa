//! What a node's disk has for sure, as the library in front of its libc has noted it (`shim/src/durable.rs` says the
//! format), and the making of a power failure: the rest goes, or some of it. Imports nothing of the crate.
//!
//! A file keeps what was written before its last sync, a name what its folder had when that was synced last: a file that
//! was made since is gone, one that was replaced by a rename is back. Removals are taken for durable at once, and so are
//! folders; no bits decay, and a sync is never a lie.

use std::collections::BTreeMap;
use std::fs::{self, Metadata, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::Rng;

/// Which file, whatever it is called: inode, and time of birth in nanoseconds, since numbers are given away again.
type Identity = (u64, u128);

/// How much of what could be lost is.
pub enum Loss {
    All,
    /// Of each file and name by itself, as the numbers say: nothing, all, or a part. What is between may be zeroes.
    Some(Box<StdRng>),
}

/// What a power failure has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Of data. RocksDB's own text logs, which nobody reads back, are not counted.
    pub bytes: u64,
    /// Of the bytes, those of write-ahead logs.
    pub wal_bytes: u64,
    pub files: u64,
    pub renames: u64,
}

impl Lost {
    pub fn add(&mut self, other: Lost) {
        self.bytes += other.bytes;
        self.wal_bytes += other.wal_bytes;
        self.files += other.files;
        self.renames += other.renames;
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Durable {
    sizes: BTreeMap<Identity, u64>,
    /// Folder → name → inode.
    entries: BTreeMap<Identity, BTreeMap<String, u64>>,
}

impl Durable {
    /// A node that never came to sync anything has no such file.
    pub fn read(path: &Path) -> anyhow::Result<Durable> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Durable::parse(&text)),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(Durable::default()),
            Err(err) => Err(err).with_context(|| path.display().to_string()),
        }
    }

    fn parse(text: &str) -> Durable {
        let mut durable = Durable::default();
        for line in text.lines() {
            let _an_unfinished_line_says_nothing = durable.take(line);
        }
        durable
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let mut words = line.splitn(4, ' ');
        let what = words.next()?;
        let identity = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let rest = words.next()?;
        match what {
            "F" => {
                let size: u64 = rest.parse().ok()?;
                // Syncs of several threads may be noted in another order than they were made. No file shrinks.
                let known = self.sizes.entry(identity).or_default();
                *known = (*known).max(size);
            }
            "D" => {
                // The slash at the end says that it is all of it; each entry has one, too.
                let entries = if rest == "/" { rest } else { rest.strip_suffix("//")? };
                let entries = entries.split('/').filter(|entry| !entry.is_empty());
                let entry = |entry: &str| {
                    entry.split_once(':').and_then(|(at, name)| Some((name.to_owned(), at.parse().ok()?)))
                };
                self.entries.insert(identity, entries.map(entry).collect::<Option<_>>()?);
            }
            _ => {}
        }
        Some(())
    }

    /// Takes away what a power failure may take. `kept` has the files that were replaced, as `inode.born`.
    pub fn lose_the_rest(&self, folder: &Path, kept: &Path, loss: &mut Loss) -> anyhow::Result<Lost> {
        let mut lost = Lost::default();
        self.lose_in(folder, kept, loss, &mut lost).with_context(|| folder.display().to_string())?;
        for entry in fs::read_dir(kept)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(lost)
    }

    fn lose_in(&self, folder: &Path, kept: &Path, loss: &mut Loss, lost: &mut Lost) -> anyhow::Result<()> {
        let known = self.entries.get(&identity(&fs::metadata(folder)?)?);
        let mut inside = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        // The same numbers take the same away.
        inside.sort_by_key(fs::DirEntry::file_name);
        for entry in inside {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                self.lose_in(&path, kept, loss, lost)?;
                continue;
            }
            match known.and_then(|known| known.get(&name)) {
                None if loss.takes() => {
                    let old = known.and_then(|known| known.iter().find(|(_, inode)| **inode == metadata.ino()));
                    if let Some(old) = old.map(|(old, _)| folder.join(old)).filter(|old| !old.exists()) {
                        // It had another name when the folder was synced last.
                        fs::rename(&path, &old)?;
                        lost.renames += 1;
                        self.cut(&old, &name, loss, lost)?;
                        continue;
                    }
                    count(lost, &name, metadata.len());
                    lost.files += u64::from(is_data(&name));
                    fs::remove_file(&path)?;
                    continue;
                }
                Some(inode) if *inode != metadata.ino() && loss.takes() => {
                    if let Some(before) = find(kept, *inode)? {
                        fs::rename(before, &path)?;
                        lost.renames += 1;
                    }
                }
                _ => {}
            }
            self.cut(&path, &name, loss, lost)?;
        }
        Ok(())
    }

    /// Cuts off what was not synced.
    fn cut(&self, path: &Path, name: &str, loss: &mut Loss, lost: &mut Lost) -> anyhow::Result<()> {
        let metadata = fs::metadata(path)?;
        let durable = self.sizes.get(&identity(&metadata)?).copied().unwrap_or(0);
        if durable >= metadata.len() {
            return Ok(());
        }
        let (length, zeroes) = loss.cut(durable, metadata.len());
        let file = OpenOptions::new().write(true).open(path)?;
        if zeroes {
            count(lost, name, metadata.len() - durable);
            file.set_len(durable)?;
        } else {
            count(lost, name, metadata.len() - length);
        }
        Ok(file.set_len(length)?)
    }
}

impl Loss {
    fn takes(&mut self) -> bool {
        match self {
            Loss::All => true,
            Loss::Some(rng) => rng.random_bool(0.5),
        }
    }

    /// The length that is left between these two, and whether there is nothing but zeroes after the first.
    fn cut(&mut self, durable: u64, present: u64) -> (u64, bool) {
        match self {
            Loss::All => (durable, false),
            Loss::Some(rng) => match rng.random_range(0..4) {
                0 => (durable, false),
                1 => (present, false),
                2 => (rng.random_range(durable..=present), false),
                _ => (rng.random_range(durable..=present), true),
            },
        }
    }
}

fn count(lost: &mut Lost, name: &str, bytes: u64) {
    lost.bytes += if is_data(name) { bytes } else { 0 };
    lost.wal_bytes += if name.ends_with(".log") { bytes } else { 0 };
}

/// RocksDB's LOG and LOCK are for people and processes.
fn is_data(name: &str) -> bool {
    !name.starts_with("LO")
}

fn identity(metadata: &Metadata) -> anyhow::Result<Identity> {
    // Without times of birth a number that was given away again makes a file more durable than it was: a weaker fault.
    let born = metadata.created().map_or(0, |at| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
    Ok((metadata.ino(), born))
}

/// The file that was replaced, of all with this number the latest.
fn find(kept: &Path, inode: u64) -> anyhow::Result<Option<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(kept)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((at, born)) = name.split_once('.') {
            if at.parse() == Ok(inode) {
                found.push((born.parse::<u128>().unwrap_or(0), entry.path()));
            }
        }
    }
    Ok(found.into_iter().max().map(|(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: char, path: &Path, rest: &str) -> String {
        let (inode, born) = identity(&fs::metadata(path).unwrap()).unwrap();
        format!("{what} {inode} {born} {rest}\n")
    }

    #[test]
    fn what_was_not_synced_is_gone_and_what_was_replaced_is_back() {
        let base = std::env::temp_dir().join(format!("wsgateway-chaos-durable-{}", std::process::id()));
        let (folder, kept) = (base.join("data"), base.join("kept"));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(&kept).unwrap();
        let path = |name: &str| folder.join(name);
        let inode = |name: &str| fs::metadata(path(name)).unwrap().ino();
        for name in ["1.log", "CURRENT", "old.tmp"] {
            fs::write(path(name), "synced").unwrap();
        }
        let entries: String = ["1.log", "CURRENT", "old.tmp"].map(|name| format!("{}:{name}/", inode(name))).concat();
        let mut log = line('D', &folder, &format!("{entries}/"));
        for name in ["1.log", "CURRENT", "old.tmp"] {
            log += &line('F', &path(name), "6");
        }
        // A line that was cut off, and one of a folder that was too large to be noted.
        log += &line('D', &folder, "1:x/");
        let (number, born) = identity(&fs::metadata(path("CURRENT")).unwrap()).unwrap();
        fs::hard_link(path("CURRENT"), kept.join(format!("{number}.{born}"))).unwrap();

        fs::write(path("1.log"), "synced and more").unwrap();
        fs::write(path("new.tmp"), "other").unwrap();
        fs::rename(path("new.tmp"), path("CURRENT")).unwrap();
        fs::rename(path("old.tmp"), path("new")).unwrap();
        fs::write(path("2.log"), "unknown").unwrap();
        fs::write(path("LOG"), "for people").unwrap();

        let lost = Durable::parse(&log).lose_the_rest(&folder, &kept, &mut Loss::All).unwrap();
        let there: BTreeMap<String, String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
            .collect();
        let wanted = ["1.log", "CURRENT", "old.tmp"].map(|name| (name.to_owned(), "synced".to_owned()));
        assert_eq!(there, BTreeMap::from(wanted));
        assert_eq!(lost, Lost { bytes: 9 + 7, wal_bytes: 9 + 7, files: 1, renames: 2 });
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
        fs::remove_dir_all(&base).unwrap();
    }
}
