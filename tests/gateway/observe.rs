//! The view inside: who asks, figures over time, rates by route and backend, and the live stream, over all nodes.

use std::time::Duration;

use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;

use crate::cli::{err, out, run};
use crate::document::{all_routes_to, document, http};
use crate::http::Admin;
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Node, Plan};
use crate::service::{Behaviour, Service};
use crate::wait::{eventually, soon, PATIENCE};
use crate::ws::{Client, RawSocket};

/// Reads server-sent events.
struct Stream {
    lines: Lines<BufReader<TcpStream>>,
}

impl Stream {
    async fn open(node: &Node, query: &str) -> Self {
        Self::open_as(&node.admin(), query).await
    }

    async fn open_as(admin: &Admin, query: &str) -> Self {
        let Admin { addr, token } = admin.clone();
        let mut socket = TcpStream::connect(addr).await.expect("a connection");
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!("GET /api/v1/live?{query} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n{token}\r\n");
        socket.write_all(head.as_bytes()).await.expect("written");
        let mut lines = BufReader::new(socket).lines();
        let status = soon("an answer", lines.next_line()).await.expect("read").expect("a status");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let mut stream = Stream { lines };
        // Heard, before anything happens.
        while stream.line().await.as_deref() != Some(": hello") {}
        stream
    }

    async fn line(&mut self) -> Option<String> {
        soon("a line", self.lines.next_line()).await.expect("read")
    }

    /// The next event of this name; others are left out.
    async fn next(&mut self, name: &str) -> Value {
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("the stream has ended before an event {name:?}"));
            if line == format!("event: {name}") {
                let data = self.line().await.expect("data");
                return serde_json::from_str(data.strip_prefix("data: ").expect("data:")).expect("JSON");
            }
        }
    }

    async fn ends(&mut self) {
        while self.line().await.is_some() {}
    }
}

async fn stats(admin: &Admin, query: &str) -> Value {
    admin.get(&format!("/api/v1/stats?{query}")).await.expect(200).json()
}

fn sum(node: &Value, figure: &str) -> u64 {
    let samples = node["samples"][figure].as_array().unwrap_or_else(|| panic!("no {figure}: {node}"));
    samples.iter().filter_map(Value::as_u64).sum()
}

#[tokio::test]
async fn whoever_asks_is_told_who_it_is() {
    let admin = shared().await.nodes[0].admin();
    let me = admin.get("/api/v1/whoami").await.expect(200).json();
    assert_eq!((&me["role"], &me["tokenId"]), (&json!("admin"), &Value::Null), "{me}");
    admin.get("/api/v1/whoami?x=1").await.expect_problem(400, "invalid_query");
}

