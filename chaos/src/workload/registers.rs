//! Registers: a few endpoints that several actors of each node read (linearizable), overwrite, and write under the
//! condition that the version is still the one that they know. One attempt each: what is not answered stays unknown. Made
//! for the checker of linearizability.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use rand::rngs::StdRng;
use rand::Rng;
use serde_json::json;
use tokio::sync::watch;

use super::config_writer::{judge, what_was_read, ATTEMPT_WITHIN};
use super::{is_over, Phase, Workload};
use crate::cluster::Entrances;
use crate::history::{History, Op, Outcome};
use crate::http::{self, Request};

/// Few, so that the actors meet.
const REGISTERS: usize = 2;
const ACTORS_PER_NODE: usize = 2;
const BETWEEN_OPERATIONS_MILLIS: std::ops::Range<u64> = 80..250;
/// Markers and paths begin with this.
pub const LABEL: &str = "register-";
const CREATED_WITHIN: Duration = Duration::from_secs(20);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

pub async fn start(seed: u64, entrances: &Arc<Entrances>, history: &Arc<History>) -> anyhow::Result<Workload> {
    let mut registers = Vec::new();
    for number in 0..REGISTERS {
        registers.push(create(number, entrances, history).await?);
    }
    let mut workload = Workload::new();
    for actor in 0..entrances.len() * ACTORS_PER_NODE {
        let actor = Actor {
            name: format!("{LABEL}a{actor}"),
            node: actor % entrances.len(),
            entrances: entrances.clone(),
            history: history.clone(),
            rng: super::rng(seed, &format!("register {actor}")),
            known: registers.iter().map(|id| Register { id: id.clone(), version: 1 }).collect(),
        };
        workload.spawn(actor.act_on(workload.phase()));
    }
    Ok(workload)
}

async fn create(number: usize, entrances: &Entrances, history: &History) -> anyhow::Result<String> {
    let marker = format!("{LABEL}{number}");
    let deadline = Instant::now() + CREATED_WITHIN;
    for attempt in 0.. {
        let write = Attempt { endpoint: None, number, marker: &marker, attempt, expected: None };
        let created = write.send(0, entrances, history).await;
        if let (Outcome::Ok, id) = created {
            return id.context("an endpoint without an id");
        }
        ensure!(Instant::now() < deadline, "{marker} could not be created within {CREATED_WITHIN:?}");
        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
    }
    anyhow::bail!("unreachable: attempts do not end")
}

#[derive(Clone)]
struct Register {
    id: String,
    /// As this actor knows it.
    version: u64,
}

struct Actor {
    name: String,
    node: usize,
    entrances: Arc<Entrances>,
    history: Arc<History>,
    rng: StdRng,
    known: Vec<Register>,
}

impl Actor {
    async fn act_on(mut self, mut phase: watch::Receiver<Phase>) {
        for count in 0_u64.. {
            if is_over(&phase) {
                return;
            }
            if self.entrances.is_usable(self.node) {
                self.act(count).await;
            }
            let pause = Duration::from_millis(self.rng.random_range(BETWEEN_OPERATIONS_MILLIS));
            let _over = tokio::time::timeout(pause, phase.wait_for(|phase| *phase > Phase::Act)).await;
        }
    }

    async fn act(&mut self, count: u64) {
        let number = self.rng.random_range(0..self.known.len());
        let Register { id, version } = self.known[number].clone();
        let lot = self.rng.random_range(0..10);
        if lot < 5 {
            if let Some(version) = self.read(&id).await {
                self.known[number].version = version;
            }
            return;
        }
        let marker = format!("{}-{count}", self.name);
        let expected = (lot < 7).then_some(version);
        let write = Attempt { endpoint: Some(&id), number, marker: &marker, attempt: 0, expected };
        write.send(self.node, &self.entrances, &self.history).await;
    }

    async fn read(&self, endpoint: &str) -> Option<u64> {
        let start = self.history.now();
        let path = format!("/api/v1/endpoints/{endpoint}?consistency=linearizable");
        let answer = http::get(self.entrances.address(self.node).admin, &path, ATTEMPT_WITHIN).await;
        let (outcome, version, marker) = what_was_read(answer);
        let op = Op::Read { endpoint: endpoint.to_owned(), node: self.node, version, marker };
        self.history.add(start, outcome, op);
        (outcome == Outcome::Ok).then_some(version)
    }
}

/// One write.
struct Attempt<'a> {
    /// Nothing: it is created.
    endpoint: Option<&'a str>,
    number: usize,
    marker: &'a str,
    attempt: u32,
    expected: Option<u64>,
}

impl Attempt<'_> {
    /// The outcome, and the endpoint that the answer names.
    async fn send(&self, node: usize, entrances: &Entrances, history: &History) -> (Outcome, Option<String>) {
        let document = json!({"path": format!("/written/{LABEL}{}", self.number), "name": self.marker, "routes": [
            {"type": "default", "name": "echo", "backends": [{"type": "echo"}]}]});
        let body = document.to_string();
        let (method, path) = match self.endpoint {
            None => ("POST", "/api/v1/endpoints".to_owned()),
            Some(id) => ("PUT", format!("/api/v1/endpoints/{id}")),
        };
        let condition = self.expected.map(|version| format!("\"{version}\""));
        let mut headers = vec![("Idempotency-Key", self.marker)];
        headers.extend(condition.as_deref().map(|condition| ("If-Match", condition)));
        let start = history.now();
        let request = Request { method, path: &path, headers: &headers, body: body.as_bytes() };
        let answer = http::send(entrances.address(node).admin, &request, ATTEMPT_WITHIN).await;
        let (outcome, status, named, version) = judge(&answer);
        let endpoint = named.clone().or(self.endpoint.map(str::to_owned));
        let (marker, attempt, expected) = (self.marker.to_owned(), self.attempt, self.expected);
        history.add(start, outcome, Op::Write { marker, node, attempt, status, endpoint, version, expected });
        (outcome, named)
    }
}
