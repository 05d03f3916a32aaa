//! A running server under load, floor or gateway: where to connect, where to push, whose CPU and memory to count.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::floor::{Listening, BROADCAST_PATH, PUSH_PREFIX};
use crate::load::Amounts;
use crate::process::{die_with_parent, Owned};
use crate::push::PushDoor;
use crate::transport::Transport;

pub const PUSH_LOCAL: &str = "push to a local owner";
pub const PUSH_REMOTE: &str = "push to a remote owner";

/// Where events go that go to Kafka.
#[derive(Clone)]
pub struct KafkaTopic {
    pub brokers: String,
    pub topic: String,
}

/// Ends its processes, and removes their files, when it is dropped.
pub struct Target {
    pub websocket: SocketAddr,
    /// How clients get there.
    pub transport: Transport,
    pub path: &'static str,
    /// The process that holds the clients' connections.
    pub owner_pid: u32,
    pub pushes: Vec<PushRoute>,
    pub everyone: Everyone,
    // Only held; the processes end before their files go.
    pub _processes: Vec<Owned>,
    pub _files: Option<tempfile::TempDir>,
}

/// All nodes together: where clients spread, and where one push goes to all of them.
pub struct Everyone {
    pub websockets: Vec<SocketAddr>,
    pub address: SocketAddr,
    pub path: String,
    /// All processes that such a push goes through.
    pub pids: Vec<u32>,
}

pub struct PushRoute {
    /// The loads that this route's figures stand for.
    pub loads: &'static [&'static str],
    pub door: PushDoor,
    /// All processes that such a push goes through.
    pub pids: Vec<u32>,
}

/// Starts `bench floor`, which posts to `backend`; with `kafka`, events go there instead.
pub fn start_floor(backend: SocketAddr, kafka: Option<&KafkaTopic>, workers: usize) -> anyhow::Result<Target> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "--backend", &backend.to_string(), "--workers", &workers.to_string()]);
    if let Some(KafkaTopic { brokers, topic }) = kafka {
        command.args(["--kafka", brokers, "--topic", topic]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    die_with_parent(&mut command);
    let mut process = Owned(command.spawn().context("starting the floor")?);
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().context("the floor has no output")?).read_line(&mut line)?;
    let listening: Listening = serde_json::from_str(&line).context("the floor did not say where it listens")?;
    let pid = process.pid();
    let door = PushDoor { address: listening.push, prefix: PUSH_PREFIX };
    Ok(Target {
        websocket: listening.client,
        transport: Transport::Clear,
        path: "/bench",
        owner_pid: pid,
        // The floor knows no nodes: its direct push is what both of the gateway's are measured by.
        pushes: vec![PushRoute { loads: &[PUSH_LOCAL, PUSH_REMOTE], door, pids: vec![pid] }],
        everyone: Everyone {
            websockets: vec![listening.client],
            address: listening.push,
            path: BROADCAST_PATH.to_owned(),
            pids: vec![pid],
        },
        _processes: vec![process],
        _files: None,
    })
}

/// What Kafka's producer alone came to: the one line that `bench producer` prints.
#[derive(Serialize, Deserialize)]
pub struct Alone {
    pub events: u64,
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub p50_millis: f64,
    pub p99_millis: f64,
}

/// Runs `bench producer` in a process of its own and waits for its end.
pub async fn producer_alone(kafka: &KafkaTopic, amounts: &Amounts, in_flight: usize) -> anyhow::Result<Alone> {
    const POLL: Duration = Duration::from_millis(20);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["producer", "--in-flight", &in_flight.to_string()]);
    command.args(["--kafka", &kafka.brokers, "--topic", &kafka.topic]);
    command.args(["--connections", &amounts.connections.to_string(), "--events", &amounts.events.to_string()]);
    command.args(["--event-bytes", &amounts.event_bytes.to_string()]);
    command.args(["--seconds-max", &amounts.longest.as_secs().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    die_with_parent(&mut command);
    let mut process = Owned(command.spawn().context("starting the producer")?);
    // The warm-up and the load have that long each.
    let deadline = Instant::now() + 2 * amounts.longest + POLL;
    while process.0.try_wait()?.is_none() {
        anyhow::ensure!(Instant::now() < deadline, "the producer took too long");
        tokio::time::sleep(POLL).await;
    }
    let mut line = String::new();
    process.0.stdout.take().context("the producer has no output")?.read_to_string(&mut line)?;
    serde_json::from_str(&line).context("the producer did not say what it took")
}
