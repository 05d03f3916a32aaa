//! Many faults, one over the other, as the seed says; then all is healed, and everything must come together again and
//! nothing may have been lost. The plan is pure and in `plan`; here it is carried out.

mod plan;

use std::collections::BTreeSet;
use std::time::Duration;

use super::traffic::{check, lost_writes, wait_for_writes, Traffic};
use crate::faults::one_way_partition::{self, Way};
use crate::faults::{kill::kill, packet_loss, partition, pause, reset::reset, restart::restart};
use crate::faults::{slow_line, terminate::terminate, wipe::wipe};
use crate::figures::{leader_changes, seconds, write_gap};
use crate::history::{Micros, Op, Outcome, Record};
use crate::invariants::one_disconnect_each;
use crate::run::{Run, HEALED_WITHIN};
use crate::view;
use plan::{Action, Kind, Step};

const LOSS_PERCENT: u8 = 5;

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let steps = plan::compose(&mut run.rng("plan"), run.options.seconds, run.cluster.len());
    println!("  plan of {} s:", run.options.seconds);
    for step in &steps {
        println!("    {step}");
        run.history.note(format!("planned: {step}"));
    }
    let of = |kinds: &[Kind]| -> BTreeSet<usize> {
        steps.iter().filter(|step| kinds.contains(&step.kind)).map(|step| step.node).collect()
    };
    // Only these may cost clients their connection, and only the killed ones without a goodbye.
    let victims = of(&[Kind::Kill, Kind::Wipe, Kind::Terminate]);
    let killed = of(&[Kind::Kill, Kind::Wipe]);

    let traffic = Traffic::start(run).await?;
    let began = run.history.now();
    for action in plan::actions(&steps) {
        let passed = Duration::from_micros(run.history.now() - began);
        tokio::time::sleep(Duration::from_millis(action.at_millis).saturating_sub(passed)).await;
        carry_out(run, action).await?;
    }
    let healed = run.history.now();
    run.history.note("all is healed");
    for node in run.all_nodes() {
        view::ready(&run.entrances, node, HEALED_WITHIN).await?;
    }
    wait_for_writes(run, 10).await?;
    let converged = run.history.now() - healed;
    traffic.settle(run, &killed).await?;
    check(run, &victims, &killed).await?;
    figures(run, &steps, began, converged);
    Ok(())
}

async fn carry_out(run: &mut Run, Action { begins, step: Step { kind, node, .. }, .. }: Action) -> anyhow::Result<()> {
    let (cluster, history) = (&mut run.cluster, &*run.history);
    match (kind, begins) {
        (Kind::Kill, true) => kill(cluster, node, history).await,
        (Kind::Terminate, true) => terminate(cluster, node, history).await,
        (Kind::Wipe, true) => {
            kill(cluster, node, history).await?;
            wipe(cluster, node, history)
        }
        (Kind::Kill | Kind::Terminate | Kind::Wipe, false) => restart(cluster, node, history),
        (Kind::Pause, true) => pause::pause(cluster, node, history),
        (Kind::Pause, false) => pause::go_on(cluster, node, history),
        (Kind::Partition, true) => partition::partition(cluster, node, history),
        (Kind::Partition, false) => partition::heal(cluster, node, history),
        (Kind::Mute, true) => one_way_partition::cut(cluster, node, Way::Mute, history),
        (Kind::Mute, false) => one_way_partition::heal(cluster, node, Way::Mute, history),
        (Kind::Deaf, true) => one_way_partition::cut(cluster, node, Way::Deaf, history),
        (Kind::Deaf, false) => one_way_partition::heal(cluster, node, Way::Deaf, history),
        (Kind::PacketLoss, true) => packet_loss::lose(cluster, LOSS_PERCENT, history),
        (Kind::SlowLine, true) => slow_line::slow(cluster, &(0..cluster.len()).collect(), slow_line::NEAR, history),
        (Kind::SlowLine, false) => slow_line::heal(cluster, &(0..cluster.len()).collect(), history),
        (Kind::Resets, _) => {
            let others = (0..cluster.len()).filter(|other| *other != node);
            others.map(|other| reset(cluster, node, other, history)).try_for_each(|done| done.map(drop))
        }
        (Kind::PacketLoss, false) => packet_loss::heal(cluster, history),
    }
}

fn figures(run: &mut Run, steps: &[Step], began: Micros, converged: Micros) {
    let records = run.history.records();
    run.figure(
        "faults; healed until all ready and 10 writes",
        format!("{}; {}", steps.len(), seconds(converged)),
        None,
    );
    let gap = write_gap(&records, began, run.history.now());
    run.figure("write gap, longest", seconds(gap), None);
    run.figure("leader changes", leader_changes(&records).len().to_string(), None);
    let reads = records.iter().filter(|record: &&Record| matches!(record.op, Op::Read { .. }));
    let (answered, all) =
        reads.fold((0, 0), |(answered, all), record| (answered + u32::from(record.outcome == Outcome::Ok), all + 1));
    run.figure("linearizable reads answered", format!("{answered} of {all}"), None);
    let twice = one_disconnect_each::excused(&records);
    run.figure("ends of connections that were told of twice", twice.to_string(), None);
    lost_writes(run);
}
