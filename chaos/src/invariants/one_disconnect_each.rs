//! Each connection that the service was told of ends with exactly one disconnect event, the last of its events; at most
//! one when its node was killed.

use std::collections::BTreeSet;

use super::{events_by_connection, openings};
use crate::history::{EventKind, Op, Record};

/// `killed` are nodes that had no chance to say goodbye.
pub fn check(records: &[Record], killed: &BTreeSet<usize>) -> Vec<String> {
    let on_killed: BTreeSet<&str> = records
        .iter()
        .filter_map(|record| match &record.op {
            Op::Connected { client, node } if killed.contains(node) => Some(client.as_str()),
            _ => None,
        })
        .collect();
    let opened = openings(records);
    let mut breaks = Vec::new();
    for (connection, events) in events_by_connection(records) {
        let Some(client) = events.first().map(|event| event.client.as_str()) else { continue };
        let goodbyes = events.iter().filter(|event| event.kind == EventKind::Disconnect).count();
        // A handshake that the node's death has cut off never became a connection for its client.
        let may_be_missing = on_killed.contains(client) || !killed.is_empty() && !opened.contains_key(client);
        if goodbyes > 1 || goodbyes == 0 && !may_be_missing {
            breaks.push(format!("{connection} ({client}): {goodbyes} disconnect events"));
        }
        let last = events.last().map(|event| event.kind);
        if goodbyes == 1 && last != Some(EventKind::Disconnect) {
            breaks.push(format!("{connection} ({client}): {last:?} after its disconnect event"));
        }
    }
    breaks
}
