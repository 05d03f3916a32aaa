//! Agree and remember: openraft over RocksDB, holding opaque versioned documents with a unique key. The only crate that
//! imports openraft or rocksdb. Imports cluster below it; the gateway above uses [`types`] and the handle.

pub mod apply;
mod disk;
mod keys;
pub mod log_store;
pub mod raft_types;
pub mod snapshot;
pub mod state_machine;
mod storage;
pub mod types;

pub use disk::{Disk, DiskError};
pub use storage::Storage;
