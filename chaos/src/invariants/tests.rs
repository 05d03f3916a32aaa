//! A small healthy history, and one thing wrong with it for each invariant on traffic.

use std::collections::BTreeSet;

use super::*;
use crate::history::{Outcome, Sample, SECOND};

fn event(time: u64, kind: EventKind, sequence: u64, n: Option<u64>, events_in: Option<u64>) -> Record {
    let (connection, client, event_id) = ("x".to_owned(), "c".to_owned(), format!("e{sequence}"));
    at(time, Outcome::Ok, Op::Event(Event { kind, connection, client, event_id, sequence, n, events_in }))
}

fn push(time: u64, outcome: Outcome, push: u64, status: u16) -> Record {
    let (client, connection) = ("c".to_owned(), "x".to_owned());
    at(time, outcome, Op::Push { push, pusher: 0, client, connection, owner: 0, node: 1, status })
}

fn got(time: u64, push: u64, to: &str) -> Record {
    let (client, to, connection) = ("c".to_owned(), to.to_owned(), "x".to_owned());
    at(time, Outcome::Ok, Op::Got { client, to, connection, push })
}

fn ended(time: u64, code: u16, by_client: bool) -> Record {
    at(time, Outcome::Ok, Op::Ended { client: "c".into(), node: 0, code, by_client })
}

/// One client that sends two events, gets one push, and says goodbye.
fn healthy() -> Vec<Record> {
    vec![
        event(1, EventKind::Connect, 1, None, None),
        at(2, Outcome::Ok, Op::Connected { client: "c".into(), node: 0 }),
        at(3, Outcome::Ok, Op::Sent { client: "c".into(), n: 1 }),
        event(4, EventKind::Message, 2, Some(1), None),
        at(5, Outcome::Ok, Op::Sent { client: "c".into(), n: 2 }),
        event(6, EventKind::Message, 3, Some(2), None),
        push(7, Outcome::Ok, 1, 202),
        got(8, 1, "c"),
        ended(60 * SECOND, 1000, true),
        event(60 * SECOND, EventKind::Disconnect, 4, None, Some(2)),
    ]
}

/// Which invariants break.
fn broken(records: &[Record]) -> BTreeSet<&'static str> {
    let none = BTreeSet::new();
    let found = [
        ("events_in_order_and_once", events_in_order_and_once::check(records)),
        ("accepted_events_delivered", accepted_events_delivered::check(records)),
        ("one_disconnect_each", one_disconnect_each::check(records, &none)),
        ("other_nodes_clients_stay", other_nodes_clients_stay::check(records, &none)),
        ("closed_with_1012", closed_with_1012::check(records)),
        ("no_push_to_a_wrong_connection", no_push_to_a_wrong_connection::check(records)),
        ("no_410_for_a_live_connection", no_410_for_a_live_connection::check(records)),
        ("accepted_pushes_arrive", accepted_pushes_arrive::check(records)),
        ("refused_pushes_do_not_arrive", refused_pushes_do_not_arrive::check(records)),
        ("pushes_in_order_and_once", pushes_in_order_and_once::check(records)),
        ("cut_off_nodes_acknowledge_nothing", cut_off_nodes_acknowledge_nothing::check(records)),
        ("no_voter_is_removed", no_voter_is_removed::check(records)),
        ("dead_connections_take_nothing", dead_connections_take_nothing::check(records)),
    ];
    found.into_iter().filter(|(_, breaks)| !breaks.is_empty()).map(|(name, _)| name).collect()
}

fn changed(change: impl FnOnce(&mut Vec<Record>)) -> Vec<&'static str> {
    let mut records = healthy();
    change(&mut records);
    broken(&records).into_iter().collect()
}

#[test]
fn nothing_is_wrong_with_a_healthy_history() {
    assert_eq!(changed(|_| {}), [""; 0]);
}

#[test]
fn events_that_go_missing_are_found() {
    assert_eq!(changed(|all| drop(all.remove(5))), ["accepted_events_delivered"]);
    assert_eq!(changed(|all| drop(all.remove(9))), ["one_disconnect_each"]);
    let killed = BTreeSet::from([0]);
    assert_eq!(one_disconnect_each::check(&healthy()[..9], &killed), [""; 0], "its node was killed");
}

#[test]
fn lost_connections_are_found() {
    let dropped = changed(|all| all[8] = ended(60 * SECOND, 1006, false));
    assert_eq!(dropped, ["closed_with_1012", "other_nodes_clients_stay"]);
    assert_eq!(changed(|all| all[8] = ended(60 * SECOND, 1012, false)), ["other_nodes_clients_stay"]);
}

