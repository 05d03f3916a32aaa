//! Clients that never read: what it costs a server to find out and to be rid of them, while services push messages to
//! them, each one of its own, and what others notice of it. Memory is read while it goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::BytesMut;
use futures::future::try_join_all;
use tokio::task::JoinHandle;

use crate::event::Stamp;
use crate::load::Rig;
use crate::meter::{now_nanos, Ends, Outcome, Run};
use crate::process::{accepted_sockets, rss_bytes, tcp_memory_bytes, tcp_memory_pressure_bytes};
use crate::push::{self, Caller, PushDoor, Senders};
use crate::table::{Server, Table};
use crate::target::{PushRoute, Target};

/// Services that push to those who don't read, each to its share of them, one push after the other.
const STUFFERS: usize = 4;
/// Services that push to those who do, at a rate that leaves the machine idle: some 800 pushes a second in all.
const OTHERS: Senders = Senders { count: 4, event_bytes: 128, pause: Some(Duration::from_millis(5)) };
/// Pushes to those who do before the others are stuffed, at most.
const PUSHES_BEFORE_MAX: u64 = 4_000;
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// A run of messages that nobody waits for; no other has its number.
const STUFFING_RUN: u64 = u64::MAX;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Who never reads, and how large the messages are that they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    pub clients: usize,
    pub message_bytes: usize,
}

/// Bytes that the server and, for everybody, the kernel's TCP hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    resident: u64,
    tcp: u64,
}

impl Memory {
    fn of(target: &Target) -> anyhow::Result<Self> {
        Ok(Self { resident: rss_bytes(target.owner_pid)?, tcp: tcp_memory_bytes()? })
    }

    fn most(self, other: Self) -> Self {
        Self { resident: self.resident.max(other.resident), tcp: self.tcp.max(other.tcp) }
    }
}

/// MiB from `before` to `after`; negative where it has become less.
fn mebibytes_more(before: u64, after: u64) -> f64 {
    (after as f64 - before as f64) / MEBIBYTE
}

/// What a service came to.
struct Stuffed {
    taken: u64,
    /// Clients that the server still took messages for when the time was up.
    left: usize,
}

/// What one round came to.
struct Figures {
    stuffed: Stuffed,
    /// From the first message to the last client's being given up.
    given_up: Duration,
    /// From the first message until the server held no socket of theirs any more.
    closed: Duration,
    /// Sockets that it still held when the time was up.
    open: usize,
    /// Before, at most, and when all was over.
    memory: [Memory; 3],
    /// The pushes to others: before, and meanwhile.
    others: [Outcome; 2],
}

pub async fn round(rig: &Rig, target: &Target, crowd: Crowd, server: Server, table: &mut Table) -> anyhow::Result<()> {
    let healthy = rig.connect(target, rig.amounts.connections).await?;
    let healthy_ids = Arc::new(healthy.introduce(&rig.clients.handle, &rig.board).await?);
    let mut fleet = rig.connect(target, crowd.clients).await?;
    let ids = fleet.introduce(&rig.clients.handle, &rig.board).await?;
    fleet.stop_reading();
    tokio::time::sleep(rig.amounts.settle).await;
    let figures = measure(rig, target, &healthy_ids, &ids, crowd.message_bytes).await?;
    report(&figures, crowd, server, table);
    if figures.memory[1].tcp > tcp_memory_pressure_bytes()? {
        table.note(format!(
            "{server:?}: the kernel was short of memory for TCP (tcp_mem): part of the figures is about that"
        ));
    }
    Ok(())
}

async fn measure(
    rig: &Rig,
    target: &Target,
    healthy: &Arc<Vec<String>>,
    silent: &[String],
    message_bytes: usize,
) -> anyhow::Result<Figures> {
    let route = target.pushes.first().context("a server has a door for pushes")?;
    let limit = rig.amounts.events.min(PUSHES_BEFORE_MAX);
    let pushes_before = Pushes::start(rig, route, healthy, limit).end(rig).await;
    let before = Memory::of(target)?;
    let mut most = before;
    let pushes = Pushes::start(rig, route, healthy, u64::MAX);
    let began = Instant::now();
    let stuffed = stuff_all(rig, target, route.door, silent, message_bytes, &mut most).await?;
    let given_up = began.elapsed();
    pushes.run.stop();
    let closing = async { (until_closed(rig, target, healthy.len(), &mut most).await, began.elapsed()) };
    let (pushes_meanwhile, (open, closed)) = tokio::join!(pushes.end(rig), closing);
    tokio::time::sleep(rig.amounts.settle).await;
    let after = Memory::of(target)?;
    let (open, memory) = (open?, [before, most.most(after), after]);
    Ok(Figures { stuffed, given_up, closed, open, memory, others: [pushes_before, pushes_meanwhile] })
}

