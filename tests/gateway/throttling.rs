//! Limits of one node (scope node, and what does not depend on the scope): each limit with each answer to what is too
//! much, by real clients. Rates of 0.01 a second fill nothing up again while a test runs.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::cli::{out, run};
use crate::cli_files::file;
use crate::document::{document, http, route, with};
use crate::handshake::{to, Handshake};
use crate::sandbox::{shared, unique_path, Cluster, Endpoint, Node};
use crate::service::{Behaviour, Service};
use crate::wait::{eventually, PATIENCE};
use crate::ws::{Client, Received};

const PROXY: &str = "127.0.0.9";

fn echo() -> Value {
    json!({ "type": "echo" })
}

fn never_again(burst: u64) -> Value {
    json!({ "rate": 0.01, "burst": burst })
}

/// Echoes events; tells `service` of errors.
fn echoing(service: &Service, throttling: Value) -> Value {
    let routes = [route("default", &[echo()]), route("error", &[http(service, "/error")])];
    with(document(&unique_path("throttled"), &routes), "throttling", throttling)
}

async fn update(cluster: &Cluster, endpoint: &Endpoint, document: &Value, version: u64) {
    let mut document = document.clone();
    document["path"] = json!(endpoint.path);
    cluster.nodes[0].admin().put(&format!("/api/v1/endpoints/{}", endpoint.id), &document).await.expect(200);
    cluster.wait_version(&endpoint.id, version).await;
}

