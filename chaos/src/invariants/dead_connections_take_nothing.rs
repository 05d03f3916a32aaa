//! A push to a connection whose node is dead is never said to be accepted.

use crate::history::{Op, Outcome, Record};

pub fn check(records: &[Record]) -> Vec<String> {
    let lies = records.iter().filter(|record| record.outcome == Outcome::Ok).filter_map(|record| match &record.op {
        Op::DeadPush { connection, node, status } => {
            Some(format!("node {node} answered {status} for {connection} at {} ms", record.end / 1000))
        }
        _ => None,
    });
    lies.collect()
}
