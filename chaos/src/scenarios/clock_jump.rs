//! Clients talk and are pushed to on all nodes, others say nothing for a while; the wall clock of a node, the leader's
//! perhaps, goes an hour ahead and comes back, goes an hour back and comes back, and then all clocks do. Nobody may notice:
//! who leads, who is alive and who was silent for too long is a matter of clocks that nobody sets.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{ensure, Context};
use futures::StreamExt;
use rand::Rng;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::cut_off::{choose, nobody};
use super::traffic::{check, lost_writes, wait_for_writes, Traffic};
use crate::cluster::name;
use crate::faults::clock;
use crate::figures::{leader_changes, seconds, write_gap};
use crate::history::{Micros, Op, SECOND};
use crate::http::{self, Request};
use crate::run::Run;

const HOUR: i64 = 3600;
/// Where to, and for how many milliseconds: several heartbeats and elections of Raft's, and rounds of gossip.
const JUMPS_OF_ONE: [(i64, u64); 4] = [(HOUR, 2000), (0, 1000), (-HOUR, 2000), (0, 1000)];
/// The first one is longer than the time after which a silent connection is looked at.
const JUMPS_OF_ALL: [(i64, u64); 4] = [(HOUR, HEARTBEAT_SECONDS * 1000 + 1000), (0, 1000), (-HOUR, 2000), (0, 1000)];
/// Connections per node that say nothing, on an endpoint that closes those that are silent for half an hour.
const QUIET_PER_NODE: usize = 4;
const IDLE_SECONDS: u64 = 1800;
/// The shortest that an endpoint may have.
const HEARTBEAT_SECONDS: u64 = 5;
const QUIET_PATH: &str = "/quiet";
const WITHIN: Duration = Duration::from_secs(10);
/// A clock that is off by less than this is off by what was wanted: writes take their time.
const ABOUT_SECONDS: i64 = 60;

pub async fn play(run: &mut Run) -> anyhow::Result<()> {
    let mut rng = run.rng("clock_jump");
    let traffic = Traffic::start(run).await?;
    let mut quiet = Quiet::open(run).await?;
    let began = run.history.now();
    let mut leaders = 0;
    let mut jumps = 0;
    for cycle in 0.. {
        if !run.goes_on(cycle) {
            break;
        }
        let leads = rng.random_bool(0.5);
        leaders += u32::from(leads);
        let victim = choose(run, leads, &mut rng).await?;
        for (nodes, jumps_of) in [(vec![victim], JUMPS_OF_ONE), (run.all_nodes(), JUMPS_OF_ALL)] {
            for (to, millis) in jumps_of {
                jump(run, &nodes, to, Duration::from_millis(millis)).await?;
                jumps += 1;
            }
        }
        wait_for_writes(run, 10).await?;
    }
    let gap = write_gap(&run.history.records(), began, run.history.now());
    let ended = quiet.ended();
    traffic.settle(run, &nobody()).await?;
    check(run, &nobody(), &nobody()).await?;
    figures(run, jumps, leaders, gap, ended.len());
    run.hold("no_clock_makes_a_connection_idle", ended);
    lost_writes(run);
    Ok(())
}

/// Sets the clocks of these nodes, and sees that they go as they were set.
async fn jump(run: &Run, nodes: &[usize], to: i64, stays: Duration) -> anyhow::Result<()> {
    for node in nodes {
        clock::set(&run.cluster, *node, to, &run.history)?;
    }
    tokio::time::sleep(stays).await;
    for node in nodes {
        let by = off_by(run, *node).await?;
        ensure!((by - to).abs() < ABOUT_SECONDS, "the clock of {} was set off by {to} s and is by {by} s", name(*node));
    }
    Ok(())
}

/// How far a node's clock is off, by the time of a version that was made through it.
async fn off_by(run: &Run, node: usize) -> anyhow::Result<i64> {
    let path = format!("/clock/{node}-{}", run.history.now());
    let document = json!({"path": path, "routes": [
        {"type": "default", "name": "echo", "backends": [{"type": "echo"}]}]});
    let made = create(run, node, &document.to_string()).await?;
    let at = made["createdAt"].as_str().context("an endpoint without createdAt")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
    Ok(unix_seconds(at).with_context(|| format!("no time: {at}"))? - now)
}

async fn create(run: &Run, node: usize, document: &str) -> anyhow::Result<serde_json::Value> {
    let request = Request { method: "POST", path: "/api/v1/endpoints", headers: &[], body: document.as_bytes() };
    let answer = http::send(run.entrances.address(node).admin, &request, WITHIN).await?;
    ensure!(answer.status == 201, "{document}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(answer.json())
}

/// Of `2026-11-30T23:59:59…`, in UTC; the days by Howard Hinnant's `days_from_civil`.
fn unix_seconds(time: &str) -> Option<i64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?)
}

/// Connections on which nothing is said.
struct Quiet(JoinSet<String>);

impl Quiet {
    async fn open(run: &Run) -> anyhow::Result<Quiet> {
        let document = json!({"path": QUIET_PATH, "routes": [
            {"type": "default", "name": "echo", "backends": [{"type": "echo"}]}],
            "settings": {"idleTimeoutInSeconds": IDLE_SECONDS, "heartbeatIntervalInSeconds": HEARTBEAT_SECONDS}});
        create(run, 0, &document.to_string()).await?;
        run.healed(&run.all_nodes()).await?;
        let mut connections = JoinSet::new();
        for node in run.all_nodes() {
            for number in 0..QUIET_PER_NODE {
                let socket = connect(run.entrances.address(node).client).await?;
                connections.spawn(async move { format!("{number} on {}: {}", name(node), end(socket).await) });
            }
        }
        Ok(Quiet(connections))
    }

    /// Those that have ended until now, with how.
    fn ended(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.0.try_join_next()).filter_map(Result::ok).collect()
    }
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

async fn connect(to: SocketAddr) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect(to).await?;
    Ok(client_async(format!("ws://{to}{QUIET_PATH}"), stream).await?.0)
}

/// Answers pings until the connection ends.
async fn end(mut socket: Socket) -> String {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(frame))) => return format!("{frame:?}"),
            Some(Ok(_)) => {}
            Some(Err(err)) => return err.to_string(),
            None => return "no close frame".to_owned(),
        }
    }
}

fn figures(run: &mut Run, jumps: u32, leaders: u32, gap: Micros, quiet_ended: usize) {
    let changes = leader_changes(&run.history.records()).len();
    let what = format!("leader changes, {jumps} jumps (of one clock first, {leaders} times the leader's)");
    run.figure(what, changes.to_string(), Some(("0", changes == 0)));
    let dropped = run.history.count(|record| matches!(record.op, Op::Ended { by_client: false, .. }));
    run.figure(
        format!("connections dropped: talking; quiet, of {}", QUIET_PER_NODE * run.cluster.len()),
        format!("{dropped}; {quiet_ended}"),
        Some(("0; 0", dropped + quiet_ended == 0)),
    );
    run.figure("write gap, longest", seconds(gap), Some(("≤3 s", gap <= 3 * SECOND)));
}

#[cfg(test)]
mod tests {
    use super::unix_seconds;

    #[test]
    fn times_are_read() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_seconds("2026-11-30T22:35:15.123Z"), Some(1_796_078_115));
        assert_eq!(unix_seconds("2024-02-29T00:00:01Z"), Some(1_709_164_801));
        assert_eq!(unix_seconds("now"), None);
    }
}
