//! Everybody comes back: many open connections are cut at once, without a goodbye, as when a network fails, and all of
//! their clients connect again at once. Who is refused tries again until it is in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::BytesMut;
use futures::TryStreamExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{handshake, open, HANDSHAKE_LONGEST};
use crate::load::Rig;
use crate::meter::now_nanos;
use crate::process::cpu_seconds;
use crate::stats::Histogram;
use crate::table::{Server, Table};
use crate::target::Target;

/// CPU is reported per this many connections.
const CPU_PER_CONNECTIONS: f64 = 10_000.0;
/// Before a client that was refused tries again; between once and twice as long, so that they don't stay in step.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How it went for one client.
#[derive(Default)]
struct Return {
    /// From the connect of the handshake that succeeded to its answer.
    handshake_nanos: Option<u64>,
    /// When it was back, in `now_nanos`.
    back_nanos: u64,
    timed_out: u64,
    /// How it was refused, and how often so.
    refusals: BTreeMap<String, u64>,
}

/// How it went for all.
struct Storm {
    back: usize,
    /// Until all were back; NaN where some are not.
    seconds: f64,
    handshakes: Histogram,
    /// How often each refusal was met.
    refusals: BTreeMap<String, u64>,
    timed_out: u64,
}

impl Storm {
    fn of(returns: Vec<Return>, cut_nanos: u64) -> Self {
        let count = returns.len();
        let (mut back, mut last_nanos, mut handshakes) = (0, cut_nanos, Histogram::new());
        let (mut refusals, mut timed_out) = (BTreeMap::<String, u64>::new(), 0);
        for client in returns {
            if let Some(nanos) = client.handshake_nanos {
                handshakes.record(nanos);
                back += 1;
                last_nanos = last_nanos.max(client.back_nanos);
            }
            timed_out += client.timed_out;
            for (refusal, times) in client.refusals {
                *refusals.entry(refusal).or_default() += times;
            }
        }
        let seconds = if back == count { (last_nanos - cut_nanos) as f64 / 1e9 } else { f64::NAN };
        Storm { back, seconds, handshakes, refusals, timed_out }
    }

    fn refused(&self) -> u64 {
        self.refusals.values().sum()
    }
}

/// One storm of `count` connections on the target's first node.
pub async fn round(rig: &Rig, target: &Target, count: usize, server: Server, table: &mut Table) -> anyhow::Result<()> {
    let (address, path, longest) = (target.websocket, target.path, rig.amounts.longest);
    let opened = rig.clients.run(async move { open(vec![address; count], path).try_collect().await }).await?;
    tokio::time::sleep(rig.amounts.settle).await;
    let before = cpu_seconds(target.owner_pid)?;
    let (storm, _returned) = rig.clients.run(cut_and_return(opened, address, path, longest)).await?;
    // The ends of the connections that were cut are part of it.
    tokio::time::sleep(rig.amounts.settle).await;
    let cpu = cpu_seconds(target.owner_pid)? - before;

    let load = format!("{count} clients that come back at once");
    let handshakes = storm.handshakes.latencies();
    table.add(server, &load, "s until all are back", storm.seconds);
    table.add(server, &load, "handshake p50 ms", handshakes.p50_nanos / 1e6);
    table.add(server, &load, "handshake p99 ms", handshakes.p99_nanos / 1e6);
    table.add(server, &load, "handshakes refused", storm.refused() as f64);
    table.add(server, &load, "handshakes that took too long", storm.timed_out as f64);
    table.add(server, &load, "server CPU s per 10,000", cpu / storm.back as f64 * CPU_PER_CONNECTIONS);
    if storm.back < count {
        table.note(format!("{server:?}: {} of {count} clients were back within {longest:?}", storm.back));
    }
    for (refusal, times) in storm.refusals {
        table.note(format!("{server:?}: {times} times: {refusal}"));
    }
    Ok(())
}

/// The new connections are given back: closing them is no part of the storm.
async fn cut_and_return(
    connections: Vec<(TcpStream, BytesMut)>,
    address: SocketAddr,
    path: &'static str,
    longest: Duration,
) -> anyhow::Result<(Storm, Vec<TcpStream>)> {
    let count = connections.len();
    for (stream, _) in &connections {
        // It is reset when it is closed. Tens of thousands of closed ports would also have to wait for their next use.
        stream.set_zero_linger()?;
    }
    let deadline = Instant::now() + longest;
    let cut_nanos = now_nanos();
    drop(connections);
    let mut clients = JoinSet::new();
    for _ in 0..count {
        clients.spawn(come_back(address, path, deadline));
    }
    let (mut returns, mut streams) = (Vec::with_capacity(count), Vec::with_capacity(count));
    while let Some(client) = clients.join_next().await {
        let (stream, how) = client.context("a client panicked")?;
        returns.push(how);
        streams.extend(stream);
    }
    Ok((Storm::of(returns, cut_nanos), streams))
}

async fn come_back(address: SocketAddr, path: &'static str, deadline: Instant) -> (Option<TcpStream>, Return) {
    let mut how = Return::default();
    while Instant::now() < deadline {
        let began = now_nanos();
        let give_up = deadline.min(Instant::now() + HANDSHAKE_LONGEST);
        match tokio::time::timeout_at(give_up, handshake(address, path)).await {
            Ok(Ok((stream, _))) => {
                how.back_nanos = now_nanos();
                how.handshake_nanos = Some(how.back_nanos - began);
                return (Some(stream), how);
            }
            Ok(Err(error)) => *how.refusals.entry(format!("{error:#}")).or_default() += 1,
            Err(_) => how.timed_out += 1,
        }
        tokio::time::sleep(RETRY_PAUSE.mul_f64(1.0 + rand::random::<f64>())).await;
    }
    (None, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(handshake_nanos: u64, back_nanos: u64) -> Return {
        Return { handshake_nanos: Some(handshake_nanos), back_nanos, ..Return::default() }
    }

    #[test]
    fn a_storm_is_over_when_the_last_is_back() {
        let refusals = |status: &str, times| BTreeMap::from([(status.to_owned(), times)]);
        let late = Return { refusals: refusals("503", 2), ..back(20, 2_000_000_100) };
        let soon = Return { refusals: refusals("503", 1), ..back(30, 130) };
        let storm = Storm::of(vec![back(10, 110), late, soon], 100);
        assert_eq!((storm.back, storm.seconds), (3, 2.0));
        assert_eq!((storm.refused(), storm.refusals["503"], storm.timed_out), (3, 3, 0));
        assert_eq!(storm.handshakes.quantile(0.5), Some(20.0));
    }

    #[test]
    fn a_storm_that_some_do_not_come_back_from_has_no_end() {
        let lost = Return { timed_out: 3, ..Return::default() };
        let storm = Storm::of(vec![back(10, 110), lost], 100);
        assert_eq!((storm.back, storm.timed_out), (1, 3));
        assert!(storm.seconds.is_nan());
    }

    #[tokio::test]
    async fn who_is_refused_tries_again_until_the_time_is_up() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (stream, how) = come_back(nobody, "/", Instant::now() + 3 * RETRY_PAUSE).await;
        assert!(stream.is_none() && how.handshake_nanos.is_none());
        assert!(how.refusals.values().sum::<u64>() >= 2, "{:?}", how.refusals);
    }
}
