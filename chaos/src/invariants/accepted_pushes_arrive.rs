//! A push that was accepted arrives, unless the connection's node was killed: on a connection that lives, and on one
//! that was closed in order (what is queued goes out before the close frame).

use std::collections::BTreeSet;

use super::{ends, openings};
use crate::clients::NO_CLOSE_FRAME;
use crate::history::{Op, Outcome, Record};

pub fn check(records: &[Record]) -> Vec<String> {
    let arrived: BTreeSet<u64> = records
        .iter()
        .filter_map(|record| match &record.op {
            Op::Got { push, .. } => Some(*push),
            _ => None,
        })
        .collect();
    let (opened, ended) = (openings(records), ends(records));
    let lost = records.iter().filter(|record| record.outcome == Outcome::Ok).filter_map(|record| {
        let Op::Push { push, client, owner, node, .. } = &record.op else { return None };
        let cut_off = ended.get(client.as_str()).is_some_and(|(_, code, _)| *code == NO_CLOSE_FRAME);
        let there = opened.contains_key(client.as_str());
        (there && !cut_off && !arrived.contains(push)).then(|| {
            format!(
                "push {push} to {client} on node {owner} was accepted by node {node} at {} ms and never arrived",
                record.end / 1000
            )
        })
    });
    lost.collect()
}
