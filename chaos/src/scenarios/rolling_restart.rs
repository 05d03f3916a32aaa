//! Clients talk and are pushed to; the nodes are asked to leave one after the other, and start again. Clients are told
//! with 1012; nothing that was accepted is lost; configuration can be written all the time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::traffic::{check, wait_for_writes, Traffic};
use crate::faults::{restart::restart, terminate::terminate};
use crate::figures::{seconds, write_gap};
use crate::history::{Micros, Op, Record, SECOND};
use crate::invariants::closed_with_1012;
use crate::run::{Run, HEALED_WITHIN};
use crate::view;

const BEFORE: Duration = Duration::from_secs(1);

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rolling = Rolling::default();
    let traffic = Traffic::start(run).await?;
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        for node in run.all_nodes() {
            rolling.restart(run, node, |_stays_the_same| ()).await?;
        }
    }
    rolling.end(run, traffic).await
}

/// Nodes leave in order and start again, one at a time; the longest times.
#[derive(Default)]
pub struct Rolling {
    gap: Micros,
    leaving: Micros,
}

impl Rolling {
    /// One node; `while_down` may change what starts again.
    pub async fn restart(
        &mut self,
        run: &mut Run,
        node: usize,
        while_down: impl FnOnce(&mut Run),
    ) -> anyhow::Result<()> {
        tokio::time::sleep(BEFORE).await;
        let asked = run.history.now();
        terminate(&mut run.cluster, node, &run.history).await?;
        self.leaving = self.leaving.max(run.history.now() - asked);
        while_down(run);
        restart(&mut run.cluster, node, &run.history)?;
        view::ready(&run.entrances, node, HEALED_WITHIN).await?;
        wait_for_writes(run, 3).await?;
        self.gap = self.gap.max(write_gap(&run.history.records(), asked, run.history.now()));
        Ok(())
    }

    /// Ends the traffic and checks what it has seen.
    pub async fn end(self, run: &mut Run, traffic: Traffic) -> anyhow::Result<()> {
        traffic.settle(run, &BTreeSet::new()).await?;
        let records = run.history.records();
        run.hold("closed_with_1012", closed_with_1012::check(&records));
        let victims = run.all_nodes().into_iter().collect();
        check(run, &victims, &BTreeSet::new()).await?;
        let told = |code| move |record: &Record| matches!(record.op, Op::Ended { code: with, by_client: false, .. } if with == code);
        let (in_order, abnormal) = (run.history.count(told(1012)), run.history.count(told(1006)));
        run.figure("clients closed with 1012", in_order.to_string(), None);
        run.figure("abnormal closes (1006)", abnormal.to_string(), Some(("0", abnormal == 0)));
        let lost = run.breaks.iter().filter(|text| text.starts_with("accepted_events_delivered")).count();
        run.figure("acknowledged events lost, connections", lost.to_string(), Some(("0", lost == 0)));
        run.figure("write gap, longest", seconds(self.gap), Some(("≤3 s", self.gap <= 3 * SECOND)));
        run.figure("SIGTERM until ended, longest", seconds(self.leaving), None);
        Ok(())
    }
}
