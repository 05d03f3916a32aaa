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
    let all = run.all_nodes();
    let mut gap: Micros = 0;
    let mut longest: Micros = 0;
    let traffic = Traffic::start(run).await?;
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        for node in &all {
            tokio::time::sleep(BEFORE).await;
            let asked = run.history.now();
            terminate(&mut run.cluster, *node, &run.history).await?;
            longest = longest.max(run.history.now() - asked);
            restart(&mut run.cluster, *node, &run.history)?;
            view::ready(&run.entrances, *node, HEALED_WITHIN).await?;
            wait_for_writes(run, 3).await?;
            gap = gap.max(write_gap(&run.history.records(), asked, run.history.now()));
        }
    }
    traffic.settle(run, &BTreeSet::new()).await?;
    let records = run.history.records();
    run.hold("closed_with_1012", closed_with_1012::check(&records));
    check(run, &all.iter().copied().collect(), &BTreeSet::new()).await?;
    let told = |code| move |record: &Record| matches!(record.op, Op::Ended { code: with, by_client: false, .. } if with == code);
    let (in_order, abnormal) = (run.history.count(told(1012)), run.history.count(told(1006)));
    run.figure("clients closed with 1012", in_order.to_string(), None);
    run.figure("abnormal closes (1006)", abnormal.to_string(), Some(("0", abnormal == 0)));
    let lost = run.breaks.iter().filter(|text| text.starts_with("accepted_events_delivered")).count();
    run.figure("acknowledged events lost, connections", lost.to_string(), Some(("0", lost == 0)));
    run.figure("write gap, longest", seconds(gap), Some(("≤3 s", gap <= 3 * SECOND)));
    run.figure("SIGTERM until ended, longest", seconds(longest), None);
    Ok(())
}
