//! `chaos`: runs a real cluster, does things to it, and checks afterwards that what was promised has held. It knows the
//! gateway only from outside: its binary, its HTTP surface, its WebSockets. One file per fault, one per invariant.

mod clients;
mod cluster;
mod durable;
mod faults;
mod figures;
mod history;
mod http;
mod invariants;
mod network;
mod ports;
mod readback;
mod report;
mod run;
mod scenarios;
mod service;
mod small_disks;
mod suite;
mod view;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, Context};
use clap::Parser;
use tokio::signal::unix::{signal, SignalKind};

use network::Network;
use run::Options;
use scenarios::Scenario;
use small_disks::SmallDisks;
use suite::Suite;

#[derive(Parser)]
#[command(
    about = "Kills, stops, restarts and cuts off the nodes of a real cluster under traffic, and checks that what was promised has held",
    after_help = "Example:\n  chaos --seed 1 --scenario all --cycles 1\n\nExit code 1: an invariant broke; the folder that is named has the history and the nodes' logs."
)]
struct Cli {
    /// Decides what is done to whom; random when missing, and printed
    #[arg(long)]
    seed: Option<u64>,
    /// A scenario's name, or all
    #[arg(long, default_value = "all")]
    scenario: String,
    /// Faults per scenario
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    cycles: u32,
    /// How long random makes faults
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..))]
    seconds: u64,
    /// Begin no further cycle after so many minutes
    #[arg(long)]
    minutes_max: Option<u64>,
    /// The gateway; default: wsgateway beside this program
    #[arg(long)]
    binary: Option<PathBuf>,
    /// An older gateway, which rolling_upgrade begins with
    #[arg(long)]
    old_binary: Option<PathBuf>,
    /// Keep the histories and logs of runs that went well, too
    #[arg(long)]
    keep: bool,
    /// Draw what happened into one HTML file
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Name the scenarios and end
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        for Scenario { name, what, .. } in scenarios::ALL {
            println!("{name:18} {what}");
        }
        return ExitCode::SUCCESS;
    }
    match prepare(&cli).and_then(play) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("chaos: {err:#}");
            ExitCode::from(2)
        }
    }
}

/// Finds out what is wanted and what can be had. Runs before there is any other thread: entering a network needs that.
fn prepare(cli: &Cli) -> anyhow::Result<Suite> {
    let binary = match &cli.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("wsgateway"),
    };
    let found = |path: &PathBuf| path.canonicalize().with_context(|| format!("the gateway {}", path.display()));
    let binary = found(&binary)?;
    let old_binary = cli.old_binary.as_ref().map(found).transpose()?;
    let is_wanted = |scenario: &&Scenario| cli.scenario == "all" || cli.scenario == scenario.name;
    let mut wanted: Vec<&'static Scenario> = scenarios::ALL.iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        bail!("there is no scenario {:?}; --list names them", cli.scenario);
    }
    let mut not_run = Vec::new();
    let mut choice = Choice { by_name: cli.scenario != "all", wanted: &mut wanted, not_run: &mut not_run };
    let old_binary = choice.get(
        |scenario| scenario.needs_old_binary,
        || old_binary.context("--old-binary names no older gateway to begin with"),
    )?;
    // In this order: whoever is not root becomes it with the first namespace.
    let network = choice.get(|scenario| scenario.needs_network, || Network::enter(scenarios::NODES))?;
    let small_disks = choice.get(|scenario| scenario.needs_small_disks, SmallDisks::enter)?;
    let shim = choice.get(|scenario| scenario.needs_shim, shim)?;
    let options = Options {
        binary,
        old_binary,
        seed: cli.seed.unwrap_or_else(rand::random),
        cycles: cli.cycles,
        seconds: cli.seconds,
        deadline: cli.minutes_max.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60)),
        network: network.map(Arc::new),
        shim,
        small_disks: small_disks.map(Arc::new),
    };
    let command = command(cli, options.seed);
    Ok(Suite { options, wanted, not_run, keep: cli.keep, report: cli.report.clone(), command })
}

/// Which scenarios are played, as far as what they need can be had.
struct Choice<'a> {
    /// Then what cannot be had is an error.
    by_name: bool,
    wanted: &'a mut Vec<&'static Scenario>,
    not_run: &'a mut Vec<(&'static str, String)>,
}

impl Choice<'_> {
    /// Gets what some scenarios need, or leaves those out.
    fn get<T>(
        &mut self,
        needs: impl Fn(&Scenario) -> bool,
        get: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        let Some(scenario) = self.wanted.iter().find(|scenario| needs(scenario)) else { return Ok(None) };
        match get() {
            Ok(got) => Ok(Some(got)),
            Err(err) if self.by_name => Err(err.context(format!("{} cannot be run here", scenario.name))),
            Err(err) => {
                let why = format!("cannot be run here: {err:#}");
                let left_out = self.wanted.iter().filter(|scenario| needs(scenario));
                self.not_run.extend(left_out.map(|scenario| (scenario.name, why.clone())));
                self.wanted.retain(|scenario| !needs(scenario));
                Ok(None)
            }
        }
    }
}

/// The library that goes in front of the nodes' libc.
fn shim() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("libchaos_shim.so");
    let make = "cargo build --release --workspace --lib --bin wsgateway --bin chaos makes it";
    path.canonicalize().with_context(|| format!("there is no {} ({make})", path.display()))
}

/// What does the same again.
fn command(cli: &Cli, seed: u64) -> String {
    let mut command = format!("chaos --seed {seed} --scenario {} --cycles {}", cli.scenario, cli.cycles);
    if matches!(cli.scenario.as_str(), "all" | "random") {
        command += &format!(" --seconds {}", cli.seconds);
    }
    if let Some(old_binary) =
        cli.old_binary.as_ref().filter(|_| matches!(cli.scenario.as_str(), "all" | "rolling_upgrade"))
    {
        command += &format!(" --old-binary {}", old_binary.display());
    }
    command
}

/// Whether everything held. Being told to end is an error; dropping the suite ends the nodes.
fn play(suite: Suite) -> anyhow::Result<bool> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            played = suite.play() => played,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })
}
