//! Pushes to users and to all connections of an endpoint: counts, conditions, templates, slow readers, nodes that die.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, http, route, with};
use crate::http::Answer;
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Node};
use crate::service::Service;
use crate::wait::{eventually, PATIENCE};
use crate::ws::{Client, RawSocket};

/// Users with the keys `key-of-ann`, … in the query parameter `k`.
fn with_users(document: Value) -> Value {
    let key = |id: &str| json!({"id": id, "key": format!("key-of-{id}")});
    let keys = ["ann", "bob"].map(key);
    with(document, "authentication", json!({"mode": "apiKey", "keys": keys, "in": "query", "name": "k"}))
}

async fn broadcast(node: &Node, id: &str, query: &str, message: &Value) -> Answer {
    node.admin().post(&format!("/api/v1/endpoints/{id}/broadcast{query}"), message).await
}

fn counts(answer: Answer) -> [u64; 3] {
    let reached = answer.expect(202).json();
    ["matched", "queued", "nodes"]
        .map(|name| reached[name].as_u64().unwrap_or_else(|| panic!("no {name} in {reached}")))
}

/// A condition in a query.
fn filter(condition: &Value) -> String {
    format!("filter={}", encoded(&condition.to_string()))
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[tokio::test]
async fn users_and_endpoints_are_reached_on_all_nodes_byte_for_byte() {
    let cluster = shared().await;
    let (path, other) = (unique_path("all"), unique_path("not-all"));
    let endpoint = cluster.create(&with_users(document(&path, &[]))).await;
    let second = cluster.create(&with_users(document(&other, &[]))).await;
    let mut clients = Vec::new();
    for (node, user) in cluster.nodes.iter().zip(["ann", "bob", "ann"]) {
        clients.push(Client::connect(node, &format!("{path}?k=key-of-{user}")).await);
    }
    let mut elsewhere = Client::connect(&cluster.nodes[1], &format!("{other}?k=key-of-ann")).await;
    let text = "{\"n\" : 1.0 ,\"é\": [ ]}";
    let admin = cluster.nodes[2].admin();
    let send = async |target: String| admin.call("POST", &target, &[], text.as_bytes()).await;
    assert_eq!(counts(send(format!("/api/v1/endpoints/{}/broadcast", endpoint.id)).await), [3, 3, 3]);
    for client in &mut clients {
        assert_eq!(client.text().await, text);
    }
    // A user is one and the same at every endpoint, unless one is named.
    let mine = format!("/api/v1/users/ann?endpoint={}", endpoint.id);
    assert_eq!(counts(send(mine).await), [2, 2, 3]);
    assert_eq!((clients[0].text().await.as_str(), clients[2].text().await.as_str()), (text, text));
    assert_eq!(counts(send(format!("/api/v1/users/ann?endpoint={}", second.id)).await), [1, 1, 3]);
    assert_eq!(elsewhere.text().await, text);
    for nobody in ["/api/v1/users/nobody", "/api/v1/users/ann?endpoint=ep-none"] {
        assert_eq!(counts(send(nobody.to_owned()).await), [0, 0, 3], "{nobody}");
    }
    send("/api/v1/endpoints/ep-none/broadcast".to_owned()).await.expect_problem(404, "endpoint_not_found");
    let wrong = admin.call("POST", "/api/v1/users/ann", &[], b"{oops").await;
    wrong.expect_problem(400, "invalid_json");
    let large = format!("\"{}\"", "x".repeat(131_072));
    admin.call("POST", "/api/v1/users/ann", &[], large.as_bytes()).await.expect_problem(413, "too_big");
    clients[1].hears_nothing_for(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_condition_over_claims_and_tags_selects() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.decide("/authorize", |request| {
        let asked = request.json();
        let who = asked["query"]["who"].as_str().unwrap_or_default().to_owned();
        let plan = if asked["query"]["plan"] == "gold" { "gold" } else { "silver" };
        let word = json!({"userId": who, "claims": {"plan": plan, "level": 3}});
        crate::service::Behaviour::status(200).body(&word.to_string())
    });
    let routes = [route("connect", &[http(&service, "/connect")])];
    let rule = json!({"mode": "authorizer", "url": service.url("/authorize")});
    let path = unique_path("filtered");
    let endpoint = cluster.create(&with(document(&path, &routes), "authentication", rule)).await;
    let mut clients = Vec::new();
    for (node, query) in cluster.nodes.iter().zip(["who=f1&plan=gold", "who=f2", "who=f3&plan=gold"]) {
        let client = Client::connect(node, &format!("{path}?{query}")).await;
        let call = service.next("/connect").await;
        clients.push((client, call.attributes().get("connectionid").to_owned()));
    }
    let tags = format!("/api/v1/connections/{}/tags", clients[2].1);
    cluster.nodes[0].admin().put(&tags, &json!({"beta": true, "wave": 2})).await.expect(204);
    let gold = json!({"equal": {"path": "$.claims.plan", "value": "gold"}});
    let beta = json!({"equal": {"path": "$.tags.beta", "value": true}});
    let cases = [
        (gold.clone(), vec![0, 2]),
        (json!({"not": gold}), vec![1]),
        (beta.clone(), vec![2]),
        (json!({"and": [gold, {"not": beta}]}), vec![0]),
        (json!({"gte": {"path": "$.claims.level", "value": 4}}), vec![]),
        (json!({"in": {"path": "$.user", "value": ["f1", "f2"], "source": "connection"}}), vec![0, 1]),
        (json!({"matches": {"path": "$.query.who", "value": "^f[23]$"}}), vec![1, 2]),
    ];
    for (number, (condition, chosen)) in cases.iter().enumerate() {
        let (query, message) = (format!("?{}", filter(condition)), json!(number));
        let answer = broadcast(&cluster.nodes[number % 3], &endpoint.id, &query, &message).await;
        let chosen_count = chosen.len() as u64;
        assert_eq!(counts(answer), [chosen_count, chosen_count, 3], "{condition}");
        for index in chosen {
            assert_eq!(clients[*index].0.json().await, json!(number), "{condition}");
        }
    }
    // Of a user as well, and after the tags are gone.
    let target = format!("/api/v1/users/f3?{}", filter(&beta));
    assert_eq!(counts(cluster.nodes[1].admin().post(&target, &json!("mine")).await), [1, 1, 3]);
    assert_eq!(clients[2].0.json().await, "mine");
    cluster.nodes[1].admin().put(&tags, &json!({})).await.expect(204);
    assert_eq!(counts(cluster.nodes[1].admin().post(&target, &json!("not mine")).await), [0, 0, 3]);
    for (client, _) in &mut clients {
        client.hears_nothing_for(Duration::from_millis(60)).await;
    }
}

#[tokio::test]
async fn a_wrong_condition_names_its_field_and_sends_nothing() {
    let cluster = shared().await;
    let endpoint = cluster.create(&document(&unique_path("wrong-filter"), &[])).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    for (text, place) in [
        ("plan=gold", "filter"),
        ("{}", "filter"),
        (r#"{"equals": {"path": "$.a", "value": 1}}"#, "filter.equals"),
        (r#"{"equal": {"path": "plan", "value": 1}}"#, "filter.equal.path"),
        (r#"{"and": [{"equal": {"path": "$.a"}}]}"#, "filter.and[0].equal.value"),
        (r#"{"equal": {"path": "$.a", "value": 1, "source": "event"}}"#, "filter.equal.source"),
    ] {
        for target in [format!("/api/v1/endpoints/{}/broadcast", endpoint.id), "/api/v1/groups/g".to_owned()] {
            let target = format!("{target}?filter={}", encoded(text));
            let problem = cluster.nodes[1].admin().post(&target, &json!(1)).await.expect_problem(400, "invalid_query");
            assert_eq!(problem["errors"][0]["path"], place, "{text}: {problem}");
        }
    }
    client.hears_nothing_for(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn each_connection_gets_what_its_template_makes() {
    let cluster = shared().await;
    let template = r#"{"to": {{ connection.query.who | tojson }}, "said": {{ event | tojson }}}"#;
    let wanted = with(document(&unique_path("made"), &[]), "transform", json!({"outbound": template}));
    let endpoint = cluster.create(&wanted).await;
    let mut clients = Vec::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        clients.push(Client::connect(node, &format!("{}?who=w{number}", endpoint.path)).await);
    }
    assert_eq!(counts(broadcast(&cluster.nodes[0], &endpoint.id, "", &json!("hi")).await), [3, 3, 3]);
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.json().await, json!({"to": format!("w{number}"), "said": "hi"}));
    }
}

/// A client that does not read is counted as missed, and nobody waits for it.
#[tokio::test]
async fn a_slow_reader_delays_nobody() {
    let cluster = shared().await;
    let service = Service::start().await;
    let settings = json!({"outbox": {"maxBytes": 150_000, "maxMessages": 4, "whenFull": "dropNewest"}});
    let wanted = with(document(&unique_path("slow-one"), &all_routes_to(&service)), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let _silent = RawSocket::connect(&cluster.nodes[0], &endpoint.path, Some(4_096)).await;
    service.wait_for("/connect", 1).await;
    let mut readers = Vec::new();
    for node in cluster.nodes.iter().chain(&cluster.nodes) {
        readers.push(Client::connect(node, &endpoint.path).await);
    }
    let large = json!("x".repeat(60_000));
    let mut slowest = Duration::ZERO;
    let mut rounds = 0;
    let missed = loop {
        rounds += 1;
        assert!(rounds < 200, "the outbox never filled up");
        let began = Instant::now();
        let reached = broadcast(&cluster.nodes[1], &endpoint.id, "", &large).await.expect(202).json();
        for reader in &mut readers {
            assert_eq!(reader.text().await.len(), 60_002);
        }
        slowest = slowest.max(began.elapsed());
        assert_eq!(reached["matched"], 7, "{reached}");
        if reached["queued"] == 6 {
            break reached;
        }
    };
    assert_eq!(missed["missed"], json!({"outboxFull": 1}), "{missed}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    println!("{rounds} broadcasts of 60 kB to six readers and one that does not read: the slowest took {slowest:?}");
}

/// What a dead node's connections would have got is not counted, and the answer says so until it is known to be dead.
#[tokio::test]
async fn a_node_that_cannot_be_asked_is_named() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let endpoint = cluster.create(&document(&unique_path("dying"), &[])).await;
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        clients.push(Client::connect(node, &endpoint.path).await);
    }
    assert_eq!(counts(broadcast(&cluster.nodes[0], &endpoint.id, "", &json!(1)).await), [3, 3, 3]);

    // It neither answers nor refuses.
    cluster.nodes[2].signal(libc::SIGSTOP);
    let began = Instant::now();
    let reached = broadcast(&cluster.nodes[0], &endpoint.id, "", &json!(2)).await.expect(202).json();
    assert_eq!((&reached["matched"], &reached["nodes"]), (&json!(2), &json!(2)), "{reached}");
    assert_eq!(reached["unreachable"][0]["node"], "n3", "{reached}");
    assert_eq!(reached["unreachable"][0]["perhaps"], true, "{reached}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // To whom nobody is known to belong, it may belong there.
    let nobody = cluster.nodes[0].admin().post("/api/v1/users/nobody", &json!(1)).await;
    let detail = nobody.expect_problem(503, "nodes_unreachable")["detail"].to_string();
    assert!(detail.contains("n3"), "{detail}");
    cluster.nodes[2].signal(libc::SIGCONT);
    for (index, expected) in [(0, 2), (1, 2), (2, 2)] {
        assert_eq!(clients[index].json().await, 1);
        assert_eq!(clients[index].json().await, expected, "it was on its way when the node went on");
    }

    eventually("the node to gossip again", PATIENCE, async || {
        let cluster = cluster.nodes[1].admin().get("/api/v1/cluster").await.expect(200).json();
        cluster["nodes"].as_array()?.iter().all(|node| node["live"] == true).then_some(())
    })
    .await;
    cluster.nodes[2].kill();
    let reached = broadcast(&cluster.nodes[1], &endpoint.id, "", &json!(3)).await.expect(202).json();
    assert_eq!((&reached["queued"], &reached["nodes"]), (&json!(2), &json!(2)), "{reached}");
    assert_eq!(reached["unreachable"][0]["node"], "n3", "killed a moment ago, it may only be cut off: {reached}");
    let metrics = cluster.nodes[1].admin().get("/metrics").await.text();
    assert!(metrics.contains("wsgateway_broadcasts_total{result=\"partial\"} "), "{metrics}");
    let missed = metrics.lines().find_map(|line| line.strip_prefix("wsgateway_broadcast_nodes_missed_total "));
    assert!(missed.is_some_and(|count| count != "0"), "{missed:?}");
    let began = Instant::now();
    eventually("the dead node to be left out", PATIENCE, async || {
        let reached = broadcast(&cluster.nodes[1], &endpoint.id, "", &json!("later")).await.expect(202).json();
        reached.get("unreachable").is_none().then_some(())
    })
    .await;
    println!("a killed node is named for {:?} and then known to be dead", began.elapsed());
    assert_eq!(clients[0].json().await, 3);
    assert_eq!(counts(broadcast(&cluster.nodes[1], &endpoint.id, "", &json!(4)).await), [2, 2, 2]);
}
