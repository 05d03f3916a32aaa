//! Clients talk and are pushed to on all nodes; one node is cut off from the two others, a follower first and then the
//! leader. Its clients stay and go on; it refuses writes; pushes across the cut are refused and never lost; once healed it
//! is one of the others again.

use std::time::Duration;

use rand::Rng;

use super::cut_off::{choose, figures, nobody, Healing, BEFORE, CUT_MILLIS};
use super::traffic::{check, lost_writes, wait_for_writes, Traffic};
use crate::faults::partition::{heal, partition};
use crate::figures::{leader_changes, seconds, write_gap};
use crate::history::{Micros, SECOND};
use crate::run::Run;

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("partition");
    let mut healing = Healing::default();
    let mut gap: Micros = 0;
    let mut leaders = 0;
    let traffic = Traffic::start(run).await?;
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        for leads in [false, true] {
            tokio::time::sleep(BEFORE).await;
            let victim = choose(run, leads, &mut rng).await?;
            leaders += u32::from(leads);
            let role = if leads { "the leader" } else { "a follower" };
            run.history.note(format!("{role} is cut off"));
            let cut = run.history.now();
            partition(&run.cluster, victim, &run.history)?;
            tokio::time::sleep(Duration::from_millis(rng.random_range(CUT_MILLIS))).await;
            gap = gap.max(write_gap(&run.history.records(), cut, run.history.now()));
            healing.after(run, victim, |run| heal(&run.cluster, victim, &run.history)).await?;
            wait_for_writes(run, 5).await?;
        }
    }
    traffic.settle(run, &nobody()).await?;
    check(run, &nobody(), &nobody()).await?;
    figures(run);
    run.figure("write gap while cut, the leader's side included", seconds(gap), Some(("≤3 s", gap <= 3 * SECOND)));
    let changes = leader_changes(&run.history.records()).len();
    run.figure("leader changes; cuts of a leader", format!("{changes}; {leaders}"), None);
    healing.figures(run);
    lost_writes(run);
    Ok(())
}