/// The metric of what one limit of an endpoint has refused on a node.
pub async fn throttled_count(node: &Node, endpoint: &Endpoint, limit: &str) -> u64 {
    let wanted = format!("wsgateway_throttled_total{{endpoint=\"{}\",limit=\"{limit}\"}} ", endpoint.path);
    let metrics = node.admin().get("/metrics").await.expect(200).text();
    metrics.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn each_limit_with_each_answer() {
    let cluster = shared().await;
    let limits = [
        ("perConnection", never_again(3)),
        ("perIdentity", json!({"key": "ip", "rate": 0.01, "burst": 3})),
        ("messagesPerSecond", never_again(3)),
    ];
    for (index, (limit, value)) in limits.iter().enumerate() {
        for on_exceeded in ["reject", "drop", "close"] {
            let service = Service::start().await;
            let limits = json!({"scope": "node", "onExceeded": on_exceeded, *limit: value});
            let endpoint = cluster.create(&echoing(&service, limits)).await;
            let node = &cluster.nodes[index];
            let mut client = Client::connect(node, &endpoint.path).await;
            for n in 1..=5 {
                client.send(&json!({ "id": n }).to_string()).await;
            }
            for n in 1..=3 {
                assert_eq!(client.json().await["id"], n, "{limit} {on_exceeded}");
            }
            match on_exceeded {
                "reject" => {
                    for n in 4..=5 {
                        let frame = client.error_frame("throttled").await;
                        let wait = frame["error"]["retryAfterMillis"].as_u64().expect("milliseconds");
                        assert!((90_000..=100_000).contains(&wait), "{frame}");
                        assert_eq!(frame["clientEventId"], n, "{frame}");
                        let event = service.next("/error").await.json();
                        assert_eq!((&event["code"], &event["event"]["id"]), (&json!("throttled"), &json!(n)));
                        assert_eq!(event["eventId"], frame["eventId"]);
                        assert!(event["message"].as_str().is_some_and(|message| message.contains(limit)), "{event}");
                    }
                }
                "drop" => client.hears_nothing_for(Duration::from_millis(200)).await,
                _ => assert_eq!(client.closed().await, 1008),
            }
            let refused = if on_exceeded == "close" { 1 } else { 2 };
            assert_eq!(throttled_count(node, &endpoint, limit).await, refused, "{limit} {on_exceeded}");
            if on_exceeded != "reject" {
                assert!(service.received("/error").is_empty(), "only what is rejected is reported");
            }
        }
    }
}

#[tokio::test]
async fn waiting_as_long_as_told_is_enough() {
    let cluster = shared().await;
    let service = Service::start().await;
    let limits = json!({"scope": "node", "perConnection": {"rate": 1, "burst": 1}});
    let endpoint = cluster.create(&echoing(&service, limits)).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send("1").await;
    assert_eq!(client.text().await, "1");
    for round in 0..2 {
        client.send("2").await;
        let frame = client.error_frame("throttled").await;
        let wait = frame["error"]["retryAfterMillis"].as_u64().expect("milliseconds");
        assert!((1..=1_000).contains(&wait), "{frame}");
        tokio::time::sleep(Duration::from_millis(wait)).await;
        client.send("3").await;
        assert_eq!(client.text().await, "3", "round {round}");
    }
}

#[tokio::test]
async fn connections_over_a_limit_get_429_with_retry_after() {
    let cluster = shared().await;
    let node = &cluster.nodes[1];
    let service = Service::start().await;
    let document = |throttling: Value| {
        let routes = [route("connect", &[http(&service, "/connect")])];
        let keys = json!({"mode": "apiKey", "keys": [{"id": "ann", "key": "ann-s-long-api-key"}]});
        let document = with(document(&unique_path("full"), &routes), "authentication", keys);
        with(document, "throttling", throttling)
    };
    let key = [("X-Api-Key", "ann-s-long-api-key")];
    let known = Handshake { headers: &key, ..to(node) };

    let endpoint = cluster.create(&document(json!({"scope": "node", "maxConnections": 2}))).await;
    let first = Client::try_connect(node, &endpoint.path, &key).await.expect("the first");
    let _second = Client::try_connect(node, &endpoint.path, &key).await.expect("the second");
    let refused = known.at(&endpoint.path).await.answer;
    assert_eq!(refused.json()["code"], "throttled", "{}", refused.text());
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("5")));
    assert!(refused.text().contains("maxConnections"), "{}", refused.text());
    assert_eq!(throttled_count(node, &endpoint, "maxConnections").await, 1);
    assert_eq!(service.received("/connect").len(), 2, "services do not hear of refused handshakes");
    assert_eq!(to(node).outcome(&endpoint.path).await.0, 401, "who is unknown learns nothing about limits");
    let elsewhere = Client::try_connect(&cluster.nodes[2], &endpoint.path, &key).await;
    assert!(elsewhere.is_ok(), "each node has its own two");
    first.leave().await;
    let third = eventually("the place of who left", PATIENCE, async || {
        Client::try_connect(node, &endpoint.path, &key).await.ok()
    })
    .await;
    drop(third);

    let limits = json!({"scope": "node", "connectionsPerSecond": {"rate": 0.4, "burst": 2}});
    let endpoint = cluster.create(&document(limits)).await;
    for _ in 0..5 {
        assert_eq!(to(node).outcome(&endpoint.path).await.0, 401, "who is not let in does not count");
    }
    let began = Instant::now();
    for _ in 0..2 {
        assert_eq!(known.outcome(&endpoint.path).await.0, 101);
    }
    let refused = known.at(&endpoint.path).await.answer;
    assert_eq!(refused.status, 429, "{}", refused.text());
    let wait: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
    assert!((1..=3).contains(&wait), "{wait} s");
    eventually("the next second", PATIENCE, async || (known.outcome(&endpoint.path).await.0 == 101).then_some(()))
        .await;
    assert!(began.elapsed() <= Duration::from_secs(wait + 3), "Retry-After {wait} was short by far");
    assert!(throttled_count(node, &endpoint, "connectionsPerSecond").await >= 1);
}

/// Sends one message; whether it came back.
async fn passes(client: &mut Client) -> bool {
    client.send("7").await;
    match client.receive().await {
        Received::Text(text) if text == "7" => true,
        Received::Text(text) if text.contains("\"throttled\"") => false,
        other => panic!("expected the event or an error frame, got {other:?}"),
    }
}

