//! What the gateway has accepted is delivered or declared failed. Accepted is: everything sent on a connection that stays
//! open until all is quiet, and as many as the disconnect event says on one that has ended.

use std::collections::BTreeMap;

use super::{connections, ends, events_by_connection};
use crate::history::{EventKind, Op, Record};

pub fn check(records: &[Record]) -> Vec<String> {
    let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
    let mut declared: BTreeMap<&str, u64> = BTreeMap::new();
    for record in records {
        match &record.op {
            Op::Sent { client, n } => drop(sent.insert(client, *n)),
            Op::Declared { client, .. } => *declared.entry(client).or_default() += 1,
            _ => {}
        }
    }
    let events = events_by_connection(records);
    let mut breaks = Vec::new();
    for (connection, events) in &events {
        let delivered = events.iter().filter(|event| event.kind == EventKind::Message).count() as u64;
        for event in events {
            let failed = declared.get(event.client.as_str()).copied().unwrap_or(0);
            if let Some(accepted) = event.events_in.filter(|accepted| *accepted > delivered + failed) {
                let client = &event.client;
                breaks.push(format!(
                    "{connection} ({client}): {accepted} accepted, {delivered} delivered, {failed} failed"
                ));
            }
        }
    }
    let ended = ends(records);
    for (client, connection) in connections(records) {
        // Ended by the client itself: after all was quiet.
        if ended.get(client).is_some_and(|(_, _, by_client)| !by_client) {
            continue;
        }
        let sent = sent.get(client).copied().unwrap_or(0);
        let failed = declared.get(client).copied().unwrap_or(0);
        let messages = |event: &&&crate::history::Event| event.kind == EventKind::Message;
        let delivered = events.get(connection).map_or(0, |events| events.iter().filter(messages).count() as u64);
        if sent != delivered + failed {
            breaks.push(format!("{client} ({connection}): {sent} sent, {delivered} delivered, {failed} failed"));
        }
    }
    breaks
}
