//! Strangers who mean harm with sockets: they do not read, send crumbs, ping without end, shake hands slowly, announce what
//! they do not send, fall silent, come back all at once. Each scenario prints its figure, and looks at the close code or
//! status, at a metric, and at what the node's memory and the others' latency make of it.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{json, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::document::{all_routes_to, document, route, with};
use crate::http::JSON;
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Endpoint, Node};
use crate::service::Service;
use crate::wait::{eventually, PATIENCE};
use crate::ws::{masked_frame, Client, RawSocket, Received, TEXT};

const CONTINUATION: u8 = 0;
const PING: u8 = 9;
/// The default of `maxMessageBytes`.
const MESSAGE_KIB: u64 = 128;
/// Round trips behind a p99.
const ROUND_TRIPS: usize = 300;
/// A p99 below this is not told from what else a busy two-core machine does: the attackers of the test are on it too.
const P99_NOISE: Duration = Duration::from_millis(150);

/// One figure of one node's metrics: the sum of the lines that have all of these parts.
pub async fn metric(node: &Node, name: &str, parts: &[&str]) -> u64 {
    let metrics = node.admin().get("/metrics").await.expect(200).text();
    let of =
        |line: &&str| line.starts_with(&format!("wsgateway_{name}")) && parts.iter().all(|part| line.contains(part));
    metrics
        .lines()
        .filter(of)
        .map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("a number"))
        .sum()
}

async fn wait_metric(node: &Node, name: &str, parts: &[&str], least: u64) {
    let what = format!("{name} {parts:?} to be {least}");
    eventually(&what, PATIENCE, async || (metric(node, name, parts).await >= least).then_some(())).await;
}

async fn echo(cluster: &Cluster, theme: &str, settings: Value) -> Endpoint {
    let routes = [route("default", &[json!({"type": "echo"})])];
    cluster.create(&with(document(&unique_path(theme), &routes), "settings", settings)).await
}

async fn many(node: &Node, endpoint: &Endpoint, count: usize) -> Vec<RawSocket> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(RawSocket::connect(node, &endpoint.path, Some(4096)).await);
    }
    sockets
}

/// How much a node has grown at most while `work` went on, in KiB.
async fn growth_kib<T>(node: &Node, work: impl Future<Output = T>) -> (u64, T) {
    let before = node.resident_kib();
    let mut most = before;
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (node.resident_kib().max(most) - before, done),
            () = tokio::time::sleep(Duration::from_millis(20)) => most = most.max(node.resident_kib()),
        }
    }
}

/// The 99th percentile of echoes of somebody who means no harm.
async fn p99(node: &Node, endpoint: &Endpoint) -> Duration {
    let mut witness = Client::connect(node, &endpoint.path).await;
    let mut times = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        witness.send("1").await;
        assert_eq!(witness.text().await, "1");
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times.sort();
    times[ROUND_TRIPS * 99 / 100]
}

fn assert_p99(before: Duration, during: Duration, what: &str) {
    let ratio = during.as_secs_f64() / before.as_secs_f64();
    println!("{what}: others' p99 {before:?} before, {during:?} meanwhile ({ratio:.2} times)");
    assert!(ratio <= 1.5 || during < P99_NOISE, "{what}: others' p99 went from {before:?} to {during:?}");
}

#[tokio::test]
async fn clients_that_never_read_are_closed_and_cost_little() {
    const CLIENTS: usize = 100;
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let endpoint = echo(&cluster, "unread", json!({})).await;
    let text = format!("\"{}\"", "x".repeat(30_000));
    let _mute = many(node, &endpoint, CLIENTS).await;
    let begun = Instant::now();
    // A service goes on telling them; more than the kernel's buffers and the outbox hold.
    let target = format!("/api/v1/endpoints/{}/broadcast", endpoint.id);
    let (grown, took) = growth_kib(node, async {
        for _ in 0..400 {
            if metric(node, "connections_closed_total", &[&endpoint.path, "\"1013\""]).await == CLIENTS as u64 {
                break;
            }
            node.admin().call("POST", &target, JSON, text.as_bytes()).await.expect(202);
        }
        wait_metric(node, "connections_closed_total", &[&endpoint.path, "\"1013\""], CLIENTS as u64).await;
        let gone = async || (metric(node, "endpoint_connections{", &[&endpoint.path]).await == 0).then_some(());
        eventually("the sockets to be gone", PATIENCE, gone).await;
        begun.elapsed()
    })
    .await;
    let each = grown / CLIENTS as u64;
    println!(
        "{CLIENTS} clients that never read what services send: closed 1013 and gone after {took:?}, {each} KiB each"
    );
    assert!(took < Duration::from_secs(10), "took {took:?}");
    assert!(each <= 256, "{each} KiB each");
    assert_eq!(metric(node, "connections_cut_total", &["slow_consumer"]).await, CLIENTS as u64);
}

