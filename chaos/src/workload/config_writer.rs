//! Writes configuration through nodes by chance: creates endpoints and updates them, each write with a marker in its
//! document and an Idempotency-Key, tried again until somebody says yes or no. After some writes it reads back, marked
//! linearizable.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::Rng;
use serde_json::json;
use tokio::sync::watch;

use super::{is_over, Phase, Workload};
use crate::cluster::Entrances;
use crate::history::{History, Op, Outcome};
use crate::http::{self, NoAnswer, Request};

/// One attempt. Longer than the gateway's own deadline of 5 s, so that it is the gateway that says what is unknown.
pub const ATTEMPT_WITHIN: Duration = Duration::from_secs(7);
/// A write is tried again so long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Endpoints before most writes are updates.
const ENDPOINTS_WANTED: usize = 4;

#[derive(Clone, Debug)]
struct Endpoint {
    id: String,
    path: String,
}

/// What the writers of one workload share.
struct Desk {
    label: String,
    entrances: Arc<Entrances>,
    history: Arc<History>,
    endpoints: Mutex<Vec<Endpoint>>,
}

/// `label` keeps the paths and markers of one round of writers apart from those of another.
pub fn start(
    writers: u32,
    pause: Duration,
    label: &str,
    seed: u64,
    entrances: &Arc<Entrances>,
    history: &Arc<History>,
) -> Workload {
    let mut workload = Workload::new();
    let desk = Arc::new(Desk {
        label: label.to_owned(),
        entrances: entrances.clone(),
        history: history.clone(),
        endpoints: Mutex::default(),
    });
    for writer in 0..writers {
        let rng = super::rng(seed, &format!("writer {label} {writer}"));
        workload.spawn(desk.clone().write_on(writer, pause, rng, workload.phase()));
    }
    workload
}

impl Desk {
    async fn write_on(
        self: Arc<Desk>,
        writer: u32,
        pause: Duration,
        mut rng: StdRng,
        mut phase: watch::Receiver<Phase>,
    ) {
        for number in 0_u64.. {
            if is_over(&phase) {
                return;
            }
            let marker = format!("{}-w{writer}-{number}", self.label);
            let known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let create = known.len() < ENDPOINTS_WANTED || rng.random_bool(0.02);
            let target = (!create).then(|| known[rng.random_range(0..known.len())].clone());
            let written = self.write(&marker, target, &mut rng).await;
            if let Some(endpoint) = written.filter(|_| rng.random_bool(0.2)) {
                self.read(&endpoint.id, &mut rng).await;
            }
            let _over = tokio::time::timeout(pause, phase.wait_for(|phase| *phase > Phase::Act)).await;
        }
    }

    /// One write with its retries. Always sees it through, also when the workload is over.
    async fn write(&self, marker: &str, target: Option<Endpoint>, rng: &mut StdRng) -> Option<Endpoint> {
        let path = target.as_ref().map_or_else(|| format!("/written/{marker}"), |endpoint| endpoint.path.clone());
        let document = json!({"path": path, "name": marker, "routes": [
            {"type": "default", "name": "echo", "backends": [{"type": "echo"}]}]});
        let body = document.to_string();
        let (method, url) = match &target {
            None => ("POST", "/api/v1/endpoints".to_owned()),
            Some(endpoint) => ("PUT", format!("/api/v1/endpoints/{}", endpoint.id)),
        };
        let give_up = Instant::now() + GIVE_UP_AFTER;
        for attempt in 0.. {
            let node = self.entrances.pick(rng);
            let start = self.history.now();
            let headers = [("Idempotency-Key", marker)];
            let request = Request { method, path: &url, headers: &headers, body: body.as_bytes() };
            let answer = http::send(self.entrances.address(node).admin, &request, ATTEMPT_WITHIN).await;
            let (outcome, status, endpoint, version) = judge(&answer);
            let record = Op::Write {
                marker: marker.to_owned(),
                node,
                attempt,
                status,
                endpoint: endpoint.clone().or(target.as_ref().map(|endpoint| endpoint.id.clone())),
                version,
                expected: None,
            };
            self.history.add(start, outcome, record);
            if outcome == Outcome::Ok {
                let endpoint = Endpoint { id: endpoint?, path };
                if target.is_none() {
                    self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).push(endpoint.clone());
                }
                return Some(endpoint);
            }
            if Instant::now() > give_up {
                self.history.note(format!("{marker} was given up: {answer:?}"));
                return None;
            }
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
        None
    }

    async fn read(&self, endpoint: &str, rng: &mut StdRng) {
        let node = self.entrances.pick(rng);
        let start = self.history.now();
        let path = format!("/api/v1/endpoints/{endpoint}?consistency=linearizable");
        let answer = http::get(self.entrances.address(node).admin, &path, ATTEMPT_WITHIN).await;
        let (outcome, version, marker) = what_was_read(answer);
        self.history.add(start, outcome, Op::Read { endpoint: endpoint.to_owned(), node, version, marker });
    }
}

/// Of an answer to a read: the active version and the marker in its document.
pub fn what_was_read(answer: Result<http::Answer, NoAnswer>) -> (Outcome, u64, String) {
    let body = answer.ok().filter(|answer| answer.status == 200).map(|answer| answer.json()).unwrap_or_default();
    match (body["activeVersion"].as_u64(), body["document"]["name"].as_str()) {
        (Some(version), Some(marker)) => (Outcome::Ok, version, marker.to_owned()),
        _ => (Outcome::Failed, 0, String::new()),
    }
}

/// What an answer to a write says: the outcome, the status, the endpoint and its version.
pub fn judge(answer: &Result<http::Answer, NoAnswer>) -> (Outcome, u16, Option<String>, Option<u64>) {
    match answer {
        Ok(answer) if answer.is_success() => {
            let body = answer.json();
            let id = body["id"].as_str().map(str::to_owned);
            (Outcome::Ok, answer.status, id, body["activeVersion"].as_u64())
        }
        Ok(answer) => {
            // Only these say that nothing was written; storage_failed and 500 do not.
            let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
            let refused = (400..500).contains(&answer.status) || code == "no_leader";
            (if refused { Outcome::Failed } else { Outcome::Unknown }, answer.status, None, None)
        }
        Err(NoAnswer::NotSent(_)) => (Outcome::Failed, 0, None, None),
        Err(NoAnswer::Unknown(_)) => (Outcome::Unknown, 0, None, None),
    }
}
