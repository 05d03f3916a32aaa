//! Which learners become voters. Pure.

use std::collections::BTreeSet;

use wsgateway_cluster::NodeId;

/// Which learners become voters: as many as lead to the greatest odd number of voters that is reachable now, five at
/// most, three below five nodes. An even number would need one answer more and survive not one failure more.
pub fn to_promote(nodes: usize, voters: usize, healthy: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let most = match nodes {
        5.. => 5,
        3.. => 3,
        _ => 1,
    };
    for wanted in [5_usize, 3].into_iter().filter(|wanted| *wanted <= most && *wanted > voters) {
        if voters + healthy.len() >= wanted {
            return healthy.iter().copied().take(wanted - voters).collect();
        }
    }
    BTreeSet::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [NodeId; 0] = [];

    fn promoted(nodes: usize, voters: usize, healthy: &[NodeId]) -> Vec<NodeId> {
        to_promote(nodes, voters, &healthy.iter().copied().collect()).into_iter().collect()
    }

    #[test]
    fn voters_stay_odd() {
        assert_eq!(promoted(1, 1, &[]), NONE);
        assert_eq!(promoted(2, 1, &[2]), NONE, "two voters survive no more than one");
        assert_eq!(promoted(3, 1, &[2]), NONE, "the third is not healthy yet");
        assert_eq!(promoted(3, 1, &[2, 3]), [2, 3]);
        assert_eq!(promoted(3, 2, &[3]), [3]);
        assert_eq!(promoted(4, 3, &[4]), NONE);
        assert_eq!(promoted(5, 3, &[4]), NONE);
        assert_eq!(promoted(5, 3, &[4, 5]), [4, 5]);
        assert_eq!(promoted(5, 1, &[2, 3, 4]), [2, 3], "three now, five when all are healthy");
        assert_eq!(promoted(5, 1, &[2, 3, 4, 5]), [2, 3, 4, 5]);
        assert_eq!(promoted(9, 5, &[6, 7, 8, 9]), NONE);
    }
}
