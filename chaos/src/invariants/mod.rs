//! What must hold whatever happens. Each is a pure function of the history (some also of what was read back, or of the
//! logs) that returns the breaks it finds, in words. Imports history and readback.

pub mod accepted_events_delivered;
pub mod accepted_pushes_arrive;
pub mod closed_with_1012;
pub mod cut_off_nodes_acknowledge_nothing;
pub mod dead_connections_take_nothing;
pub mod events_in_order_and_once;
pub mod linearizable_reads_are_fresh;
pub mod no_410_for_a_live_connection;
pub mod no_acknowledged_write_lost;
pub mod no_node_fails_by_itself;
pub mod no_push_to_a_wrong_connection;
pub mod no_voter_is_removed;
pub mod one_cluster_id;
pub mod one_disconnect_each;
pub mod other_nodes_clients_stay;
pub mod pushes_in_order_and_once;
pub mod refused_pushes_do_not_arrive;
pub mod register_is_linearizable;
pub mod served_documents_were_written;
pub mod state_hash_equal;
pub mod terms_never_go_back;
pub mod writes_apply_once;

use std::collections::BTreeMap;

use crate::history::{Event, EventKind, Micros, Op, Record};

/// A connection's events as the service received them, repeats (same event id) left out; in order of arrival.
fn events_by_connection(records: &[Record]) -> BTreeMap<&str, Vec<&Event>> {
    let mut known = std::collections::BTreeSet::new();
    let mut by_connection: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for record in records {
        if let Op::Event(event) = &record.op {
            if known.insert(&event.event_id) {
                by_connection.entry(&event.connection).or_default().push(event);
            }
        }
    }
    by_connection
}

/// Client → its connection, from connect events.
fn connections(records: &[Record]) -> BTreeMap<&str, &str> {
    let connects = records.iter().filter_map(|record| match &record.op {
        Op::Event(event) if event.kind == EventKind::Connect => {
            Some((event.client.as_str(), event.connection.as_str()))
        }
        _ => None,
    });
    connects.collect()
}

/// How a client's connection ended, if it did: when, code, by the client itself?
fn ends(records: &[Record]) -> BTreeMap<&str, (u64, u16, bool)> {
    let ended = records.iter().filter_map(|record| match &record.op {
        Op::Ended { client, code, by_client, .. } => Some((client.as_str(), (record.end, *code, *by_client))),
        _ => None,
    });
    ended.collect()
}

/// Times in which nodes were cut off from the others: in both directions, or in one.
pub fn cut_off(records: &[Record]) -> Vec<CutOff> {
    let mut spans: Vec<CutOff> = Vec::new();
    for record in records {
        let Op::Fault { fault, node } = record.op else { continue };
        match fault {
            "partition" | "mute" | "deaf" => spans.push(CutOff { node, from: record.end, until: Micros::MAX }),
            "partition_healed" | "mute_healed" | "deaf_healed" => {
                let open = spans.iter_mut().rev().find(|span| span.node == node && span.until == Micros::MAX);
                if let Some(span) = open {
                    span.until = record.start;
                }
            }
            _ => {}
        }
    }
    spans
}

/// From when the cut was in force until it began to be healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff {
    pub node: usize,
    pub from: Micros,
    pub until: Micros,
}

impl CutOff {
    /// Begun and ended in this time.
    pub fn contains(&self, record: &Record) -> bool {
        record.start >= self.from && record.end <= self.until
    }
}

/// When a client saw its connection open; a handshake that came to nothing is not among them.
fn openings(records: &[Record]) -> BTreeMap<&str, u64> {
    let opened = records.iter().filter_map(|record| match &record.op {
        Op::Connected { client, .. } => Some((client.as_str(), record.end)),
        _ => None,
    });
    opened.collect()
}

#[cfg(test)]
fn at(time: u64, outcome: crate::history::Outcome, op: Op) -> Record {
    Record { start: time, end: time, outcome, op }
}

#[cfg(test)]
mod tests;
