//! A write with its retries is applied at most once, and not at all when every attempt was refused.

use std::collections::BTreeMap;

use crate::history::{Op, Outcome, Record};
use crate::readback::Stored;

pub fn check(records: &[Record], stored: &[Stored]) -> Vec<String> {
    let mut copies: BTreeMap<(&str, usize), Vec<(&str, u64)>> = BTreeMap::new();
    for version in stored {
        copies.entry((&version.marker, version.node)).or_default().push((&version.endpoint, version.version));
    }
    let mut breaks = Vec::new();
    let mut refused: BTreeMap<&str, bool> = BTreeMap::new();
    for record in records {
        if let Op::Write { marker, .. } = &record.op {
            *refused.entry(marker).or_insert(true) &= record.outcome == Outcome::Failed;
        }
    }
    // Endpoints that no writer wrote have other names.
    for ((marker, node), places) in copies.iter().filter(|((marker, _), _)| refused.contains_key(marker)) {
        if places.len() > 1 {
            breaks.push(format!("{marker} was applied {} times on node {node}: {places:?}", places.len()));
        }
        if refused[marker] {
            breaks.push(format!("{marker} was refused and is on node {node} nevertheless"));
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::at;

    #[test]
    fn finds_repeats_and_refused_ones() {
        let write = |outcome| {
            let (marker, endpoint, version, expected) = ("a".to_owned(), None, None, None);
            at(1, outcome, Op::Write { marker, node: 0, attempt: 0, status: 0, endpoint, version, expected })
        };
        let stored =
            |version| Stored { node: 0, endpoint: "e".into(), version, marker: "a".into(), document: "".into() };
        assert_eq!(check(&[write(Outcome::Failed), write(Outcome::Ok)], &[stored(1)]), [""; 0]);
        assert_eq!(check(&[write(Outcome::Ok)], &[stored(1), stored(2)]).len(), 1);
        assert_eq!(check(&[write(Outcome::Failed)], &[stored(1)]).len(), 1);
    }
}
