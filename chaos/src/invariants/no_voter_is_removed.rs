//! Nodes that are cut off for seconds, or hard to hear, stay members: once there were so many voters, there never are
//! fewer. A node whose disk was lost may be removed, so after that nothing is said.

use std::collections::BTreeMap;

use crate::history::{Op, Record, Sample};

pub fn check(records: &[Record]) -> Vec<String> {
    let mut most: BTreeMap<usize, usize> = BTreeMap::new();
    let mut ever = 0;
    let mut breaks = Vec::new();
    for record in records {
        if matches!(record.op, Op::Fault { fault: "wipe", .. }) {
            break;
        }
        let Op::Sample(Sample { node, voters, .. }) = &record.op else { continue };
        ever = ever.max(*voters);
        // A node that lags behind may not know of all of them yet.
        let known = most.entry(*node).or_insert(ever);
        if voters < known {
            breaks.push(format!("node {node} has {voters} voters at {} ms, there were {known}", record.end / 1000));
        }
        *known = (*known).max(*voters);
    }
    breaks
}
