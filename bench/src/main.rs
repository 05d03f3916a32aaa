//! `bench`: what a connection, an event and a push cost the gateway, as absolute figures and as multiples of a
//! codec-only floor that is measured in the same minutes on the same machine. Loopback only, bounded in count and time.

mod backend;
mod broadcast;
mod certificate;
mod client;
mod event;
mod event_loop;
mod floor;
mod frame;
mod gateway;
mod handshakes;
mod http1;
#[cfg_attr(not(feature = "kafka"), path = "kafka_absent.rs")]
mod kafka;
mod load;
mod meter;
mod options;
mod process;
mod push;
mod reconnects;
mod rules;
mod sources;
mod stalled;
mod stats;
mod suite;
mod table;
mod target;
mod tls;
mod transport;
mod variants;
mod watchers;

use std::process::ExitCode;

use anyhow::{bail, Context};
use clap::Parser;
use tokio::signal::unix::{signal, SignalKind};

use crate::options::{Command, Options, Output};

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    if let Command::Floor { backend, workers } = options.command {
        process::raise_open_files_limit()?;
        return floor::run(backend, options.kafka(), workers);
    }
    if let Command::Producer { in_flight } = options.command {
        return producer(&options, in_flight);
    }
    // This thread only waits, starts and counts; the load has threads of its own.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = measure(options) => done,
            // Returning drops what was started, and that ends the children.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

fn producer(options: &Options, in_flight: usize) -> anyhow::Result<()> {
    let kafka = options.kafka().context("which Kafka?")?;
    let (amounts, _) = options.amounts(u64::MAX);
    let load::Amounts { events, event_bytes, connections, longest, .. } = amounts;
    let amount = kafka::Amount { events, event_bytes, in_flight, connections, longest };
    println!("{}", serde_json::to_string(&kafka::alone(&kafka.brokers, &kafka.topic, amount)?)?);
    Ok(())
}

async fn measure(options: Options) -> anyhow::Result<()> {
    let output = options.output;
    let open_files_max = process::raise_open_files_limit()?;
    let (amounts, mut notes) = options.amounts(open_files_max);
    let (crowds, of_crowds) = options.crowds(open_files_max);
    notes.extend(of_crowds);
    let settings = options.describe(&amounts);
    let suite = options.suite(load::Rig::start(amounts).await?, crowds)?;
    let mut table = suite.run().await?;
    notes.into_iter().for_each(|note| table.note(note));
    match output {
        Output::Table => print!("{}", table.text()),
        Output::Json => println!("{:#}", table.json(settings)),
    }
    Ok(())
}
