//! Groups: who is put into one, by whom and from which node; a push to one reaches all of them on all nodes; membership
//! ends with the connection.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, http, route, with};
use crate::http::Admin;
use crate::kafka::broker;
use crate::sandbox::{shared, unique_path, Cluster};
use crate::service::{Behaviour, Service};
use crate::wait::{eventually, PATIENCE};
use crate::ws::Client;

/// A name that no other test uses.
fn group(theme: &str) -> String {
    unique_path(theme).trim_start_matches('/').to_owned()
}

async fn join(admin: &Admin, group: &str, cid: &str) {
    admin.call("PUT", &format!("/api/v1/groups/{group}/connections/{cid}"), &[], b"").await.expect(204);
}

async fn leave(admin: &Admin, group: &str, cid: &str) {
    admin.delete(&format!("/api/v1/groups/{group}/connections/{cid}")).await.expect(204);
}

/// Pushes through this node; answers matched, queued and nodes.
async fn push(cluster: &Cluster, node: usize, group: &str, message: &Value) -> (u64, u64, u64) {
    let target = format!("/api/v1/groups/{group}");
    let reached = cluster.nodes[node].admin().post(&target, message).await.expect(202).json();
    let count = |name: &str| reached[name].as_u64().unwrap_or_else(|| panic!("no {name} in {reached}"));
    (count("matched"), count("queued"), count("nodes"))
}

#[tokio::test]
async fn a_group_is_reached_on_all_nodes_from_any_node() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("grouped"), &all_routes_to(&service))).await;
    let (name, other) = (group("chat"), group("other"));
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        clients.push(Client::connect_known(node, &endpoint.path, &service).await);
    }
    assert_eq!(push(cluster, 0, &name, &json!(0)).await, (0, 0, 3), "an unknown group is an empty one");
    // Each by another node than its own; twice is as good as once.
    for (index, (_, visit)) in clients.iter().enumerate() {
        for _ in 0..2 {
            join(&cluster.nodes[(index + 1) % 3].admin(), &name, &visit.id).await;
        }
    }
    join(&cluster.nodes[0].admin(), &other, &clients[1].1.id).await;
    let described = cluster.nodes[2].admin().get(&format!("/api/v1/connections/{}", clients[1].1.id)).await.expect(200);
    assert_eq!(described.json()["groups"], json!([name, other]));
    for node in 0..3 {
        let message = json!({"from": node});
        assert_eq!(push(cluster, node, &name, &message).await, (3, 3, 3));
        for (client, _) in &mut clients {
            assert_eq!(client.json().await, message);
        }
    }
    leave(&cluster.nodes[2].admin(), &name, &clients[0].1.id).await;
    leave(&cluster.nodes[2].admin(), &name, &clients[0].1.id).await;
    assert_eq!(push(cluster, 0, &name, &json!("two")).await, (2, 2, 3));
    assert_eq!(push(cluster, 2, &other, &json!("one")).await, (1, 1, 3));
    assert_eq!(clients[1].0.json().await, "two");
    assert_eq!(clients[1].0.json().await, "one");
    assert_eq!(clients[2].0.json().await, "two");
    clients[0].0.hears_nothing_for(Duration::from_millis(150)).await;
}

#[tokio::test]
async fn membership_ends_with_the_connection() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("leaving"), &all_routes_to(&service))).await;
    let name = group("leaving");
    let (gone, visit) = Client::connect_known(&cluster.nodes[1], &endpoint.path, &service).await;
    let (mut stays, stayer) = Client::connect_known(&cluster.nodes[1], &endpoint.path, &service).await;
    join(&cluster.nodes[0].admin(), &name, &visit.id).await;
    join(&cluster.nodes[0].admin(), &name, &stayer.id).await;
    gone.leave().await;
    eventually("the group to have one connection", PATIENCE, async || {
        (push(cluster, 2, &name, &json!("left")).await.0 == 1).then_some(())
    })
    .await;
    assert_eq!(stays.json().await, "left");
    // A connection that is gone joins and leaves nothing.
    for node in &cluster.nodes {
        let target = format!("/api/v1/groups/{name}/connections/{}", visit.id);
        node.admin().call("PUT", &target, &[], b"").await.expect_problem(410, "connection_gone");
        node.admin().delete(&target).await.expect_problem(410, "connection_gone");
    }
}

