//! What the scenarios have in common: clients, pushers and writers at once, waiting for what they do, and the checks of
//! what they saw.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::history::{Op, Outcome, Record};
use crate::invariants::{
    accepted_events_delivered, accepted_pushes_arrive, dead_connections_take_nothing, events_in_order_and_once,
    no_410_for_a_live_connection, no_push_to_a_wrong_connection, one_disconnect_each, other_nodes_clients_stay,
    pushes_in_order_and_once, refused_pushes_do_not_arrive,
};
use crate::run::{Run, HEALED_WITHIN};
use crate::workload::{config_writer, pushers, registers, sampler, talkers, Workload};

pub const CLIENTS: usize = 60;
/// Enough that some go on while others wait for a node that stands still.
const PUSHERS: u32 = 8;
/// Several: one whose request lies with a node that stands still says nothing about the others.
const WRITERS: u32 = 4;
const BETWEEN_WRITES: Duration = Duration::from_millis(150);
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);
/// What was accepted is delivered by then; the gateway's own limits are shorter.
const SETTLED_WITHIN: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(100);
/// Markers of the writers begin with this.
const LABEL: &str = "beside-";

/// Everybody at once.
pub struct Traffic {
    talkers: Workload,
    pushers: Workload,
    writers: Workload,
    registers: Workload,
    sampler: Workload,
}

impl Traffic {
    /// Starts it and waits until every client talks.
    pub async fn start(run: &Run) -> anyhow::Result<Traffic> {
        run.serve_talkers().await?;
        let (seed, entrances, history) = (run.options.seed, &run.entrances, &run.history);
        let traffic = Traffic {
            sampler: sampler::start(entrances, history),
            registers: registers::start(seed, entrances, history).await?,
            writers: config_writer::start(WRITERS, BETWEEN_WRITES, LABEL, seed, entrances, history),
            talkers: talkers::start(CLIENTS, seed, entrances, history),
            pushers: pushers::start(PUSHERS, seed, entrances, &run.service.directory, history),
        };
        until(CONNECTED_WITHIN, "all clients connected", || all_connected(run)).await?;
        Ok(traffic)
    }

    /// Ends it in order: first nobody starts anything new, then what is under way arrives, then clients say goodbye.
    /// What has not arrived in time is found by the checks. `killed` are nodes that had no chance to say goodbye.
    pub async fn settle(self, run: &Run, killed: &BTreeSet<usize>) -> anyhow::Result<()> {
        self.writers.end().await?;
        self.registers.end().await?;
        self.pushers.end().await?;
        self.talkers.quieten();
        until(CONNECTED_WITHIN, "all clients connected again", || all_connected(run)).await?;
        let history = &run.history;
        let arrived = |records: &[Record]| {
            accepted_events_delivered::check(records).is_empty() && accepted_pushes_arrive::check(records).is_empty()
        };
        let _checked_later = until(SETTLED_WITHIN, "arrival", || arrived(&history.records())).await;
        self.talkers.end().await?;
        let said = |records: &[Record]| one_disconnect_each::check(records, killed).is_empty();
        let _checked_later = until(SETTLED_WITHIN, "goodbyes", || said(&history.records())).await;
        run.healed(&run.all_nodes()).await?;
        self.sampler.end().await
    }
}

/// Checks what the traffic has seen. `victims` are the nodes whose clients may have lost their connection.
pub async fn check(run: &mut Run, victims: &BTreeSet<usize>, killed: &BTreeSet<usize>) -> anyhow::Result<()> {
    let records = run.history.records();
    run.hold("other_nodes_clients_stay", other_nodes_clients_stay::check(&records, victims));
    run.hold("events_in_order_and_once", events_in_order_and_once::check(&records));
    run.hold("accepted_events_delivered", accepted_events_delivered::check(&records));
    run.hold("one_disconnect_each", one_disconnect_each::check(&records, killed));
    run.hold("no_push_to_a_wrong_connection", no_push_to_a_wrong_connection::check(&records));
    run.hold("no_410_for_a_live_connection", no_410_for_a_live_connection::check(&records));
    run.hold("accepted_pushes_arrive", accepted_pushes_arrive::check(&records));
    run.hold("refused_pushes_do_not_arrive", refused_pushes_do_not_arrive::check(&records));
    run.hold("pushes_in_order_and_once", pushes_in_order_and_once::check(&records));
    run.hold("dead_connections_take_nothing", dead_connections_take_nothing::check(&records));
    run.check_configuration(&run.all_nodes(), LABEL).await?;
    run.check_configuration(&run.all_nodes(), registers::LABEL).await?;
    let events = run.history.count(|record| matches!(record.op, Op::Event(_)));
    let accepted = |record: &Record| matches!(record.op, Op::Push { .. }) && record.outcome == Outcome::Ok;
    let pushes = run.history.count(|record| matches!(record.op, Op::Push { .. }));
    let accepted = run.history.count(accepted);
    run.figure("events received; pushes accepted of asked", format!("{events}; {accepted} of {pushes}"), None);
    Ok(())
}

/// The figure of acknowledged writes that were not found afterwards.
pub fn lost_writes(run: &mut Run) {
    let written = run.history.count(|record| matches!(record.op, Op::Write { .. }) && record.outcome == Outcome::Ok);
    let lost = run.breaks.iter().filter(|text| text.starts_with("no_acknowledged_write_lost")).count();
    run.figure("acknowledged writes lost", format!("{lost} of {written}"), Some(("0", lost == 0)));
}

/// Every client slot has an open connection.
fn all_connected(run: &Run) -> bool {
    let mut open = BTreeSet::new();
    for record in run.history.records() {
        match record.op {
            Op::Connected { client, .. } => drop(open.insert(slot(&client))),
            Op::Ended { client, .. } => drop(open.remove(&slot(&client))),
            _ => {}
        }
    }
    open.len() == CLIENTS
}

/// The slot of a client, which stays when it connects again.
pub fn slot(client: &str) -> String {
    client.split('.').next().unwrap_or_default().to_owned()
}

/// Waits until so many more writes are acknowledged.
pub async fn wait_for_writes(run: &Run, count: usize) -> anyhow::Result<()> {
    let acknowledged = |record: &Record| matches!(record.op, Op::Write { .. }) && record.outcome == Outcome::Ok;
    let before = run.history.count(acknowledged);
    until(HEALED_WITHIN, "writes are acknowledged", || run.history.count(acknowledged) >= before + count).await
}

pub async fn until(within: Duration, what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while !done() {
        if Instant::now() > deadline {
            bail!("not within {within:?}: {what}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
