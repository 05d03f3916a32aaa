//! What happened: every operation with its start, its end and what is known of its result. Workloads and faults add,
//! invariants read. Imports nothing of the crate.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

/// Microseconds since the run began.
pub type Micros = u64;

pub const SECOND: Micros = 1_000_000;

/// What the one who asked knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done: it must stay done.
    Ok,
    /// Refused: it must not have happened.
    Failed,
    /// No answer, or one that says so: it may have happened, once.
    Unknown,
}

/// One operation. Nodes are their index in the cluster, clients are named `c<slot>.<incarnation>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// One attempt of a configuration write; its retries carry the same marker and Idempotency-Key. `expected`: the version
    /// that had to be the active one; `version`: the active one afterwards, as the answer says.
    Write {
        marker: String,
        node: usize,
        attempt: u32,
        status: u16,
        endpoint: Option<String>,
        version: Option<u64>,
        expected: Option<u64>,
    },
    /// A read marked linearizable: the active version, and the marker in its document.
    Read { endpoint: String, node: usize, version: u64, marker: String },
    /// A client's connection opened.
    Connected { client: String, node: usize },
    /// It ended; 1006 is an end without a close frame.
    Ended { client: String, node: usize, code: u16, by_client: bool },
    /// A client sent its n-th event.
    Sent { client: String, n: u64 },
    /// The gateway told the client that the n-th event was not delivered.
    Declared { client: String, n: u64 },
    /// A pushed message arrived at a client; `to` and `connection` are what the message says.
    Got { client: String, to: String, connection: String, push: u64 },
    /// A push to a connection through a node.
    Push { push: u64, pusher: u32, client: String, connection: String, owner: usize, node: usize, status: u16 },
    /// A push to a connection whose node is dead, asked for again and again.
    DeadPush { connection: String, node: usize, status: u16 },
    /// The service behind the gateway received an event.
    Event(Event),
    /// What a node says of its configuration and of the others.
    Sample(Sample),
    /// Something was done to a node.
    Fault { fault: &'static str, node: usize },
    /// A step of the scenario, for those who read the history.
    Note { text: String },
}

/// An event as the service saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    pub kind: EventKind,
    pub connection: String,
    pub client: String,
    pub event_id: String,
    pub sequence: u64,
    /// Messages: which one of the client's.
    pub n: Option<u64>,
    /// Disconnects: how many messages the gateway had accepted.
    pub events_in: Option<u64>,
}

/// A node as it described itself and the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    pub node: usize,
    /// Empty: in none yet.
    pub cluster_id: String,
    pub index: u64,
    pub hash: String,
    pub term: u64,
    /// A node's label, where it is known.
    pub leader: Option<String>,
    pub voters: usize,
    /// Labels of nodes that gossip has for dead.
    pub not_live: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Connect,
    Message,
    Disconnect,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    pub start: Micros,
    pub end: Micros,
    pub outcome: Outcome,
    #[serde(flatten)]
    pub op: Op,
}

/// The history of one scenario; shared by all who act in it.
pub struct History {
    began: Instant,
    records: Mutex<Vec<Record>>,
}

impl History {
    pub fn new() -> History {
        History { began: Instant::now(), records: Mutex::default() }
    }

    pub fn now(&self) -> Micros {
        self.began.elapsed().as_micros() as Micros
    }

    /// Adds an operation that ends now.
    pub fn add(&self, start: Micros, outcome: Outcome, op: Op) {
        let end = self.now();
        self.lock().push(Record { start, end, outcome, op });
    }

    /// Adds something that has no duration.
    pub fn event(&self, op: Op) {
        self.add(self.now(), Outcome::Ok, op);
    }

    pub fn note(&self, text: impl Into<String>) {
        self.event(Op::Note { text: text.into() });
    }

    /// All of it so far, in the order in which operations ended.
    pub fn records(&self) -> Vec<Record> {
        self.lock().clone()
    }

    pub fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.lock().iter().filter(|record| wanted(record)).count()
    }

    /// Writes it as one JSON object a line.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        let mut file = std::io::BufWriter::new(file);
        for record in self.lock().iter() {
            serde_json::to_writer(&mut file, record)?;
            file.write_all(b"\n")?;
        }
        file.flush().with_context(|| path.display().to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
