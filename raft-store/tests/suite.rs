//! openraft's own suite for storage implementations, on ours.

use openraft::testing::{StoreBuilder, Suite};
use openraft::StorageIOError;
use tempfile::TempDir;
use wsgateway_raft_store::log_store::LogStore;
use wsgateway_raft_store::raft_types::{StorageError, TypeConfig};
use wsgateway_raft_store::state_machine::StateMachine;
use wsgateway_raft_store::{Disk, DiskError};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let open = || -> Result<(TempDir, LogStore, StateMachine), DiskError> {
            let dir = tempfile::tempdir()?;
            let storage = Disk::open(dir.path(), "suite")?.storage();
            Ok((dir, LogStore::new(storage.clone())?, StateMachine::open(storage)?))
        };
        open().map_err(|error| StorageIOError::read(&error).into())
    }
}

#[test]
fn the_storage_passes_openrafts_suite() {
    Suite::test_all(Builder).unwrap();
}
