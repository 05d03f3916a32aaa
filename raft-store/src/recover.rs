//! A cluster whose majority of disks is lost, made anew from one disk that is left. Offline: no node has the disk open, which
//! RocksDB's lock makes sure of. Called by the command line; imports `storage`, `keys`, `raft_types`.
//!
//! The disk's whole log is kept, what was not known to be committed as well: what a lost majority had acknowledged may be
//! there and nowhere else. Behind it comes one entry that makes this node the only voter, under a new cluster id, so that
//! none of the other disks can meet it by mistake. All of it is one synced write: before or after, nothing between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use openraft::{BasicNode, CommittedLeaderId, EntryPayload, Membership, Vote};
use rocksdb::{IteratorMode, WriteBatch};
use wsgateway_cluster::{ClusterId, NodeId};

use crate::disk::{DiskError, FORMAT};
use crate::keys::{self, raft_meta, sm_meta};
use crate::raft_types::{Entry, LogId, Proposal, StoredMembership};
use crate::removed;
use crate::storage::{self, Durability, Storage};
use crate::types::{Authorship, Command};

/// Why a disk cannot be the beginning of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("no node of a cluster has ever run with this data folder")]
    Nothing,
    #[error("the log on this disk is not whole: {0}; take another disk, or restore a backup")]
    Torn(String),
    #[error("the address of this node is not in its data: say where other nodes will reach it")]
    NoAddress,
}

/// What a disk holds, to be compared with the others'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    pub node_id: NodeId,
    pub cluster_id: Option<String>,
    /// Of two disks the one with the later term has more, and of the same term the one with the greater index.
    pub last_term: u64,
    pub last_log_index: u64,
    pub applied_index: u64,
    /// The members that it knows of, with their addresses.
    pub members: BTreeMap<NodeId, String>,
    pub voters: BTreeSet<NodeId>,
    /// What it was told if it was removed from its cluster.
    pub removed: Option<String>,
}

/// Looks at the disk of a node that does not run.
pub fn inspect(data_dir: &Path) -> Result<Inspected, RecoverError> {
    let found = Found::read(&open(data_dir)?)?;
    let membership = found.membership.membership();
    Ok(Inspected {
        node_id: found.node_id,
        cluster_id: found.cluster_id,
        last_term: found.last.leader_id.term,
        last_log_index: found.last.index,
        applied_index: found.applied.map_or(0, |log_id| log_id.index),
        members: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        voters: membership.voter_ids().collect(),
        removed: found.removed,
    })
}

/// Makes the disk the only one of a new cluster; the cluster's id. `advertise`: where other nodes will reach this one, if
/// that has changed.
pub fn recover(data_dir: &Path, advertise: Option<&str>) -> Result<ClusterId, RecoverError> {
    let storage = open(data_dir)?;
    let found = Found::read(&storage)?;
    let known = found.membership.membership().get_node(&found.node_id).map(|node| node.addr.clone());
    let addr = advertise.map(str::to_owned).or(known).ok_or(RecoverError::NoAddress)?;
    let cluster_id = ClusterId(rand::random());
    let term = found.last.leader_id.term.max(found.vote.map_or(0, |vote| vote.leader_id().term)) + 1;
    let alone = BTreeMap::from([(found.node_id, BasicNode::new(addr))]);
    // What was said of this very node does not hold any more; where nothing was said it is a command without effect.
    let by = Authorship { author: "recover".to_owned(), message: String::new(), at: 0 };
    let (kind, id) = (removed::KIND.to_owned(), removed::hex(found.node_id));
    let unsaid = Proposal::new(String::new(), &Command::Delete { kind, id, expected: None, by });
    let alone = Membership::new(vec![BTreeSet::from([found.node_id])], alone);
    let db = storage.db();
    let (meta, log) = (storage::family(db, keys::RAFT_META), storage::family(db, keys::RAFT_LOG));
    let mut batch = WriteBatch::default();
    let payloads = [EntryPayload::Normal(unsaid.map_err(DiskError::from)?), EntryPayload::Membership(alone)];
    for (index, payload) in (found.last.index + 1..).zip(payloads) {
        let log_id = LogId::new(CommittedLeaderId::new(term, found.node_id), index);
        batch.put_cf(log, keys::log(index), storage::encode(&Entry { log_id, payload })?);
    }
    if let Some(applied) = found.purge_to {
        batch.put_cf(meta, raft_meta::LAST_PURGED, storage::encode(&applied)?);
        batch.delete_range_cf(log, keys::log(0).as_slice(), keys::log(applied.index + 1).as_slice());
    }
    batch.put_cf(meta, raft_meta::VOTE, storage::encode(&Vote::<u64>::new(term, found.node_id))?);
    batch.put_cf(meta, raft_meta::CLUSTER_ID, storage::encode(&cluster_id.to_string())?);
    for of_the_former in [raft_meta::PROMISE, raft_meta::INITIALISER, raft_meta::EVICTED] {
        batch.delete_cf(meta, of_the_former);
    }
    storage::write(db, "recover", Durability::Synced, batch)?;
    Ok(cluster_id)
}

