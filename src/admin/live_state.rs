//! What a live stream remembers: who is not heard, how much was told, what the cluster looked like. Of live_api.

use std::collections::BTreeMap;

use wsgateway_cluster::NodeId;

use super::live_api::chunk;
use super::traffic_api::UnheardBody;
use crate::observe::Heard;

/// What a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    Figures,
    Tail,
}

/// Nodes that cannot be heard, and why.
#[derive(Default)]
pub(super) struct Unheard(BTreeMap<(NodeId, Asked), UnheardBody>);

impl Unheard {
    /// A node was heard, or why not. True: other nodes than before are not heard.
    pub fn note<T>(&mut self, asked: Asked, heard: &Heard<T>) -> bool {
        let before = self.ids();
        match &heard.said {
            Ok(_) => drop(self.0.remove(&(heard.node_id, asked))),
            Err(reason) => {
                let body = UnheardBody { node: heard.name.clone(), reason: reason.clone() };
                self.0.insert((heard.node_id, asked), body);
            }
        }
        before != self.ids()
    }

    /// Forgets nodes that nobody asks any more.
    pub fn retain(&mut self, asked: &[NodeId]) -> bool {
        let before = self.0.len();
        self.0.retain(|(node, _), _| asked.contains(node));
        before != self.0.len()
    }

    fn ids(&self) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = self.0.keys().map(|(node, _)| *node).collect();
        ids.dedup();
        ids
    }

    pub fn tell(&self, text: &mut String) {
        let mut nodes: Vec<&UnheardBody> = self.0.values().collect();
        nodes.dedup_by(|a, b| a.node == b.node);
        chunk(text, "unreachable", &serde_json::json!({"nodes": nodes}));
    }
}

/// Indexes and counts go up all the time: those alone are told every few seconds only, by whoever asks for them.
pub(super) fn changed(now: &str, before: &str) -> bool {
    if before.is_empty() {
        return true;
    }
    let without_counts = |text: &str| {
        let mut tree: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        for name in ["stateHash", "stateIndex", "raft"] {
            tree.as_object_mut().and_then(|members| members.remove(name));
        }
        for node in tree["nodes"].as_array_mut().into_iter().flatten() {
            for name in ["appliedIndex", "activeConnections"] {
                node.as_object_mut().and_then(|members| members.remove(name));
            }
        }
        tree
    };
    without_counts(now) != without_counts(before)
}

/// Of all nodes together no more than was wanted of each.
pub(super) struct Limit {
    per_second: u32,
    left: u32,
    pub skipped: u64,
}

impl Limit {
    pub fn new(per_second: u32) -> Limit {
        Limit { per_second, left: per_second, skipped: 0 }
    }

    pub fn second(&mut self) {
        self.left = self.per_second;
    }

    pub fn take(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => {
                self.skipped += 1;
                return false;
            }
        }
        true
    }

    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_heard_is_told_when_that_changes() {
        let said = |node_id: NodeId, ok: bool| Heard {
            node_id,
            name: format!("n{node_id}"),
            said: if ok { Ok(()) } else { Err("no".to_owned()) },
        };
        let mut unheard = Unheard::default();
        assert!(!unheard.note(Asked::Tail, &said(1, true)));
        assert!(unheard.note(Asked::Tail, &said(1, false)) && !unheard.note(Asked::Tail, &said(1, false)));
        // Its figures come, its tail does not: that is no news each second.
        assert!(!unheard.note(Asked::Figures, &said(1, true)) && !unheard.note(Asked::Tail, &said(1, false)));
        assert!(unheard.note(Asked::Figures, &said(2, false)));
        let mut text = String::new();
        unheard.tell(&mut text);
        assert!(text.contains("n1") && text.contains("n2"), "{text}");
        // One that was removed is not missed.
        assert!(unheard.retain(&[1]) && !unheard.retain(&[1]));
        assert!(unheard.note(Asked::Tail, &said(1, true)) && unheard.ids().is_empty());
    }

    #[test]
    fn all_nodes_together_have_one_limit() {
        let mut limit = Limit::new(2);
        assert_eq!([limit.take(), limit.take(), limit.take()], [true, true, false]);
        limit.second();
        assert!(limit.take());
        assert_eq!((limit.take_skipped(), limit.take_skipped()), (1, 0));
    }

    #[test]
    fn what_only_counts_is_no_change_of_the_cluster() {
        let cluster = |live: bool, index: u64| {
            serde_json::json!({"raft": {"a": index}, "nodes": [{"live": live, "appliedIndex": index}]}).to_string()
        };
        assert!(changed(&cluster(true, 1), "") && changed(&cluster(false, 1), &cluster(true, 1)));
        assert!(!changed(&cluster(true, 1), &cluster(true, 2)));
    }
}
