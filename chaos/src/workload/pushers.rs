//! Services that push: to connections by chance, through nodes by chance. Also the watch on dead connections, which asks
//! for them until they are said to be gone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::Rng;
use serde_json::json;
use tokio::sync::watch;

use super::{is_over, Phase, Workload};
use crate::cluster::Entrances;
use crate::history::{History, Op, Outcome};
use crate::http::{self, NoAnswer, Request};
use crate::service::{Directory, Known};

/// Longer than the gateway's own deadline of 3 s.
const WITHIN: Duration = Duration::from_secs(6);
const BETWEEN_PUSHES_MILLIS: std::ops::Range<u64> = 10..40;
const GONE: u16 = 410;

pub fn start(
    pushers: u32,
    seed: u64,
    entrances: &Arc<Entrances>,
    directory: &Arc<Directory>,
    history: &Arc<History>,
) -> Workload {
    let mut workload = Workload::new();
    let numbers = Arc::new(AtomicU64::new(1));
    for pusher in 0..pushers {
        let pusher = Pusher {
            pusher,
            entrances: entrances.clone(),
            directory: directory.clone(),
            history: history.clone(),
            numbers: numbers.clone(),
            rng: super::rng(seed, &format!("pusher {pusher}")),
        };
        workload.spawn(pusher.push_on(workload.phase()));
    }
    workload
}

struct Pusher {
    pusher: u32,
    entrances: Arc<Entrances>,
    directory: Arc<Directory>,
    history: Arc<History>,
    numbers: Arc<AtomicU64>,
    rng: StdRng,
}

impl Pusher {
    async fn push_on(mut self, mut phase: watch::Receiver<Phase>) {
        while !is_over(&phase) {
            if let Some((client, known)) = self.directory.pick(&mut self.rng) {
                self.push(client, known).await;
            }
            let pause = Duration::from_millis(self.rng.random_range(BETWEEN_PUSHES_MILLIS));
            let _over = tokio::time::timeout(pause, phase.wait_for(|phase| *phase > Phase::Act)).await;
        }
    }

    async fn push(&mut self, client: String, Known { connection, owner }: Known) {
        let push = self.numbers.fetch_add(1, Ordering::Relaxed);
        let node = self.entrances.pick(&mut self.rng);
        let body = json!({"push": push, "client": client, "to": connection}).to_string();
        let start = self.history.now();
        let (outcome, status) = push_to(&self.entrances, node, &connection, &body).await;
        if status == GONE {
            self.directory.forget(&client);
        }
        let pusher = self.pusher;
        self.history.add(start, outcome, Op::Push { push, pusher, client, connection, owner, node, status });
    }
}

async fn push_to(entrances: &Entrances, node: usize, connection: &str, body: &str) -> (Outcome, u16) {
    let path = format!("/api/v1/connections/{connection}");
    let request = Request { method: "POST", path: &path, headers: &[], body: body.as_bytes() };
    match http::send(entrances.address(node).admin, &request, WITHIN).await {
        Ok(answer) if answer.is_success() => (Outcome::Ok, answer.status),
        Ok(answer) => {
            let said_unknown = String::from_utf8_lossy(&answer.body).contains("unknown");
            let known = (400..500).contains(&answer.status) || answer.status == 503 && !said_unknown;
            (if known { Outcome::Failed } else { Outcome::Unknown }, answer.status)
        }
        Err(NoAnswer::NotSent(_)) => (Outcome::Failed, 0),
        Err(NoAnswer::Unknown(_)) => (Outcome::Unknown, 0),
    }
}

/// How many times in a row "gone" must be said before it is believed to stay so.
const GONE_IN_A_ROW: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Pushes to connections of a dead node through the other ones until all of them say that they are gone. `false`: some
/// did not within the time.
pub async fn until_gone(
    dead: &[Known],
    through: &BTreeSet<usize>,
    within: Duration,
    entrances: &Entrances,
    history: &History,
) -> bool {
    let deadline = Instant::now() + within;
    let looks =
        dead.iter().flat_map(|known| through.iter().map(move |node| (known, *node))).map(|(known, node)| async move {
            let mut in_a_row = 0;
            while in_a_row < GONE_IN_A_ROW && Instant::now() < deadline {
                let start = history.now();
                let (outcome, status) = push_to(entrances, node, &known.connection, r#"{"push":0}"#).await;
                in_a_row = if status == GONE { in_a_row + 1 } else { 0 };
                history.add(start, outcome, Op::DeadPush { connection: known.connection.clone(), node, status });
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            in_a_row >= GONE_IN_A_ROW
        });
    futures::future::join_all(looks).await.into_iter().all(|gone| gone)
}
