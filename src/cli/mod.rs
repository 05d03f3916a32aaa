//! The command line: one file per command. Exit codes: 0 ok, 1 failed, 2 wrong usage, or drift.

// First, for its macros.
#[macro_use]
mod out;

mod api;
mod apply;
mod audit;
mod check;
mod cluster;
mod cluster_data;
mod demo;
mod diff;
mod endpoints;
mod explain;
mod file_tests;
mod files;
mod http;
mod replay;
mod rollout;
mod sample_chat;
mod serve;
mod settings;
mod table;
mod tail;
mod token;
mod top;
mod trust;
mod ws;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    /// Make the cluster's endpoints what files say.
    Apply(apply::Apply),
    /// Compare a file with what runs, or one version with another.
    Diff(diff::Diff),
    /// List endpoints, or show one and its versions.
    Get(endpoints::Get),
    /// Activate an earlier version of an endpoint.
    Rollback(endpoints::Rollback),
    /// Send a message to a connected client.
    Push(endpoints::Push),
    /// Send dead letters again, from a Kafka topic or a file.
    Replay(replay::Replay),
    /// Say what would happen to one event, step by step, and send nothing.
    Explain(explain::Explain),
    /// Show the nodes of the cluster, have one leave, remove one; back up, restore, recover.
    Cluster(cluster::Cluster),
    /// Make, list and revoke tokens of the admin API.
    Token(token::Token),
    /// Say who did what, newest first.
    Audit(audit::Audit),
    /// Show what goes through the cluster now, by node and endpoint, again and again.
    Top(top::Top),
    /// Print events and messages as they pass, redacted.
    Tail(tail::Tail),
    /// A console client: lines typed are sent, messages received are printed.
    Ws(ws::Ws),
    /// Print each setting of a node with its value and where that comes from.
    Settings(settings::ShowSettings),
    /// Print the completions of a shell, for its own configuration to load.
    #[command(after_help = "Example:\n  wsgateway completions bash > /etc/bash_completion.d/wsgateway")]
    Completions {
        /// bash, zsh, fish, powershell or elvish
        shell: clap_complete::Shell,
    },
    /// Print what each metric means, in Markdown.
    Metrics,
    /// Print the version.
    Version,
    /// The demo's chat service: HTTP only, as any service behind the gateway.
    #[command(hide = true)]
    SampleChat(sample_chat::SampleChat),
}

/// Runs the command.
pub fn run(arguments: Arguments) -> ExitCode {
    out::run(|| run_command(arguments))
}

fn run_command(arguments: Arguments) -> ExitCode {
    let ran = match arguments.command {
        Command::Serve(serve) => serve.run(),
        Command::Demo(demo) => demo.run(),
        Command::Check(check) => check.run(),
        Command::Apply(apply) => apply.run(),
        Command::Diff(diff) => diff.run(),
        Command::Get(get) => get.run(),
        Command::Rollback(rollback) => rollback.run(),
        Command::Push(push) => push.run(),
        Command::Replay(replay) => replay.run(),
        Command::Explain(explain) => explain.run(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "wsgateway", &mut text);
            print!("{}", String::from_utf8_lossy(&text));
            Ok(())
        }
        Command::Cluster(cluster) => cluster.run(),
        Command::Token(token) => token.run(),
        Command::Audit(audit) => audit.run(),
        Command::Top(top) => top.run(),
        Command::Tail(tail) => tail.run(),
        Command::Ws(ws) => ws.run(),
        Command::Settings(settings) => settings.run(),
        Command::Metrics => {
            print!("{}", crate::telemetry::catalogue::page());
            Ok(())
        }
        Command::Version => {
            println!("wsgateway {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::SampleChat(chat) => chat.run(),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            let failed = err.downcast_ref::<Failed>();
            let is_drift = failed.is_some_and(|failed| failed.drift);
            eprintln!("{}{err:#}", if is_drift { "" } else { "error: " });
            failed.map_or(ExitCode::FAILURE, |_| ExitCode::from(2))
        }
    }
}

/// Ends a command with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    message: String,
    drift: bool,
}

impl Failed {
    /// The command line itself is wrong.
    pub fn usage(message: impl Into<String>) -> Failed {
        Failed { message: message.into(), drift: false }
    }

    /// Nothing is wrong, but files and cluster differ.
    pub fn drift(message: impl Into<String>) -> Failed {
        Failed { message: message.into(), drift: true }
    }
}

/// Runs what calls the admin API.
fn block_on<T>(work: impl std::future::Future<Output = T>) -> T {
    actix_rt::System::new().block_on(work)
}