#[test]
fn pushes_that_lie_are_found() {
    assert_eq!(changed(|all| drop(all.remove(7))), ["accepted_pushes_arrive"]);
    assert_eq!(changed(|all| all[7] = got(8, 1, "d")), ["no_push_to_a_wrong_connection"]);
    assert_eq!(changed(|all| all[6] = push(7, Outcome::Failed, 1, 503)), ["refused_pushes_do_not_arrive"]);
    assert_eq!(changed(|all| all.insert(8, push(9, Outcome::Failed, 2, 410))), ["no_410_for_a_live_connection"]);
    assert_eq!(changed(|all| all.insert(8, got(9, 1, "c"))), ["pushes_in_order_and_once"]);
    let dead = Op::DeadPush { connection: "x".into(), node: 1, status: 202 };
    assert_eq!(changed(|all| all.insert(8, at(9, Outcome::Ok, dead))), ["dead_connections_take_nothing"]);
}

fn fault(time: u64, fault: &'static str, node: usize) -> Record {
    at(time, Outcome::Ok, Op::Fault { fault, node })
}

fn write(start: u64, end: u64, node: usize, attempt: u32, outcome: Outcome) -> Record {
    let (marker, endpoint, version, expected) = ("m".to_owned(), None, None, None);
    Record { start, end, outcome, op: Op::Write { marker, node, attempt, status: 200, endpoint, version, expected } }
}

#[test]
fn acknowledgements_of_a_minority_are_found() {
    let with = |written: Record| {
        changed(|all| all.extend([fault(70, "partition", 1), written, fault(90, "partition_healed", 1)]))
    };
    assert_eq!(with(write(75, 80, 1, 0, Outcome::Ok)), ["cut_off_nodes_acknowledge_nothing"]);
    assert_eq!(with(write(75, 80, 1, 0, Outcome::Failed)), [""; 0], "refused");
    assert_eq!(with(write(75, 80, 2, 0, Outcome::Ok)), [""; 0], "a node of the majority");
    assert_eq!(with(write(69, 80, 1, 0, Outcome::Ok)), [""; 0], "begun before the cut");
    assert_eq!(with(write(75, 91, 1, 0, Outcome::Ok)), [""; 0], "answered after it");
    assert_eq!(with(write(75, 80, 1, 1, Outcome::Ok)), [""; 0], "an earlier attempt may have been committed");
    let still = changed(|all| all.extend([fault(70, "mute", 1), write(75, 80, 1, 0, Outcome::Ok)]));
    assert_eq!(still, ["cut_off_nodes_acknowledge_nothing"], "a cut that is not healed");
}

#[test]
fn ends_that_are_told_of_twice_are_found() {
    const BY_ANOTHER: u64 = (1 << 53) - 1;
    let twice = |sequence, faults: &[Record]| {
        changed(|all| {
            all.extend(faults.iter().cloned());
            all.push(event(62 * SECOND, EventKind::Disconnect, sequence, None, None));
        })
    };
    let ended = fault(61 * SECOND, "terminate", 0);
    let cut = fault(61 * SECOND, "partition", 1);
    let broken = ["one_disconnect_each"];
    assert_eq!(twice(BY_ANOTHER, &[]), broken);
    assert_eq!(twice(BY_ANOTHER, std::slice::from_ref(&ended)), broken, "all could hear each other");
    assert_eq!(twice(BY_ANOTHER, std::slice::from_ref(&cut)), broken, "its node has not ended");
    assert_eq!(twice(5, &[ended.clone(), cut.clone()]), broken, "by its own node");
    assert_eq!(twice(BY_ANOTHER, &[ended, cut]), [""; 0]);
}

#[test]
fn voters_that_go_missing_are_found() {
    let sample = |node, voters| at(1, Outcome::Ok, Op::Sample(Sample { node, voters, ..Sample::default() }));
    assert_eq!(changed(|all| all.extend([sample(0, 1), sample(0, 3), sample(1, 3)])), [""; 0], "while it forms");
    assert_eq!(changed(|all| all.extend([sample(0, 3), sample(1, 2)])), ["no_voter_is_removed"]);
    let wiped = changed(|all| all.extend([sample(0, 3), fault(2, "wipe", 2), sample(0, 2)]));
    assert_eq!(wiped, [""; 0], "its disk is lost");
}
