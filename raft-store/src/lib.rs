//! Agree and remember: openraft over RocksDB, holding opaque versioned documents with a unique key. The only crate that
//! imports openraft or rocksdb. Imports cluster below it; the gateway above uses [`types`] and the handle.

pub mod apply;
pub mod types;
