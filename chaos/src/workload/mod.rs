//! Who uses the cluster while things go wrong. Each workload runs until it is told to stop, and records all that it does.
//! Imports cluster (entrances), clients, service (directory), http and history.

pub mod config_writer;
pub mod pushers;
pub mod registers;
pub mod sampler;
pub mod talkers;

use std::future::Future;

use rand::rngs::StdRng;
use rand::SeedableRng;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How far the actors of a workload may go. Later ones include earlier ones' end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Act,
    /// Start nothing new, but take what still comes.
    Listen,
    End,
}

/// The tasks of one workload.
pub struct Workload {
    phase: watch::Sender<Phase>,
    tasks: JoinSet<()>,
}

impl Workload {
    pub fn new() -> Workload {
        Workload { phase: watch::Sender::new(Phase::Act), tasks: JoinSet::new() }
    }

    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub fn spawn(&mut self, actor: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(actor);
    }

    /// Nothing new from now on.
    pub fn quieten(&self) {
        self.phase.send_replace(Phase::Listen);
    }

    /// Ends all actors and waits for them.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.phase.send_replace(Phase::End);
        while let Some(ended) = self.tasks.join_next().await {
            ended?; // an actor that panics is a mistake of this program
        }
        Ok(())
    }
}

/// An actor's own random numbers: the same for the same seed, whatever the others do.
pub fn rng(seed: u64, actor: &str) -> StdRng {
    // FNV-1a: stable across versions of everything.
    let hash = actor
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    StdRng::seed_from_u64(seed ^ hash)
}

pub fn is_over(phase: &watch::Receiver<Phase>) -> bool {
    *phase.borrow() > Phase::Act
}
