//! The cluster that heals itself: wiped disks, new machines, nodes that are gone, nodes that come back when it is too
//! late, more nodes and fewer.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::*;
use wsgateway_cluster::NodeId;
use wsgateway_raft_store::backup::ImportError;
use wsgateway_raft_store::recover::{inspect, recover, Inspected, RecoverError};
use wsgateway_raft_store::types::{Authorship, Command, ProposeError};
use wsgateway_raft_store::{Disk, Ended, RaftStore, StoreError, StoreOptions};

const SEEDS: [&str; 3] = ["a:1", "b:1", "c:1"];

/// As in the product, hundreds of times faster.
fn quick(options: &mut StoreOptions) {
    options.replaced_after = Duration::from_millis(500);
    options.remove_dead_after = Duration::from_millis(1_500);
}

fn joining(addr: &str) -> StoreOptions {
    let mut options = options(addr, &SEEDS, 3);
    quick(&mut options);
    options
}

async fn join(board: &Switchboard, addr: &str) -> Node {
    start(board, tempfile::tempdir().unwrap(), joining(addr)).await
}

fn ids(nodes: &[Node]) -> BTreeSet<NodeId> {
    nodes.iter().map(Node::id).collect()
}

/// Until exactly these are members, and these vote, in everybody's eyes.
async fn shape(nodes: &[Node], voters: &BTreeSet<NodeId>, members: &BTreeSet<NodeId>) {
    let fits = |node: &Node| {
        let status = node.store.status();
        let now: BTreeSet<NodeId> = node.store.members().into_keys().collect();
        status.voters.into_iter().collect::<BTreeSet<_>>() == *voters && now == *members
    };
    let what = format!("voters {voters:016x?} of {members:016x?}");
    until(&what, || async { nodes.iter().all(fits) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_node_takes_its_own_place_whether_it_led_or_not() {
    let board = Switchboard::default();
    let mut nodes = three(&board, quick).await;
    for round in 0..2 {
        assert!(done(&commit(&nodes[0].store, &format!("before-{round}")).await));
        // Every other time the leader.
        let lost = (leader(&nodes).unwrap() + round) % 3;
        let node = nodes.remove(lost);
        let (addr, id) = (node.addr.clone(), node.id());
        drop(node.stop().await);
        nodes.insert(lost, join(&board, &addr).await);
        assert_ne!(nodes[lost].id(), id, "a wiped disk is a new node");
        shape(&nodes, &ids(&nodes), &ids(&nodes)).await;
        until("a leader", || async { leader(&nodes).is_some() }).await;
        converged(&nodes).await;
        assert!(nodes[lost].store.head("endpoint", &format!("before-{round}")).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_machine_takes_the_place_of_one_that_is_gone() {
    let board = Switchboard::default();
    let mut nodes = three(&board, quick).await;
    let gone = (leader(&nodes).unwrap() + 1) % 3;
    drop(nodes.remove(gone).stop().await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(nodes[0].store.status().voters.len(), 3, "three voters stay three while nobody takes the place");
    nodes.push(join(&board, "d:1").await);
    shape(&nodes, &ids(&nodes), &ids(&nodes)).await;
    // The next loss is survived, which is what it is about.
    until("a leader", || async { leader(&nodes).is_some() }).await;
    drop(nodes.remove(0).stop().await);
    assert!(done(&commit(&nodes[0].store, "after").await));
    converged(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_become_five_and_three_again() {
    let board = Switchboard::default();
    let mut nodes = three(&board, quick).await;
    nodes.push(join(&board, "d:1").await);
    nodes.push(join(&board, "e:1").await);
    shape(&nodes, &ids(&nodes), &ids(&nodes)).await;
    for number in 0..2 {
        let leads = leader(&nodes).unwrap_or(0);
        drop(nodes.remove((leads + 1) % nodes.len()).stop().await);
        assert!(done(&commit(&nodes[0].store, &format!("with one less, {number}")).await));
    }
    shape(&nodes, &ids(&nodes), &ids(&nodes)).await;
    converged(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_too_late_is_told_and_does_not_start_again() {
    let board = Switchboard::default();
    let mut nodes = three(&board, quick).await;
    let gone = (leader(&nodes).unwrap() + 1) % 3;
    let node = nodes.remove(gone);
    let (addr, id) = (node.addr.clone(), node.id());
    let dir = node.stop().await;
    nodes.push(join(&board, "d:1").await);
    shape(&nodes, &ids(&nodes), &ids(&nodes)).await;
    let term = nodes[0].store.status().term;

    let late = start(&board, dir, joining(&addr)).await;
    assert_eq!(late.id(), id);
    let ended = tokio::time::timeout(Duration::from_secs(10), late.store.ended()).await.expect("it is told");
    let text = ended.to_string();
    assert!(matches!(ended, Ended::Evicted(_)), "{text}");
    for part in [&format!("{id:016x}"), "removed from cluster", "autopilot", "empty the data folder"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let answer = late.store.propose(String::new(), create("x", "/x")).await;
    assert!(matches!(answer, Err(ProposeError::NoLeader(_) | ProposeError::Unknown(_))), "{answer:?}");
    assert_eq!(nodes[0].store.status().term, term, "it disturbs nobody");
    let dir = late.stop().await;
    let again = started(&board, &dir, joining(&addr)).await;
    assert!(matches!(again, Err(StoreError::Evicted(ref again)) if text.starts_with(again)), "at once, without asking");
    // What the message says to do.
    nodes.push(join(&board, &addr).await);
    until("the new one is in", || async { nodes[0].store.members().len() == 4 }).await;
    converged(&nodes).await;
}

/// Starts on a disk that may not be started on.
async fn started(board: &Switchboard, dir: &tempfile::TempDir, options: StoreOptions) -> Result<RaftStore, StoreError> {
    start_store(board, open(dir.path()).await, options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_to_the_leader_alone_is_not_removed() {
    let board = Switchboard::default();
    let (hears, heard) = tokio::sync::watch::channel(Default::default());
    let nodes = three(&board, |options| {
        quick(options);
        options.gossip = Some(heard.clone());
    })
    .await;
    let spare = join(&board, "d:1").await;
    until("the spare is in", || async { nodes[0].store.members().len() == 4 }).await;
    let leads = leader(&nodes).unwrap();
    let cut = (leads + 1) % 3;
    hears.send_replace(std::sync::Arc::new([(nodes[cut].id(), live(nodes[cut].id()))].into()));
    board.cut_one_way(&nodes[leads].addr, &nodes[cut].addr);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let voters: BTreeSet<NodeId> = nodes[leads].store.status().voters.into_iter().collect();
    assert_eq!(voters, ids(&nodes), "gossip hears of it");
    hears.send_replace(Default::default());
    until("now it is gone", || async { !nodes[leads].store.members().contains_key(&nodes[cut].id()) }).await;
    drop(spare);
}

fn live(node_id: NodeId) -> wsgateway_cluster::membership::PeerFacts {
    let gossip_addr = "127.0.0.1:1".parse().unwrap();
    wsgateway_cluster::membership::PeerFacts {
        node_id,
        generation: 1,
        gossip_addr,
        live: true,
        facts: Default::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_remove_a_node_without_waiting() {
    let board = Switchboard::default();
    let forever = |options: &mut StoreOptions| options.remove_dead_after = Duration::from_secs(3_600);
    let mut nodes = three(&board, forever).await;
    nodes.push(join(&board, "d:1").await);
    until("the spare is in", || async { nodes[0].store.members().len() == 4 }).await;
    // The leader, of all nodes.
    let removed = nodes.remove(leader(&nodes).unwrap());
    let by = Authorship { author: "somebody".to_owned(), message: "its machine is sold".to_owned(), at: 1 };
    nodes[0].store.remove_node(removed.id(), &removed.addr, by, None).await.unwrap();
    // It lives, hands over, and is told.
    let ended = tokio::time::timeout(Duration::from_secs(10), removed.store.ended()).await.expect("it is told");
    assert!(ended.to_string().contains("by somebody: its machine is sold"), "{ended}");
    shape(&nodes, &ids(&nodes), &ids(&nodes)).await;
    converged(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lost_its_majority_is_made_anew_from_the_disk_that_has_most() {
    let board = Switchboard::default();
    let mut nodes = three(&board, quick).await;
    assert!(done(&commit(&nodes[0].store, "everywhere").await));
    let former = nodes[0].store.identity().cluster_id.get().copied();
    // One is behind when the end comes.
    let behind = (leader(&nodes).unwrap() + 1) % 3;
    board.cut(&nodes[behind].addr);
    let writer = (behind + 1) % 3;
    assert!(done(&commit(&nodes[writer].store, "on a majority").await));
    let mut disks = Vec::new();
    for node in nodes.drain(..) {
        let addr = node.addr.clone();
        disks.push((addr, node.stop().await));
    }
    board.heal();
    // The last run may need a moment to let go of a disk.
    until("the disks to be free", || async { disks.iter().all(|(_, dir)| inspect(dir.path()).is_ok()) }).await;
    let looked: Vec<_> = disks.iter().map(|(_, dir)| inspect(dir.path()).unwrap()).collect();
    assert_eq!(looked.iter().map(|it| it.voters.len()).collect::<Vec<_>>(), [3, 3, 3]);
    let place = |it: &Inspected| (it.last_term, it.last_log_index);
    assert!((0..3).filter(|n| *n != behind).all(|n| place(&looked[n]) > place(&looked[behind])), "{looked:?}");

    let best = (0..3).max_by_key(|n| place(&looked[*n])).unwrap();
    let (addr, disk) = disks.swap_remove(best);
    let cluster = recover(disk.path(), None).unwrap();
    assert_ne!(Some(cluster), former);
    let first = start(&board, disk, joining(&addr)).await;
    until("it leads alone", || async { first.store.status().role == "leader" }).await;
    assert_eq!(first.store.status().voters, [first.id()]);
    assert_eq!(first.store.identity().cluster_id.get().copied(), Some(cluster));
    for id in ["everywhere", "on a majority"] {
        first.store.linearize().await.unwrap();
        assert!(first.store.head("endpoint", id).is_some(), "{id}");
    }
    assert!(done(&commit(&first.store, "after").await));

    // The others begin anew, as the documents say.
    let mut nodes = vec![first];
    for (addr, disk) in disks {
        drop(disk);
        nodes.push(join(&board, &addr).await);
    }
    shape(&nodes, &ids(&nodes), &ids(&nodes)).await;
    converged(&nodes).await;
}

#[test]
fn what_is_no_disk_of_a_cluster_is_not_recovered() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(inspect(empty.path()), Err(RecoverError::Nothing)));
    assert!(matches!(recover(&empty.path().join("nowhere"), None), Err(RecoverError::Nothing)));
    assert!(!empty.path().join("nowhere").exists() && !empty.path().join("db").exists(), "nothing is made");
    drop(Disk::open(empty.path(), "never in a cluster").unwrap());
    assert!(matches!(recover(empty.path(), None), Err(RecoverError::Nothing)));
    let _held = Disk::open(empty.path(), "running").unwrap();
    assert!(matches!(inspect(empty.path()), Err(RecoverError::Disk(_))), "a node has it open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_makes_the_same_documents_in_another_cluster() {
    let alone = |addr: &str| options(addr, &[], 1);
    let board = Switchboard::default();
    let from = start(&board, tempfile::tempdir().unwrap(), alone("a:1")).await;
    let by = |at| Authorship { author: "somebody".to_owned(), message: format!("change {at}"), at };
    let propose = async |command| from.store.propose(String::new(), command).await.unwrap();
    let document = |text: &str| format!("{{\"text\":\"{text}\"}}");
    let update = |id: &str, key: &str, text: &str, activate| Command::Update {
        kind: "endpoint".to_owned(),
        id: id.to_owned(),
        key: key.to_owned(),
        document: document(text),
        activate,
        expected: None,
        by: by(2),
    };
    assert!(done(&commit(&from.store, "one").await));
    // Two that have exchanged their keys, one that was never active, one that went back.
    assert!(done(&propose(update("one", "/free", "moved", true)).await));
    assert!(done(&propose(create("two", "/one")).await));
    assert!(done(&propose(update("two", "/two", "moved", true)).await));
    assert!(done(&propose(update("one", "/one", "not active", false)).await));
    assert!(done(&commit(&from.store, "three").await));
    assert!(done(&commit(&from.store, "four").await));
    for (id, key) in [("three", "/elsewhere"), ("four", "/three"), ("three", "/four")] {
        assert!(done(&propose(update(id, key, "moved", true)).await));
    }
    let draft = Command::Draft {
        kind: "endpoint".to_owned(),
        id: "draft".to_owned(),
        key: "/draft".to_owned(),
        document: document("draft"),
        by: by(1),
    };
    assert!(done(&propose(draft).await));
    assert!(done(&commit(&from.store, "back").await));
    assert!(done(&propose(update("back", "/back", "newer", true)).await));
    let back =
        Command::Activate { kind: "endpoint".to_owned(), id: "back".to_owned(), version: 1, expected: None, by: by(3) };
    assert!(done(&propose(back).await));
    let export = from.store.export().unwrap();
    assert_eq!(export.index, from.store.state_hash().0);

    let to = start(&board, tempfile::tempdir().unwrap(), alone("b:1")).await;
    until("a leader", || async { to.store.status().role == "leader" }).await;
    // Cut short after its first version, and asked for again.
    let one = export.documents.iter().find(|it| it.id == "one").unwrap();
    to.store.propose("early".to_owned(), one.commands().remove(0)).await.unwrap();
    let imported = to.store.import(export.documents.clone()).await.unwrap();
    assert_eq!((imported.restored, imported.unchanged), (6, 0));
    assert_eq!(to.store.export().unwrap().documents, export.documents, "versions, keys, authors and all");
    let again = to.store.import(export.documents.clone()).await.unwrap();
    assert_eq!((again.restored, again.unchanged), (0, 6));

    // Deleted, and restored: not taken for a request of before.
    let delete = Command::Delete { kind: "endpoint".to_owned(), id: "one".to_owned(), expected: None, by: by(9) };
    assert!(done(&to.store.propose(String::new(), delete).await.unwrap()));
    let deleted = to.store.import(export.documents.clone()).await.unwrap();
    assert_eq!((deleted.restored, deleted.unchanged), (1, 5));
    assert_eq!(to.store.export().unwrap().documents, export.documents);

    // What differs, or is broken, is refused before anything is written.
    assert!(done(&to.store.propose(String::new(), update("two", "/two", "differs", true)).await.unwrap()));
    let before = to.store.state_hash();
    let differs = to.store.import(export.documents.clone()).await;
    assert!(matches!(differs, Err(ImportError::Differs { ref id, .. }) if id == "two"), "{differs:?}");
    let mut broken = export.documents.clone();
    broken[0].id = "new".to_owned();
    broken[0].versions[0].document = "{}".into();
    let refused = to.store.import(broken).await;
    assert!(matches!(refused, Err(ImportError::Broken(ref why)) if why.contains("hash")), "{refused:?}");
    assert_eq!(to.store.state_hash(), before);
}

fn restore(id: &str) -> Command {
    Command::Restore {
        kind: "endpoint".to_owned(),
        id: id.to_owned(),
        key: format!("/{id}"),
        first_key: "/first".to_owned(),
        document: "{}".to_owned(),
        by: Authorship { author: "somebody".to_owned(), message: String::new(), at: 1 },
    }
}

fn of_version(understands: u32, options: StoreOptions) -> StoreOptions {
    StoreOptions { understands, ..options }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_until_every_node_understands_it() {
    let board = Switchboard::default();
    let all = |addr: &str, understands| of_version(understands, options(addr, &SEEDS, 3));
    // One node of three is of the program before, and was there first: it would not be let in later.
    let mut nodes = vec![start(&board, tempfile::tempdir().unwrap(), of_version(2, options("c:1", &["c:1"], 1))).await];
    until("a leader", || async { leader(&nodes).is_some() }).await;
    for addr in ["a:1", "b:1"] {
        nodes.insert(0, start(&board, tempfile::tempdir().unwrap(), all(addr, 3)).await);
    }
    shape(&nodes, &ids(&nodes), &ids(&nodes)).await;
    // Whoever leads: the other program would take it.
    nodes[0].store.hand_over_leadership().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (number, node) in nodes.iter().enumerate() {
        let refused = node.store.propose(format!("early-{number}"), restore("early")).await;
        assert!(matches!(refused, Err(ProposeError::MixedVersions(_))), "{refused:?}");
    }
    assert!(done(&commit(&nodes[2].store, "what all understand").await));
    assert!(nodes.iter().all(|node| node.store.head("endpoint", "early").is_none()), "it is in nobody's log");

    // It is upgraded, in place.
    let node = nodes.remove(2);
    let dir = node.stop().await;
    nodes.push(start(&board, dir, all("c:1", 3)).await);
    until("the command to be taken", || async {
        nodes[2].store.propose("late".to_owned(), restore("late")).await.is_ok_and(|reply| done(&reply))
    })
    .await;
    converged(&nodes).await;
    assert_eq!(nodes[0].store.versions("endpoint", "late").unwrap()[0].key, "/first");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_not_understand_what_is_in_the_log_is_not_let_in() {
    let board = Switchboard::default();
    let first = start(&board, tempfile::tempdir().unwrap(), of_version(3, options("a:1", &["a:1"], 1))).await;
    until("a leader", || async { first.store.status().role == "leader" }).await;
    // A node alone has nobody to wait for.
    assert!(done(&first.store.propose("early".to_owned(), restore("early")).await.unwrap()));

    let joining = |understands| of_version(understands, options("b:1", &["a:1", "b:1"], 2));
    let older = start(&board, tempfile::tempdir().unwrap(), joining(2)).await;
    let told = || async { older.store.waiting_for().borrow().contains("its program is too old") };
    until("the older one to be told", told).await;
    assert_eq!(first.store.members().len(), 1);
    assert!(done(&commit(&first.store, "goes on").await));

    // It is upgraded, with its disk.
    let dir = older.stop().await;
    let newer = start(&board, dir, joining(3)).await;
    converged(&[first, newer]).await;
}
