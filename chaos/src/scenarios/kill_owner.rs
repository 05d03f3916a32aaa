//! Clients talk and are pushed to on all nodes; one node is killed. Its connections are gone, and said to be gone; its
//! clients find the other nodes; nobody else notices. Then it comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::Rng;

use super::traffic::{check, slot, until, wait_for_writes, Traffic};
use crate::faults::{kill::kill, restart::restart};
use crate::figures::{seconds, write_gap};
use crate::history::{Micros, Op, Record, SECOND};
use crate::run::{Run, HEALED_WITHIN};
use crate::service::Known;
use crate::view;
use crate::workload::pushers::until_gone;

const BEFORE: Duration = Duration::from_secs(2);
/// Dead connections that are asked for through each surviving node.
const DEAD_ASKED: usize = 3;
/// The figure is 10 s; that it is not said at all is a broken invariant.
const GONE_WITHIN: Duration = Duration::from_secs(45);
const BACK_WITHIN: Duration = Duration::from_secs(45);
/// After a restart, the old generation is gone for good.
const GONE_AFTER_RESTART_WITHIN: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Worst {
    gone: Micros,
    back: Micros,
    gap: Micros,
    caught_up: Micros,
    clients: usize,
}

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("kill_owner");
    let mut victims = BTreeSet::new();
    let mut worst = Worst::default();
    let traffic = Traffic::start(run).await?;
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        tokio::time::sleep(BEFORE).await;
        let victim = rng.random_range(0..run.cluster.len());
        victims.insert(victim);
        let owned: Vec<Known> = run.service.directory.owned_by(victim).into_iter().map(|(_, known)| known).collect();
        let dead: Vec<Known> = owned.choose_multiple(&mut rng, DEAD_ASKED).cloned().collect();
        worst.clients += owned.len();
        kill_one(run, victim, &dead, &mut worst).await?;
    }
    traffic.settle(run, &victims).await?;
    check(run, &victims, &victims).await?;
    run.figure(
        "push to a dead id answered 410, latest",
        seconds(worst.gone),
        Some(("≤10 s", worst.gone <= 10 * SECOND)),
    );
    let what = format!("{} clients of the dead node elsewhere, latest", worst.clients);
    run.figure(what, seconds(worst.back), Some(("≤5 s", worst.back <= 5 * SECOND)));
    run.figure(
        "other nodes' clients dropped",
        others_dropped(run, &victims),
        Some(("0", others_dropped(run, &victims) == "0")),
    );
    run.figure("write gap, longest", seconds(worst.gap), Some(("≤3 s", worst.gap <= 3 * SECOND)));
    run.figure("restarted node ready and caught up, longest", seconds(worst.caught_up), None);
    Ok(())
}

async fn kill_one(run: &mut Run, victim: usize, dead: &[Known], worst: &mut Worst) -> anyhow::Result<()> {
    let others: BTreeSet<usize> = run.all_nodes().into_iter().filter(|node| *node != victim).collect();
    let killed = run.history.now();
    kill(&mut run.cluster, victim, &run.history).await?;
    let gone = until_gone(dead, &others, GONE_WITHIN, &run.entrances, &run.history).await;
    run.hold("dead_connections_are_said_to_be_gone", said(gone, "while the node was down"));
    worst.gone = worst.gone.max(not_yet_gone(&run.history.records(), killed).saturating_sub(killed));
    until(BACK_WITHIN, "the dead node's clients are back", || back_at(&run.history.records(), killed).is_some())
        .await?;
    let back = back_at(&run.history.records(), killed).unwrap_or(killed);
    worst.back = worst.back.max(back.saturating_sub(killed));
    wait_for_writes(run, 1).await?;
    worst.gap = worst.gap.max(write_gap(&run.history.records(), killed, run.history.now()));

    let ahead = view::ask_all(&run.entrances, &others.iter().copied().collect::<Vec<_>>()).await?;
    let ahead = ahead.iter().map(|view| view.state_index).max().unwrap_or(0);
    let restarted = run.history.now();
    restart(&mut run.cluster, victim, &run.history)?;
    view::ready(&run.entrances, victim, HEALED_WITHIN).await?;
    let caught_up = |views: &[view::View]| views[0].state_index >= ahead;
    view::until(&run.entrances, &[victim], HEALED_WITHIN, "the restarted node catches up", caught_up).await?;
    worst.caught_up = worst.caught_up.max(run.history.now() - restarted);
    let all: BTreeSet<usize> = run.all_nodes().into_iter().collect();
    let gone = until_gone(dead, &all, GONE_AFTER_RESTART_WITHIN, &run.entrances, &run.history).await;
    run.hold("dead_connections_are_said_to_be_gone", said(gone, "after the restart"));
    Ok(())
}

fn said(gone: bool, when: &str) -> Vec<String> {
    if gone {
        Vec::new()
    } else {
        vec![format!("a dead connection was not answered with 410 {when}")]
    }
}

/// The end of the last answer about a dead connection that was not 410.
fn not_yet_gone(records: &[Record], since: Micros) -> Micros {
    let other = records.iter().filter(|record| record.start >= since).filter_map(|record| match record.op {
        Op::DeadPush { status, .. } if status != 410 => Some(record.end),
        _ => None,
    });
    other.max().unwrap_or(since)
}

/// When the last client that lost its connection since then had another one; nothing while one has none.
fn back_at(records: &[Record], since: Micros) -> Option<Micros> {
    let mut away = BTreeSet::new();
    let mut back = since;
    for record in records.iter().filter(|record| record.end >= since) {
        match &record.op {
            Op::Ended { client, by_client: false, .. } => drop(away.insert(slot(client))),
            Op::Connected { client, .. } if away.remove(&slot(client)) => back = record.end,
            _ => {}
        }
    }
    away.is_empty().then_some(back)
}

fn others_dropped(run: &Run, victims: &BTreeSet<usize>) -> String {
    let dropped = |record: &Record| match record.op {
        Op::Ended { node, by_client: false, .. } => !victims.contains(&node),
        _ => false,
    };
    run.history.count(dropped).to_string()
}
