//! Kafka to clients: an endpoint with a source whose records go to all of many connections, and one whose records go to
//! the connection that their key names. A record is done with when the last of its receivers has it.

use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use serde_json::{json, Value};
use tokio::task::JoinHandle;

use crate::gateway::{self, endpoint, http_backend};
use crate::kafka::{create_topic, Producer};
use crate::load::{Flow, Load, Rig, CPU_PER_EVENTS};
use crate::meter::{now_nanos, Board, Ends, Run};
use crate::table::{Server, Table};
use crate::target::{KafkaTopic, Target};

/// One round: both targets with each window, on one node. Topics are new each time, so that all of their records count.
pub async fn round(
    rig: &Rig,
    binary: &Path,
    kafka: &KafkaTopic,
    windows: &[usize],
    table: &mut Table,
) -> anyhow::Result<()> {
    let unique = format!("{}-{}-{}", kafka.topic, std::process::id(), now_nanos());
    let (to_all, to_one) = (format!("{unique}-all"), format!("{unique}-one"));
    let mut document = endpoint(http_backend(rig.backend), http_backend(rig.backend));
    document["sources"] = json!([
        source(&kafka.brokers, &to_all, &json!({"all": true})),
        source(&kafka.brokers, &to_one, &json!({"connection": "$.key"})),
    ]);
    create_topic(&kafka.brokers, &to_all)?;
    create_topic(&kafka.brokers, &to_one)?;
    let target = gateway::start(binary, 1, &document).await?;
    let connections = rig.amounts.idle_connections;
    let fleet = rig.connect(&target, connections).await?;
    let ids = Arc::new(fleet.introduce(&rig.clients.handle, &rig.board).await?);
    let (all, one) =
        (Arc::new(Producer::start(&kafka.brokers, &to_all)?), Arc::new(Producer::start(&kafka.brokers, &to_one)?));
    for window in windows {
        let records = (rig.amounts.events / connections as u64).max(1);
        let load = Load { slots: *window, window: 1, events: records, ends: Ends::ReceivedBy(connections) };
        let flow = run(rig, &target, load, &all, &Arc::default()).await?;
        add(table, &format!("to all of {connections}, {window} outstanding"), connections, &flow);
    }
    for window in windows {
        let slots = window * rig.amounts.connections;
        let load = Load { slots, window: 1, events: rig.amounts.events, ends: Ends::Received };
        let flow = run(rig, &target, load, &one, &ids).await?;
        add(table, &format!("to one of {connections}, {slots} outstanding"), 1, &flow);
    }
    rig.board.take_complaints().into_iter().for_each(|complaint| table.note(complaint));
    Ok(())
}

/// It begins with what is there: records may be written before the node has joined the group.
fn source(brokers: &str, topic: &str, target: &Value) -> Value {
    json!({"type": "kafka", "topic": topic, "group": format!("{topic}-group"), "bootstrapServers": brokers,
        "autoOffsetReset": "earliest", "target": target})
}

async fn run(
    rig: &Rig,
    target: &Target,
    load: Load,
    producer: &Arc<Producer>,
    keys: &Arc<Vec<String>>,
) -> anyhow::Result<Flow> {
    let (slots, bytes) = (load.slots, rig.amounts.event_bytes);
    let start = |run: &Arc<Run>| -> Vec<JoinHandle<()>> {
        let sender = |slot| {
            let (run, producer, keys, board) = (run.clone(), producer.clone(), keys.clone(), rig.board.clone());
            rig.services.handle.spawn(async move { send(&run, &producer, &keys, (slot, slots), bytes, &board).await })
        };
        (0..slots).map(sender).collect()
    };
    rig.flow(&[target.owner_pid], load, start).await
}

/// The records of one slot, one after the other; the keys in turn, or the slot where there are none.
async fn send(
    run: &Run,
    producer: &Producer,
    keys: &[String],
    (slot, slots): (usize, usize),
    bytes: usize,
    board: &Board,
) {
    let mut body = BytesMut::new();
    let mut turn = slot;
    while run.claim(slot).await.is_some() {
        body.clear();
        run.stamp(slot).write(bytes, &mut body);
        let sent = match keys.get(turn % keys.len().max(1)) {
            Some(key) => producer.send_as(key, &body).await,
            None => producer.send(slot, &body).await,
        };
        turn += slots;
        if let Err(error) = sent {
            board.complain(format!("producer: {error:#}"));
            run.fail(slot);
        }
    }
}

fn add(table: &mut Table, load: &str, receivers: usize, flow: &Flow) {
    let outcome = &flow.outcome;
    let deliveries = outcome.completed as f64 * receivers as f64;
    table.add(Server::Gateway, load, "deliveries/s", deliveries / outcome.seconds);
    table.add(Server::Gateway, load, "server CPU s per 100,000", flow.cpu_seconds / deliveries * CPU_PER_EVENTS);
    table.add(Server::Gateway, load, "p50 ms to the last", outcome.latencies.p50_nanos / 1e6);
    table.add(Server::Gateway, load, "p99 ms to the last", outcome.latencies.p99_nanos / 1e6);
    if outcome.failed + outcome.missing > 0 {
        table.note(format!("{load}: {} records completed, {} missing", outcome.completed, outcome.missing));
    }
}
