//! A node's disk: the opened database and the identity in it. The gateway opens it once at start and hands it to
//! [`crate::RaftStore::start`]. Imports `storage` and `keys`.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rocksdb::WriteBatch;
use wsgateway_cluster::{ClusterId, Identity};

use crate::keys::{self, raft_meta};
use crate::room::is_want_of_room;
use crate::storage::{self, Durability, Storage};

/// The version of everything that `keys` describes. A disk of another version is refused.
pub(crate) const FORMAT: u32 = 1;

/// Why a disk cannot be opened, read or written. None of these is worth a retry in this process.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the database: {0}")]
    Database(#[from] rocksdb::Error),
    #[error("the data folder: {0}")]
    File(#[from] std::io::Error),
    #[error("{place} cannot be read: {error}")]
    Decode { place: String, error: serde_json::Error },
    #[error("a value cannot be written as JSON: {0}")]
    Encode(serde_json::Error),
    #[error("the data folder has format {found}, this program knows format {FORMAT}")]
    Format { found: u32 },
    #[error("a snapshot is not usable: {0}")]
    Snapshot(String),
    #[error(transparent)]
    Proposal(#[from] crate::raft_types::ProposalError),
    #[error("the disk is full")]
    Full,
    #[error("the storage has stopped")]
    Stopped,
}

impl DiskError {
    /// Worth another try when there is room.
    pub(crate) fn is_want_of_room(&self) -> bool {
        match self {
            DiskError::Database(error) => is_want_of_room(error),
            DiskError::File(error) => error.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// The opened RocksDB with this node's identity.
pub struct Disk {
    storage: Storage,
    identity: Identity,
}

impl Disk {
    /// Opens the database in `data_dir`, creating it if there is none. Makes the node id at the first start; bumps the
    /// generation, synced, at every start. Blocks on IO.
    pub fn open(data_dir: &Path, name: &str) -> Result<Disk, DiskError> {
        let storage = Storage::open(data_dir)?;
        if let Some(found) = storage.meta::<u32>(raft_meta::FORMAT)?.filter(|found| *found != FORMAT) {
            return Err(DiskError::Format { found });
        }
        let node_id = match storage.meta(raft_meta::NODE_ID)? {
            Some(node_id) => node_id,
            None => rand::random(),
        };
        let generation = storage.meta::<u64>(raft_meta::GENERATION)?.unwrap_or(0) + 1;
        let cluster_id = OnceLock::new();
        if let Some(text) = storage.meta::<String>(raft_meta::CLUSTER_ID)? {
            let _ = cluster_id.set(parse_cluster_id(&text)?);
        }
        let mut batch = WriteBatch::default();
        let meta = storage::family(storage.db(), keys::RAFT_META);
        batch.put_cf(meta, raft_meta::FORMAT, storage::encode(&FORMAT)?);
        batch.put_cf(meta, raft_meta::NODE_ID, storage::encode(&node_id)?);
        batch.put_cf(meta, raft_meta::GENERATION, storage::encode(&generation)?);
        // The storage thread has no jobs yet: nobody else has this handle.
        storage::write(storage.db(), "identity", Durability::Synced, batch)?;
        let identity = Identity { node_id, generation, name: name.to_owned(), cluster_id: Arc::new(cluster_id) };
        Ok(Disk { storage, identity })
    }

    /// Who this node is. The cluster id in it becomes set while the store runs.
    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// The storage below, for the store and for tests.
    pub fn storage(&self) -> Storage {
        self.storage.clone()
    }
}

/// Cluster ids are stored as people see them: 32 hex digits.
fn parse_cluster_id(text: &str) -> Result<ClusterId, DiskError> {
    u128::from_str_radix(text, 16).map(ClusterId).map_err(|error| DiskError::Decode {
        place: "raft_meta/cluster_id".to_owned(),
        error: serde::de::Error::custom(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reopened_disk_is_the_same_node_of_the_next_generation() {
        let dir = tempfile::tempdir().unwrap();
        let first = Disk::open(dir.path(), "one").unwrap().identity();
        let second = Disk::open(dir.path(), "one").unwrap().identity();
        assert_eq!(first.node_id, second.node_id);
        assert_eq!((first.generation, second.generation), (1, 2));
        assert_eq!(second.cluster_id.get(), None);
    }

    #[test]
    fn another_disk_is_another_node() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = Disk::open(one.path(), "same").unwrap().identity();
        let two = Disk::open(two.path(), "same").unwrap().identity();
        assert_ne!(one.node_id, two.node_id);
    }

    #[test]
    fn a_disk_of_another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        {
            let disk = Disk::open(dir.path(), "one").unwrap();
            let db = disk.storage.db();
            db.put_cf(storage::family(db, keys::RAFT_META), raft_meta::FORMAT, b"7").unwrap();
        }
        assert!(matches!(Disk::open(dir.path(), "one"), Err(DiskError::Format { found: 7 })));
    }

    #[test]
    fn two_processes_cannot_share_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Disk::open(dir.path(), "one").unwrap();
        assert!(matches!(Disk::open(dir.path(), "one"), Err(DiskError::Database(_))));
    }
}