/// Opening would make a new, empty database of a folder that has none.
fn open(data_dir: &Path) -> Result<Storage, RecoverError> {
    if !data_dir.join("db").join("CURRENT").exists() {
        return Err(RecoverError::Nothing);
    }
    let storage = Storage::open(data_dir)?;
    match storage.meta::<u32>(raft_meta::FORMAT)? {
        Some(found) if found != FORMAT => Err(DiskError::Format { found }.into()),
        _ => Ok(storage),
    }
}

struct Found {
    node_id: NodeId,
    cluster_id: Option<String>,
    removed: Option<String>,
    vote: Option<Vote<u64>>,
    applied: Option<LogId>,
    /// The end of the log.
    last: LogId,
    /// The log ends before the state, which came whole from a leader: what is left of it goes.
    purge_to: Option<LogId>,
    /// The newest there is, committed or not.
    membership: StoredMembership,
}

impl Found {
    fn read(storage: &Storage) -> Result<Found, RecoverError> {
        let db = storage.db();
        let node_id = storage.meta(raft_meta::NODE_ID)?.ok_or(RecoverError::Nothing)?;
        let applied: Option<LogId> = storage::read(db, keys::SM_META, sm_meta::LAST_APPLIED)?;
        let purged: Option<LogId> = storage.meta(raft_meta::LAST_PURGED)?;
        let mut membership: StoredMembership =
            storage::read(db, keys::SM_META, sm_meta::MEMBERSHIP)?.unwrap_or_default();
        let mut last = purged;
        let first = purged.map_or(0, |purged| purged.index + 1);
        let entries = db.iterator_cf(storage::family(db, keys::RAFT_LOG), IteratorMode::Start);
        for (expected, item) in (first..).zip(entries) {
            let (key, value) = item.map_err(DiskError::from)?;
            let entry: Entry = storage::decode(keys::RAFT_LOG, &key, &value)?;
            if entry.log_id.index != expected {
                return Err(RecoverError::Torn(format!(
                    "entry {expected} is missing, {} is there",
                    entry.log_id.index
                )));
            }
            last = last.max(Some(entry.log_id));
            if let EntryPayload::Membership(newer) = entry.payload {
                membership = StoredMembership::new(Some(entry.log_id), newer);
            }
        }
        let purge_to = applied.filter(|_| applied > last);
        if purged > applied {
            return Err(RecoverError::Torn("it was cut behind what was applied".to_owned()));
        }
        last = last.max(applied);
        Ok(Found {
            purge_to,
            node_id,
            cluster_id: storage.meta(raft_meta::CLUSTER_ID)?,
            removed: storage.meta(raft_meta::EVICTED)?,
            vote: storage.meta(raft_meta::VOTE)?,
            applied,
            last: last.ok_or(RecoverError::Nothing)?,
            membership,
        })
    }
}
