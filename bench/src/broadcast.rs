//! One message for everybody: a service publishes to an endpoint whose connections are spread over all nodes, one
//! publish after the other. A publish is done with when the last of the connections has it.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::task::JoinHandle;

use crate::load::{Load, Rig, CPU_PER_EVENTS};
use crate::meter::{Board, Ends, Run};
use crate::push::Caller;
use crate::table::{Server, Table};
use crate::target::{Everyone, Target};

/// As many publishes to `receivers` connections as the load's events are deliveries.
pub async fn round(
    rig: &Rig,
    target: &Target,
    receivers: usize,
    server: Server,
    table: &mut Table,
) -> anyhow::Result<()> {
    let fleet = rig.connect_to_all(target, receivers).await?;
    // Who has been heard of is certainly among those that a publish reaches.
    fleet.introduce(&rig.clients.handle, &rig.board).await?;
    let events = (rig.amounts.events / receivers as u64).max(1);
    let load = Load { slots: 1, window: 1, events, ends: Ends::ReceivedBy(receivers) };
    let start = |run: &Arc<Run>| vec![start_publisher(rig, &target.everyone, run)];
    let flow = rig.flow(&target.everyone.pids, load, start).await?;

    let load = format!("a message to all of {receivers}");
    let outcome = &flow.outcome;
    let deliveries = outcome.completed as f64 * receivers as f64;
    let (each, last) = (outcome.receipts, outcome.latencies);
    table.add(server, &load, "deliveries/s", deliveries / outcome.seconds);
    table.add(server, &load, "server CPU s per 100,000", flow.cpu_seconds / deliveries * CPU_PER_EVENTS);
    table.add(server, &load, "p50 ms to each", each.p50_nanos / 1e6);
    table.add(server, &load, "p99 ms to each", each.p99_nanos / 1e6);
    table.add(server, &load, "p50 ms to the last", last.p50_nanos / 1e6);
    table.add(server, &load, "max ms to the last", last.max_nanos / 1e6);
    if outcome.failed + outcome.missing > 0 {
        table.note(format!(
            "{server:?}: {load}: {} publishes reached all, {} did not",
            outcome.completed,
            outcome.failed + outcome.missing
        ));
    }
    Ok(())
}

fn start_publisher(rig: &Rig, everyone: &Everyone, run: &Arc<Run>) -> JoinHandle<()> {
    let (address, path, bytes) = (everyone.address, everyone.path.clone(), rig.amounts.event_bytes);
    let (run, board) = (run.clone(), rig.board.clone());
    rig.services.handle.spawn(async move {
        let published = match Caller::connect(address).await {
            Ok(caller) => publish(caller, &path, &run, bytes, &board).await,
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            board.complain(format!("publisher: {error:#}"));
            run.stop();
        }
    })
}

async fn publish(mut caller: Caller, path: &str, run: &Run, bytes: usize, board: &Board) -> anyhow::Result<()> {
    let mut message = BytesMut::new();
    while run.claim(0).await.is_some() {
        message.clear();
        run.stamp(0).write(bytes, &mut message);
        let status = caller.post(path, "", &message).await?;
        if !(200..300).contains(&status) {
            // Some may have it. Their receipts would count for the next publish, so there is none.
            board.complain(format!("a publish was answered {status}"));
            run.stop();
        }
    }
    Ok(())
}
