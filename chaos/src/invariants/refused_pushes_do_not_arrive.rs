//! A push that was refused, for whatever reason, does not arrive after all.

use std::collections::BTreeSet;

use crate::history::{Op, Outcome, Record};

pub fn check(records: &[Record]) -> Vec<String> {
    let refused: BTreeSet<u64> = records
        .iter()
        .filter(|record| record.outcome == Outcome::Failed)
        .filter_map(|record| match &record.op {
            Op::Push { push, .. } => Some(*push),
            _ => None,
        })
        .collect();
    let lies = records.iter().filter_map(|record| match &record.op {
        Op::Got { client, push, .. } if refused.contains(push) => {
            Some(format!("{client} got push {push}, which was refused"))
        }
        _ => None,
    });
    lies.collect()
}