#[tokio::test]
async fn figures_are_kept_by_node_and_rates_by_route_and_backend() {
    let _turn = own_cluster_turn().await;
    let mut cluster = Cluster::start(3).await;
    let service = Service::start().await;
    service.behave("/broken", Behaviour::status(500));
    let path = unique_path("observed");
    let routes = json!([
        {"type": "custom", "name": "broken", "key": "broken", "backends": [
            http(&service, "/broken")]},
        {"type": "default", "name": "fine", "backends": [http(&service, "/fine")]},
    ]);
    let endpoint = cluster.create(&json!({"path": path, "routeSelector": "$.type", "routes": routes})).await;
    let mut client = Client::connect(&cluster.nodes[1], &path).await;
    for text in ["{\"type\": \"x\"}", "{\"type\": \"x\"}", "{\"type\": \"broken\"}"] {
        client.send(text).await;
    }
    client.error_frame("delivery_failed").await;
    client.send("no JSON").await;
    client.error_frame("invalid_json").await;
    for node in &cluster.nodes {
        let admin = node.admin();
        let seen = eventually("the figures", PATIENCE, async || {
            let seen = stats(&admin, "range=5m").await;
            (sum(&seen["nodes"][1], "eventsIn") == 4).then_some(seen)
        })
        .await;
        assert_eq!((&seen["range"], &seen["stepSeconds"]), (&json!("5m"), &json!(1)));
        let nodes = seen["nodes"].as_array().expect("nodes");
        assert_eq!(nodes.iter().map(|node| node["name"].as_str().unwrap()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);
        let there = &nodes[1];
        assert_eq!((sum(there, "opened"), sum(&nodes[0], "eventsIn")), (1, 0), "{seen}");
        let errors = &there["samples"]["errors"];
        for code in ["delivery_failed", "invalid_json"] {
            let of = errors[code].as_array().unwrap_or_else(|| panic!("no {code}: {errors}"));
            assert_eq!(of.iter().filter_map(Value::as_u64).sum::<u64>(), 1);
            assert_eq!(of.len(), there["samples"]["connections"].as_array().unwrap().len());
        }
        assert!(there["samples"]["backendP99Millis"].as_array().unwrap().iter().any(Value::is_number), "{there}");
        assert!(there["samples"]["memoryBytes"].as_array().unwrap().iter().any(|bytes| bytes.as_u64() > Some(1 << 20)));

        let traffic = admin.get(&format!("/api/v1/traffic?endpoint={}", endpoint.id)).await.expect(200).json();
        let item = &traffic["items"][0];
        assert_eq!((&item["path"], &item["connections"], &traffic["nodes"]), (&json!(path), &json!(1), &json!(3)));
        assert_eq!(item["served"], json!({"complete": 3, "of": 3, "degraded": 0}));
        let route = |name: &str| {
            let routes = item["routes"].as_array().expect("routes");
            routes.iter().find(|route| route["route"] == name).unwrap_or_else(|| panic!("no {name}: {item}"))
        };
        assert!(route("fine")["eventsPerSecond"].as_f64() > Some(0.0) && route("fine")["errors"] == json!({}));
        assert!(route("broken")["errors"]["delivery_failed"].as_f64() > Some(0.0), "{item}");
        assert!(route("")["errors"]["invalid_json"].as_f64() > Some(0.0), "{item}");
        let backend = &route("broken")["backends"][0];
        assert_eq!((&backend["backend"], &backend["index"]), (&json!("custom/broken/0"), &json!(0)));
        assert_eq!(backend["failedPerSecond"], backend["requestsPerSecond"]);
        assert!(backend["p99Millis"].is_number());
    }
    let admin = cluster.nodes[0].admin();
    admin.get("/api/v1/traffic?endpoint=ep-none").await.expect_problem(404, "endpoint_not_found");
    admin.get("/api/v1/stats?range=2h").await.expect_problem(400, "invalid_query");
    let newest = stats(&admin, "since=99999999999").await;
    assert_eq!(newest["nodes"][0]["samples"]["connections"], json!([]));
    let hour = stats(&admin, "range=1h").await;
    assert_eq!((&hour["stepSeconds"], hour["nodes"].as_array().unwrap().len()), (&json!(10), 3));

    // Who cannot be asked is named, and the others are there.
    let mut live = Stream::open(&cluster.nodes[0], "topics=samples,cluster").await;
    assert_eq!(live.next("cluster").await["nodes"].as_array().map(Vec::len), Some(3));
    // The first ones may be of before the client.
    let second = loop {
        let second = live.next("samples").await;
        if second["nodes"][1]["connections"] == 1 {
            break second;
        }
    };
    assert_eq!((&second["nodes"][1]["connections"], &second["nodes"][1]["reachable"]), (&json!(1), &json!(true)));
    cluster.nodes[1].kill();
    let unreachable = live.next("unreachable").await;
    assert_eq!(unreachable["nodes"][0]["node"], "n2", "{unreachable}");
    let seen = stats(&admin, "").await;
    assert_eq!((&seen["nodes"][1]["reachable"], &seen["nodes"][1]["samples"]), (&json!(false), &Value::Null));
    assert!(seen["nodes"][1]["reason"].is_string());
    let traffic = admin.get("/api/v1/traffic").await.expect(200).json();
    assert_eq!((&traffic["nodes"], &traffic["unreachable"][0]["node"]), (&json!(2), &json!("n2")));
    cluster.nodes[1].start();
    cluster.nodes[1].wait_ready().await;
    let again = live.next("unreachable").await;
    assert_eq!(again["nodes"], json!([]));
    // A node that leaves does not wait for those that look at it.
    cluster.nodes[0].signal(libc::SIGTERM);
    live.ends().await;
    cluster.nodes[0].wait_exit(Duration::from_secs(20)).await;
    cluster.nodes.clear();
}

/// Names are unique among the routes of one type only.
#[tokio::test]
async fn routes_of_one_name_are_told_apart() {
    let cluster = shared().await;
    let service = Service::start().await;
    let path = unique_path("namesakes");
    let routes = json!([
        {"type": "custom", "name": "x", "key": "a", "backends": [http(&service, "/custom")]},
        {"type": "default", "name": "x", "backends": [http(&service, "/default")]},
    ]);
    let endpoint = cluster.create(&json!({"path": path, "routeSelector": "$.type", "routes": routes})).await;
    let mut client = Client::connect(&cluster.nodes[0], &path).await;
    for text in ["{\"type\": \"a\"}", "{}", "{}", "{}"] {
        client.send(text).await;
    }
    let seen = eventually("all events", PATIENCE, async || {
        let target = format!("/api/v1/traffic?endpoint={}", endpoint.id);
        let traffic = cluster.nodes[1].admin().get(&target).await.expect(200).json();
        let routes = traffic["items"][0]["routes"].as_array().expect("routes").clone();
        let of = |kind: &str| routes.iter().find(|route| route["type"] == kind && route["route"] == "x").cloned();
        let both = (of("custom")?, of("default")?);
        let total = |route: &Value| route["eventsPerSecond"].as_f64().expect("a rate");
        (total(&both.1) > 2.5 * total(&both.0)).then_some(both)
    })
    .await;
    for (route, backend) in [(&seen.0, "custom/x/0"), (&seen.1, "default/x/0")] {
        let backends = route["backends"].as_array().expect("backends");
        assert!(backends.len() == 1 && backends[0]["backend"] == backend, "{route}");
    }
}

#[tokio::test]
async fn what_a_client_says_when_it_closes_is_not_shown() {
    let cluster = shared().await;
    let path = unique_path("closing");
    let echo = json!({"path": path, "routes": [{"type": "default", "name": "d", "backends": [{"type": "echo"}]}]});
    let endpoint = cluster.create(&echo).await;
    let mut stream = Stream::open(&cluster.nodes[0], &format!("topics=events&endpoint={}", endpoint.id)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut client = RawSocket::connect(&cluster.nodes[0], &path, None).await;
    client.send_frame(8, true, &[&3777_u16.to_be_bytes(), "my card is 4111".as_bytes()].concat(), None).await;
    let closed = loop {
        let event = stream.next("event").await;
        if event["kind"] == "disconnect" {
            break event;
        }
    };
    assert_eq!(closed["detail"], "3777 ‹15 chars› (by the client)");
    let metrics = cluster.nodes[0].admin().get("/metrics").await.text();
    let line = format!("wsgateway_connections_closed_total{{endpoint=\"{path}\",code=\"3xxx\"}} 1");
    assert!(metrics.contains(&line) && !metrics.contains("3777"), "no {line}");
}

/// Behind a proxy or in a container, where a node listens is not where it is reached.
#[tokio::test]
async fn a_node_says_where_it_is_reached() {
    let _turn = own_cluster_turn().await;
    let environment = vec![
        ("WSGATEWAY__CLIENT__ADVERTISE_URL".to_owned(), "wss://ws.example.com/live/".to_owned()),
        ("WSGATEWAY__ADMIN__ADVERTISE_URL".to_owned(), "https://admin.example.com".to_owned()),
    ];
    let cluster = Cluster::start_with(1, Plan { environment, ..Plan::default() }).await;
    let admin = cluster.nodes[0].admin();
    eventually("the addresses", PATIENCE, async || {
        let node = admin.get("/api/v1/cluster").await.expect(200).json()["nodes"][0].clone();
        (node["clientUrl"] == "wss://ws.example.com/live" && node["adminUrl"] == "https://admin.example.com")
            .then_some(())
    })
    .await;
    let echo = json!({"path": "/a", "routes": [{"type": "default", "name": "d", "backends": [{"type": "echo"}]}]});
    let endpoint = cluster.create(&echo).await;
    let described = admin.get(&format!("/api/v1/endpoints/{}/asyncapi", endpoint.id)).await.expect(200).json();
    let server = described["servers"].as_object().expect("servers").values().next().expect("one");
    assert_eq!((&server["protocol"], &server["host"]), (&json!("wss"), &json!("ws.example.com")));
    assert_eq!(server["pathname"], "/live");

    for (name, url) in
        [("CLIENT", "https://x"), ("CLIENT", "ws://"), ("ADMIN", "http://u@x"), ("ADMIN", "http://x?y=1")]
    {
        let variable = format!("WSGATEWAY__{name}__ADVERTISE_URL");
        let refused = run(&["serve", "--data-dir", "/nonexistent"], &[(&variable, url)]).await;
        let key = format!("{}.advertise_url", name.to_lowercase());
        assert!(err(&refused).contains(&key), "{url}: {}", err(&refused));
    }
}

#[tokio::test]
async fn the_tail_tells_what_passes_on_every_node_redacted() {
    let cluster = shared().await;
    let service = Service::start().await;
    let path = unique_path("tailed");
    let routes = json!([
        {"type": "custom", "name": "orders", "key": "order",
            "backends": [http(&service, "/orders")]},
        {"type": "default", "name": "rest", "backends": [{"type": "echo"}]},
    ]);
    let endpoint = cluster.create(&json!({"path": path, "routeSelector": "$.type", "routes": routes})).await;
    let other = cluster.create(&document(&unique_path("other"), &all_routes_to(&service))).await;
    // Asked of one node, heard of all.
    let mut all = Stream::open(&cluster.nodes[0], &format!("topics=events&endpoint={}", endpoint.id)).await;
    let by_path = format!("topics=events&endpoint={path}&direction=in&route=orders&match=$[?@=='order']");
    let by_path = by_path.replace('[', "%5B").replace(']', "%5D").replace('\'', "%27");
    let mut orders = Stream::open(&cluster.nodes[2], &by_path).await;
    let mut elsewhere =
        Stream::open(&cluster.nodes[1], &format!("topics=events&seconds=4&endpoint={}", other.id)).await;
    // The watch is on every node once each has answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut client = Client::connect(&cluster.nodes[1], &path).await;
    let opened = all.next("event").await;
    assert_eq!(
        (&opened["kind"], &opened["outcome"], &opened["node"]),
        (&json!("connect"), &json!("opened"), &json!("n2"))
    );
    let order = "{\"type\": \"order\", \"card\": \"4111 1111\", \"total\": 3}";
    client.send(order).await;
    for stream in [&mut all, &mut orders] {
        let seen = stream.next("event").await;
        assert_eq!(seen["data"], json!({"type": "order", "card": "‹9 chars›", "total": "‹number›"}));
        for (field, expected) in [
            ("endpointId", json!(endpoint.id)),
            ("path", json!(path)),
            ("connectionId", opened["connectionId"].clone()),
            ("direction", json!("in")),
            ("kind", json!("message")),
            ("route", json!("orders")),
            ("outcome", json!("delivered")),
            ("bytes", json!(order.len())),
        ] {
            assert_eq!(seen[field], expected, "{field} of {seen}");
        }
        let at = service.received("/orders")[0].attributes().get("id").to_owned();
        assert_eq!(seen["eventId"], json!(at), "as the service has it");
    }
    client.send("{\"type\": \"x\"}").await;
    client.text().await;
    let (back, came) = (all.next("event").await, all.next("event").await);
    assert_eq!((&back["direction"], &back["outcome"]), (&json!("out"), &json!("queued")), "{back}");
    assert_eq!((&came["direction"], &came["route"]), (&json!("in"), &json!("rest")), "{came}");
    client.send("no JSON").await;
    client.error_frame("invalid_json").await;
    let refused = loop {
        let seen = all.next("event").await;
        if seen["direction"] == "in" {
            break seen;
        }
    };
    assert_eq!(
        (&refused["outcome"], &refused["data"], &refused["bytes"]),
        (&json!("invalid_json"), &Value::Null, &json!(7))
    );
    assert!(refused["detail"].is_string());
    client.leave().await;
    let closed = all.next("event").await;
    assert_eq!((&closed["kind"], &closed["outcome"]), (&json!("disconnect"), &json!("closed")), "{closed}");
    assert!(closed["detail"].as_str().unwrap().starts_with("1000"), "{closed}");
    // Nothing of what was not asked for, and it ends when it was to.
    while let Some(line) = elsewhere.line().await {
        assert!(!line.starts_with("event: event"), "{line}");
    }
}

#[tokio::test]
async fn what_is_above_the_limit_is_counted() {
    let cluster = shared().await;
    let path = unique_path("flooded");
    let echo = json!({"path": path, "routes": [{"type": "default", "name": "d", "backends": [{"type": "echo"}]}]});
    cluster.create(&echo).await;
    let query = format!("topics=events&endpoint={path}&direction=in&eventsPerSecond=5");
    let mut stream = Stream::open(&cluster.nodes[0], &query).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut client = Client::connect(&cluster.nodes[0], &path).await;
    for number in 0..200 {
        client.send(&number.to_string()).await;
        client.text().await;
    }
    let skipped = stream.next("skipped").await;
    assert!(skipped["events"].as_u64() > Some(0), "{skipped}");
}

#[tokio::test]
async fn a_wrong_stream_is_refused_before_it_begins() {
    let admin = shared().await.nodes[0].admin();
    for query in [
        "topics=all",
        "topics=",
        "direction=up",
        "match=%24%5B",
        "eventsPerSecond=0",
        "eventsPerSecond=501",
        "seconds=0",
        "unknown=1",
    ] {
        let problem = admin.get(&format!("/api/v1/live?{query}")).await.expect_problem(400, "invalid_query");
        let name = query.split('=').next().unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(name), "{query}: {problem}");
    }
}

#[tokio::test]
async fn so_many_streams_and_no_more() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(Stream::open(&cluster.nodes[0], "topics=cluster").await);
    }
    let admin = cluster.nodes[0].admin();
    let refused = admin.get("/api/v1/live").await;
    assert!(refused.header("retry-after").is_some());
    refused.expect_problem(429, "too_many_streams");
    // Whoever shows a token has places of its own. From then on the node asks for one.
    let made = admin.post("/api/v1/tokens", &json!({"name": "another", "role": "admin"})).await.expect(201).json();
    let admin = Admin { token: Some(made["token"].as_str().expect("a token").to_owned()), ..admin };
    for _ in 0..16 {
        streams.push(Stream::open_as(&admin, "topics=cluster").await);
    }
    admin.get("/api/v1/live").await.expect_problem(429, "too_many_streams");
    streams.clear();
    eventually("room for another", PATIENCE, async || {
        (admin.get("/api/v1/live?seconds=1").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_terminal_shows_the_same_figures() {
    let cluster = shared().await;
    let path = unique_path("terminal");
    let echo = json!({"path": path, "routes": [{"type": "default", "name": "d", "backends": [{"type": "echo"}]}]});
    cluster.create(&echo).await;
    let Admin { addr, token } = cluster.nodes[0].admin();
    let server = format!("http://{addr}");
    let token = token.unwrap_or_default();
    let environment = [("WSGATEWAY_SERVER", server.as_str()), ("WSGATEWAY_TOKEN", token.as_str())];
    let tailing = {
        let path = path.clone();
        let (server, token) = (server.clone(), token.clone());
        tokio::spawn(async move {
            let environment = [("WSGATEWAY_SERVER", server.as_str()), ("WSGATEWAY_TOKEN", token.as_str())];
            run(&["tail", "--endpoint", &path, "--direction", "in", "--count", "2"], &environment).await
        })
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut client = Client::connect(&cluster.nodes[1], &path).await;
    client.send("{\"a\": 1}").await;
    client.text().await;
    let tailed = tailing.await.expect("tail ends");
    let (lines, said) = (out(&tailed), err(&tailed));
    assert!(tailed.status.success(), "{said}");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.contains(&format!("n2 -> {path} connect opened")), "{lines}");
    assert!(
        lines.contains(&format!("n2 -> {path} [d] delivered")) && lines.contains("{\"a\":\"‹number›\"}"),
        "{lines}"
    );

    let shown = eventually("the endpoint's traffic", PATIENCE, async || {
        let top = run(&["top", "--endpoints", "1000"], &environment).await;
        assert!(top.status.success(), "{}", err(&top));
        let row = out(&top).lines().find(|line| line.starts_with(&path)).map(str::to_owned)?;
        let cells: Vec<&str> = row.split_whitespace().collect();
        (cells[1] == "3/3" && cells[2] == "1" && cells[3] != "0").then(|| out(&top))
    })
    .await;
    assert!(shown.contains("3 of 3 nodes, leader") && shown.contains("n1 ") && shown.contains("MiB"), "{shown}");
    let json = run(&["top", "--output", "json"], &environment).await;
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["stats"]["nodes"].as_array().map(Vec::len), Some(3));

    let wrong = run(&["tail", "--match", "$["], &environment).await;
    assert!(!wrong.status.success() && err(&wrong).contains("match"), "{}", err(&wrong));
    let nobody = run(&["top", "--server", "http://127.0.0.1:1"], &environment).await;
    assert!(!nobody.status.success() && err(&nobody).contains("no node can be reached"), "{}", err(&nobody));
}

/// Names and types as docs/metrics.md has them.
fn documented() -> std::collections::BTreeMap<String, (String, String)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).expect("the page");
    let rows = page.lines().filter(|line| line.starts_with("| `wsgateway_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), cells[3].to_owned()))
    })
    .collect()
}

