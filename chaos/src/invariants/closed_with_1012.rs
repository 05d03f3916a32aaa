//! A node that leaves in order closes each of its connections with 1012; none ends without a close frame.

use crate::history::{Op, Record};

const RESTARTING: u16 = 1012;

pub fn check(records: &[Record]) -> Vec<String> {
    let wrong = records.iter().filter_map(|record| match &record.op {
        Op::Ended { client, node, code, by_client: false } if *code != RESTARTING => {
            Some(format!("{client} on node {node} ended with {code} at {} ms", record.end / 1000))
        }
        _ => None,
    });
    wrong.collect()
}
