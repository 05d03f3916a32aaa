//! The process is aborted at every step of every write; what was acknowledged must be there afterwards. Each case is a
//! child process: this very test binary, told by environment variables what to do and where to die. Needs the feature
//! `failpoints`.
#![cfg(feature = "failpoints")]

mod common;

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command as Process, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use wsgateway_raft_store::log_store::LogStore;
use wsgateway_raft_store::raft_types::{Entry, LogId, Proposal};
use wsgateway_raft_store::state_machine::StateMachine;
use wsgateway_raft_store::types::ProposeError;
use wsgateway_raft_store::{Disk, StoreOptions};

const SCENARIO: &str = "WSGATEWAY_TEST_SCENARIO";
const FOLDER: &str = "WSGATEWAY_TEST_FOLDER";
const POINT: &str = "WSGATEWAY_TEST_POINT";
const SIGABRT: i32 = 6;
const HIT: &str = "WSGATEWAY_TEST_HIT";

/// Not a test of its own: what a child process runs.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let folder = std::path::PathBuf::from(std::env::var(FOLDER).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match scenario.as_str() {
            "store" => store(&folder).await,
            "truncate" => truncate(&folder).await,
            "install" => install(&folder).await,
            "sync error" => sync_error(&folder).await,
            other => panic!("{other}"),
        }
    });
}

/// Aborts the process at the point's n-th hit from now on.
fn arm() {
    let hit: usize = std::env::var(HIT).unwrap().parse().unwrap();
    let left = AtomicUsize::new(hit);
    let die = move || {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    };
    fail::cfg_callback(std::env::var(POINT).unwrap(), die).unwrap();
}

/// Runs a scenario that must die at the point.
fn dies(scenario: &str, folder: &Path, point: &str, hit: usize) {
    let status = run(scenario, folder, point, hit);
    assert_eq!(status.signal(), Some(SIGABRT), "{scenario} should reach {point} {hit} times: {status:?}");
}

fn run(scenario: &str, folder: &Path, point: &str, hit: usize) -> ExitStatus {
    let status = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, scenario)
        .env(FOLDER, folder)
        .env(POINT, point)
        .env(HIT, hit.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.unwrap()
}

fn acknowledge(folder: &Path, id: &str) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("acknowledged")).unwrap();
    writeln!(file, "{id}").unwrap();
}

fn acknowledged(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("acknowledged")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn often(mut options: StoreOptions) -> StoreOptions {
    options.snapshot_every = 10;
    options.snapshot_keep = 2;
    options
}

async fn single(folder: &Path) -> Node {
    let dir = tempfile::Builder::new().prefix("unused").tempdir().unwrap();
    let options = often(options("a:1", &[], 1));
    start_in(&Switchboard::default(), &folder.join("data"), dir, options).await
}

async fn store(folder: &Path) {
    arm();
    let node = single(folder).await;
    for number in 0..60 {
        let id = format!("n{number}");
        assert!(done(&commit(&node.store, &id).await));
        acknowledge(folder, &id);
    }
}

/// Several cases at once, as many as there are processors.
fn each_case(cases: Vec<(&'static str, usize)>, check: impl Fn(&'static str, usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((point, hit)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    check(point, *hit);
                }
            });
        }
    });
}

#[test]
fn an_abort_at_any_step_of_a_running_store_loses_nothing() {
    let points = [
        "identity-before",
        "identity-synced",
        "meta-before",
        "meta-synced",
        "vote-before",
        "vote-synced",
        "append-before",
        "append-synced",
        "committed-before",
        "committed-written",
        "apply-before",
        "apply-written",
        "snapshot-tmp-before",
        "snapshot-fsync-before",
        "snapshot-rename-before",
        "snapshot-rename-after",
        "snapshot-dir-synced",
        "purge-before",
        "purge-synced",
    ];
    let late = |point: &str| match point {
        _ if point.starts_with("identity") => 1,
        _ if point.starts_with("meta") || point.starts_with("vote") => 2,
        _ if point.starts_with("snapshot") || point.starts_with("purge") => 3,
        _ => 37,
    };
    let mut cases: Vec<_> = points.iter().flat_map(|point| [(*point, 1), (*point, late(point))]).collect();
    cases.dedup();
    each_case(cases, |point, hit| {
        let folder = tempfile::tempdir().unwrap();
        dies("store", folder.path(), point, hit);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let node = single(folder.path()).await;
            for id in acknowledged(folder.path()) {
                let head = node.store.head("endpoint", &id);
                assert!(head.is_some(), "{id} is lost after an abort at {point}, hit {hit}");
                assert!(node.store.version("endpoint", &id, 1).unwrap().is_some(), "{id}'s text, {point} {hit}");
            }
            assert!(done(&commit(&node.store, "afterwards").await), "{point} {hit}");
            let (hash, heads) = (node.store.state_hash(), node.store.heads("endpoint"));
            let status = node.store.status();
            assert!(status.snapshot_index <= status.applied_index, "{point} {hit}: {status:?}");
            node.stop().await;
            let again = single(folder.path()).await;
            assert_eq!(again.store.heads("endpoint"), heads, "{point} {hit}");
            assert!(again.store.state_hash().0 >= hash.0, "{point} {hit}");
            again.stop().await;
        });
    });
}

