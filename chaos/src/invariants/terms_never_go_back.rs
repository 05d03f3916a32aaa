//! A node never says that it is in an earlier term than it has said before: what it has promised to a candidate it remembers,
//! whatever becomes of it. Not so when its disk was lost: then it is another node.

use std::collections::BTreeMap;

use crate::history::{Op, Record, Sample};

pub fn check(records: &[Record]) -> Vec<String> {
    // Looks overlap: what a look that began later has seen counts.
    let mut looks: Vec<&Record> = records.iter().collect();
    looks.sort_by_key(|record| record.start);
    let mut latest: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    let mut breaks = Vec::new();
    for record in looks {
        match &record.op {
            Op::Fault { fault: "wipe", node } => {
                latest.remove(node);
            }
            Op::Sample(Sample { node, term, .. }) => {
                let (seen, at) = latest.entry(*node).or_insert((*term, record.end));
                if *term < *seen && record.start > *at {
                    breaks.push(format!("node {node}: term {term} after term {seen}"));
                }
                if *term >= *seen {
                    (*seen, *at) = (*term, record.end);
                }
            }
            _ => {}
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Outcome;
    use crate::invariants::at;

    fn look(time: u64, node: usize, term: u64) -> Record {
        at(time, Outcome::Ok, Op::Sample(Sample { node, term, ..Sample::default() }))
    }

    #[test]
    fn finds_a_node_that_has_forgotten_and_no_other() {
        assert_eq!(check(&[look(1, 0, 3), look(2, 1, 2), look(3, 0, 3), look(4, 0, 5)]), [""; 0]);
        assert_eq!(check(&[look(1, 0, 3), look(2, 0, 2)]).len(), 1);
        let wiped = at(2, Outcome::Ok, Op::Fault { fault: "wipe", node: 0 });
        assert_eq!(check(&[look(1, 0, 3), wiped, look(3, 0, 0)]), [""; 0]);
    }
}
