//! Clients talk and are pushed to on all nodes; one node is cut off from its clients. Nobody is told: the node has to miss
//! its clients' answers to its pings, and tells the service of each one's end, once. The clients, which hear nothing, come
//! back on other nodes; those of other nodes stay.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use serde_json::json;

use super::cut_off::{nobody, BEFORE};
use super::traffic::{check, slot, until, Traffic};
use crate::cluster::name;
use crate::faults::cut_clients::{cut, heal};
use crate::figures::seconds;
use crate::history::{Event, EventKind, Micros, Op, Record, SECOND};
use crate::run::Run;

/// The least that an endpoint may ask for, so that a run does not take minutes.
const PING_EVERY: Micros = 5 * SECOND;
const PINGS_MISSED: u64 = 1;
/// One interval until a ping is sent, and one for each that is missed.
const NOTICED_AFTER: Micros = PING_EVERY * (1 + PINGS_MISSED);
/// For telling the service of it.
const SLACK: Micros = SECOND;
/// Later, something is broken, on however busy a machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(40);

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    run.talk_settings = json!({
        "heartbeatIntervalInSeconds": PING_EVERY / SECOND, "heartbeatMaxMissingPingFrames": PINGS_MISSED,
    });
    let mut rng = run.rng("clients_cut");
    let traffic = Traffic::start(run).await?;
    let mut victims = BTreeSet::new();
    let (mut vanished, mut back, mut noticed): (usize, Micros, Micros) = (0, 0, 0);
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        tokio::time::sleep(BEFORE).await;
        let victim = rng.random_range(0..run.cluster.len());
        victims.insert(victim);
        run.history.note(format!("{} is cut off from its clients", name(victim)));
        let asked = run.history.now();
        cut(&run.cluster, victim, &run.history)?;
        let clients = open_at(&run.history.records(), victim, asked);
        vanished += clients.len();
        let goodbyes = || goodbyes(&run.history.records(), &clients);
        until(NOTICED_WITHIN, "the node has noticed that its clients are gone", || goodbyes().len() == clients.len())
            .await?;
        noticed = noticed.max(goodbyes().into_iter().max().unwrap_or(asked) - asked);
        let returned = || returned(&run.history.records(), &clients, asked);
        until(NOTICED_WITHIN, "the clients are back on other nodes", || returned().len() == clients.len()).await?;
        back = back.max(returned().into_iter().max().unwrap_or(asked) - asked);
        heal(&run.cluster, victim, &run.history)?;
    }
    traffic.settle(run, &nobody()).await?;
    check(run, &victims, &nobody()).await?;
    let bound = NOTICED_AFTER + SLACK;
    let what = format!("the service was told of all {vanished} ends after");
    run.figure(what, seconds(noticed), Some((&format!("≤{}", seconds(bound)), noticed <= bound)));
    run.figure("clients back on other nodes, their own 2 s of patience included", seconds(back), None);
    let others =
        |record: &Record| matches!(&record.op, Op::Ended { by_client: false, node, .. } if !victims.contains(node));
    let others = run.history.count(others);
    run.figure("connections of other nodes dropped", others.to_string(), Some(("0", others == 0)));
    Ok(())
}

/// Clients with a connection to the node at that time.
fn open_at(records: &[Record], of: usize, time: Micros) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for record in records {
        match &record.op {
            Op::Connected { client, node } if *node == of => drop(open.insert(client.clone())),
            Op::Ended { client, .. } if record.end <= time => drop(open.remove(client)),
            _ => {}
        }
    }
    open
}

/// When the service was told of the clients' ends.
fn goodbyes(records: &[Record], clients: &BTreeSet<String>) -> Vec<Micros> {
    let told = records.iter().filter(|record| match &record.op {
        Op::Event(Event { kind: EventKind::Disconnect, client, .. }) => clients.contains(client),
        _ => false,
    });
    told.map(|record| record.end).collect()
}

/// When those who had been these clients were connected again.
fn returned(records: &[Record], clients: &BTreeSet<String>, since: Micros) -> Vec<Micros> {
    let slots: BTreeSet<String> = clients.iter().map(|client| slot(client)).collect();
    let again = records.iter().filter(|record| match &record.op {
        Op::Connected { client, .. } => record.end > since && slots.contains(&slot(client)),
        _ => false,
    });
    again.map(|record| record.end).collect()
}