#[tokio::test]
async fn identities_share_a_bucket_by_user() {
    let cluster = shared().await;
    let node = &cluster.nodes[0];
    let service = Service::start().await;
    let keys = json!({"mode": "apiKey", "keys": [
        {"id": "ann", "key": "ann-s-long-api-key"}, {"id": "bob", "key": "bob-s-long-api-key"}]});
    let limits = json!({"scope": "node", "perIdentity": never_again(2)});
    let endpoint = cluster.create(&with(echoing(&service, limits.clone()), "authentication", keys)).await;
    let connect =
        async |key: &str| Client::try_connect(node, &endpoint.path, &[("x-api-key", key)]).await.expect("a known key");
    let mut ann = connect("ann-s-long-api-key").await;
    let mut ann_too = connect("ann-s-long-api-key").await;
    let mut bob = connect("bob-s-long-api-key").await;
    assert!(passes(&mut ann).await && passes(&mut ann_too).await);
    assert!(!passes(&mut ann).await && !passes(&mut ann_too).await, "two of ann's connections, one bucket");
    assert!(passes(&mut bob).await, "bob has his own");
    drop((ann, ann_too));
    let mut again = connect("ann-s-long-api-key").await;
    assert!(!passes(&mut again).await, "leaving and coming back fills nothing up");

    // Without authentication there are no users: the address counts.
    let endpoint = cluster.create(&echoing(&service, limits)).await;
    let mut first = Client::connect(node, &endpoint.path).await;
    let mut second = Client::connect(node, &endpoint.path).await;
    let mut other = Client::try_connect_from("127.0.0.77", node, &endpoint.path, &[]).await.expect("accepted");
    assert!(passes(&mut first).await && passes(&mut second).await);
    assert!(!passes(&mut first).await && !passes(&mut second).await);
    assert!(passes(&mut other).await);
}

