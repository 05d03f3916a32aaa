//! The command line, and what it means in amounts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

use crate::load::{Amounts, Rig};
use crate::stalled::Crowd;
use crate::suite::{Compared, Crowds, Suite};
use crate::target::KafkaTopic;

const CONNECTIONS: usize = 64;
const IDLE_CONNECTIONS: usize = 10_000;
/// With and without TLS.
const TLS_IDLE_CONNECTIONS: usize = 2_000;
/// Open files that a gateway keeps for other things than its clients, or half of its limit where that is less. It is more
/// than this program needs besides its clients: the backend's side of the server's connections, and its own.
const OTHER_OPEN_FILES: u64 = 2_048;
/// Room for handshakes that are under way beside the connections that are open.
const HANDSHAKES: u64 = 64;

/// Measures the gateway beside a codec-only floor: memory per idle connection; rate, server CPU and latency of
/// events and pushes; broadcasts, reconnects and clients that never read. Starts and ends all servers itself, on loopback.
#[derive(Parser)]
#[command(
    name = "bench",
    after_help = "Examples:\n  bench all --rounds 3\n  bench inbound --window 16 --output json\n  \
    bench idle --connections 5000 --floor-only\n  bench broadcast --receivers 10000 --events 500000\n  bench tls --rounds 5 --window 16"
)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
    /// Connections under events and pushes [default: 64]; with `idle`, the idle ones
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
    /// Idle connections [default: 10000; with `tls`: 2000]
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(2..))]
    idle_connections: Option<u32>,
    /// Events outstanding per connection; several values are several loads
    #[arg(long, global = true, value_delimiter = ',', default_values_t = [1, 16], value_parser = clap::value_parser!(u16).range(1..))]
    window: Vec<u16>,
    /// Concurrent push senders, each with one push outstanding
    #[arg(long, global = true, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    senders: u16,
    /// Events (or pushes) per load and round
    #[arg(long, global = true, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Bytes of one event
    #[arg(long, global = true, default_value_t = 128)]
    event_bytes: u16,
    /// Longest time of one load in one round
    #[arg(long, global = true, default_value_t = 60)]
    seconds_max: u16,
    /// Wait between opening idle connections and reading memory
    #[arg(long, global = true, default_value_t = 2)]
    settle_seconds: u16,
    /// Rounds; each runs the floor, then the gateway
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The gateway [default: `wsgateway` beside this program]
    #[arg(long, global = true)]
    binary: Option<PathBuf>,
    /// Gateway nodes under pushes and broadcasts (two or more for remote ones)
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Worker threads of the floor; the gateway has one per core
    #[arg(long, global = true, default_value_t = default_workers())]
    workers: usize,
    /// Kafka's bootstrap servers, for the Kafka load
    #[arg(long, global = true, value_name = "HOST:PORT", requires = "topic")]
    kafka: Option<String>,
    /// An existing topic for the Kafka load, which only adds records to it
    #[arg(long, global = true, requires = "kafka")]
    topic: Option<String>,
    /// Measure the floor alone
    #[arg(long, global = true)]
    floor_only: bool,
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Subcommand, Clone, PartialEq, Eq)]
pub enum Command {
    /// Resident memory per idle connection
    Idle,
    /// Events from clients to an HTTP backend
    Inbound,
    /// Pushes from services to clients, through the owning node and through another one
    Push,
    /// Events from clients to a Kafka topic; needs --kafka and --topic
    Kafka,
    /// Events to endpoints with many routes, a schema and a template, as multiples of one without; needs the gateway
    Rules,
    /// Events with acks when delivered, as multiples of those without; needs the gateway; to Kafka too with --kafka
    Acks,
    /// Events to an HTTP service in batches, as multiples of a request each; needs the gateway
    Batches,
    /// Events while operators look at figures and the live tail, as multiples of those that nobody watches; needs the gateway
    Watched,
    /// Kafka's records to all of the idle connections and to one of them; needs the gateway, --kafka and --topic
    Sources,
    /// Handshakes with and without authentication, as multiples of none; needs the gateway
    Handshakes {
        /// Of each kind in a round
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
    /// Idle connections, handshakes and events of an endpoint that echoes, with TLS and without; needs the gateway
    Tls {
        /// Handshakes of each kind in a round
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
    /// A message to all connections of an endpoint, spread over all nodes
    Broadcast {
        /// Connections; several values are several loads. --events counts deliveries
        #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000], value_parser = clap::value_parser!(u32).range(1..))]
        receivers: Vec<u32>,
    },
    /// Open connections that are all cut at once, and whose clients all come back at once
    Reconnects {
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
    /// Clients that never read while services push to them, beside --connections others that do
    Stalled {
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
        clients: u32,
        /// Bytes of one message to them
        #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(128..=131_072))]
        message_bytes: u32,
    },
    /// Idle connections, events and pushes; Kafka where --kafka says
    All,
    /// Kafka's producer alone; started by the others
    #[command(hide = true)]
    Producer {
        #[arg(long)]
        in_flight: usize,
    },
    /// The floor itself; started by the others
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        backend: SocketAddr,
        #[arg(long)]
        workers: usize,
    },
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Table,
    Json,
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Connections that one process may have besides its other files.
fn connections_max(open_files_max: u64) -> usize {
    let other = OTHER_OPEN_FILES.min(open_files_max / 2) + HANDSHAKES;
    usize::try_from(open_files_max.saturating_sub(other)).unwrap_or(usize::MAX).max(2)
}

impl Options {
    /// The amounts asked for, scaled down to `open_files_max` per process, with a note where that happened.
    pub fn amounts(&self, open_files_max: u64) -> (Amounts, Vec<String>) {
        let mut notes = Vec::new();
        let as_idle = self.connections.filter(|_| self.command == Command::Idle);
        let of_tls = matches!(self.command, Command::Tls { .. });
        let default = if of_tls { TLS_IDLE_CONNECTIONS } else { IDLE_CONNECTIONS };
        let wanted = self.idle_connections.or(as_idle).map_or(default, |count| count as usize);
        let possible = connections_max(open_files_max);
        let idle_connections = wanted.min(possible);
        let measured = self.measures(Command::Idle) || self.command == Command::Sources || of_tls;
        if idle_connections < wanted && measured {
            notes.push(format!(
                "{idle_connections} idle connections instead of {wanted}: a process may open {open_files_max} files here"
            ));
        }
        let amounts = Amounts {
            connections: self.connections.map_or(CONNECTIONS, |count| count as usize).min(possible),
            idle_connections,
            senders: usize::from(self.senders),
            events: self.events,
            event_bytes: usize::from(self.event_bytes),
            longest: Duration::from_secs(u64::from(self.seconds_max)),
            settle: Duration::from_secs(u64::from(self.settle_seconds)),
        };
        (amounts, notes)
    }

    /// The loads of many connections, scaled down likewise.
    pub fn crowds(&self, open_files_max: u64) -> (Crowds, Vec<String>) {
        let (possible, mut notes) = (connections_max(open_files_max), Vec::new());
        let mut scaled = |wanted: u32, most: usize| {
            let (wanted, most) = (wanted as usize, most.max(1));
            if wanted > most {
                notes.push(format!(
                    "{most} connections instead of {wanted}: a process may open {open_files_max} files here"
                ));
            }
            wanted.min(most)
        };
        let mut crowds = Crowds::default();
        match &self.command {
            Command::Broadcast { receivers } => {
                crowds.broadcast = receivers.iter().map(|count| scaled(*count, possible)).collect();
                // Two that have become the same are one load.
                crowds.broadcast.dedup();
            }
            Command::Reconnects { count } => {
                // The backend hears of all of them at once, over half as many connections or fewer.
                let count = scaled(*count, possible / 3 * 2);
                crowds.reconnects = Some(count);
                if 2 * count > possible {
                    notes.push(format!(
                        "a server may open {open_files_max} files here: one that still has all of the {count} \
                         connections that were cut has no room for {count} more"
                    ));
                }
            }
            Command::Stalled { clients, message_bytes } => {
                let others = self.connections.map_or(CONNECTIONS, |count| count as usize);
                let clients = scaled(*clients, possible.saturating_sub(others));
                crowds.stalled = Some(Crowd { clients, message_bytes: *message_bytes as usize });
            }
            _ => {}
        }
        (crowds, notes)
    }

    fn measures(&self, command: Command) -> bool {
        self.command == command || self.command == Command::All
    }

    pub fn kafka(&self) -> Option<KafkaTopic> {
        Some(KafkaTopic { brokers: self.kafka.clone()?, topic: self.topic.clone()? })
    }

    /// What someone needs to know to repeat the run.
    pub fn describe(&self, amounts: &Amounts) -> serde_json::Value {
        serde_json::json!({
            "cores": default_workers(),
            "floor_workers": self.workers,
            "push_nodes": self.nodes,
            "rounds": self.rounds,
            "windows": self.window,
            "connections": amounts.connections,
            "idle_connections": amounts.idle_connections,
            "senders": amounts.senders,
            "events": amounts.events,
            "event_bytes": amounts.event_bytes,
            "seconds_max": amounts.longest.as_secs(),
        })
    }

    pub fn suite(&self, rig: Rig, crowds: Crowds) -> anyhow::Result<Suite> {
        let beside = || -> anyhow::Result<PathBuf> { Ok(std::env::current_exe()?.with_file_name("wsgateway")) };
        let binary = match (self.floor_only, &self.binary) {
            (true, _) => None,
            (false, Some(binary)) => Some(binary.clone()),
            (false, None) => Some(beside()?),
        };
        if let Some(binary) = &binary {
            std::fs::metadata(binary).with_context(|| {
                format!("{}: build the gateway, or give --binary or --floor-only", binary.display())
            })?;
        }
        let kafka = self
            .kafka()
            .filter(|_| self.measures(Command::Kafka) || matches!(self.command, Command::Acks | Command::Sources));
        anyhow::ensure!(kafka.is_some() || self.command != Command::Kafka, "which Kafka? Give --kafka and --topic");
        Ok(Suite {
            rig,
            crowds,
            kafka,
            idle: self.measures(Command::Idle),
            inbound: self.measures(Command::Inbound),
            push: self.measures(Command::Push),
            compared: match self.command {
                Command::Rules => Some(Compared::Rules),
                Command::Acks => Some(Compared::Acks),
                Command::Batches => Some(Compared::Batches),
                Command::Watched => Some(Compared::Watched),
                Command::Sources => Some(Compared::Sources),
                _ => None,
            },
            handshakes: match self.command {
                Command::Handshakes { count } => Some(count as usize),
                _ => None,
            },
            tls: match self.command {
                Command::Tls { count } => Some(count as usize),
                _ => None,
            },
            windows: self.window.iter().map(|window| usize::from(*window)).collect(),
            rounds: usize::from(self.rounds),
            workers: self.workers,
            nodes: usize::from(self.nodes),
            binary,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(line: &[&str], open_files_max: u64) -> (Amounts, Vec<String>) {
        Options::try_parse_from(line).unwrap().amounts(open_files_max)
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn connections_are_idle_ones_only_with_idle() {
        let (with_idle, _) = amounts(&["bench", "idle", "--connections", "500"], 20_000);
        assert_eq!(with_idle.idle_connections, 500);
        let (with_all, _) = amounts(&["bench", "all", "--connections", "500"], 20_000);
        assert_eq!((with_all.connections, with_all.idle_connections), (500, IDLE_CONNECTIONS));
    }

    #[test]
    fn crowds_are_those_of_their_command_and_scale_down_too() {
        let crowds = |line: &[&str], open_files_max| Options::try_parse_from(line).unwrap().crowds(open_files_max);
        let (broadcast, notes) = crowds(&["bench", "broadcast"], 20_000);
        assert_eq!((broadcast.broadcast, broadcast.reconnects, notes.len()), (vec![1_000, 10_000], None, 0));
        let (broadcast, notes) = crowds(&["bench", "broadcast", "--receivers", "4000,8000"], 4_096);
        assert_eq!((broadcast.broadcast, notes.len()), (vec![1_984], 2));
        assert!(notes[1].contains("1984 connections instead of 8000"), "{notes:?}");

        let (reconnects, notes) = crowds(&["bench", "reconnects"], 30_000);
        assert_eq!((reconnects.reconnects, notes.len()), (Some(10_000), 0));
        let (_, notes) = crowds(&["bench", "reconnects"], 20_000);
        assert!(notes[0].contains("no room for 10000 more"), "{notes:?}");
        assert_eq!(crowds(&["bench", "reconnects"], 4_096).0.reconnects, Some(1_322));

        let (stalled, _) = crowds(&["bench", "stalled", "--connections", "96"], 4_096);
        assert_eq!(stalled.stalled, Some(Crowd { clients: 1_000, message_bytes: 16_384 }));
        let (stalled, notes) = crowds(&["bench", "stalled", "--clients", "5000", "--connections", "96"], 4_096);
        assert_eq!((stalled.stalled.map(|crowd| crowd.clients), notes.len()), (Some(1_888), 1));
        assert!(Options::try_parse_from(["bench", "stalled", "--message-bytes", "10"]).is_err());
        assert_eq!(crowds(&["bench", "all"], 20_000).0, Crowds::default());
    }

    #[test]
    fn too_few_open_files_scale_down_and_say_so() {
        let (scaled, notes) = amounts(&["bench", "idle"], 4096);
        assert_eq!(scaled.idle_connections, 1_984);
        assert!(notes[0].contains("1984 idle connections instead of 10000"));
        assert!(amounts(&["bench", "idle"], 20_000).1.is_empty());
    }

    #[test]
    fn tls_has_fewer_idle_connections_unless_told_otherwise() {
        assert_eq!(amounts(&["bench", "tls"], 20_000).0.idle_connections, TLS_IDLE_CONNECTIONS);
        let (scaled, notes) = amounts(&["bench", "tls", "--idle-connections", "5000"], 4096);
        assert_eq!((scaled.idle_connections, notes.len()), (1_984, 1));
    }
}
