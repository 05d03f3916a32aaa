//! What is done to one node costs no client of another node its connection.

use std::collections::BTreeSet;

use crate::history::{Op, Record};

/// `victims` are the nodes that something was done to.
pub fn check(records: &[Record], victims: &BTreeSet<usize>) -> Vec<String> {
    let dropped = records.iter().filter_map(|record| match &record.op {
        Op::Ended { client, node, code, by_client: false } if !victims.contains(node) => Some(format!(
            "{client} was dropped by node {node} with {code} after {} ms",
            (record.end - record.start) / 1000
        )),
        _ => None,
    });
    dropped.collect()
}
