//! Scenarios with several nodes: bootstrap, writes from anywhere, partitions, restarts, snapshots, reads.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::*;
use wsgateway_raft_store::types::{ProposeError, Rejection, Reply};

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_starts_alone_and_comes_back_with_its_state() {
    let board = Switchboard::default();
    let node = start(&board, tempfile::tempdir().unwrap(), options("a:1", &[], 1)).await;
    let reply = commit(&node.store, "one").await;
    assert!(done(&reply));
    let before = node.store.state_hash();
    let (id, cluster) = (node.id(), node.store.identity().cluster_id.get().copied());
    assert!(cluster.is_some());
    let dir = node.stop().await;
    let node = start(&board, dir, options("a:1", &[], 1)).await;
    assert_eq!(node.store.head("endpoint", "one").map(|head| head.key), Some("/one".to_owned()), "at once, from disk");
    assert!(done(&commit(&node.store, "two").await));
    assert_eq!(commit(&node.store, "one").await, reply, "a retry is recognised after a restart");
    assert_eq!((node.id(), node.store.identity().cluster_id.get().copied()), (id, cluster));
    assert!(node.store.state_hash().0 > before.0);
    let versions = node.store.versions("endpoint", "two").unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(node.store.version("endpoint", "two", 1).unwrap().as_ref(), versions.first());
    assert_eq!(node.store.version("endpoint", "two", 2).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_become_one_cluster_and_take_writes_anywhere() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let clusters: BTreeSet<_> = nodes.iter().map(|node| node.store.identity().cluster_id.get().copied()).collect();
    assert_eq!(clusters.len(), 1);
    assert!(clusters.iter().all(Option::is_some));
    assert_eq!(nodes[0].store.members().values().cloned().collect::<BTreeSet<_>>().len(), 3);
    for (number, node) in nodes.iter().enumerate() {
        assert!(done(&commit(&node.store, &format!("n{number}")).await));
    }
    let taken = nodes[1].store.propose("again".to_owned(), create("other", "/n0")).await.unwrap();
    assert_eq!(
        taken,
        Reply::Rejected { rejection: Rejection::KeyTaken { key: "/n0".to_owned(), holder: "n0".to_owned() } }
    );
    let first = nodes[2].store.propose("same".to_owned(), create("d", "/d")).await.unwrap();
    assert_eq!(nodes[0].store.propose("same".to_owned(), create("d", "/d")).await.unwrap(), first);
    converged(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_from_all_sides_is_given_once() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let mut tries = Vec::new();
    for number in 0..12 {
        let store = nodes[number % 3].store.clone();
        let command = create(&format!("id{number}"), "/contended");
        tries.push(tokio::spawn(async move { store.propose(format!("r{number}"), command).await }));
    }
    let mut won = 0;
    for one in tries {
        match one.await.unwrap().unwrap() {
            Reply::Done { .. } => won += 1,
            Reply::Rejected { rejection } => assert!(matches!(rejection, Rejection::KeyTaken { .. })),
        }
    }
    assert_eq!(won, 1);
    converged(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced_and_converges_after_healing() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    assert!(done(&commit(&nodes[0].store, "before").await));
    let old = leader(&nodes).unwrap();
    board.cut(&nodes[old].addr);
    let alone = nodes[old].store.clone();
    let minority = tokio::spawn(async move {
        // Right after the cut the node still thinks that it leads; later it knows better. Both answers in time.
        let mut answers = Vec::new();
        for number in 0..2 {
            let started = Instant::now();
            let answer = alone.propose(format!("lost-{number}"), create(&format!("lost{number}"), "/lost")).await;
            answers.push((answer, started.elapsed()));
        }
        let started = Instant::now();
        let read = alone.linearize().await;
        (answers, read, started.elapsed())
    });
    let survivor = &nodes[(old + 1) % 3];
    assert!(done(&commit(&survivor.store, "during").await));
    let (answers, read, read_took) = minority.await.unwrap();
    for (answer, took) in answers {
        assert!(matches!(answer, Err(ProposeError::Unknown(_) | ProposeError::NoLeader(_))), "{answer:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    assert!(read.is_err() && read_took < Duration::from_secs(2), "{read:?} after {read_took:?}");
    assert!(nodes[old].store.head("endpoint", "before").is_some(), "the last known state is still served");
    board.heal();
    converged(&nodes).await;
    assert!(nodes[old].store.head("endpoint", "during").is_some());
    assert!(nodes[old].store.head("endpoint", "lost1").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_follower_answers_in_time_that_it_has_no_leader() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let follower = (leader(&nodes).unwrap() + 1) % 3;
    board.cut(&nodes[follower].addr);
    for number in 0..2 {
        let started = Instant::now();
        let answer = nodes[follower].store.propose(format!("r{number}"), create("x", "/x")).await;
        assert!(matches!(answer, Err(ProposeError::Unknown(_) | ProposeError::NoLeader(_))), "{answer:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
    board.heal();
    assert!(done(&commit(&nodes[follower].store, "after").await));
    converged(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_on_a_follower_sees_what_was_committed_before() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    for number in 0..20 {
        let id = format!("n{number}");
        assert!(done(&commit(&nodes[number % 3].store, &id).await));
        let reader = &nodes[(number + 1) % 3].store;
        reader.linearize().await.unwrap();
        assert!(reader.head("endpoint", &id).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_nodes_keep_their_place_and_a_wiped_one_joins_as_a_new_node() {
    let board = Switchboard::default();
    let mut nodes = three(&board, |_| {}).await;
    assert!(done(&commit(&nodes[0].store, "before").await));
    let cluster = nodes[0].store.identity().cluster_id.get().copied();
    let seeds = ["a:1", "b:1", "c:1"];

    let node = nodes.remove(2);
    let id = node.id();
    let dir = node.stop().await;
    assert!(done(&commit(&nodes[0].store, "while away").await));
    nodes.push(start(&board, dir, options("c:1", &seeds, 3)).await);
    converged(&nodes).await;
    assert_eq!(nodes[2].id(), id);

    drop(nodes.remove(2).stop().await);
    nodes.push(start(&board, tempfile::tempdir().unwrap(), options("c:1", &seeds, 3)).await);
    until("the new node is in", || async { nodes[0].store.members().len() == 4 }).await;
    converged(&nodes).await;
    assert_ne!(nodes[2].id(), id);
    assert_eq!(nodes[2].store.identity().cluster_id.get().copied(), cluster);
    assert!(nodes[2].store.head("endpoint", "while away").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_moved_announces_its_new_address() {
    let board = Switchboard::default();
    let mut nodes = three(&board, |_| {}).await;
    let seeds = ["a:1", "b:1", "c:1"];
    let id = nodes[2].id();
    let dir = nodes.remove(2).stop().await;
    nodes.push(start(&board, dir, options("moved:1", &seeds, 3)).await);
    until("the address is known", || async {
        nodes.iter().all(|node| node.store.members().get(&id).is_some_and(|addr| addr == "moved:1"))
    })
    .await;
    assert!(done(&commit(&nodes[2].store, "from there").await));
    converged(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_far_behind_gets_a_snapshot() {
    let board = Switchboard::default();
    let few = |options: &mut wsgateway_raft_store::StoreOptions| {
        options.snapshot_every = 50;
        options.snapshot_keep = 5;
    };
    let nodes = three(&board, few).await;
    let late = (leader(&nodes).unwrap() + 1) % 3;
    board.cut(&nodes[late].addr);
    let writer = &nodes[(late + 1) % 3].store;
    for number in 0..200 {
        assert!(done(&commit(writer, &format!("n{number}")).await));
    }
    until("a snapshot", || async { writer.status().snapshot_index.is_some_and(|index| index > 150) }).await;
    board.heal();
    converged(&nodes).await;
    assert!(nodes[late].store.status().snapshot_index.is_some_and(|index| index > 150));
    assert_eq!(nodes[late].store.heads("endpoint").len(), 200);
    let dir = {
        let mut nodes = nodes;
        nodes.remove(late).stop().await
    };
    let again = start(&board, dir, options("alone:1", &[], 0)).await;
    assert_eq!(again.store.heads("endpoint").len(), 200, "an installed snapshot survives a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_or_is_deaf_does_not_unseat_the_leader() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let leads = leader(&nodes).unwrap();
    let (other, third) = ((leads + 1) % 3, (leads + 2) % 3);
    let term = nodes[leads].store.status().term;
    board.cut(&nodes[other].addr);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    board.heal();
    assert!(done(&commit(&nodes[other].store, "back").await));
    board.cut_one_way(&nodes[leads].addr, &nodes[third].addr);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    board.heal();
    assert!(done(&commit(&nodes[third].store, "hears again").await));
    converged(&nodes).await;
    assert_eq!((leader(&nodes), nodes[leads].store.status().term), (Some(leads), term));
}

/// So long that what the others hear does not count for it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_cut_off_for_long_waits_for_the_leader_to_find_it() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let leads = leader(&nodes).unwrap();
    let (term, other) = (nodes[leads].store.status().term, &nodes[(leads + 1) % 3]);
    board.cut(&other.addr);
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    // It reaches the others, and its leader does not find it yet.
    board.heal();
    board.cut_one_way(&nodes[leads].addr, &other.addr);
    tokio::time::sleep(Duration::from_secs(1)).await;
    board.heal();
    assert!(done(&commit(&other.store, "found").await));
    assert_eq!((leader(&nodes), nodes[leads].store.status().term), (Some(leads), term));
    // One that nobody finds is of no use: in the end it is replaced.
    board.cut_one_way(&nodes[leads].addr, &other.addr);
    until("another leader", || async { other.store.status().term > term }).await;
    board.heal();
    converged(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_products_timings_a_lost_leader_costs_less_than_three_seconds_of_writes() {
    let board = Switchboard::default();
    let product = wsgateway_raft_store::StoreOptions::default();
    let nodes = three(&board, |options| {
        options.heartbeat = product.heartbeat;
        options.election_min = product.election_min;
        options.election_max = product.election_max;
    })
    .await;
    let old = leader(&nodes).unwrap();
    let survivor = nodes[(old + 1) % 3].store.clone();
    assert!(done(&commit(&survivor, "before").await));
    board.cut(&nodes[old].addr);
    let started = Instant::now();
    assert!(done(&commit(&survivor, "after").await));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    println!("write gap: {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let old = leader(&nodes).unwrap();
    let started = Instant::now();
    nodes[old].store.hand_over_leadership().await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_ne!(nodes[old].store.status().role, "leader");
    assert!(done(&commit(&nodes[old].store, "after").await));
    assert_ne!(leader(&nodes), Some(old));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_different_seed_lists_do_not_start() {
    let board = Switchboard::default();
    let one = start(&board, tempfile::tempdir().unwrap(), options("a:1", &["a:1", "b:1"], 2)).await;
    let _two = start(&board, tempfile::tempdir().unwrap(), options("b:1", &["a:1", "b:1", "c:1"], 3)).await;
    let waiting = one.store.waiting_for();
    until("a clear refusal", || async { waiting.borrow().contains("seed list") }).await;
    let started = Instant::now();
    let answer = one.store.propose(String::new(), create("x", "/x")).await;
    assert!(matches!(answer, Err(ProposeError::NoLeader(_))), "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(one.store.status().role, "uninitialised");
}
