//! Plays the wanted scenarios one after the other, and says how they went. Imports run, scenarios and figures.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use crate::figures::{self, Figure};
use crate::run::{Options, Run};
use crate::scenarios::{self, Scenario};

pub struct Suite {
    pub options: Options,
    pub wanted: Vec<&'static Scenario>,
    /// What was wanted and cannot be had, with the reason.
    pub not_run: Vec<(&'static str, String)>,
    /// Also of runs that went well.
    pub keep: bool,
}

impl Suite {
    /// Whether everything held.
    pub async fn play(self) -> anyhow::Result<bool> {
        println!("seed {}", self.options.seed);
        let folder = std::env::temp_dir().join(format!("wsgateway-chaos-{}", std::process::id()));
        let mut figures = Vec::new();
        let mut broken = Vec::new();
        for scenario in &self.wanted {
            let kept = folder.join(scenario.name);
            if !self.play_one(scenario, &kept, &mut figures).await? {
                broken.push(scenario.name);
            }
        }
        println!("\n{}", figures::table(&figures));
        // Fails when something was kept in it.
        let _kept = std::fs::remove_dir(&folder);
        println!();
        for (name, why) in &self.not_run {
            println!("NOT RUN {name}: {why}");
        }
        if broken.is_empty() {
            println!("all invariants held (seed {})", self.options.seed);
        } else {
            println!("broken: {} (seed {}); see {}", broken.join(", "), self.options.seed, folder.display());
        }
        Ok(broken.is_empty())
    }

    /// Plays one scenario; whether everything held.
    async fn play_one(
        &self,
        scenario: &'static Scenario,
        folder: &Path,
        figures: &mut Vec<Figure>,
    ) -> anyhow::Result<bool> {
        let began = Instant::now();
        println!("\n{}: {} cycles", scenario.name, self.options.cycles);
        let network = self.options.network.clone().filter(|_| scenario.needs_network);
        let options = Options { network, ..self.options.clone() };
        let mut run = Run::prepare(scenario.name, &options, folder, scenarios::NODES).await?;
        if let Err(err) = scenarios::play(&mut run).await {
            run.breaks.push(format!("the scenario could not go on: {err:#}"));
            run.check_always();
        }
        run.cluster.kill_all();
        let took = began.elapsed().as_secs();
        println!(
            "  {} invariants checked in {took} s: {}",
            run.checked.len(),
            Vec::from_iter(run.checked.iter().copied()).join(", ")
        );
        for text in &run.breaks {
            println!("  BROKEN {text}");
        }
        let held = run.breaks.is_empty();
        if held && !self.keep {
            std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        } else {
            run.history.save(&folder.join("history.ndjson"))?;
            std::fs::write(folder.join("broken.txt"), run.breaks.join("\n"))?;
            println!("  history and logs: {}", folder.display());
        }
        figures.append(&mut run.figures);
        Ok(held)
    }
}
