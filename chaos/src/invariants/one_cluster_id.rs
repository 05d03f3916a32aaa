//! There is at most one cluster id; a node without one has not joined yet.

use std::collections::BTreeSet;

use crate::history::{Op, Record, Sample};

pub fn check(records: &[Record]) -> Vec<String> {
    let ids: BTreeSet<&str> = records
        .iter()
        .filter_map(|record| match &record.op {
            Op::Sample(Sample { cluster_id, .. }) if !cluster_id.is_empty() => Some(cluster_id.as_str()),
            _ => None,
        })
        .collect();
    if ids.len() > 1 {
        return vec![format!("{} cluster ids: {ids:?}", ids.len())];
    }
    Vec::new()
}
