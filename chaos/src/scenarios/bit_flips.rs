//! A follower is killed, and a file of its is damaged before it starts again. It must notice and say so, or be none the
//! worse for it: what it serves was written, and it comes to have the others' state.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context};
use rand::rngs::StdRng;

use super::cut_off::choose;
use super::traffic::{lost_writes, wait_for_writes};
use crate::cluster::name;
use crate::faults::damage::{damage, Damage, Kind};
use crate::faults::{kill::kill, restart::restart};
use crate::invariants::served_documents_were_written;
use crate::readback::{self, Stored};
use crate::run::{Run, HEALED_WITHIN};
use crate::view;
use crate::workload::{config_writer, sampler, Workload};

const DAMAGES_PER_CYCLE: u32 = 4;
const WRITERS: u32 = 3;
const BETWEEN_WRITES: Duration = Duration::from_millis(30);
/// Before the first damage.
const WRITES_BEFORE: usize = 150;
/// From so many cycles on there is a snapshot, too: a node makes one every 5,000 entries.
const CYCLES_WITH_SNAPSHOT: u32 = 8;
const WRITES_FOR_SNAPSHOT: usize = 5200;
const WRITERS_FOR_SNAPSHOT: u32 = 16;
/// Between two damages.
const WRITES_BETWEEN: usize = 15;
const LABEL: &str = "flips-";
/// A message that speaks of damage has one of these words. The last ones: a damaged name leads to no file, a damaged number
/// to a format, an option or a comparator that nobody knows.
const WORDS: [&str; 13] = [
    "corrupt",
    "checksum",
    "damaged",
    "mismatch",
    "truncat",
    "cannot be read",
    "does not decode",
    "broken",
    "no such file",
    "not supported",
    "unrecognized",
    "invalid argument",
    "has format",
];
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A node that has not come to have the others' state after so long, and has said why, will not.
const STAYS_BEHIND_AFTER: Duration = Duration::from_secs(4);

/// What became of a node with a damaged file.
enum Verdict {
    /// It ended, and said why.
    Detected(String),
    /// It runs, has not the others' state, and said why. Better that it is not ready, so that nobody is sent to it.
    Runs {
        said: String,
        is_ready: bool,
    },
    Harmless,
}

/// What became of all of them, by kind of file.
#[derive(Default)]
struct Tally {
    detected: BTreeMap<Kind, u32>,
    runs: BTreeMap<Kind, u32>,
    /// Of those that run.
    ready: u32,
    harmless: BTreeMap<Kind, u32>,
    /// Documents that were read from nodes with a damaged file.
    served: usize,
    wrong: usize,
}

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("bit_flips");
    let sampler = sampler::start(&run.entrances, &run.history);
    fill(run).await?;
    let mut tally = Tally::default();
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        for number in 0..DAMAGES_PER_CYCLE {
            one(run, &format!("{LABEL}{cycle}-{number}-"), &mut rng, &mut tally).await?;
        }
    }
    sampler.end().await?;
    run.check_configuration(&run.all_nodes(), LABEL).await?;
    figures(run, &tally);
    lost_writes(run);
    Ok(())
}

/// Writes, and starts all nodes anew, which puts what is in memory into files.
async fn fill(run: &mut Run) -> anyhow::Result<()> {
    let (writers, writes) = match run.options.cycles {
        CYCLES_WITH_SNAPSHOT.. => (WRITERS_FOR_SNAPSHOT, WRITES_FOR_SNAPSHOT),
        _ => (WRITERS, WRITES_BEFORE),
    };
    let label = format!("{LABEL}first-");
    let seed = run.options.seed;
    let writers = config_writer::start(writers, Duration::ZERO, &label, seed, &run.entrances, &run.history);
    for _ in 0..writes.div_ceil(WRITES_BETWEEN) {
        wait_for_writes(run, WRITES_BETWEEN).await?;
    }
    writers.end().await?;
    for node in run.all_nodes() {
        kill(&mut run.cluster, node, &run.history).await?;
        restart(&mut run.cluster, node, &run.history)?;
        view::ready(&run.entrances, node, HEALED_WITHIN).await?;
    }
    run.healed(&run.all_nodes()).await.map(|_views| ())
}

/// One damage, with what became of it.
async fn one(run: &mut Run, label: &str, rng: &mut StdRng, tally: &mut Tally) -> anyhow::Result<()> {
    let seed = run.options.seed;
    let writers = config_writer::start(WRITERS, BETWEEN_WRITES, label, seed, &run.entrances, &run.history);
    wait_for_writes(run, WRITES_BETWEEN).await?;
    let victim = choose(run, false, rng).await?;
    kill(&mut run.cluster, victim, &run.history).await?;
    let damage = damage(&run.cluster, victim, rng, &run.history)?;
    let log_from = run.cluster.log_from(victim, 0).1;
    // Not usable: writers and readers ask nodes that are trusted.
    run.cluster.start(victim)?;
    let mut served = Vec::new();
    let verdict = verdict(run, victim, log_from, writers, &mut served).await.with_context(|| damage.text.clone())?;
    let (count, said) = match &verdict {
        Verdict::Detected(said) => (&mut tally.detected, format!("detected: {said}")),
        Verdict::Runs { said, is_ready } => {
            tally.ready += u32::from(*is_ready);
            (&mut tally.runs, format!("detected, runs (ready: {is_ready}): {said}"))
        }
        Verdict::Harmless => (&mut tally.harmless, "harmless".to_owned()),
    };
    *count.entry(damage.kind).or_default() += 1;
    println!("    {} {}: {said}", name(victim), damage.text);
    run.history.note(format!("{} {}: {said}", name(victim), damage.text));
    if !matches!(verdict, Verdict::Detected(_)) {
        kill(&mut run.cluster, victim, &run.history).await?;
    }
    // Else damages would add up, to what no single one does.
    mend(run, victim, &damage).await?;
    tally.served += served.len();
    let breaks = served_documents_were_written::check(&served, &written(run, victim, &served).await?);
    tally.wrong += breaks.len();
    run.hold("served_documents_were_written", breaks);
    Ok(())
}