/// A key, the queries and the headers of two connections, and whether they are the same identity.
type Pair<'a> = (&'a str, [&'a str; 2], [(&'a str, &'a str); 2], bool);

#[tokio::test]
async fn identities_share_a_bucket_by_address_or_value() {
    let cluster = shared().await;
    let node = &cluster.nodes[0];
    let service = Service::start().await;
    let by = |key: &str| json!({"scope": "node", "perIdentity": {"key": key, "rate": 0.01, "burst": 1}});
    // What the first of two connections uses up is missing for the second: same identity, or not.
    let cases: &[Pair] = &[
        ("ip", ["", ""], [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.1")], true),
        ("ip", ["", ""], [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.2")], false),
        ("ip", ["", ""], [("X-Forwarded-For", "6.6.6.6, 192.0.2.1"), ("X-Forwarded-For", "192.0.2.1")], true),
        ("ip", ["", ""], [("Forwarded", "for=\"[2001:db8::1]\""), ("Forwarded", "for=\"[2001:db8::ffff:2]\"")], true),
        ("ip", ["", ""], [("Forwarded", "for=\"[2001:db8::1]\""), ("Forwarded", "for=\"[2001:db8:0:1::1]\"")], false),
        ("$.query.tenant", ["?tenant=a", "?tenant=a"], [("X-A", "1"), ("X-A", "2")], true),
        ("$.query.tenant", ["?tenant=a", "?tenant=b"], [("X-A", "1"), ("X-A", "1")], false),
        ("$.headers['x-tenant']", ["", ""], [("X-Tenant", "a"), ("X-Tenant", "a")], true),
        ("$.headers['x-tenant']", ["", ""], [("X-Tenant", "a"), ("X-Tenant", "b")], false),
        // Without such a value the address counts.
        ("$.claims.tenant", ["", ""], [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.1")], true),
        ("$.claims.tenant", ["", ""], [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.2")], false),
    ];
    for (key, queries, headers, same) in cases {
        let endpoint = cluster.create(&echoing(&service, by(key))).await;
        let mut clients = Vec::new();
        for (query, header) in queries.iter().zip(headers) {
            let target = format!("{}{query}", endpoint.path);
            let client = Client::try_connect_from(PROXY, node, &target, &[*header]).await;
            clients.push(client.expect("accepted"));
        }
        assert!(passes(&mut clients[0]).await, "{key} {headers:?}");
        assert_eq!(passes(&mut clients[1]).await, !same, "{key} {queries:?} {headers:?}");
    }
}

#[tokio::test]
async fn limits_change_under_open_connections() {
    let cluster = shared().await;
    let node = &cluster.nodes[0];
    let service = Service::start().await;
    let with_limits = |limits: Value| echoing(&service, limits);
    let endpoint = cluster.create(&with_limits(Value::Null)).await;
    let mut first = Client::connect(node, &endpoint.path).await;
    let mut second = Client::connect(node, &endpoint.path).await;
    for _ in 0..20 {
        assert!(passes(&mut first).await);
    }
    update(cluster, &endpoint, &with_limits(json!({"scope": "node", "messagesPerSecond": never_again(1)})), 2).await;
    assert!(passes(&mut first).await);
    assert!(!passes(&mut second).await);
    // A hundred seconds are used up; a rate of 50 is not kept waiting for them.
    let fast = json!({"scope": "node", "messagesPerSecond": {"rate": 50, "burst": 10}});
    update(cluster, &endpoint, &with_limits(fast), 3).await;
    eventually("the faster rate", Duration::from_secs(2), async || passes(&mut second).await.then_some(())).await;
    // Connections that were open before there was a limit count.
    update(cluster, &endpoint, &with_limits(json!({"scope": "node", "maxConnections": 2})), 4).await;
    assert_eq!(to(node).outcome(&endpoint.path).await, (429, "throttled".into()));
    update(cluster, &endpoint, &with_limits(json!({"scope": "node", "maxConnections": 1})), 5).await;
    assert!(passes(&mut first).await && passes(&mut second).await, "nobody is closed by a lower limit");
    first.leave().await;
    let still_full = to(node).outcome(&endpoint.path).await.0;
    assert_eq!(still_full, 429, "one is open and one is allowed");
    second.leave().await;
    eventually("the only place", PATIENCE, async || (to(node).outcome(&endpoint.path).await.0 == 101).then_some(()))
        .await;
    // What identities are known by changes too.
    let by = |key: &str| json!({"scope": "node", "perIdentity": {"key": key, "rate": 0.01, "burst": 1}});
    update(cluster, &endpoint, &with_limits(by("ip")), 6).await;
    let mut a = Client::connect(node, &format!("{}?t=a", endpoint.path)).await;
    let mut b = Client::connect(node, &format!("{}?t=b", endpoint.path)).await;
    assert!(passes(&mut a).await && !passes(&mut b).await);
    update(cluster, &endpoint, &with_limits(by("$.query.t")), 7).await;
    assert!(passes(&mut a).await && passes(&mut b).await);
    assert!(!passes(&mut a).await && !passes(&mut b).await);
}

#[tokio::test]
async fn messages_are_counted_before_anything_looks_at_them() {
    let cluster = shared().await;
    let node = &cluster.nodes[2];
    let service = Service::start().await;
    let limits = json!({"scope": "node", "perConnection": never_again(2)});
    let endpoint = cluster.create(&echoing(&service, limits.clone())).await;
    let mut client = Client::connect(node, &endpoint.path).await;
    client.send("no json").await;
    client.error_frame("invalid_json").await;
    client.send("1").await;
    assert_eq!(client.text().await, "1");
    client.send("no json").await;
    let frame = client.error_frame("throttled").await;
    assert!(frame.get("clientEventId").is_none(), "{frame}");
    assert_eq!(service.wait_for("/error", 2).await[1].json()["event"], "no json");

    let raw = [route("default", &[json!({"type": "echo", "raw": true})])];
    let raw = with(document(&unique_path("throttled-raw"), &raw), "throttling", limits);
    let endpoint = cluster.create(&raw).await;
    let mut client = Client::connect(node, &endpoint.path).await;
    for _ in 0..2 {
        client.send_binary(b"\x00\xff").await;
        assert_eq!(client.receive().await, Received::Binary(b"\x00\xff".to_vec()));
    }
    client.send_binary(b"\x00\xff").await;
    client.error_frame("throttled").await;
}

#[tokio::test]
async fn rejected_messages_fill_the_window_and_dropped_ones_do_not() {
    let cluster = shared().await;
    let node = &cluster.nodes[0];
    let service = Service::start().await;
    service.behave("/error", Behaviour::status(200).after(Duration::from_millis(30)));
    for on_exceeded in ["reject", "drop"] {
        let limits = json!({"scope": "node", "onExceeded": on_exceeded, "perConnection": never_again(1)});
        let document = with(echoing(&service, limits), "settings", json!({"maxInFlight": 2}));
        let endpoint = cluster.create(&document).await;
        let mut client = Client::connect(node, &endpoint.path).await;
        let began = Instant::now();
        for n in 0..21 {
            client.send(&n.to_string()).await;
        }
        assert_eq!(client.text().await, "0");
        if on_exceeded == "reject" {
            for _ in 0..20 {
                client.error_frame("throttled").await;
            }
            // Two at a time are accepted, and the error route takes one after the other.
            assert!(began.elapsed() >= Duration::from_millis(18 * 30), "{:?}", began.elapsed());
            let reported = service.wait_for("/error", 20).await;
            let numbers: Vec<_> = reported.iter().map(|call| call.json()["event"].as_u64()).collect();
            assert_eq!(numbers, (1..=20).map(Some).collect::<Vec<_>>());
            assert!(reported.iter().all(|call| !call.overlapped));
        } else {
            eventually("all to be dropped", PATIENCE, async || {
                (throttled_count(node, &endpoint, "perConnection").await == 20).then_some(())
            })
            .await;
        }
        client.leave().await;
    }
}

#[tokio::test]
async fn explain_and_wrong_documents_name_the_limits() {
    let cluster = shared().await;
    let service = Service::start().await;
    let limits = json!({"perConnection": {"rate": 5}, "perIdentity": {"rate": 2, "burst": 4}, "onExceeded": "drop"});
    let endpoint = cluster.create(&echoing(&service, limits)).await;
    let question = json!({"event": 1, "connection": {"user": "ann"}});
    let uri = format!("/api/v1/endpoints/{}/explain", endpoint.id);
    let explained = cluster.nodes[1].admin().post(&uri, &question).await.expect(200).json();
    let limits = &explained["limits"];
    assert_eq!(limits[0]["at"], "throttling.perConnection", "{limits}");
    assert_eq!((&limits[1]["of"], &limits[1]["scope"]), (&json!("user ann"), &json!("cluster")), "{limits}");
    assert_eq!((&limits[0]["burst"], &limits[1]["onExceeded"]), (&json!(5.0), &json!("drop")), "{limits}");

    let limited = json!({"path": "/limited", "throttling": {"messagesPerSecond": {"rate": 2.5}, "scope": "node"}});
    let limited = file("explain-limits", "limited.json", &limited.to_string());
    let shown = out(&run(&["explain", "-f", &limited.display().to_string(), "-e", "1"], &[]).await);
    let line =
        "limit     throttling.messagesPerSecond of endpoint: 2.5 a second, 3.0 at once; scope node, above it reject";
    assert!(shown.contains(line), "{shown}");

    let wrong = json!({"perConnection": {"rate": 0}, "perIdentity": {"key": "tenant", "rate": 1}});
    let wrong = with(document(&unique_path("wrong-limits"), &[]), "throttling", wrong);
    let answer = cluster.nodes[0].admin().post("/api/v1/endpoints", &wrong).await;
    let problem = answer.expect_problem(400, "invalid_document");
    assert_eq!(problem["errors"][0]["path"], "throttling.perConnection.rate", "{problem}");
}