#[tokio::test]
async fn crumbs_cost_their_sender_the_connection() {
    const CLIENTS: usize = 50;
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let endpoint = echo(&cluster, "crumbs", json!({})).await;
    let before = p99(node, &endpoint).await;
    let mut sockets = many(node, &endpoint, CLIENTS).await;
    // As large as a message may be, in the smallest pieces that may be so many; then it goes on in crumbs.
    let mut pieces = masked_frame(TEXT, false, b"\"", None);
    for _ in 0..4000 {
        pieces.extend(masked_frame(CONTINUATION, false, &[b'x'; 32], None));
    }
    let crumbs: Vec<u8> = std::iter::repeat_n(masked_frame(CONTINUATION, false, b"x", None), 1100).flatten().collect();
    let (grown, during) = growth_kib(node, async {
        for socket in &mut sockets {
            socket.send_bytes(&pieces).await;
        }
        let during = p99(node, &endpoint).await;
        for socket in &mut sockets {
            let _ended = socket.flood(&crumbs, Duration::from_millis(20)).await;
        }
        for socket in &mut sockets {
            assert_eq!(socket.closed(PATIENCE).await, 1008);
        }
        during
    })
    .await;
    // One-byte pieces from the first on.
    let mut crumb = RawSocket::connect(node, &endpoint.path, None).await;
    crumb.send_frame(TEXT, false, b"1", None).await;
    crumb.flood(&crumbs, Duration::from_millis(200)).await;
    assert_eq!(crumb.closed(PATIENCE).await, 1008);
    let each = grown / CLIENTS as u64;
    println!("{CLIENTS} clients with a message of {MESSAGE_KIB} KiB in crumbs: {each} KiB each, all closed 1008");
    assert!(each <= 2 * MESSAGE_KIB, "{each} KiB each");
    assert_p99(before, during, "crumbs");
    wait_metric(node, "connections_cut_total", &["too_many_fragments"], CLIENTS as u64 + 1).await;
}

