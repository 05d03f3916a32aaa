//! Pushes of one service through one node to one connection arrive in the order in which they were accepted, none twice.

use std::collections::BTreeMap;

use crate::history::{Op, Outcome, Record};

pub fn check(records: &[Record]) -> Vec<String> {
    let mut breaks = Vec::new();
    let mut arrivals: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        if let Op::Got { client, push, .. } = &record.op {
            if arrivals.insert(*push, at).is_some() {
                breaks.push(format!("{client} got push {push} twice"));
            }
        }
    }
    // A pusher waits for each answer, so its pushes follow each other.
    let mut last: BTreeMap<(u32, usize, &str), (u64, usize)> = BTreeMap::new();
    for record in records.iter().filter(|record| record.outcome == Outcome::Ok) {
        let Op::Push { push, pusher, client, node, .. } = &record.op else { continue };
        let Some(arrival) = arrivals.get(push) else { continue };
        if let Some((before, earlier)) = last.insert((*pusher, *node, client), (*push, *arrival)) {
            if earlier > *arrival {
                breaks.push(format!("{client} got push {push} before {before}, both through node {node}"));
            }
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::at;

    #[test]
    fn finds_swaps_and_second_copies() {
        let push = |push| {
            let (client, connection) = ("c".to_owned(), "x".to_owned());
            at(1, Outcome::Ok, Op::Push { push, pusher: 0, client, connection, owner: 0, node: 1, status: 202 })
        };
        let got = |push| {
            let (client, to, connection) = ("c".to_owned(), "c".to_owned(), "x".to_owned());
            at(2, Outcome::Ok, Op::Got { client, to, connection, push })
        };
        assert_eq!(check(&[push(1), got(1), got(2), push(2)]), [""; 0]);
        assert_eq!(check(&[push(1), push(2), got(2), got(1)]).len(), 1);
        assert_eq!(check(&[push(1), got(1), got(1)]).len(), 1);
    }
}
