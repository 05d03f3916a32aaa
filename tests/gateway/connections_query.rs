//! The list of connections over all nodes: who is in it, in which order, page by page, and how many there are.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, with};
use crate::http::Admin;
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster};
use crate::service::Service;
use crate::wait::{eventually, PATIENCE};
use crate::ws::{Client, RawSocket};

async fn list(admin: &Admin, query: &str) -> Value {
    admin.get(&format!("/api/v1/connections?{query}")).await.expect(200).json()
}

fn ids(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items");
    items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn connections_are_found_by_what_they_are() {
    let cluster = shared().await;
    let service = Service::start().await;
    let key = |id: &str| json!({"id": id, "key": format!("key-of-{id}")});
    let rule = json!({"mode": "apiKey", "keys": [key("q-ann"), key("q-bob")], "in": "query", "name": "k"});
    let path = unique_path("listed");
    let endpoint = cluster.create(&with(document(&path, &all_routes_to(&service)), "authentication", rule)).await;
    let mut clients = Vec::new();
    for (node, user) in cluster.nodes.iter().zip(["q-ann", "q-bob", "q-ann"]) {
        let client = Client::connect(node, &format!("{path}?k=key-of-{user}")).await;
        let id = service.next("/connect").await.attributes().get("connectionid").to_owned();
        clients.push((client, id));
    }
    let admin = cluster.nodes[1].admin();
    let group = path.trim_start_matches('/');
    let join = format!("/api/v1/groups/{group}/connections/{}", clients[2].1);
    admin.call("PUT", &join, &[], b"").await.expect(204);
    admin.put(&format!("/api/v1/connections/{}/tags", clients[1].1), &json!({"wave": 7})).await.expect(204);
    let wave = "%7B%22equal%22%3A%7B%22path%22%3A%22%24.tags.wave%22%2C%22value%22%3A7%7D%7D";
    let mine = format!("endpoint={}", endpoint.id);
    let of = |indexes: &[usize]| indexes.iter().map(|index| clients[*index].1.clone()).collect::<Vec<_>>();
    for (query, expected) in [
        (mine.clone(), of(&[0, 1, 2])),
        (format!("{mine}&user=q-ann"), of(&[0, 2])),
        ("user=q-bob".to_owned(), of(&[1])),
        (format!("group={group}"), of(&[2])),
        (format!("user=q-ann&group={group}"), of(&[2])),
        (format!("user=q-bob&group={group}"), vec![]),
        (format!("{mine}&node=n2"), of(&[1])),
        (format!("{mine}&filter={wave}"), of(&[1])),
        ("endpoint=ep-none".to_owned(), vec![]),
    ] {
        for node in &cluster.nodes {
            let listed = list(&node.admin(), &query).await;
            assert_eq!(ids(&listed), expected, "{query}: the oldest first");
            assert_eq!(listed["matched"], expected.len(), "{query}");
            assert_eq!(listed["nodes"], if query.contains("node=") { 1 } else { 3 }, "{query}");
            assert_eq!(listed["nextCursor"], Value::Null, "{query}");
        }
    }
    let counted = list(&admin, &format!("{mine}&limit=0")).await;
    assert_eq!((&counted["matched"], &counted["items"]), (&json!(3), &json!([])));
    let listed = list(&admin, &format!("{mine}&filter={wave}")).await;
    let one = admin.get(&format!("/api/v1/connections/{}", clients[1].1)).await.expect(200).json();
    assert_eq!(listed["items"][0], one, "as it is described alone");
    assert_eq!(
        (&one["tags"], &one["identity"]["user"], &one["node"]),
        (&json!({"wave": 7}), &json!("q-bob"), &json!("n2"))
    );

    // What is sorted by changes with what they do.
    for number in 0..5 {
        clients[1].0.send(&number.to_string()).await;
    }
    eventually("the busiest to be first", PATIENCE, async || {
        let listed = list(&admin, &format!("{mine}&sort=rate")).await;
        (ids(&listed)[0] == clients[1].1 && listed["items"][0]["eventsIn"] == 5).then_some(())
    })
    .await;
    let (_client, gone) = clients.remove(0);
    admin.delete(&format!("/api/v1/connections/{gone}")).await.expect(204);
    eventually("the closed one to be gone", PATIENCE, async || {
        (list(&admin, &mine).await["matched"] == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pages_hold_each_connection_once() {
    let cluster = shared().await;
    let endpoint = cluster.create(&document(&unique_path("paged"), &[])).await;
    let mut clients = Vec::new();
    for number in 0..25 {
        clients.push(Client::connect(&cluster.nodes[number % 3], &endpoint.path).await);
    }
    let mut pages = 0;
    let mut seen = Vec::new();
    let mut times = Vec::new();
    let mut cursor = String::new();
    loop {
        let query = format!("endpoint={}&limit=10{cursor}", endpoint.id);
        // Any node continues what another has begun.
        let listed = list(&cluster.nodes[pages % 3].admin(), &query).await;
        assert_eq!(listed["matched"], 25);
        seen.extend(ids(&listed));
        let items = listed["items"].as_array().expect("items").clone();
        times.extend(items.iter().map(|item| item["connectedAt"].as_str().expect("a time").to_owned()));
        pages += 1;
        match listed["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((pages, seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (3, 25, 25));
    assert!(times.is_sorted(), "{times:?}");
    let admin = cluster.nodes[0].admin();
    for (query, field) in [
        ("cursor=x", "cursor"),
        ("limit=1001", "limit"),
        ("sort=size", "sort"),
        ("filter=%7B%7D", "filter"),
        ("colour=red", "colour"),
    ] {
        let problem = admin.get(&format!("/api/v1/connections?{query}")).await.expect_problem(400, "invalid_query");
        assert_eq!(problem["errors"][0]["path"], field, "{problem}");
    }
}

#[tokio::test]
async fn who_does_not_read_is_found_by_pending_bytes() {
    let cluster = shared().await;
    let service = Service::start().await;
    let settings = json!({"outbox": {"maxBytes": 1_000_000, "maxMessages": 100, "whenFull": "dropNewest"}});
    let wanted = with(document(&unique_path("pending"), &all_routes_to(&service)), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let _reads = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    service.next("/connect").await;
    let _silent = RawSocket::connect(&cluster.nodes[2], &endpoint.path, Some(4_096)).await;
    let silent = service.next("/connect").await.attributes().get("connectionid").to_owned();
    let admin = cluster.nodes[1].admin();
    let large = format!("\"{}\"", "x".repeat(100_000));
    let pending = eventually("unsent bytes", PATIENCE, async || {
        let _may_be_full = admin.push(&silent, &large).await;
        let listed = list(&admin, &format!("endpoint={}&sort=pendingBytes&limit=1", endpoint.id)).await;
        assert_eq!(listed["matched"], 2);
        listed["items"][0]["pendingBytes"].as_u64().filter(|bytes| *bytes > 0 && ids(&listed)[0] == silent)
    })
    .await;
    println!("{pending} unsent bytes");
}

#[tokio::test]
async fn a_node_that_cannot_be_asked_is_named() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let endpoint = cluster.create(&document(&unique_path("list-dying"), &[])).await;
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        clients.push(Client::connect(node, &endpoint.path).await);
    }
    let admin = cluster.nodes[0].admin();
    assert_eq!(list(&admin, "limit=0").await["matched"], 3);
    cluster.nodes[1].kill();
    let listed = list(&admin, "").await;
    assert_eq!((&listed["matched"], &listed["nodes"]), (&json!(2), &json!(2)), "{listed}");
    assert_eq!(listed["unreachable"][0]["node"], "n2", "{listed}");
    eventually("the dead node's connections to be gone for good", Duration::from_secs(20), async || {
        list(&admin, "").await.get("unreachable").is_none().then_some(())
    })
    .await;
}
