//! A read marked linearizable sees every write that was acknowledged before it began, and whatever an earlier such read
//! has seen.

use crate::history::{Op, Outcome, Record};

pub fn check(records: &[Record]) -> Vec<String> {
    let mut breaks = Vec::new();
    for (at, record) in records.iter().enumerate() {
        let Op::Read { endpoint, node, version, .. } = &record.op else { continue };
        if record.outcome != Outcome::Ok {
            continue;
        }
        // The history is in the order of ends: what ended before this began is before it.
        let known = records[..at].iter().filter(|earlier| earlier.outcome == Outcome::Ok && earlier.end < record.start);
        let newest = known.filter_map(|earlier| match &earlier.op {
            Op::Write { endpoint: Some(of), version, .. } if of == endpoint => *version,
            Op::Read { endpoint: of, version, .. } if of == endpoint => Some(*version),
            _ => None,
        });
        if let Some(newest) = newest.max().filter(|newest| newest > version) {
            breaks.push(format!("node {node} read version {version} of {endpoint}, {newest} was acknowledged before"));
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::at;

    #[test]
    fn finds_a_stale_read() {
        let read = |time, version| {
            at(time, Outcome::Ok, Op::Read { endpoint: "e".into(), node: 1, version, marker: String::new() })
        };
        assert_eq!(check(&[read(1, 3), read(2, 3), read(3, 4)]), [""; 0]);
        assert_eq!(check(&[read(1, 3), read(2, 2)]).len(), 1);
        assert_eq!(check(&[read(2, 3), read(2, 2)]), [""; 0], "at the same time");
    }
}
