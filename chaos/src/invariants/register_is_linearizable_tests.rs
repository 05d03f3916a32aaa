//! Histories of a register that can be explained, and such that cannot.

use super::*;

fn write(start: Micros, end: Micros, outcome: Outcome, marker: &str, expected: Option<u64>) -> Record {
    let status = match outcome {
        Outcome::Ok => 200,
        Outcome::Failed => VERSION_MISMATCH,
        Outcome::Unknown => 0,
    };
    let (endpoint, version) = (Some("e".to_owned()), None);
    let op = Op::Write { marker: marker.into(), node: 0, attempt: 0, status, endpoint, version, expected };
    Record { start, end, outcome, op }
}

fn read(start: Micros, end: Micros, version: u64, marker: &str) -> Record {
    let op = Op::Read { endpoint: "e".into(), node: 0, version, marker: marker.into() };
    Record { start, end, outcome: Outcome::Ok, op }
}

/// The versions in their order, as one node has them.
fn stored(markers: &[&str]) -> Vec<Stored> {
    let version = |(at, marker): (usize, &&str)| Stored {
        node: 0,
        endpoint: "e".into(),
        version: at as u64 + 1,
        marker: (*marker).to_owned(),
        document: String::new(),
    };
    markers.iter().enumerate().map(version).collect()
}

const CREATED: &str = "created";

fn created() -> Record {
    write(0, 1, Outcome::Ok, CREATED, None)
}

#[test]
fn what_happens_one_after_the_other_is_in_order() {
    let history = [
        created(),
        read(2, 3, 1, CREATED),
        write(4, 5, Outcome::Ok, "a", Some(1)),
        write(6, 7, Outcome::Failed, "b", Some(1)),
        read(8, 9, 2, "a"),
    ];
    assert_eq!(check(&history, &stored(&[CREATED, "a"])), [""; 0]);
    assert_eq!(check(&[], &[]), [""; 0]);
}

#[test]
fn a_stale_read_is_found_and_named() {
    let history = [created(), write(2, 3, Outcome::Ok, "a", None), read(4, 5, 1, CREATED), read(6, 7, 2, "a")];
    let breaks = check(&history, &stored(&[CREATED, "a"]));
    assert_eq!(breaks.len(), 1);
    assert!(breaks[0].contains("version 1 (created) read at node 0"), "{breaks:?}");
    let at_the_same_time = [created(), write(2, 5, Outcome::Ok, "a", None), read(4, 5, 1, CREATED), read(6, 7, 2, "a")];
    assert_eq!(check(&at_the_same_time, &stored(&[CREATED, "a"])), [""; 0]);
}

#[test]
fn the_number_of_one_version_with_the_document_of_another_is_found() {
    let torn = [created(), read(2, 6, 2, CREATED), write(3, 5, Outcome::Ok, "a", None)];
    let breaks = check(&torn, &stored(&[CREATED, "a"]));
    assert_eq!(breaks.len(), 1);
    assert!(breaks[0].contains("version 2 (created) read at node 0"), "{breaks:?}");
}

#[test]
fn a_value_that_comes_back_is_found() {
    let history = [created(), write(2, 20, Outcome::Ok, "a", None), read(4, 5, 2, "a"), read(6, 7, 1, CREATED)];
    assert_eq!(check(&history, &stored(&[CREATED, "a"])).len(), 1);
}

#[test]
fn what_is_unknown_may_have_happened_late_or_never() {
    let unknown = |end| write(2, end, Outcome::Unknown, "a", None);
    let before = [created(), unknown(3), read(4, 5, 1, CREATED)];
    assert_eq!(check(&before, &stored(&[CREATED])), [""; 0], "never");
    assert_eq!(check(&before, &stored(&[CREATED, "a"])), [""; 0], "after the read");
    let then = [created(), unknown(3), read(4, 5, 1, CREATED), read(6, 7, 2, "a")];
    assert_eq!(check(&then, &stored(&[CREATED, "a"])), [""; 0], "between the reads");
    let too_early = [created(), read(2, 3, 2, "a"), write(4, 5, Outcome::Unknown, "a", None)];
    assert_eq!(check(&too_early, &stored(&[CREATED, "a"])).len(), 1, "read before it was sent");
}

#[test]
fn answers_that_contradict_each_other_are_found() {
    let both = [created(), write(2, 9, Outcome::Ok, "a", Some(1)), write(2, 9, Outcome::Ok, "b", Some(1))];
    assert_eq!(check(&both, &stored(&[CREATED, "a", "b"])).len(), 1, "two held the same condition");
    let refused = [created(), write(2, 3, Outcome::Failed, "b", Some(1))];
    assert_eq!(check(&refused, &stored(&[CREATED])).len(), 1, "412 although the version was right");
    let order = [created(), write(2, 3, Outcome::Ok, "a", None), write(4, 5, Outcome::Ok, "b", None)];
    assert_eq!(check(&order, &stored(&[CREATED, "b", "a"])).len(), 1, "versions against the order of time");
    let never_written = [created(), read(2, 3, 1, "x")];
    assert_eq!(check(&never_written, &stored(&[CREATED])).len(), 1, "a value that nobody has written");
}

#[test]
fn attempts_of_one_write_are_one_step() {
    let history =
        [created(), write(2, 3, Outcome::Unknown, "a", None), read(4, 5, 2, "a"), write(6, 7, Outcome::Ok, "a", None)];
    assert_eq!(check(&history, &stored(&[CREATED, "a"])), [""; 0]);
}

#[test]
fn thousands_of_steps_take_little_time() {
    let mut history = vec![created()];
    let mut markers = vec![CREATED.to_owned()];
    for round in 1..1500_u64 {
        let marker = format!("w{round}");
        let at = round * 10;
        // Each overlaps its neighbours.
        history.push(write(at, at + 12, Outcome::Ok, &marker, None));
        history.push(read(at + 11, at + 25, round + 1, &marker));
        markers.push(marker);
    }
    let markers: Vec<&str> = markers.iter().map(String::as_str).collect();
    assert_eq!(check(&history, &stored(&markers)), [""; 0]);
}
