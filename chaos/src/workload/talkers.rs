//! Clients that talk: each keeps one connection, sends numbered events, takes pushes, and connects again elsewhere when
//! its connection ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::Rng;
use tokio::sync::watch;

use super::{Phase, Workload};
use crate::clients::{Client, Incoming};
use crate::cluster::Entrances;
use crate::history::History;

/// Between two events of one client.
const BETWEEN_EVENTS_MILLIS: std::ops::Range<u64> = 80..240;
/// Between two tries to connect.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// A client that hears nothing for so long while it is cut off looks for another node. Clients of a node that only stands
/// still wait longer: that they keep their connection is what is to be seen then.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts clients, spread evenly over the nodes at first.
pub fn start(clients: usize, seed: u64, entrances: &Arc<Entrances>, history: &Arc<History>) -> Workload {
    let mut workload = Workload::new();
    for slot in 0..clients {
        let talker = Talker {
            slot,
            entrances: entrances.clone(),
            history: history.clone(),
            rng: super::rng(seed, &format!("talker {slot}")),
            phase: workload.phase(),
        };
        workload.spawn(talker.talk());
    }
    workload
}

struct Talker {
    slot: usize,
    entrances: Arc<Entrances>,
    history: Arc<History>,
    rng: StdRng,
    phase: watch::Receiver<Phase>,
}

impl Talker {
    async fn talk(mut self) {
        let mut node = self.slot % self.entrances.len();
        let mut tries: u64 = 0;
        // A client that has lost its connection finds another one also while the others only listen.
        while *self.phase.borrow() < Phase::End {
            let name = format!("c{}.{tries}", self.slot);
            tries += 1;
            let address = self.entrances.address(node).client;
            match Client::open(name, node, address, self.entrances.clients_from, &self.history).await {
                Ok(client) => self.stay(client).await,
                Err(err) => {
                    self.history.note(format!("c{} could not connect to node {node}: {err}", self.slot));
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
            }
            node = self.elsewhere(node);
        }
    }

    /// Until the connection or the workload ends.
    async fn stay(&mut self, mut client: Client) {
        let mut phase = self.phase.clone();
        let mut heard = Instant::now();
        loop {
            let acts = *phase.borrow_and_update() == Phase::Act;
            let pause = Duration::from_millis(self.rng.random_range(BETWEEN_EVENTS_MILLIS));
            let next_event = tokio::time::sleep(pause);
            tokio::pin!(next_event);
            let sends = loop {
                tokio::select! {
                    incoming = client.receive() => match incoming {
                        Incoming::Message => heard = Instant::now(),
                        Incoming::Ended => return client.answer_close().await,
                    },
                    () = &mut next_event, if acts => break true,
                    _ = phase.changed() => break false,
                }
            };
            if *phase.borrow() == Phase::End {
                return client.close().await;
            }
            if heard.elapsed() > PATIENCE && !self.entrances.has_client_side(client.node) {
                return client.give_up();
            }
            if sends {
                client.send_next().await;
            }
        }
    }

    /// A usable node that is not this one, if there is any.
    fn elsewhere(&mut self, node: usize) -> usize {
        let others: Vec<usize> = self.entrances.usable().into_iter().filter(|other| *other != node).collect();
        match others.len() {
            0 => self.entrances.pick(&mut self.rng),
            count => others[self.rng.random_range(0..count)],
        }
    }
}
