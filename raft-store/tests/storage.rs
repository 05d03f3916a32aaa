//! What the disk must not hide: damage, and commands of a newer program.

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder, Vote};
use tempfile::TempDir;
use wsgateway_raft_store::log_store::LogStore;
use wsgateway_raft_store::raft_types::{Entry, LogId, Proposal};
use wsgateway_raft_store::state_machine::StateMachine;
use wsgateway_raft_store::types::{Authorship, Command};
use wsgateway_raft_store::{Disk, Storage};

fn open(dir: &TempDir) -> Storage {
    Disk::open(dir.path(), "test").unwrap().storage()
}

fn entry(index: u64, payload: EntryPayload<wsgateway_raft_store::raft_types::TypeConfig>) -> Entry {
    Entry { log_id: LogId::new(CommittedLeaderId::new(1, 1), index), payload }
}

fn create(index: u64) -> Entry {
    let by = Authorship { author: "a".into(), message: "m".into(), at: index };
    let (kind, id, key) = ("endpoint".into(), format!("n{index}"), format!("/n{index}"));
    let command = Command::Create { kind, id, key, document: "{}".into(), by };
    entry(index, EntryPayload::Normal(Proposal::new(format!("r{index}"), &command).unwrap()))
}

/// Opens RocksDB past the store.
fn raw(dir: &TempDir) -> rocksdb::DB {
    let families = ["default", "raft_meta", "raft_log", "sm_meta", "sm_data"];
    rocksdb::DB::open_cf(&rocksdb::Options::default(), dir.path().join("db"), families).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_does_not_decode_is_an_error_and_not_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut log = LogStore::new(open(&dir)).unwrap();
        assert_eq!(log.read_vote().await.unwrap(), None);
        log.save_vote(&Vote::new(3, 7)).await.unwrap();
        assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 7)));
    }
    {
        let db = raw(&dir);
        db.put_cf(db.cf_handle("raft_meta").unwrap(), "vote", "{\"leader_id\":").unwrap();
    }
    let mut log = LogStore::new(open(&dir)).unwrap();
    assert!(log.read_vote().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_a_newer_program_is_stored_but_stops_the_node_that_would_apply_it() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let mut log = LogStore::new(storage.clone()).unwrap();
    let mut machine = StateMachine::open(storage).unwrap();
    let newer: [Proposal; 2] = [
        serde_json::from_str(r#"{"v":3,"request_id":"r","command":{"op":"create","shape":"unknown"}}"#).unwrap(),
        serde_json::from_str(r#"{"v":1,"request_id":"r","command":{"op":"paint","colour":"red"}}"#).unwrap(),
    ];
    for proposal in newer {
        let entries = vec![create(0), entry(1, EntryPayload::Normal(proposal.clone()))];
        log.blocking_append(entries.clone()).await.unwrap();
        let stored = log.try_get_log_entries(1..2).await.unwrap();
        let EntryPayload::Normal(found) = &stored[0].payload else { panic!("{stored:?}") };
        assert_eq!(found.command.get(), proposal.command.get(), "kept as it is");
        let error = machine.apply(entries).await.unwrap_err().to_string();
        assert!(error.contains("upgrade this node"), "{error}");
        assert_eq!(machine.applied_state().await.unwrap().0, None, "nothing of the batch is applied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_and_every_cut_of_a_snapshot_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = StateMachine::open(open(&dir)).unwrap();
    machine.apply((0..5).map(create).collect::<Vec<_>>()).await.unwrap();
    let good = machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let bytes = good.snapshot.read_at(0, 1 << 20).unwrap();
    assert_eq!(bytes.len() as u64, good.snapshot.len().unwrap());
    let copy = machine.begin_receiving_snapshot().await.unwrap();
    copy.write_at(0, &bytes).unwrap();
    assert_eq!(copy.verify().unwrap(), good.meta);
    for at in 0..bytes.len() as u64 {
        let byte = bytes[at as usize];
        copy.write_at(at, &[byte ^ 0x10]).unwrap();
        assert!(copy.verify().is_err(), "byte {at}");
        copy.write_at(at, &[byte]).unwrap();
    }
    for len in (0..bytes.len()).step_by(7) {
        let cut = machine.begin_receiving_snapshot().await.unwrap();
        cut.write_at(0, &bytes[..len]).unwrap();
        assert!(cut.verify().is_err(), "cut at {len}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_on_disk_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let current = dir.path().join("snapshots/current");
    let storage = open(&dir);
    let mut machine = StateMachine::open(storage).unwrap();
    machine.apply((0..5).map(create).collect::<Vec<_>>()).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let damage = || {
        let mut bytes = std::fs::read(&current).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&current, bytes).unwrap();
    };
    damage();
    let snapshot = machine.get_current_snapshot().await.unwrap().expect("made anew while running");
    assert_eq!(snapshot.snapshot.verify().unwrap(), snapshot.meta);
    assert_eq!(snapshot.meta.last_log_id.map(|log_id| log_id.index), Some(4));
    drop((machine, snapshot));
    damage();
    let mut machine = StateMachine::open(open(&dir)).unwrap();
    assert!(machine.get_current_snapshot().await.unwrap().is_none(), "removed at the start");
    assert_eq!(machine.view().heads("endpoint").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_and_hash_are_the_same_from_the_log_from_a_snapshot_and_after_reopening() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut by_log = StateMachine::open(open(&one)).unwrap();
    by_log.apply((0..20).map(create).collect::<Vec<_>>()).await.unwrap();
    let snapshot = by_log.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut by_snapshot = StateMachine::open(open(&two)).unwrap();
    by_snapshot.apply(vec![create(0), create(7)]).await.unwrap();
    by_snapshot.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    let hash = by_log.view().state_hash().unwrap();
    assert_eq!(hash.0, 19);
    assert_eq!(by_snapshot.view().state_hash().unwrap(), hash);
    assert_eq!(*by_snapshot.view().applied().borrow(), 19);
    by_log.apply(vec![create(20)]).await.unwrap();
    by_snapshot.apply(vec![create(20)]).await.unwrap();
    let hash = by_log.view().state_hash().unwrap();
    assert_eq!(by_snapshot.view().state_hash().unwrap(), hash);
    let heads = by_snapshot.view().heads("endpoint");
    drop(by_snapshot);
    let reopened = StateMachine::open(open(&two)).unwrap();
    assert_eq!(reopened.view().state_hash().unwrap(), hash);
    assert_eq!(reopened.view().heads("endpoint"), heads);
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_batches_are_limited_by_bytes_but_never_empty() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogStore::new(open(&dir)).unwrap();
    let large = |index| {
        let by = Authorship { author: "a".into(), message: "m".into(), at: 1 };
        let (kind, id, key): (String, String, String) = ("k".into(), format!("{index}"), format!("{index}"));
        let command = Command::Create { kind, id, key, document: "x".repeat(300 << 10), by };
        entry(index, EntryPayload::Normal(Proposal::new(String::new(), &command).unwrap()))
    };
    log.blocking_append((0..10).map(large).collect::<Vec<_>>()).await.unwrap();
    let mut next = 0;
    let mut batches = 0;
    while next < 10 {
        let batch = log.limited_get_log_entries(next, 10).await.unwrap();
        assert_eq!(batch[0].log_id.index, next);
        next += batch.len() as u64;
        batches += 1;
    }
    assert_eq!(batches, 10);
    assert_eq!(log.try_get_log_entries(0..10).await.unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_are_found_newest_first_from_the_log_from_a_snapshot_and_after_reopening() {
    let noted = |index: u64| {
        let proposal = Proposal::new(String::new(), &Command::Record {}).unwrap();
        entry(index, EntryPayload::Normal(proposal.with_note(Some(format!("note {index}")))))
    };
    let found = |machine: &StateMachine, below: u64, count: usize| {
        let mut notes = Vec::new();
        let visited = machine.view().audited(below, |index, audited| {
            notes.push((index, audited.note));
            notes.len() < count
        });
        visited.unwrap();
        notes
    };
    let expected: Vec<_> = (0..20).rev().map(|index| (index, format!("note {index}"))).collect();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut by_log = StateMachine::open(open(&one)).unwrap();
    by_log.apply((0..20).map(noted).chain([create(20)]).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(found(&by_log, u64::MAX, 100), expected);
    assert_eq!(found(&by_log, 15, 2), expected[5..7]);
    assert_eq!(found(&by_log, 0, 100), []);
    let snapshot = by_log.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut by_snapshot = StateMachine::open(open(&two)).unwrap();
    by_snapshot.apply(vec![noted(0)]).await.unwrap();
    by_snapshot.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert_eq!(found(&by_snapshot, u64::MAX, 100), expected);
    assert_eq!(by_snapshot.view().state_hash().unwrap(), by_log.view().state_hash().unwrap());
    drop(by_snapshot);
    let mut reopened = StateMachine::open(open(&two)).unwrap();
    assert_eq!(found(&reopened, u64::MAX, 100), expected);
    // What it has loaded counts: both forget the same ones.
    let many = 21 + wsgateway_raft_store::apply::AUDITED_MAX as u64;
    reopened.apply((21..many).map(noted).collect::<Vec<_>>()).await.unwrap();
    by_log.apply((21..many).map(noted).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(found(&reopened, 21, 100), []);
    assert_eq!(reopened.view().state_hash().unwrap(), by_log.view().state_hash().unwrap());
}

#[test]
fn log_entries_of_earlier_programs_are_read_and_new_ones_are_marked() {
    let old = r#"{"v":1,"request_id":"r","command":{"op":"delete","kind":"k","id":"i","expected":null,"by":{"author":"a","message":"m","at":1}}}"#;
    let proposal: Proposal = serde_json::from_str(old).unwrap();
    assert_eq!(proposal.note, None);
    let command = proposal.command().unwrap();
    let again = Proposal::new("r".to_owned(), &command).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), old, "what an earlier program knows is written as it knows it");
    assert_eq!(again.with_note(Some("n".to_owned())).v, 2);
    assert_eq!(Proposal::new(String::new(), &Command::Record {}).unwrap().v, 2);
}
