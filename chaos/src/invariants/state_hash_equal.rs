//! The state hash at a log index is the same wherever and whenever it is seen.

use std::collections::BTreeMap;

use crate::history::{Op, Record, Sample};

pub fn check(records: &[Record]) -> Vec<String> {
    let mut hashes: BTreeMap<(&str, u64), (&str, usize)> = BTreeMap::new();
    let mut breaks = Vec::new();
    for record in records {
        let Op::Sample(Sample { node, cluster_id, index, hash, .. }) = &record.op else { continue };
        let (first, by) = *hashes.entry((cluster_id, *index)).or_insert((hash, *node));
        if first != hash {
            breaks.push(format!("at index {index}, node {by} had {first} and node {node} has {hash}"));
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Outcome;
    use crate::invariants::at;

    #[test]
    fn finds_two_hashes_at_one_index() {
        let sample = |node, index, hash: &str| {
            let sample = Sample { node, cluster_id: "c".into(), index, hash: hash.into(), ..Sample::default() };
            at(1, Outcome::Ok, Op::Sample(sample))
        };
        assert_eq!(check(&[sample(0, 1, "a"), sample(1, 1, "a"), sample(1, 2, "b")]), [""; 0]);
        assert_eq!(check(&[sample(0, 1, "a"), sample(1, 1, "b")]).len(), 1);
    }
}
