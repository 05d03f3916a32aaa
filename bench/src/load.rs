//! The loads themselves, the same for floor and gateway: idle connections, inbound events, pushes. Each gives the
//! figures of one round; `suite` decides which loads run against what, and how often.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::backend;
use crate::client::Fleet;
use crate::event_loop::EventLoop;
use crate::meter::{now_nanos, Board, Ends, Outcome, Run};
use crate::process::{cpu_seconds, rss_bytes};
use crate::push;
use crate::target::{PushRoute, Target};

/// CPU is reported per this many events.
pub const CPU_PER_EVENTS: f64 = 100_000.0;
/// Share of a load's events that is sent first and not counted: connection pools fill, caches warm.
const WARM_UP_SHARE: u64 = 10;
/// Share of the idle connections that is open before memory is first read: what a server allocates once, at its first
/// connections, is no cost per connection.
const IDLE_WARM_UP_SHARE: usize = 50;

/// For a sender to notice that its run is over.
const SENDER_ENDS_LONGEST: Duration = Duration::from_millis(100);

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Amounts {
    pub connections: usize,
    pub idle_connections: usize,
    pub senders: usize,
    /// Per load and round.
    pub events: u64,
    /// Size of one event.
    pub event_bytes: usize,
    /// Longest a load may take; what is then outstanding is reported as missing.
    pub longest: Duration,
    /// Between opening idle connections and reading memory.
    pub settle: Duration,
}

/// The load's own threads, and where they report.
pub struct Rig {
    pub clients: EventLoop,
    pub services: EventLoop,
    pub board: Arc<Board>,
    pub backend: SocketAddr,
    pub amounts: Amounts,
}

/// How many events, how many of them outstanding in each of how many slots, and when one is done with.
#[derive(Clone, Copy)]
pub struct Load {
    pub slots: usize,
    pub window: usize,
    pub events: u64,
    pub ends: Ends,
}

/// CPU, rate and latency of one load in one round.
#[derive(Debug)]
pub struct Flow {
    pub outcome: Outcome,
    /// Of all processes counted, from the first event to the last.
    pub cpu_seconds: f64,
    /// Requests with events in them that the backend got.
    pub requests: u64,
}

impl Rig {
    pub async fn start(amounts: Amounts) -> anyhow::Result<Self> {
        let clients = EventLoop::start("clients")?;
        let services = EventLoop::start("services")?;
        let board = Arc::new(Board::default());
        let backend = backend::start(&services, &board).await?;
        Ok(Self { clients, services, board, backend, amounts })
    }

    pub async fn connect(&self, target: &Target, count: usize) -> anyhow::Result<Fleet> {
        let way = (&target.transport, &[target.websocket][..]);
        Fleet::connect(&self.clients, &self.board, way, target.path, count).await
    }

    /// The same, spread evenly over the target's nodes.
    pub async fn connect_to_all(&self, target: &Target, count: usize) -> anyhow::Result<Fleet> {
        let way = (&target.transport, &target.everyone.websockets[..]);
        Fleet::connect(&self.clients, &self.board, way, target.path, count).await
    }

    /// Resident bytes that one idle connection adds to the server.
    pub async fn idle(&self, target: &Target) -> anyhow::Result<f64> {
        let first = (self.amounts.idle_connections / IDLE_WARM_UP_SHARE).max(1);
        let rest = self.amounts.idle_connections.saturating_sub(first).max(1);
        let _first = self.connect(target, first).await?;
        tokio::time::sleep(self.amounts.settle).await;
        let before = rss_bytes(target.owner_pid)?;
        let _rest = self.connect(target, rest).await?;
        tokio::time::sleep(self.amounts.settle).await;
        let after = rss_bytes(target.owner_pid)?;
        Ok((after as f64 - before as f64) / rest as f64)
    }

    /// Events from all clients of `fleet`, each with `window` outstanding, to the target's backend.
    pub async fn inbound(&self, target: &Target, fleet: &Fleet, window: usize, ends: Ends) -> anyhow::Result<Flow> {
        let bytes = self.amounts.event_bytes;
        let start = |run: &Arc<Run>| fleet.send(&self.clients.handle, &self.board, run, bytes);
        let load = Load { slots: self.amounts.connections, window, events: self.amounts.events, ends };
        self.flow(&[target.owner_pid], load, start).await
    }

    /// Pushes through `route` to all connections in turn.
    pub async fn push(&self, route: &PushRoute, connection_ids: &Arc<Vec<String>>) -> anyhow::Result<Flow> {
        let Amounts { senders, event_bytes, .. } = self.amounts;
        let start = |run: &Arc<Run>| {
            let senders = push::Senders { count: senders, event_bytes, pause: None };
            push::send(&self.services.handle, &self.board, run, route.door, connection_ids, senders)
        };
        let load = Load { slots: senders, window: 1, events: self.amounts.events, ends: Ends::Received };
        self.flow(&route.pids, load, start).await
    }

    /// The warm-up, then the load that counts. `start` starts whoever sends.
    pub async fn flow(
        &self,
        pids: &[u32],
        load: Load,
        start: impl Fn(&Arc<Run>) -> Vec<JoinHandle<()>>,
    ) -> anyhow::Result<Flow> {
        let warm_up = Load { events: (load.events / WARM_UP_SHARE).max(1), ..load };
        self.once(pids, warm_up, &start).await?;
        self.once(pids, load, &start).await
    }

    async fn once(
        &self,
        pids: &[u32],
        load: Load,
        start: &impl Fn(&Arc<Run>) -> Vec<JoinHandle<()>>,
    ) -> anyhow::Result<Flow> {
        let cpu = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<anyhow::Result<f64>>();
        let run = self.board.start_until(load.ends, load.slots, load.window, load.events);
        let (before, requests) = (cpu()?, self.board.requests());
        let started = now_nanos();
        let senders = start(&run);
        let outcome = self.board.finish(&run, started, self.amounts.longest).await;
        // The last event may have arrived before its sender was answered; only who is stuck is cut off.
        for mut sender in senders {
            if tokio::time::timeout(SENDER_ENDS_LONGEST, &mut sender).await.is_err() {
                sender.abort();
            }
        }
        Ok(Flow { outcome, cpu_seconds: cpu()? - before, requests: self.board.requests() - requests })
    }
}
