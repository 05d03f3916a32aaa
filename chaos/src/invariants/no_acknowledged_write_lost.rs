//! Each acknowledged write is on every node that was read back, with its content.

use std::collections::BTreeMap;

use crate::history::{Op, Outcome, Record};
use crate::readback::Stored;

pub fn check(records: &[Record], stored: &[Stored], nodes: &[usize]) -> Vec<String> {
    let mut found: BTreeMap<(&str, usize), &Stored> = BTreeMap::new();
    for version in stored {
        found.insert((&version.marker, version.node), version);
    }
    let mut breaks = Vec::new();
    for record in records.iter().filter(|record| record.outcome == Outcome::Ok) {
        let Op::Write { marker, endpoint, version, .. } = &record.op else { continue };
        let mut documents = std::collections::BTreeSet::new();
        for node in nodes {
            match found.get(&(marker.as_str(), *node)) {
                None => breaks.push(format!("{marker} was acknowledged and is not on node {node}")),
                Some(there) if Some(&there.endpoint) != endpoint.as_ref() => {
                    breaks.push(format!(
                        "{marker} was acknowledged for {endpoint:?} and is in {} on node {node}",
                        there.endpoint
                    ));
                }
                // What is active may be a later version than the one that was written, never an earlier one.
                Some(there) if version.is_some_and(|active| active < there.version) => {
                    breaks.push(format!("{marker} is version {} but {version:?} was said to be active", there.version));
                }
                Some(there) => drop(documents.insert((there.version, &there.document))),
            }
        }
        if documents.len() > 1 {
            breaks.push(format!("{marker} differs between nodes: {documents:?}"));
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::at;

    fn write(marker: &str, outcome: Outcome) -> Record {
        let (endpoint, version) = (Some("e".to_owned()), Some(1));
        at(
            1,
            outcome,
            Op::Write { marker: marker.into(), node: 0, attempt: 0, status: 200, endpoint, version, expected: None },
        )
    }

    fn stored(node: usize, marker: &str, document: &str) -> Stored {
        Stored { node, endpoint: "e".into(), version: 1, marker: marker.into(), document: document.into() }
    }

    #[test]
    fn finds_what_is_missing_or_different() {
        let records = [write("a", Outcome::Ok), write("b", Outcome::Unknown)];
        assert_eq!(check(&records, &[stored(0, "a", "x"), stored(1, "a", "x")], &[0, 1]), [""; 0]);
        assert_eq!(check(&records, &[stored(0, "a", "x")], &[0, 1]).len(), 1);
        assert_eq!(check(&records, &[stored(0, "a", "x"), stored(1, "a", "y")], &[0, 1]).len(), 1);
    }
}