#[tokio::test]
async fn what_is_wrong_with_groups_and_tags_is_said() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("wrong-group"), &all_routes_to(&service))).await;
    let (_client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    let admin = cluster.nodes[2].admin();
    let put = async |target: &str| admin.call("PUT", target, &[], b"").await;
    put("/api/v1/groups/g/connections/short").await.expect_problem(400, "malformed_connection_id");
    for wrong in ["%0a", &"x".repeat(256)] {
        let target = format!("/api/v1/groups/{wrong}/connections/{}", visit.id);
        put(&target).await.expect_problem(400, "invalid_group");
        admin.post(&format!("/api/v1/groups/{wrong}"), &json!(1)).await.expect_problem(400, "invalid_group");
    }
    // Any other name does, as long as it is percent-encoded.
    let odd = "a%2Fb%20%C3%A9%3F";
    put(&format!("/api/v1/groups/{odd}/connections/{}", visit.id)).await.expect(204);
    let uri = format!("/api/v1/connections/{}", visit.id);
    assert_eq!(admin.get(&uri).await.expect(200).json()["groups"], json!(["a/b é?"]));
    assert_eq!(push(cluster, 1, odd, &json!(1)).await, (1, 1, 3));
    for number in 1..64 {
        put(&format!("/api/v1/groups/many-{number}/connections/{}", visit.id)).await.expect(204);
    }
    let one_more = format!("/api/v1/groups/one-more/connections/{}", visit.id);
    put(&one_more).await.expect_problem(409, "too_many_groups");
    for (wrong, part) in [(json!([]), ""), (json!({"a": null}), "a"), (json!({"a": {"b": 1}}), "a")] {
        let problem = admin.put(&format!("{uri}/tags"), &wrong).await.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["path"], part, "{problem}");
    }
    let large = json!({"a": "x".repeat(5_000)});
    admin.put(&format!("{uri}/tags"), &large).await.expect_problem(413, "too_big");
    admin.put("/api/v1/connections/short/tags", &json!({})).await.expect_problem(400, "malformed_connection_id");
}

/// The authorizer says who is in which group from the start.
#[tokio::test]
async fn groups_of_an_authorizers_answer() {
    let cluster = shared().await;
    let service = Service::start().await;
    let name = group("authorized");
    let answer = json!({"userId": "ann", "claims": {"plan": "gold"}, "groups": [name]}).to_string();
    service.behave("/authorize", Behaviour::status(200).body(&answer));
    let routes = [route("connect", &[http(&service, "/connect")])];
    let wanted = with(
        document(&unique_path("authorized"), &routes),
        "authentication",
        json!({"mode": "authorizer", "url": service.url("/authorize")}),
    );
    let endpoint = cluster.create(&wanted).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    eventually("the connection to be in its group", PATIENCE, async || {
        (push(cluster, 0, &name, &json!("welcome")).await.0 == 1).then_some(())
    })
    .await;
    assert_eq!(client.json().await, "welcome");
    client.leave().await;
    eventually("the group to be empty", PATIENCE, async || {
        (push(cluster, 0, &name, &json!("nobody")).await.0 == 0).then_some(())
    })
    .await;
}

/// A topic whose records name groups.
#[tokio::test]
async fn a_sources_records_reach_groups() {
    let cluster = shared().await;
    let broker = broker().await;
    let service = Service::start().await;
    let topic = broker.topic("to-groups").await;
    let source = json!({"type": "kafka", "topic": topic.name, "group": format!("{}-group", topic.name),
        "target": {"group": "$.headers.room"}, "bootstrapServers": broker.bootstrap_servers, "autoOffsetReset": "earliest"});
    let routes = [route("connect", &[http(&service, "/connect")])];
    let wanted = with(document(&unique_path("topic-groups"), &routes), "sources", json!([source]));
    let endpoint = cluster.create(&wanted).await;
    let stranger = cluster.create(&document(&unique_path("topic-stranger"), &routes)).await;
    let name = group("room");
    let (mut one, first) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    let (mut two, second) = Client::connect_known(&cluster.nodes[2], &endpoint.path, &service).await;
    let (mut other, third) = Client::connect_known(&cluster.nodes[1], &endpoint.path, &service).await;
    let (mut foreign, fourth) = Client::connect_known(&cluster.nodes[1], &stranger.path, &service).await;
    for visit in [&first, &second, &fourth] {
        join(&cluster.nodes[1].admin(), &name, &visit.id).await;
    }
    join(&cluster.nodes[1].admin(), "elsewhere", &third.id).await;
    broker.writer().write(&topic.name, "k", &[("room", &name)], Some("{\"say\": \"hello\"}")).await;
    assert_eq!(one.text().await, "{\"say\": \"hello\"}");
    assert_eq!(two.text().await, "{\"say\": \"hello\"}");
    other.hears_nothing_for(Duration::from_millis(200)).await;
    foreign.hears_nothing_for(Duration::from_millis(50)).await;
}
