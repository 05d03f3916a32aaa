//! What TLS between nodes costs, as multiples of the same without: `cargo test --release -p wsgateway-cluster --test
//! tls_cost -- --ignored --nocapture`. Figures for docs/adr/0052; nothing is asserted that a busy machine could break.

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use support::*;
use wsgateway_cluster::Channel;

const DEADLINE: Duration = Duration::from_secs(30);
/// The two ways take turns, so that a machine that gets busier does so for both.
const ROUNDS: usize = 5;
/// `sysconf(_SC_CLK_TCK)` of every Linux in use.
const TICKS_PER_SECOND: f64 = 100.0;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Time of all threads of this process, which is what stays comparable on a machine that others use too.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum::<f64>();
    ticks / TICKS_PER_SECOND
}

/// Microseconds of work for each of `calls`, of which `at_once` are under way.
async fn calls(a: &Node, b: &Node, calls: usize, at_once: usize, payload: &Bytes) -> f64 {
    let peer = b.peer();
    let began = cpu_seconds();
    for _ in 0..calls / at_once {
        let under_way = (0..at_once).map(|_| a.transport.call(&peer, Channel::Push, ECHO, payload.clone(), DEADLINE));
        for answer in join_all(under_way).await {
            assert_eq!(answer.unwrap().len(), payload.len());
        }
    }
    (cpu_seconds() - began) * 1e6 / calls as f64
}

async fn opens(a: &Node, b: &Node, count: usize) -> f64 {
    let began = cpu_seconds();
    for _ in 0..count {
        drop(a.transport.open_tunnel(&b.peer()).await.unwrap());
    }
    (cpu_seconds() - began) * 1e6 / count as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn tls_as_a_multiple_of_none() {
    let (plain, tls) = (TcpHarness::new(), TlsHarness::new());
    let plain = (plain.start(1, None).await, plain.start(2, None).await);
    let tls = (tls.start(1, None).await, tls.start(2, None).await);
    for (what, count, at_once, bytes) in [
        ("one call at a time, 100 bytes", 10_000, 1, 100),
        ("256 calls at once, 300 bytes", 256 * 400, 256, 300),
        ("64 calls at once, 4 KiB", 64 * 400, 64, 4 << 10),
        ("8 calls at once, 256 KiB", 8 * 60, 8, 256 << 10),
        ("one call at a time, 3 MiB", 40, 1, 3 << 20),
    ] {
        let payload = Bytes::from(vec![7; bytes]);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(calls(&plain.0, &plain.1, count, at_once, &payload).await);
            with.push(calls(&tls.0, &tls.1, count, at_once, &payload).await);
        }
        let (without, with) = (median(without), median(with));
        println!("{what}: {without:.1} µs of CPU without, {with:.1} µs with TLS: {:.2}×", with / without);
    }
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(opens(&plain.0, &plain.1, 200).await);
        with.push(opens(&tls.0, &tls.1, 200).await);
    }
    let (without, with) = (median(without), median(with));
    println!("opening a connection: {without:.0} µs of CPU without, {with:.0} µs with TLS");
}
