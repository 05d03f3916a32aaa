//! What scenarios that cut nodes off have in common: the cut with its end, and how long it then takes until the node is
//! one of the others again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::traffic::until;
use crate::cluster::name;
use crate::figures::seconds;
use crate::history::{Micros, Op, Outcome, Record, SECOND};
use crate::invariants::{cut_off, CutOff};
use crate::run::{Run, HEALED_WITHIN};
use crate::view::{self, View};

/// Traffic before each cut.
pub const BEFORE: Duration = Duration::from_secs(2);
/// Longer than elections, than links take to be known to be down, and than the writes' own deadline.
pub const CUT_MILLIS: std::ops::RangeInclusive<u64> = 8000..=11_000;

/// The longest times after healing.
#[derive(Default)]
pub struct Healing {
    /// The node has what the others had, knows their leader, and is ready.
    converged: Micros,
    /// Pushes get through to its connections and from it to others.
    pushes: Micros,
    /// Gossip has every node for live, on every node.
    gossip: Micros,
}

impl Healing {
    /// Heals by `heal`, and waits until the node is one of the others again.
    pub async fn after(
        &mut self,
        run: &Run,
        victim: usize,
        heal: impl FnOnce(&Run) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let others: Vec<usize> = run.all_nodes().into_iter().filter(|node| *node != victim).collect();
        let ahead = view::ask_all(&run.entrances, &others).await?;
        let ahead = ahead.iter().map(|view| view.state_index).max().unwrap_or(0);
        heal(run)?;
        let healed = run.history.now();
        let same = |views: &[View]| {
            let leader = views.first().and_then(|view| view.leader.clone());
            leader.is_some() && views.iter().all(|view| view.leader == leader && view.state_index >= ahead)
        };
        let all = run.all_nodes();
        view::until(&run.entrances, &all, HEALED_WITHIN, "the node that was cut off has caught up", same).await?;
        for node in &all {
            view::ready(&run.entrances, *node, HEALED_WITHIN).await?;
        }
        self.converged = self.converged.max(run.history.now() - healed);
        run.history.note(format!("{} has converged", name(victim)));

        let across = |inwards: bool| {
            run.history.records().iter().filter(|record| record.start >= healed).find_map(|record| match record.op {
                Op::Push { owner, node, .. }
                    if record.outcome == Outcome::Ok
                        && owner != node
                        && (inwards && owner == victim || !inwards && node == victim) =>
                {
                    Some(record.end)
                }
                _ => None,
            })
        };
        until(HEALED_WITHIN, "pushes get through again", || across(true).and(across(false)).is_some()).await?;
        let through = across(true).max(across(false)).unwrap_or(healed);
        self.pushes = self.pushes.max(through.saturating_sub(healed));

        let all_live = |views: &[View]| views.iter().all(|view| view.not_live().is_empty());
        view::until(&run.entrances, &all, HEALED_WITHIN, "gossip has all nodes for live", all_live).await?;
        self.gossip = self.gossip.max(run.history.now() - healed);
        Ok(())
    }

    pub fn figures(&self, run: &mut Run) {
        let converged = self.converged;
        run.figure("converged after healing, longest", seconds(converged), Some(("≤5 s", converged <= 5 * SECOND)));
        let what = "pushes get through after healing; gossip has all for live";
        run.figure(what, format!("{}; {}", seconds(self.pushes), seconds(self.gossip)), None);
    }
}

/// The leader, or somebody else by chance.
pub async fn choose(run: &Run, leads: bool, rng: &mut StdRng) -> anyhow::Result<usize> {
    let leader = view::leader(&run.entrances, HEALED_WITHIN).await?;
    if leads {
        return Ok(leader);
    }
    let followers: Vec<usize> = run.all_nodes().into_iter().filter(|node| *node != leader).collect();
    followers.choose(rng).copied().context("no follower")
}

/// What was answered while nodes were cut off, and whom it cost a connection.
pub fn figures(run: &mut Run) {
    let records = run.history.records();
    let spans = cut_off(&records);
    let dropped = run.history.count(|record| matches!(record.op, Op::Ended { by_client: false, .. }));
    run.figure("connections dropped, on any node", dropped.to_string(), Some(("0", dropped == 0)));

    let writes = while_cut_off(&records, &spans, |op| match op {
        Op::Write { node, .. } => Some(*node),
        _ => None,
    });
    let slowest = writes.iter().map(|record| record.end - record.start).max().unwrap_or(0);
    let refused = writes.iter().filter(|record| matches!(record.op, Op::Write { status: 503, .. })).count();
    run.figure(
        "writes at the node that is cut off answered 503; slowest",
        format!("{refused} of {}; {}", writes.len(), seconds(slowest)),
        Some(("all, ≤2 s", refused == writes.len() && slowest <= 2 * SECOND)),
    );

    let mut pushes = while_cut_off(&records, &spans, |op| match op {
        Op::Push { owner, node, .. } if owner != node => Some(*node),
        _ => None,
    });
    pushes.extend(while_cut_off(&records, &spans, |op| match op {
        Op::Push { owner, node, .. } if owner != node => Some(*owner),
        _ => None,
    }));
    let refused = pushes.iter().filter(|record| matches!(record.op, Op::Push { status: 503, .. })).count();
    let slowest = pushes.iter().map(|record| record.end - record.start).max().unwrap_or(0);
    let seen = format!("{refused} of {}; {}", pushes.len(), seconds(slowest));
    run.figure("pushes across the cut answered 503; slowest", seen, Some(("all", refused == pushes.len())));
}

/// Operations that began and ended while the node that `of` names was cut off.
fn while_cut_off<'a>(records: &'a [Record], spans: &[CutOff], of: impl Fn(&Op) -> Option<usize>) -> Vec<&'a Record> {
    let during = |record: &&Record| {
        of(&record.op).is_some_and(|node| spans.iter().any(|span| span.node == node && span.contains(record)))
    };
    records.iter().filter(during).collect()
}

/// Nodes that nothing was done to as far as their clients can tell: none may lose any.
pub fn nobody() -> BTreeSet<usize> {
    BTreeSet::new()
}