#[tokio::test]
async fn every_metric_is_documented_with_its_type_and_labels() {
    let documented = documented();
    let metrics = shared().await.nodes[0].admin().get("/metrics").await.expect(200).text();
    let mut types = std::collections::BTreeMap::new();
    for line in metrics.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name.to_owned(), kind.to_owned());
            let exposed = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            let (documented, _) =
                documented.get(&exposed).unwrap_or_else(|| panic!("{exposed} is not in docs/metrics.md"));
            assert_eq!(documented, kind, "{exposed}");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            // Paths of endpoints have braces themselves.
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
            let of = |suffix: &str| {
                name.strip_suffix(suffix).filter(|base| types.get(*base).is_some_and(|kind| kind == "histogram"))
            };
            let base = ["_bucket", "_sum", "_count"].into_iter().find_map(of).unwrap_or(name);
            let (_, expected) = &documented[base];
            let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            let names: Vec<&str> = names.filter(|name| *name != "le").collect();
            assert_eq!(names.join(", "), *expected, "{line}");
        }
    }
    assert!(types.len() > 30, "{types:?}");
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let _turn = own_cluster_turn().await;
    let plan = Plan { token: Some("the-first-token-of-all".into()), ..Plan::default() };
    let cluster = Cluster::start_with(1, plan).await;
    let admin = cluster.nodes[0].admin();
    let made = admin.post("/api/v1/tokens", &json!({"name": "watcher", "role": "viewer"})).await.expect(201).json();
    let viewer = Admin { addr: admin.addr, token: made["token"].as_str().map(str::to_owned) };
    let me = viewer.get("/api/v1/whoami").await.expect(200).json();
    assert_eq!((&me["name"], &me["role"]), (&json!("watcher"), &json!("viewer")));
    assert_eq!(me["tokenId"], made["id"]);
    let mut stream = Stream::open_as(&viewer, "topics=cluster").await;
    stream.next("cluster").await;
    admin.delete(&format!("/api/v1/tokens/{}", made["id"].as_str().unwrap())).await.expect(204);
    stream.ends().await;
}
