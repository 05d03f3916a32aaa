//! The command line: one file per command. Exit codes: 0 ok, 1 failed, 2 wrong usage, or drift.

mod api;
mod check;
mod demo;
mod explain;
mod file_tests;
mod files;
mod http;
mod sample_chat;
mod serve;
mod settings;
mod ws;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A self-hosted, clustered WebSocket API gateway.
#[derive(Parser)]
#[command(name = "wsgateway", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node.
    Serve(serve::Serve),
    /// Start a cluster of nodes on loopback with a sample chat service, and say what to try.
    Demo(demo::Demo),
    /// Check endpoint documents without a cluster.
    Check(check::Check),
    /// Say what would happen to one event, step by step, and send nothing.
    Explain(explain::Explain),
    /// A console client: lines typed are sent, messages received are printed.
    Ws(ws::Ws),
    /// Print each setting of a node with its value and where that comes from.
    Settings(settings::ShowSettings),
    /// Print the version.
    Version,
    /// The demo's chat service: HTTP only, as any service behind the gateway.
    #[command(hide = true)]
    SampleChat(sample_chat::SampleChat),
}

/// Runs the command.
pub fn run(arguments: Arguments) -> ExitCode {
    let ran = match arguments.command {
        Command::Serve(serve) => serve.run(),
        Command::Demo(demo) => demo.run(),
        Command::Check(check) => check.run(),
        Command::Explain(explain) => explain.run(),
        Command::Ws(ws) => ws.run(),
        Command::Settings(settings) => settings.run(),
        Command::Version => {
            println!("wsgateway {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::SampleChat(chat) => chat.run(),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            err.downcast_ref::<Failed>().map_or(ExitCode::FAILURE, |failed| ExitCode::from(failed.code))
        }
    }
}

/// An error with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    code: u8,
    message: String,
}

impl Failed {
    /// The command line itself is wrong, or (`apply --dry-run`, `diff`) there is something to do.
    pub fn usage(message: impl Into<String>) -> Failed {
        Failed { code: 2, message: message.into() }
    }
}

/// Runs what calls the admin API.
fn block_on<T>(work: impl std::future::Future<Output = T>) -> T {
    actix_rt::System::new().block_on(work)
}