async fn mend(run: &mut Run, victim: usize, damage: &Damage) -> anyhow::Result<()> {
    damage.undo()?;
    restart(&mut run.cluster, victim, &run.history)?;
    view::ready(&run.entrances, victim, HEALED_WITHIN).await?;
    run.healed(&run.all_nodes()).await.map(|_views| ())
}

/// Reads what the node serves until it has ended, or has the others' state; first while others write, then when they have
/// ended.
async fn verdict(
    run: &mut Run,
    victim: usize,
    log_from: usize,
    writers: Workload,
    served: &mut Vec<Stored>,
) -> anyhow::Result<Verdict> {
    let began = Instant::now();
    let all = run.all_nodes();
    let mut writers = Some(writers);
    loop {
        for document in readback::served(&run.entrances, victim).await {
            if !served.contains(&document) {
                served.push(document);
            }
        }
        if let Some(status) = run.cluster.has_ended(victim)? {
            if let Some(writers) = writers {
                writers.end().await?;
            }
            let (log, _) = run.cluster.log_from(victim, log_from);
            return what_it_said(status, &log).map(Verdict::Detected);
        }
        let (log, _) = run.cluster.log_from(victim, log_from);
        let is_ready = view::is_ready(&run.entrances, victim).await;
        if is_ready {
            match writers.take() {
                Some(writers) => writers.end().await?,
                None if view::ask_all(&run.entrances, &all).await.is_ok_and(|views| view::same_state(&views)) => {
                    for node in &all {
                        sampler::sample(&run.entrances, *node, &run.history).await;
                    }
                    return Ok(Verdict::Harmless);
                }
                None => {}
            }
        }
        if let (true, Some(said)) = (began.elapsed() > STAYS_BEHIND_AFTER, told(&log)) {
            if let Some(writers) = writers {
                writers.end().await?;
            }
            return Ok(Verdict::Runs { said: said.to_owned(), is_ready });
        }
        if began.elapsed() > HEALED_WITHIN {
            let views = view::ask_all(&run.entrances, &all).await;
            let seen = format!("ready: {is_ready}; {:?}; {views:?}", told(&log));
            bail!("{} neither ended nor came to have the others' state; {seen}", name(victim));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// The line that tells the operator; that it is missing is an error.
fn what_it_said(status: ExitStatus, log: &str) -> anyhow::Result<String> {
    ensure!(!status.success(), "it ended as if all were well: {log}");
    Ok(told(log).with_context(|| format!("{status}, and no word of damage: {log}"))?.to_owned())
}

fn told(log: &str) -> Option<&str> {
    log.lines().rev().find(|line| WORDS.iter().any(|word| line.to_lowercase().contains(word)))
}

/// What another node has under the same numbers.
async fn written(run: &Run, victim: usize, served: &[Stored]) -> anyhow::Result<BTreeMap<(String, u64), String>> {
    let whole = choose_other(run, victim);
    let mut written = BTreeMap::new();
    for Stored { endpoint, version, .. } in served {
        if let Ok(there) = readback::read_version(&run.entrances, whole, endpoint.clone(), *version).await {
            written.insert((endpoint.clone(), *version), there.document);
        }
    }
    Ok(written)
}

fn choose_other(run: &Run, victim: usize) -> usize {
    (victim + 1) % run.cluster.len()
}

fn figures(run: &mut Run, tally: &Tally) {
    let sum = |counts: &BTreeMap<Kind, u32>| counts.values().sum::<u32>();
    let [detected, runs, harmless] = [&tally.detected, &tally.runs, &tally.harmless].map(sum);
    let by_kind = |counts: &BTreeMap<Kind, u32>| {
        counts.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect::<Vec<_>>().join(", ")
    };
    // What is neither has broken the run.
    let all = detected + runs + harmless;
    let seen = format!("{all} of {all}");
    run.figure("damages detected or harmless", seen, Some(("all", true)));
    run.figure("did not start", format!("{detected}: {}", by_kind(&tally.detected)), None);
    run.figure("started, and said that it is damaged", format!("{runs}: {}", by_kind(&tally.runs)), None);
    run.figure("of these, ready all the same", tally.ready.to_string(), Some(("0", tally.ready == 0)));
    run.figure("harmless", format!("{harmless}: {}", by_kind(&tally.harmless)), None);
    let what = format!("wrong documents served, of {} that were read meanwhile", tally.served);
    run.figure(what, tally.wrong.to_string(), Some(("0", tally.wrong == 0)));
}
