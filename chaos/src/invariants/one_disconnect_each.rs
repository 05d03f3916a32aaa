//! Each connection that the service was told of ends with exactly one disconnect event, the last of its events; at most
//! one when its node was killed. A second one that another node sends in the place of a node that has ended is a break as
//! well, unless nodes could not hear each other: whoever speaks for it cannot know then that it had spoken itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{events_by_connection, openings};
use crate::history::{Event, EventKind, Op, Record};

/// The sequence of an event that another node sends: how many there were is lost.
const SENT_BY_ANOTHER: u64 = (1 << 53) - 1;

/// `killed` are nodes that had no chance to say goodbye.
pub fn check(records: &[Record], killed: &BTreeSet<usize>) -> Vec<String> {
    let nodes = nodes(records);
    let opened = openings(records);
    let mut breaks = Vec::new();
    for (connection, events) in events_by_connection(records) {
        let Some(client) = events.first().map(|event| event.client.as_str()) else { continue };
        let goodbyes = events.iter().filter(|event| event.kind == EventKind::Disconnect).count();
        let on_killed = nodes.get(client).is_some_and(|node| killed.contains(node));
        // A handshake that the node's death has cut off never became a connection for its client.
        let may_be_missing = on_killed || !killed.is_empty() && !opened.contains_key(client);
        let excused = usize::from(goodbyes == 2 && told_twice(records, &events, nodes.get(client)));
        if goodbyes - excused > 1 || goodbyes == 0 && !may_be_missing {
            breaks.push(format!("{connection} ({client}): {goodbyes} disconnect events"));
        }
        let last = events.last().map(|event| event.kind);
        if goodbyes == 1 && last != Some(EventKind::Disconnect) {
            breaks.push(format!("{connection} ({client}): {last:?} after its disconnect event"));
        }
    }
    breaks
}

/// Connections whose end was told of by their node and by another one, where that is excused.
pub fn excused(records: &[Record]) -> usize {
    let nodes = nodes(records);
    let told = |events: &Vec<&Event>| {
        let node = events.first().and_then(|event| nodes.get(event.client.as_str()));
        told_twice(records, events, node)
    };
    events_by_connection(records).values().filter(|events| told(events)).count()
}

/// Once by the node itself, which has ended later or was made to, and once by another node, in bad times.
fn told_twice(records: &[Record], events: &[&Event], node: Option<&usize>) -> bool {
    let goodbyes = || events.iter().filter(|event| event.kind == EventKind::Disconnect);
    let by_another = goodbyes().filter(|event| event.sequence == SENT_BY_ANOTHER).count();
    if by_another != 1 || goodbyes().count() != 2 {
        return false;
    }
    let faults = || {
        records.iter().filter_map(|record| match record.op {
            Op::Fault { fault, node } => Some((fault, node)),
            _ => None,
        })
    };
    let has_ended = faults().any(|(fault, of)| matches!(fault, "kill" | "terminate") && Some(&of) == node);
    let hard_to_hear = ["partition", "mute", "deaf", "packet_loss", "pause", "reset"];
    has_ended && faults().any(|(fault, _)| hard_to_hear.contains(&fault))
}

/// Client → the node of its connection.
fn nodes(records: &[Record]) -> BTreeMap<&str, usize> {
    let connected = records.iter().filter_map(|record| match &record.op {
        Op::Connected { client, node } => Some((client.as_str(), *node)),
        _ => None,
    });
    connected.collect()
}
