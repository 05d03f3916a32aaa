//! Where things lie in RocksDB: column families and key encodings. Part of the disk format: never change a line without
//! a new format version (see `disk`). Used by the storage modules; imports nothing.

/// Identity, promises, vote, committed and purged log ids.
pub const RAFT_META: &str = "raft_meta";
/// Log index (big-endian u64) → entry as JSON.
pub const RAFT_LOG: &str = "raft_log";
/// Last applied log id and membership.
pub const SM_META: &str = "sm_meta";
/// Heads, versions, remembered requests and the audit log; carried whole by a snapshot, hashed whole by the state hash.
pub const SM_DATA: &str = "sm_data";

pub const ALL: [&str; 4] = [RAFT_META, RAFT_LOG, SM_META, SM_DATA];

pub mod raft_meta {
    pub const FORMAT: &[u8] = b"format";
    pub const NODE_ID: &[u8] = b"node_id";
    pub const GENERATION: &[u8] = b"generation";
    pub const CLUSTER_ID: &[u8] = b"cluster_id";
    pub const PROMISE: &[u8] = b"promise";
    /// What this node was told when it was removed from its cluster.
    pub const EVICTED: &[u8] = b"evicted";
    pub const INITIALISER: &[u8] = b"initialiser";
    pub const VOTE: &[u8] = b"vote";
    pub const COMMITTED: &[u8] = b"committed";
    pub const LAST_PURGED: &[u8] = b"last_purged";
}

pub mod sm_meta {
    pub const LAST_APPLIED: &[u8] = b"last_applied";
    pub const MEMBERSHIP: &[u8] = b"membership";
}

/// First byte of a key in `sm_data`.
pub const AUDITED: u8 = b'a';
pub const HEAD: u8 = b'h';
pub const REQUEST: u8 = b'r';
pub const VERSION: u8 = b'v';

/// Bounds of everything in `sm_data` for a range deletion: below and above all first bytes.
pub const SM_DATA_RANGE: ([u8; 1], [u8; 1]) = ([0x00], [0xff]);

pub fn log(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// Greater than every log key.
pub const LOG_END: [u8; 9] = [0xff; 9];

pub fn log_index(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

pub fn head(kind: &str, id: &str) -> Vec<u8> {
    document(HEAD, kind, id)
}

pub fn version(kind: &str, id: &str, version: u64) -> Vec<u8> {
    let mut key = document(VERSION, kind, id);
    key.extend_from_slice(&version.to_be_bytes());
    key
}

/// The half-open range of all versions of a document. Version numbers never reach `u64::MAX`.
pub fn versions(kind: &str, id: &str) -> (Vec<u8>, Vec<u8>) {
    (version(kind, id, 0), version(kind, id, u64::MAX))
}

/// A remembered request, by the log index at which it was applied.
pub fn request(index: u64) -> Vec<u8> {
    let mut key = vec![REQUEST];
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// A note of the audit log, by the log index of its command.
pub fn audited(index: u64) -> Vec<u8> {
    let mut key = vec![AUDITED];
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Length-prefixed, so that no kind or id can run into the next field.
fn document(first: u8, kind: &str, id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 4 + kind.len() + 4 + id.len() + 8);
    key.push(first);
    for part in [kind, id] {
        key.extend_from_slice(&(part.len() as u32).to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    key
}