async fn floods_again_and_again(node: &Node, endpoint: &Endpoint, pings: &[u8], flooded: &AtomicU64) {
    loop {
        let mut socket = RawSocket::connect(node, &endpoint.path, None).await;
        socket.flood(pings, Duration::from_millis(100)).await;
        assert_eq!(socket.closed(PATIENCE).await, 1008);
        flooded.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Does some work while a node is flooded; answers with the number of floods.
async fn under_floods<T>(
    attackers: usize,
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    work: impl Future<Output = T>,
) -> (T, u64) {
    let pings: Vec<u8> = std::iter::repeat_n(masked_frame(PING, true, &[b'p'; 125], None), 2000).flatten().collect();
    let (pings, flooded) = (Arc::new(pings), Arc::new(AtomicU64::new(0)));
    let attackers = (0..attackers).map(|_| {
        let (cluster, endpoint, pings, flooded) = (cluster.clone(), endpoint.clone(), pings.clone(), flooded.clone());
        tokio::spawn(async move { floods_again_and_again(&cluster.nodes[0], &endpoint, &pings, &flooded).await })
    });
    let attackers: Vec<_> = attackers.collect();
    let done = work.await;
    for attacker in attackers {
        assert!(!attacker.is_finished(), "they go on for ever, unless something is wrong");
        attacker.abort();
        let _aborted = attacker.await;
    }
    (done, flooded.load(Ordering::Relaxed))
}

/// The attackers have a thread of their own: what the witness waits for is the node, not their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_pings_costs_its_sender_the_connection() {
    const CLIENTS: usize = 8;
    let _turn = own_cluster_turn().await;
    let cluster = Arc::new(Cluster::start(1).await);
    let node = &cluster.nodes[0];
    let endpoint = Arc::new(echo(&cluster, "pings", json!({})).await);
    // Within bounds: every ping is answered, and the connection lives.
    let mut fond = RawSocket::connect(node, &endpoint.path, None).await;
    for number in 0..100_u8 {
        fond.send_frame(PING, true, &[number], None).await;
        assert_eq!(fond.read_frame().await, (10, vec![number]), "the answer to ping {number}");
    }
    let before = p99(node, &endpoint).await;
    // What the attackers take from the machine, whomever they attack: another gateway, which the witness is not on.
    let other = Arc::new(Cluster::start(1).await);
    let others_endpoint = Arc::new(echo(&other, "pings", json!({})).await);
    let (elsewhere, _flooded) = under_floods(CLIENTS, &other, &others_endpoint, p99(node, &endpoint)).await;
    let ((grown, during), flooded) =
        under_floods(CLIENTS, &cluster, &endpoint, growth_kib(node, p99(node, &endpoint))).await;
    println!("others' p99 {before:?} before, {elsewhere:?} while another gateway is flooded");
    println!("{flooded} floods of pings closed 1008, {grown} KiB in all");
    assert!(flooded >= CLIENTS as u64, "only {flooded}");
    assert!(grown <= 2 * MESSAGE_KIB * (CLIENTS as u64 + 1), "{grown} KiB");
    assert_p99(elsewhere, during, "pings");
    assert!(metric(node, "connections_cut_total", &["too_many_control_frames"]).await >= flooded);
}

#[tokio::test]
async fn slow_handshakes_and_empty_announcements_hold_nothing_up() {
    const SLOW: usize = 200;
    const ANNOUNCED: usize = 100;
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let endpoint = echo(&cluster, "slow", json!({})).await;
    let before = p99(node, &endpoint).await;
    let begun = Instant::now();
    let (grown, (statuses, during)) = growth_kib(node, async {
        let slow = join_all((0..SLOW).map(|_| shakes_hands_slowly(node)));
        tokio::join!(slow, async {
            let during = p99(node, &endpoint).await;
            // Large messages, of which nothing but the header and a little comes.
            for socket in &mut many(node, &endpoint, ANNOUNCED).await {
                socket.send_frame(TEXT, true, b"x", Some(1 << 40)).await;
                assert_eq!(socket.closed(PATIENCE).await, 1009);
            }
            during
        })
    })
    .await;
    let took = begun.elapsed();
    assert_eq!(statuses, [408; SLOW]);
    println!(
        "{SLOW} slow handshakes: all 408 after {took:?}; with {ANNOUNCED} announcements of a TiB {grown} KiB in all"
    );
    assert!(took < Duration::from_secs(8), "the deadline is 5 s");
    assert!(grown / (SLOW + ANNOUNCED) as u64 <= 64, "{grown} KiB in all");
    assert_p99(before, during, "slow handshakes");
    assert_eq!(metric(node, "handshakes_refused_total", &["handshake_timeout"]).await, SLOW as u64);
    assert_eq!(metric(node, "connections_cut_total", &["too_big"]).await, ANNOUNCED as u64);
}

/// A byte of a handshake now and then; answers the status that it gets.
async fn shakes_hands_slowly(node: &Node) -> u16 {
    let mut socket = TcpStream::connect(node.client).await.expect("the client port is open");
    let mut answer = [0; 12];
    for byte in b"GET /slow HTTP/1.1\r\nhost: somewhere-far-away-where-lines-are-slow\r\n".iter().cycle() {
        let _gone = socket.write_all(&[*byte]).await;
        match tokio::time::timeout(Duration::from_millis(250), socket.read_exact(&mut answer)).await {
            Err(_silent) => {}
            Ok(read) => {
                read.expect("an answer");
                break;
            }
        }
    }
    std::str::from_utf8(&answer[9..12]).ok().and_then(|status| status.parse().ok()).expect("a status")
}

#[tokio::test]
async fn ghosts_are_found_by_the_heartbeat() {
    const GHOSTS: usize = 30;
    let cluster = shared().await;
    let service = Service::start().await;
    let settings = json!({"heartbeatIntervalInSeconds": 5, "heartbeatMaxMissingPingFrames": 1});
    let wanted = with(document(&unique_path("ghosts"), &all_routes_to(&service)), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let node = &cluster.nodes[2];
    let cut = metric(node, "connections_cut_total", &["heartbeat_missed"]).await;
    // Behind a NAT that has forgotten them: nothing comes from them any more, no reset either.
    let _ghosts = many(node, &endpoint, GHOSTS).await;
    let begun = Instant::now();
    let gone = eventually("the ghosts' disconnect events", Duration::from_secs(25), async || {
        let gone = service.received("/disconnect");
        (gone.len() >= GHOSTS).then_some(gone)
    })
    .await;
    let took = begun.elapsed();
    println!("{GHOSTS} ghosts: all closed 4408 after {took:?}, with an interval of 5 s and 1 missing answer");
    assert!(took < Duration::from_millis(11_500), "took {took:?}");
    assert!(gone.iter().all(|event| event.json()["code"] == 4408));
    let mut ids: Vec<String> = gone.iter().map(|event| event.attributes().get("connectionid").to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), gone.len()), (GHOSTS, GHOSTS), "one event each");
    assert_eq!(metric(node, "connections_closed_total", &[&endpoint.path, "\"4408\""]).await, GHOSTS as u64);
    assert!(metric(node, "connections_cut_total", &["heartbeat_missed"]).await >= cut + GHOSTS as u64);
}

#[tokio::test]
async fn a_storm_of_reconnects_is_over_soon() {
    const CLIENTS: usize = 300;
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let endpoint = echo(&cluster, "storm", json!({})).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&cluster.nodes[0], &endpoint.path).await);
    }
    cluster.nodes[0].kill();
    let begun = Instant::now();
    let back = clients.into_iter().enumerate().map(async |(number, mut client)| {
        assert!(!matches!(client.receive().await, Received::Text(_)), "its node is gone");
        let mut client = Client::connect(&cluster.nodes[1 + number % 2], &endpoint.path).await;
        client.send(&number.to_string()).await;
        assert_eq!(client.text().await, number.to_string());
        (client, begun.elapsed())
    });
    let back = join_all(back).await;
    let last = back.iter().map(|(_, took)| *took).max().expect("clients");
    println!("{CLIENTS} clients of a killed node, all at once and without backoff: all served again after {last:?}");
    assert!(last < Duration::from_secs(5), "took {last:?}");
    for node in &cluster.nodes[1..] {
        assert_eq!(metric(node, "connections_opened_total", &[&endpoint.path]).await, CLIENTS as u64 / 2);
    }
}
