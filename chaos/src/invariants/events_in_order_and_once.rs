//! The service sees a connection's events in the order in which the client sent them, none left out and none twice:
//! numbers rise one by one, but for events that were declared failed. A repeat under the same event id is no second event.

use std::collections::BTreeSet;

use super::events_by_connection;
use crate::history::{EventKind, Op, Record};

pub fn check(records: &[Record]) -> Vec<String> {
    let declared: BTreeSet<(&str, u64)> = records
        .iter()
        .filter_map(|record| match &record.op {
            Op::Declared { client, n } => Some((client.as_str(), *n)),
            _ => None,
        })
        .collect();
    let mut breaks = Vec::new();
    for (connection, events) in events_by_connection(records) {
        let mut expected = 1;
        let mut sequence = 0;
        for event in &events {
            if event.sequence <= sequence {
                breaks.push(format!("{connection} ({}): sequence {} after {sequence}", event.client, event.sequence));
            }
            sequence = event.sequence;
            let (EventKind::Message, Some(n)) = (event.kind, event.n) else { continue };
            while expected < n && declared.contains(&(event.client.as_str(), expected)) {
                expected += 1;
            }
            if n != expected {
                breaks.push(format!("{connection} ({}): event {n} where {expected} was due", event.client));
            }
            expected = n + 1;
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event, Outcome};
    use crate::invariants::at;

    fn event(id: &str, sequence: u64, n: u64) -> Record {
        let (connection, client) = ("x".to_owned(), "c".to_owned());
        let (kind, n) = (EventKind::Message, Some(n));
        let event = Event { kind, connection, client, event_id: id.into(), sequence, n, events_in: None };
        at(1, Outcome::Ok, Op::Event(event))
    }

    #[test]
    fn finds_gaps_swaps_and_second_copies() {
        assert_eq!(check(&[event("a", 1, 1), event("a", 1, 1), event("b", 2, 2)]), [""; 0]);
        assert_eq!(check(&[event("a", 1, 1), event("b", 2, 3)]).len(), 1, "a gap");
        assert_eq!(check(&[event("b", 2, 2), event("a", 1, 1)]).len(), 3, "swapped");
        assert_eq!(check(&[event("a", 1, 1), event("b", 2, 1)]).len(), 1, "twice");
        let declared = at(1, Outcome::Ok, Op::Declared { client: "c".into(), n: 2 });
        assert_eq!(check(&[event("a", 1, 1), declared, event("b", 3, 3)]), [""; 0]);
    }
}
