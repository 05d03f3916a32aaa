//! Templates, paths, patterns and schemas that were written to bring nodes down, committed to a whole cluster: refused
//! when they are written, or stopped event by event, while another endpoint's traffic goes on as before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, http, route, with};
use crate::http::JSON;
use crate::sandbox::{own_cluster_turn, unique_path, Cluster};
use crate::service::Service;
use crate::transform::transformed;
use crate::ws::Client;

/// What is refused when it is written: field, value.
fn refused() -> Vec<(&'static str, String)> {
    let deep = |open: &str, middle: &str, close: &str| format!("{}{middle}{}", open.repeat(3_000), close.repeat(3_000));
    vec![
        ("parentheses", format!("{{{{ {} }}}}", deep("(", "1", ")"))),
        ("lists", format!("{{{{ {} }}}}", deep("[", "1", "]"))),
        ("negations", format!("{{{{ {}1 }}}}", "not ".repeat(7_000))),
        ("a chain", format!("{{{{ 1{} }}}}", "+1".repeat(15_000))),
        ("members", format!("{{{{ event{} }}}}", ".a".repeat(15_000))),
        ("blocks", deep("{% if 1 %}", "1", "")),
        ("an endless loop", "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}1".to_owned()),
        ("doubling", format!("{{% set a = [1] %}}{}{{{{ a }}}}", "{% set a = [a, a] %}".repeat(60))),
        ("a recursive loop", "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned()),
        ("a macro", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned()),
        ("an include", "{% include 'template' %}".to_owned()),
        ("half a tag", "{{ event".to_owned()),
        ("length", " ".repeat(40_000) + "1"),
    ]
}

/// What is accepted, and blows up on the event that is meant for it.
const STOPPED: [&str; 6] = [
    "[{% for i in range(event.n) %}{{ i }},{% endfor %}0]",
    "[{% for i in range(event.n) %}{% for j in range(event.n) %}{% endfor %}{% endfor %}0]",
    "[{% for i in range(event.n) %}{% if event.text == event.same %}{% endif %}{% endfor %}0]",
    "[{% for i in range(event.n) %}{% set x = event.list | sort | reverse | join %}{% endfor %}0]",
    "{% set a = event.text | default('') %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{% set a = a ~ a %}{{ a }}",
    "[{% for i in range(event.n) %}{{ event.text }},{% endfor %}0]",
];

fn hostile_event() -> String {
    let text = "x".repeat(30_000);
    json!({"n": 90_000, "text": text, "same": text, "list": (0..8_000).collect::<Vec<_>>()}).to_string()
}

/// Round trips of a client that minds its own business.
async fn mind_own_business(mut client: Client, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        client.send(r#"{"fine": true}"#).await;
        assert_eq!(client.text().await, r#"{"fine": true}"#);
        took.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    took.sort();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_harm_nobody() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let quiet = cluster.create(&document(&unique_path("quiet"), &[route("default", &[json!({"type": "echo"})])])).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut bystanders = Vec::new();
    for node in &cluster.nodes {
        bystanders.push(tokio::spawn(mind_own_business(Client::connect(node, &quiet.path).await, stop.clone())));
    }

    for (what, template) in refused() {
        let path = unique_path("bomb");
        let answered = Instant::now();
        for document in [
            document(&path, &[transformed(route("default", &[]), &template)]),
            with(document(&path, &[]), "transform", json!({ "outbound": template })),
            with(document(&path, &[]), "ack", json!({"when": "received", "template": template})),
        ] {
            for node in &cluster.nodes {
                let answer =
                    node.admin().call("POST", "/api/v1/endpoints", JSON, document.to_string().as_bytes()).await;
                let problem = answer.expect(400).json();
                assert_eq!(problem["code"], "invalid_document", "{what}: {problem}");
            }
        }
        assert!(answered.elapsed() < Duration::from_secs(5), "{what}: {:?}", answered.elapsed());
    }
    let routes: Vec<Value> = STOPPED
        .iter()
        .enumerate()
        .map(|(n, template)| {
            let key = json!({"type": "custom", "name": format!("bomb {n}"), "key": n.to_string(), "backends": [http(&service, "/never")]});
            transformed(key, template)
        })
        .collect();
    let armed = cluster.create(&with(document(&unique_path("armed"), &routes), "routeSelector", json!("$.bomb"))).await;
    let outbound =
        with(document(&unique_path("pushed"), &all_routes_to(&service)), "transform", json!({"outbound": STOPPED[0]}));
    let outbound = cluster.create(&outbound).await;

    for node in &cluster.nodes {
        let mut client = Client::connect(node, &armed.path).await;
        let (_pushed, visit) = Client::connect_known(node, &outbound.path, &service).await;
        for bomb in 0..STOPPED.len() {
            let event = format!(r#"{{"bomb": "{bomb}", {}"#, &hostile_event()[1..]);
            for _ in 0..5 {
                client.send(&event).await;
                let frame = client.error_frame("transform_failed").await;
                let message = frame["error"]["message"].as_str().expect("a message");
                assert!(message.contains("more steps") || message.contains("longer than"), "{bomb}: {message}");
            }
        }
        for other in &cluster.nodes {
            other.admin().push(&visit.id, r#"{"n": 90000}"#).await.expect(422);
        }
    }
    stop.store(true, Ordering::Relaxed);
    for (node, bystander) in cluster.nodes.iter().zip(bystanders) {
        let took = bystander.await.expect("the bystander got all of its answers");
        let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
        println!("{}: {} round trips beside the bombs, p50 {p50:?}, p99 {p99:?}", node.name, took.len());
        assert!(p99 < Duration::from_millis(250), "{}: p99 {p99:?}", node.name);
        assert!(node.exited().is_none(), "{} is gone", node.name);
        node.admin().call("GET", "/readyz", &[], b"").await.expect(200);
    }
    assert!(service.received("/never").is_empty());
}
