//! The program end to end, without the gateway: its own floor under a few events, read back from its JSON.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().expect("the program starts")
}

fn results(arguments: &[&str]) -> serde_json::Value {
    let output = bench(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

fn samples<'a>(json: &'a serde_json::Value, load: &str, figure: &str) -> &'a Vec<serde_json::Value> {
    let lines = json["results"].as_array().expect("results");
    let line = lines.iter().find(|line| line["load"] == load && line["figure"] == figure);
    line.unwrap_or_else(|| panic!("no {figure} of {load}: {json:#}"))["floor_samples"].as_array().expect("samples")
}

#[test]
fn inbound_and_push_complete_and_are_reported() {
    let few = ["--floor-only", "--output", "json", "--events", "2000", "--connections", "8", "--rounds", "2"];
    for (command, load, rate) in [
        ("inbound", "events to HTTP, window 1", "events/s"),
        ("inbound", "events to HTTP, window 16", "events/s"),
        ("push", "push to a local owner", "pushes/s"),
    ] {
        let json = results(&[&[command][..], &few].concat());
        assert_eq!(json["notes"], serde_json::json!([]), "nothing refused, nothing missing");
        assert_eq!(json["settings"]["events"], 2000);
        for figure in [rate, "p50 ms", "p99 ms"] {
            let samples = samples(&json, load, figure);
            assert_eq!(samples.len(), 2, "one a round");
            assert!(samples.iter().all(|sample| sample.as_f64().is_some_and(|sample| sample > 0.0)), "{samples:?}");
        }
        assert_eq!(samples(&json, load, "server CPU s per 100,000").len(), 2);
    }
}

#[test]
fn idle_connections_cost_some_memory() {
    let json = results(&[
        "idle",
        "--floor-only",
        "--output",
        "json",
        "--connections",
        "400",
        "--rounds",
        "1",
        "--settle-seconds",
        "0",
    ]);
    let bytes = samples(&json, "400 idle connections", "resident bytes each")[0].as_f64().expect("a number");
    assert!((100.0..50_000.0).contains(&bytes), "{bytes}");
}

#[test]
fn a_message_to_all_reaches_all() {
    let json = results(&[
        "broadcast",
        "--receivers",
        "20,300",
        "--floor-only",
        "--output",
        "json",
        "--events",
        "6000",
        "--rounds",
        "1",
    ]);
    assert_eq!(json["notes"], serde_json::json!([]), "nobody was left out");
    for load in ["a message to all of 20", "a message to all of 300"] {
        let figure = |figure| samples(&json, load, figure)[0].as_f64().expect("a number");
        assert!(figure("deliveries/s") > 0.0);
        assert!(figure("p50 ms to each") <= figure("p50 ms to the last") * 1.01, "the last is not before the others");
        assert!(figure("p50 ms to the last") <= figure("max ms to the last"));
        assert!(figure("server CPU s per 100,000") >= 0.0);
    }
}

#[test]
fn clients_that_are_cut_come_back() {
    let json = results(&[
        "reconnects",
        "--count",
        "300",
        "--floor-only",
        "--output",
        "json",
        "--rounds",
        "2",
        "--settle-seconds",
        "0",
    ]);
    assert_eq!(json["notes"], serde_json::json!([]), "all are back, none was refused");
    let figure = |figure| samples(&json, "300 clients that come back at once", figure)[1].as_f64().expect("a number");
    assert!(figure("handshake p50 ms") <= figure("handshake p99 ms"));
    assert!(figure("handshake p99 ms") / 1e3 <= figure("s until all are back") * 1.01);
    assert_eq!(figure("handshakes refused"), 0.0);
}

#[test]
fn clients_that_never_read_are_closed_and_others_are_not() {
    let json = results(&[
        "stalled",
        "--clients",
        "6",
        "--message-bytes",
        "65536",
        "--floor-only",
        "--output",
        "json",
        "--events",
        "200",
        "--connections",
        "8",
        "--rounds",
        "1",
        "--settle-seconds",
        "0",
    ]);
    assert_eq!(json["notes"], serde_json::json!([]), "all are closed, and no push to the others failed");
    let load = "6 clients that never read, messages of 65536 bytes";
    let figure = |figure| samples(&json, load, figure)[0].as_f64().expect("a number");
    assert!(figure("s until all are given up") <= figure("s until their sockets are closed"));
    assert!(figure("MiB taken for each") > 0.0);
    // The kernel's memory is everybody's: what others give back meanwhile is in it.
    assert!(figure("the kernel's TCP MiB more, at most") >= figure("the kernel's TCP MiB more, afterwards"));
    assert!(figure("p99 ms of others' pushes, before") > 0.0);
    assert!(figure("p99 ms of others' pushes, meanwhile") > 0.0);
}

#[test]
fn a_gateway_that_is_not_there_is_said_so() {
    let output = bench(&["idle", "--binary", "/nonexistent/wsgateway"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--floor-only"));
}

#[cfg(feature = "kafka")]
#[test]
fn events_reach_kafka() {
    let cluster = rdkafka::mocking::MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("bench", 2, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let json = results(&[
        "kafka",
        "--kafka",
        &brokers,
        "--topic",
        "bench",
        "--floor-only",
        "--output",
        "json",
        "--events",
        "2000",
        "--connections",
        "8",
        "--rounds",
        "1",
        "--window",
        "16",
    ]);
    assert_eq!(json["notes"], serde_json::json!([]), "nothing refused, nothing missing");
    assert!(samples(&json, "events to Kafka, window 16", "events/s")[0].as_f64().is_some_and(|rate| rate > 0.0));
}

#[test]
fn a_floor_has_no_tls_and_that_is_said() {
    let output = bench(&["tls", "--floor-only"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("TLS is the gateway's"));
}
