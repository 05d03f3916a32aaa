//! As `partition`, but the cut is in one direction: one node is mute, then one is deaf; the leader or a follower by chance.
//! Whoever hears but is not heard must neither rule nor disturb those who rule.

use std::time::Duration;

use rand::Rng;

use super::cut_off::{choose, figures, nobody, Healing, BEFORE, CUT_MILLIS};
use super::traffic::{check, lost_writes, wait_for_writes, Traffic};
use crate::faults::one_way_partition::{cut, heal, Way};
use crate::figures::leader_changes;
use crate::run::Run;

/// Between the one and the other: a leader's election that comes of the healing belongs to it.
const AFTER: Duration = Duration::from_secs(3);

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("one_way_partition");
    let mut healing = Healing::default();
    let mut most = 0;
    let mut after_healing = 0;
    let traffic = Traffic::start(run).await?;
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        for way in [Way::Mute, Way::Deaf] {
            tokio::time::sleep(BEFORE).await;
            let leads = rng.random_bool(0.5);
            let victim = choose(run, leads, &mut rng).await?;
            let role = if leads { "the leader" } else { "a follower" };
            run.history.note(format!("{role} is made {}", way.name()));
            let from = run.history.now();
            cut(&run.cluster, victim, way, &run.history)?;
            tokio::time::sleep(Duration::from_millis(rng.random_range(CUT_MILLIS))).await;
            let until = run.history.now();
            healing.after(run, victim, |run| heal(&run.cluster, victim, way, &run.history)).await?;
            wait_for_writes(run, 5).await?;
            tokio::time::sleep(AFTER).await;
            let changes = leader_changes(&run.history.records());
            let between = |from, until| changes.iter().filter(|(at, _)| (from..until).contains(at)).count();
            most = most.max(between(from, until));
            after_healing = after_healing.max(between(until, run.history.now()));
        }
    }
    traffic.settle(run, &nobody()).await?;
    check(run, &nobody(), &nobody()).await?;
    figures(run);
    run.figure("leader changes during a cut, most", most.to_string(), Some(("≤2", most <= 2)));
    run.figure("leader changes after healing, most", after_healing.to_string(), None);
    healing.figures(run);
    lost_writes(run);
    Ok(())
}
