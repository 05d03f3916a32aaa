//! A node whose disk was damaged serves, at any time, only documents that were written, under the number that they were
//! written with. A number that no other node has is no version that was ever committed.

use std::collections::BTreeMap;

use crate::readback::Stored;

/// `written`: what nodes with whole disks have, by endpoint and version.
pub fn check(served: &[Stored], written: &BTreeMap<(String, u64), String>) -> Vec<String> {
    let mut breaks = Vec::new();
    for Stored { node, endpoint, version, document, .. } in served {
        match written.get(&(endpoint.clone(), *version)) {
            Some(there) if there == document => {}
            there => {
                let there = there.map_or("nothing", String::as_str);
                breaks.push(format!(
                    "node {node} served {document} as version {version} of {endpoint}; written: {there}"
                ));
            }
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_never_written() {
        let written = BTreeMap::from([(("e".to_owned(), 1), "a".to_owned())]);
        let served = |version, document: &str| Stored {
            node: 2,
            endpoint: "e".into(),
            version,
            marker: String::new(),
            document: document.into(),
        };
        assert_eq!(check(&[served(1, "a")], &written), [""; 0]);
        assert_eq!(check(&[served(1, "b"), served(2, "a")], &written).len(), 2);
    }
}