fn report(figures: &Figures, crowd: Crowd, server: Server, table: &mut Table) {
    let Figures { stuffed, given_up, closed, open, memory: [before, most, after], others } = figures;
    let load = format!("{} clients that never read, messages of {} bytes", crowd.clients, crowd.message_bytes);
    let mut add = |figure, sample| table.add(server, &load, figure, sample);
    let unless = |left: usize, took: &Duration| if left == 0 { took.as_secs_f64() } else { f64::NAN };
    add("s until all are given up", unless(stuffed.left, given_up));
    add("s until their sockets are closed", unless(*open, closed));
    let taken_bytes = stuffed.taken as f64 * crowd.message_bytes as f64;
    add("MiB taken for each", taken_bytes / crowd.clients as f64 / MEBIBYTE);
    add("resident MiB more, at most", mebibytes_more(before.resident, most.resident));
    add("resident MiB more, afterwards", mebibytes_more(before.resident, after.resident));
    add("the kernel's TCP MiB more, at most", mebibytes_more(before.tcp, most.tcp));
    add("the kernel's TCP MiB more, afterwards", mebibytes_more(before.tcp, after.tcp));
    add("p50 ms of others' pushes, before", others[0].latencies.p50_nanos / 1e6);
    add("p50 ms of others' pushes, meanwhile", others[1].latencies.p50_nanos / 1e6);
    add("p99 ms of others' pushes, before", others[0].latencies.p99_nanos / 1e6);
    add("p99 ms of others' pushes, meanwhile", others[1].latencies.p99_nanos / 1e6);
    if stuffed.left + open > 0 {
        table.note(format!(
            "{server:?}: of {} clients that never read {} were not given up and {open} not closed when the time was up",
            crowd.clients, stuffed.left
        ));
    }
    for outcome in others.iter().filter(|outcome| outcome.failed + outcome.missing > 0) {
        table.note(format!(
            "{server:?}: of the others' pushes {} were refused and {} missing",
            outcome.failed, outcome.missing
        ));
    }
}

/// Pushes to those who read, under way.
struct Pushes {
    run: Arc<Run>,
    started_nanos: u64,
    senders: Vec<JoinHandle<()>>,
}

impl Pushes {
    fn start(rig: &Rig, route: &PushRoute, connection_ids: &Arc<Vec<String>>, limit: u64) -> Self {
        let run = rig.board.start_until(Ends::Received, OTHERS.count, 1, limit);
        let started_nanos = now_nanos();
        let senders = push::send(&rig.services.handle, &rig.board, &run, route.door, connection_ids, OTHERS);
        Pushes { run, started_nanos, senders }
    }

    /// Waits for the limit, or for the last ones of a run that was stopped.
    async fn end(self, rig: &Rig) -> Outcome {
        let outcome = rig.board.finish(&self.run, self.started_nanos, rig.amounts.longest).await;
        self.senders.iter().for_each(JoinHandle::abort);
        outcome
    }
}

/// Waits until the server holds no more than `healthy` sockets, and answers how many more there are when the time is up.
/// Sockets go later than the decision: a close frame gets its chance.
async fn until_closed(rig: &Rig, target: &Target, healthy: usize, most: &mut Memory) -> anyhow::Result<usize> {
    let deadline = Instant::now() + rig.amounts.longest;
    loop {
        *most = most.most(Memory::of(target)?);
        let open = accepted_sockets(target.websocket)?.saturating_sub(healthy);
        if open == 0 || Instant::now() >= deadline {
            return Ok(open);
        }
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

/// Pushes to all of `ids` until the server has given each of them up, and keeps what memory came to at `most`.
async fn stuff_all(
    rig: &Rig,
    target: &Target,
    door: PushDoor,
    ids: &[String],
    bytes: usize,
    most: &mut Memory,
) -> anyhow::Result<Stuffed> {
    let deadline = Instant::now() + rig.amounts.longest;
    let share = ids.len().div_ceil(STUFFERS).max(1);
    let services = ids.chunks(share).enumerate().map(|(slot, ids)| {
        let ids = ids.to_vec();
        rig.services.run(async move { stuff(door, ids, slot as u64, bytes, deadline).await })
    });
    let mut all = std::pin::pin!(try_join_all(services));
    let stuffed = loop {
        match tokio::time::timeout(SAMPLE_EVERY, &mut all).await {
            Ok(stuffed) => break stuffed?,
            Err(_) => *most = most.most(Memory::of(target)?),
        }
    };
    let sum = |all: Stuffed, one: &Stuffed| Stuffed { taken: all.taken + one.taken, left: all.left + one.left };
    Ok(stuffed.iter().fold(Stuffed { taken: 0, left: 0 }, sum))
}

/// A push to each of `ids` in turn, again and again; who is gone gets no more.
async fn stuff(
    door: PushDoor,
    mut ids: Vec<String>,
    slot: u64,
    bytes: usize,
    deadline: Instant,
) -> anyhow::Result<Stuffed> {
    const GONE: u16 = 410;
    let mut caller = Caller::connect(door.address).await?;
    let (mut message, mut taken) = (BytesMut::new(), 0);
    while !ids.is_empty() {
        let mut left = Vec::with_capacity(ids.len());
        for id in ids {
            if Instant::now() >= deadline {
                left.push(id);
                continue;
            }
            message.clear();
            // When it is sent makes it another message than all others.
            Stamp { run: STUFFING_RUN, slot, sent_nanos: now_nanos() }.write(bytes, &mut message);
            match caller.post(door.prefix, &id, &message).await? {
                200..300 => {
                    taken += 1;
                    left.push(id);
                }
                GONE => {}
                status => anyhow::bail!("a push to a client that does not read was answered {status}"),
            }
        }
        ids = left;
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(Stuffed { taken, left: ids.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_compared_by_what_was_most_of_each() {
        let most = Memory { resident: 3, tcp: 9 }.most(Memory { resident: 5, tcp: 7 });
        assert_eq!(most, Memory { resident: 5, tcp: 9 });
        assert_eq!(mebibytes_more(1024 * 1024, 3 * 1024 * 1024), 2.0);
        assert_eq!(mebibytes_more(1024 * 1024, 0), -1.0);
    }
}