fn blank(index: u64) -> Entry {
    Entry { log_id: LogId::new(CommittedLeaderId::new(1, 1), index), payload: EntryPayload::Blank }
}

async fn truncate(folder: &Path) {
    let mut log = LogStore::new(Disk::open(&folder.join("data"), "t").unwrap().storage()).unwrap();
    log.blocking_append((0..20).map(blank).collect::<Vec<_>>()).await.unwrap();
    arm();
    log.truncate(blank(11).log_id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_while_truncating_leaves_no_hole() {
    for (point, last) in [("truncate-before", 19), ("truncate-synced", 10)] {
        let folder = tempfile::tempdir().unwrap();
        dies("truncate", folder.path(), point, 1);
        let mut log = LogStore::new(Disk::open(&folder.path().join("data"), "t").unwrap().storage()).unwrap();
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_log_id.map(|log_id| log_id.index), Some(last), "{point}");
        let entries = log.try_get_log_entries(0..100).await.unwrap();
        assert!(entries.iter().map(|entry| entry.log_id.index).eq(0..=last), "{point}");
    }
}

fn write(index: u64, id: &str) -> Entry {
    let proposal = Proposal::new(format!("r-{id}"), &create(id, &format!("/{id}"))).unwrap();
    Entry { payload: EntryPayload::Normal(proposal), ..blank(index) }
}

async fn install(folder: &Path) {
    let open = |name: &str| StateMachine::open(Disk::open(&folder.join(name), "t").unwrap().storage()).unwrap();
    let mut sender = open("sender");
    sender.apply((0..30).map(|index| write(index, &format!("n{index}"))).collect::<Vec<_>>()).await.unwrap();
    let snapshot = sender.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut receiver = open("receiver");
    receiver.apply((0..3).map(|index| write(index, &format!("n{index}"))).collect::<Vec<_>>()).await.unwrap();
    acknowledge(folder, &receiver.view().state_hash().unwrap().1);
    acknowledge(folder, &sender.view().state_hash().unwrap().1);
    arm();
    receiver.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
}

#[test]
fn an_abort_while_installing_a_snapshot_leaves_the_old_state_or_the_new_one() {
    let cases = [
        ("snapshot-tmp-before", false),
        ("snapshot-fsync-before", false),
        ("snapshot-rename-before", false),
        ("snapshot-rename-after", false),
        ("snapshot-dir-synced", false),
        ("install-before", false),
        ("install-synced", true),
    ];
    each_case(cases.iter().map(|(point, new)| (*point, usize::from(*new))).collect(), |point, new| {
        let folder = tempfile::tempdir().unwrap();
        dies("install", folder.path(), point, 1);
        let hashes = acknowledged(folder.path());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let disk = Disk::open(&folder.path().join("receiver"), "t").unwrap();
            let mut receiver = StateMachine::open(disk.storage()).unwrap();
            assert_eq!(receiver.view().state_hash().unwrap().1, hashes[new], "{point}");
            let snapshot = receiver.get_current_snapshot().await.unwrap();
            let applied = receiver.applied_state().await.unwrap().0;
            assert_eq!(snapshot.is_some(), new == 1, "{point}: a snapshot ahead of the state is removed");
            assert!(snapshot.is_none_or(|snapshot| snapshot.meta.last_log_id <= applied), "{point}");
        });
    });
}

async fn sync_error(folder: &Path) {
    let node = single(folder).await;
    assert!(done(&commit(&node.store, "before").await));
    acknowledge(folder, "before");
    fail::cfg("append-fails", "return").unwrap();
    let answer = node.store.propose("r".to_owned(), create("after", "/after")).await;
    assert!(matches!(answer, Err(ProposeError::Storage(_) | ProposeError::Unknown(_))), "{answer:?}");
    let reason = node.store.ended().await.to_string();
    assert!(reason.contains("as the test wants it"), "{reason}");
    assert_eq!(node.store.status().role, "stopped");
    fail::remove("append-fails");
    let answer = node.store.propose("r2".to_owned(), create("later", "/later")).await;
    assert!(matches!(answer, Err(ProposeError::Storage(_))), "{answer:?}");
    acknowledge(folder, "as expected");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_write_nothing_is_acknowledged_any_more_and_the_store_says_why() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run("sync error", folder.path(), "", 0).success());
    assert_eq!(acknowledged(folder.path()), ["before", "as expected"]);
    let node = single(folder.path()).await;
    assert!(node.store.head("endpoint", "before").is_some());
    assert!(node.store.head("endpoint", "later").is_none());
}
