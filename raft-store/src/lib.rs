//! Agree and remember: openraft over RocksDB, holding opaque versioned documents with a unique key. The only crate that
//! imports openraft or rocksdb. Imports cluster below it; the gateway above uses [`types`] and the handle
//! [`RaftStore`]. Reading order: `types → apply → room → storage → log_store → state_machine → snapshot → rpc → network →
//! service → propose → bootstrap → autopilot → election → store`.

pub mod types;

pub mod apply;
mod autopilot;
pub mod backup;
mod bootstrap;
mod cluster_version;
mod disk;
mod election;
mod hand_over;
mod keys;
pub mod log_store;
mod network;
mod node;
pub mod planted;
mod propose;
pub mod raft_types;
pub mod recover;
pub mod removed;
mod room;
mod rpc;
mod service;
pub mod snapshot;
pub mod state_machine;
mod status;
mod storage;
mod store;

pub use disk::{Disk, DiskError};
pub use storage::Storage;
pub use store::{Ended, RaftStore, StoreError, StoreOptions};
