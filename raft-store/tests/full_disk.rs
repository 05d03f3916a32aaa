//! Full disks: nobody stops, nothing that was acknowledged is lost, and a majority with room goes on. The disks of these
//! nodes say that they are full; those of `chaos --scenario disk_full` are. Needs the feature `failpoints`.
#![cfg(feature = "failpoints")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use wsgateway_raft_store::types::{ProposeError, Reply};
use wsgateway_raft_store::RaftStore;

fn fill(node: &Node) {
    fail::cfg(point(node), "return").unwrap();
}

fn empty(node: &Node) {
    fail::remove(point(node));
}

fn point(node: &Node) -> String {
    format!("low-on-room {}", node.dir.path().display())
}

async fn once(store: &RaftStore, id: &str) -> Result<Reply, ProposeError> {
    store.propose(format!("request-{id}"), create(id, &format!("/{id}"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_room_stays_behind_in_peace_and_catches_up() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let leads = leader(&nodes).unwrap();
    let (first, full) = (&nodes[leads], &nodes[(leads + 1) % 3]);
    let term = first.store.status().term;
    fill(full);
    assert!(full.store.is_low_on_room());
    for change in 0..20 {
        assert!(done(&commit(&full.store, &format!("while-full-{change}")).await), "a majority has room");
    }
    // Several longest election timeouts.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (ahead, behind) = (first.store.status(), full.store.status());
    assert_eq!((ahead.term, behind.term), (term, term), "nobody stood for election");
    assert_eq!(behind.leader, Some(ahead.node_id), "it hears its leader");
    assert!(behind.last_log_index < ahead.last_log_index, "nothing was written there: {behind:?}");
    empty(full);
    until("it has caught up", || async { full.store.status().applied_index == first.store.status().applied_index })
        .await;
    assert_eq!(full.store.state_hash(), first.store.state_hash());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_room_makes_another_one_lead() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let full = leader(&nodes).unwrap();
    fill(&nodes[full]);
    let began = Instant::now();
    until("another one leads", || async { leader(&nodes).is_some_and(|leads| leads != full) }).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(done(&commit(&nodes[full].store, "after").await), "asked of the full one, too");
    empty(&nodes[full]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_room_stays_where_nobody_else_would_be_elected() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let (leads, term) = (leader(&nodes).unwrap(), nodes[0].store.status().term);
    let full = [&nodes[leads], &nodes[(leads + 1) % 3]];
    full.into_iter().for_each(fill);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let with_room = &nodes[(leads + 2) % 3].store;
    assert_eq!((leader(&nodes), with_room.status().term), (Some(leads), term), "one vote is no majority");
    let refused = once(with_room, "while-full").await;
    assert!(matches!(refused, Err(ProposeError::Full(_))), "{refused:?}");
    assert!(with_room.linearize().await.is_ok());
    full.into_iter().for_each(empty);
    assert!(done(&commit(with_room, "after").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_anywhere_changes_are_refused_and_nobody_stops() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    assert!(done(&commit(&nodes[0].store, "before").await));
    let (leads, term) = (leader(&nodes).unwrap(), nodes[0].store.status().term);
    nodes.iter().for_each(fill);
    // Time to hand over to nobody.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for node in &nodes {
        let refused = once(&node.store, "while-full").await;
        assert!(matches!(refused, Err(ProposeError::Full(_))), "{refused:?}");
        assert!(node.store.linearize().await.is_ok(), "reading needs no room");
    }
    assert_eq!((leader(&nodes), nodes[0].store.status().term), (Some(leads), term));
    nodes.iter().for_each(empty);
    assert!(done(&once(&nodes[0].store, "after").await.unwrap()), "at once");
    converged(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_majority_without_room_could_not_take_is_committed_when_there_is_room() {
    let board = Switchboard::default();
    let nodes = three(&board, |_| {}).await;
    let leads = leader(&nodes).unwrap();
    let others = [&nodes[(leads + 1) % 3], &nodes[(leads + 2) % 3]];
    others.into_iter().for_each(fill);
    let began = Instant::now();
    let unknown = once(&nodes[leads].store, "late").await;
    assert!(matches!(unknown, Err(ProposeError::Unknown(_))), "it may still be committed: {unknown:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    others.into_iter().for_each(empty);
    until("it is committed after all", || async {
        nodes.iter().all(|node| node.store.head("endpoint", "late").is_some())
    })
    .await;
}
