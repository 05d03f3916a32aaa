//! `chaos`: runs a real cluster, does things to it, and checks afterwards that what was promised has held. It knows the
//! gateway only from outside: its binary, its HTTP surface, its WebSockets. One file per fault, one per invariant.

mod clients;
mod cluster;
mod faults;
mod figures;
mod history;
mod http;
mod invariants;
mod ports;
mod readback;
mod run;
mod scenarios;
mod service;
mod view;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{bail, Context};
use clap::Parser;

use figures::Figure;
use run::{Options, Run};

#[derive(Parser)]
#[command(
    about = "Kills, stops and restarts the nodes of a real cluster under traffic, and checks that what was promised has held",
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
    /// Begin no further cycle after so many minutes
    #[arg(long)]
    minutes_max: Option<u64>,
    /// The gateway; default: wsgateway beside this program
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Keep the histories and logs of runs that went well, too
    #[arg(long)]
    keep: bool,
    /// Name the scenarios and end
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        for (name, what) in scenarios::ALL {
            println!("{name:16} {what}");
        }
        return ExitCode::SUCCESS;
    }
    let played = tokio::select! {
        played = play(&cli) => played,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("chaos: {err:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything held.
async fn play(cli: &Cli) -> anyhow::Result<bool> {
    let binary = match &cli.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("wsgateway"),
    };
    let binary = binary.canonicalize().with_context(|| format!("the gateway {}", binary.display()))?;
    let wanted: Vec<&'static str> = scenarios::ALL
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| cli.scenario == "all" || cli.scenario == *name)
        .collect();
    if wanted.is_empty() {
        bail!("there is no scenario {:?}; --list names them", cli.scenario);
    }
    let deadline = cli.minutes_max.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let options = Options { binary, seed: cli.seed.unwrap_or_else(rand::random), cycles: cli.cycles, deadline };
    println!("seed {}", options.seed);

    let folder = std::env::temp_dir().join(format!("wsgateway-chaos-{}", std::process::id()));
    let mut figures = Vec::new();
    let mut broken = Vec::new();
    for name in wanted {
        let kept = folder.join(name);
        if !one(name, &options, &kept, cli.keep, &mut figures).await? {
            broken.push(name);
        }
    }
    println!("\n{}", figures::table(&figures));
    // Fails when something was kept in it.
    let _kept = std::fs::remove_dir(&folder);
    if broken.is_empty() {
        println!("\nall invariants held (seed {})", options.seed);
    } else {
        println!("\nbroken: {} (seed {}); see {}", broken.join(", "), options.seed, folder.display());
    }
    Ok(broken.is_empty())
}

/// Plays one scenario; whether everything held.
async fn one(
    name: &'static str,
    options: &Options,
    folder: &Path,
    keep: bool,
    figures: &mut Vec<Figure>,
) -> anyhow::Result<bool> {
    let began = Instant::now();
    println!("\n{name}: {} cycles", options.cycles);
    let mut run = Run::prepare(name, options, folder, scenarios::NODES).await?;
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
    if held && !keep {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    } else {
        run.history.save(&folder.join("history.ndjson"))?;
        std::fs::write(folder.join("broken.txt"), run.breaks.join("\n"))?;
        println!("  history and logs: {}", folder.display());
    }
    figures.append(&mut run.figures);
    Ok(held)
}
