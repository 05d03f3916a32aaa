//! A node that no majority can hear, or that hears none, does not say that a write was done.

use super::cut_off;
use crate::history::{Op, Outcome, Record};

pub fn check(records: &[Record]) -> Vec<String> {
    let spans = cut_off(records);
    let lies = records.iter().filter(|record| record.outcome == Outcome::Ok).filter_map(|record| {
        // A repeat may be answered from an attempt before the cut.
        let Op::Write { marker, node, attempt: 0, status, .. } = &record.op else { return None };
        let while_cut_off = spans.iter().any(|span| span.node == *node && span.contains(record));
        let (from, until) = (record.start / 1000, record.end / 1000);
        while_cut_off
            .then(|| format!("{marker} was answered {status} by node {node}, asked at {from} ms, at {until} ms"))
    });
    lies.collect()
}
