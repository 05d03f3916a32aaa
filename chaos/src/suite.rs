//! Plays the wanted scenarios one after the other, and says how they went. Imports run, scenarios and figures.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;

use crate::figures;
use crate::report::{Chapter, Report};
use crate::run::{Options, Run};
use crate::scenarios::{self, Scenario};
use crate::workload::sampler;

pub struct Suite {
    pub options: Options,
    pub wanted: Vec<&'static Scenario>,
    /// What was wanted and cannot be had, with the reason.
    pub not_run: Vec<(&'static str, String)>,
    /// Also of runs that went well.
    pub keep: bool,
    /// Where a report goes, if one is wanted.
    pub report: Option<PathBuf>,
    /// What does the same again.
    pub command: String,
}

/// The folder of a run that was interrupted goes with it: half a history says nothing.
struct Unfinished<'a>(Option<&'a Path>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(folder) = self.0 else { return };
        let _nothing_more_can_be_done = std::fs::remove_dir_all(folder);
        // Fails when something of other scenarios was kept in it.
        let _kept = folder.parent().map(std::fs::remove_dir);
    }
}

impl Suite {
    /// Whether everything held.
    pub async fn play(self) -> anyhow::Result<bool> {
        println!("seed {}", self.options.seed);
        let folder = std::env::temp_dir().join(format!("wsgateway-chaos-{}", std::process::id()));
        let mut figures = Vec::new();
        let mut broken = Vec::new();
        let (seed, command) = (self.options.seed.to_string(), self.command.clone());
        let mut report = Report { seed, command, chapters: Vec::new(), not_run: self.not_run.clone() };
        for scenario in &self.wanted {
            let kept = folder.join(scenario.name);
            let mut run = self.play_one(scenario, &kept).await?;
            if !run.breaks.is_empty() {
                broken.push(scenario.name);
            }
            if let Some(path) = &self.report {
                // After each: a long call that is interrupted has shown what was done until then.
                report.chapters.push(Chapter::of(&run, scenario));
                report.write(path)?;
            }
            figures.append(&mut run.figures);
        }
        println!("\n{}", figures::table(&figures));
        // Fails when something was kept in it.
        let _kept = std::fs::remove_dir(&folder);
        println!();
        for (name, why) in &self.not_run {
            println!("NOT RUN {name}: {why}");
        }
        if let Some(path) = &self.report {
            println!("report: {}", path.display());
        }
        if broken.is_empty() {
            println!("all invariants held (seed {})", self.options.seed);
        } else {
            println!("broken: {} (seed {}); see {}", broken.join(", "), self.options.seed, folder.display());
        }
        Ok(broken.is_empty())
    }

    /// Plays one scenario.
    async fn play_one(&self, scenario: &'static Scenario, folder: &Path) -> anyhow::Result<Run> {
        let began = Instant::now();
        println!("\n{}: {} cycles", scenario.name, self.options.cycles);
        let network = self.options.network.clone().filter(|_| scenario.needs_network);
        let shim = self.options.shim.clone().filter(|_| scenario.needs_shim);
        let small_disks = self.options.small_disks.clone().filter(|_| scenario.needs_small_disks);
        let options = Options { network, shim, small_disks, ..self.options.clone() };
        let mut unfinished = Unfinished(Some(folder));
        let mut run = Run::prepare(scenario.name, &options, folder, scenarios::NODES).await?;
        if let Err(err) = scenarios::play(&mut run).await {
            run.breaks.push(format!("the scenario could not go on: {err:#}"));
            // Why, they may say themselves.
            for node in run.entrances.usable() {
                sampler::sample(&run.entrances, node, &run.history).await;
            }
            run.check_always();
        }
        run.cluster.end();
        let took = began.elapsed().as_secs();
        println!(
            "  {} invariants checked in {took} s: {}",
            run.checked.len(),
            Vec::from_iter(run.checked.iter().copied()).join(", ")
        );
        for text in &run.breaks {
            println!("  BROKEN {text}");
        }
        unfinished.0 = None;
        let held = run.breaks.is_empty();
        if held && !self.keep {
            std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        } else {
            run.history.save(&folder.join("history.ndjson"))?;
            std::fs::write(folder.join("broken.txt"), run.breaks.join("\n"))?;
            println!("  history and logs: {}", folder.display());
        }
        Ok(run)
    }
}
