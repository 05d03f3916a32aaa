//! What must hold when someone means harm, or is merely careless: a node lives on, order and bounds are kept, nothing is
//! done twice or in another's name. Each of these has gone wrong once.

use std::time::Duration;

use serde_json::json;

use crate::document::{all_routes_to, document, http, route, with};
use crate::sandbox::{shared, unique_path};
use crate::service::{Behaviour, Service};
use crate::wait::PATIENCE;
use crate::ws::{Client, RawSocket, TEXT};

const PING: u8 = 9;

#[tokio::test]
async fn an_enormous_control_frame_costs_its_sender_the_connection_and_nobody_else() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("ping"), &all_routes_to(&service))).await;
    let node = &cluster.nodes[0];
    let mut witness = Client::connect(node, &endpoint.path).await;
    for announced in [126, 1 << 34, 1 << 62] {
        let mut raw = RawSocket::connect(node, &endpoint.path, None).await;
        raw.send_frame(PING, true, b"x", Some(announced)).await;
        assert_eq!(raw.closed(PATIENCE).await, 1002, "a ping of {announced} bytes");
    }
    witness.send(r#"{"still":"here"}"#).await;
    assert_eq!(service.next("/default").await.text(), r#"{"still":"here"}"#);
}

#[tokio::test]
async fn events_before_an_oversized_frame_are_served() {
    let cluster = shared().await;
    let service = Service::start().await;
    let wanted =
        with(document(&unique_path("before"), &all_routes_to(&service)), "settings", json!({"maxMessageBytes": 64}));
    let endpoint = cluster.create(&wanted).await;
    let mut raw = RawSocket::connect(&cluster.nodes[2], &endpoint.path, None).await;
    for number in 1..=5 {
        raw.send_frame(TEXT, true, number.to_string().as_bytes(), None).await;
    }
    raw.send_frame(TEXT, true, b"", Some(1 << 20)).await;
    assert_eq!(raw.closed(PATIENCE).await, 1009);
    let served: Vec<_> = service.wait_for("/default", 5).await.iter().map(|event| event.text().to_owned()).collect();
    assert_eq!(served, ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_new_version_does_not_overtake_the_events_of_the_old_one() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/slow", Behaviour::status(204).after(Duration::from_millis(60)));
    let path = unique_path("versions");
    let routes = [route("default", &[http(&service, "/slow")])];
    let endpoint = cluster.create(&document(&path, &routes)).await;
    let mut client = Client::connect(&cluster.nodes[0], &path).await;
    for number in 0..10 {
        client.send(&number.to_string()).await;
    }
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let renamed = with(document(&path, &routes), "name", json!("renamed"));
    cluster.nodes[0].admin().put(&uri, &renamed).await.expect(200);
    for number in 10..20 {
        client.send(&number.to_string()).await;
    }
    let arrived: Vec<usize> =
        service.wait_for("/slow", 20).await.iter().map(|event| event.text().parse().expect("a number")).collect();
    assert_eq!(arrived, (0..20).collect::<Vec<_>>(), "one connection's events, over two versions");
}

#[tokio::test]
async fn a_hung_service_leaves_the_others_their_connections() {
    let cluster = shared().await;
    let (hung, well) = (Service::start().await, Service::start().await);
    hung.behave("/x", Behaviour::status(204).after(Duration::from_secs(4)));
    let bad = cluster.create(&document(&unique_path("hung"), &[route("default", &[http(&hung, "/x")])])).await;
    let good = cluster.create(&document(&unique_path("well"), &[route("default", &[http(&well, "/x")])])).await;
    let node = &cluster.nodes[1];
    let mut stuck = Vec::new();
    for _ in 0..40 {
        let mut client = Client::connect(node, &bad.path).await;
        client.send("1").await;
        stuck.push(client);
    }
    let mut client = Client::connect(node, &good.path).await;
    let began = std::time::Instant::now();
    client.send("2").await;
    assert_eq!(well.next("/x").await.text(), "2");
    assert!(began.elapsed() < Duration::from_secs(1), "took {:?} beside a hung service", began.elapsed());
}

#[tokio::test]
async fn a_path_that_cannot_be_routed_beside_another_is_refused() {
    let cluster = shared().await;
    let root = unique_path("side");
    cluster.create(&document(&format!("{root}/{{one}}"), &[])).await;
    let admin = cluster.nodes[0].admin();
    let beside = document(&format!("{root}/{{*rest}}"), &[]);
    admin.post("/api/v1/endpoints", &beside).await.expect_problem(409, "path_taken");
    let renamed = document(&format!("{root}/{{other}}"), &[]);
    admin.post("/api/v1/endpoints", &renamed).await.expect_problem(409, "path_taken");
    drop(Client::connect(&cluster.nodes[2], &format!("{root}/x")).await);
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_one_request() {
    let cluster = shared().await;
    let endpoint = cluster.create(&document(&unique_path("keyed"), &[])).await;
    let admin = cluster.nodes[1].admin();
    let key = [("content-type", "application/json"), ("idempotency-key", "used-for-everything")];
    let body = document(&unique_path("keyed"), &[]).to_string();
    let made = admin.call("POST", "/api/v1/endpoints", &key, body.as_bytes()).await.expect(201).json();
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    admin.call("DELETE", &uri, &key, b"").await.expect(204);
    admin.get(&uri).await.expect(404);
    admin.get(&format!("/api/v1/endpoints/{}", made["id"].as_str().expect("an id"))).await.expect(200);
}

#[tokio::test]
async fn best_effort_never_piles_up_behind_a_slow_service() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/slow", Behaviour::status(204).after(Duration::from_millis(200)));
    let mut backend = http(&service, "/slow");
    backend["required"] = json!(false);
    let endpoint = cluster.create(&document(&unique_path("effort"), &[route("default", &[backend])])).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    for number in 0..500 {
        client.send(&number.to_string()).await;
    }
    let dropped = crate::wait::eventually("dropped events are counted", PATIENCE, async || {
        let text = cluster.nodes[0].admin().get("/metrics").await.expect(200).text();
        let line = text.lines().find(|line| {
            line.contains("backend_seconds_count") && line.contains(&endpoint.path) && line.contains("dropped")
        })?;
        line.rsplit(' ').next()?.parse::<u64>().ok().filter(|count| *count > 300)
    })
    .await;
    println!("{dropped} of 500 best-effort events dropped at a service that takes 5 a second");
}

#[tokio::test]
async fn wrong_methods_and_bodies_that_are_too_long_get_problem_documents() {
    let cluster = shared().await;
    let admin = cluster.nodes[0].admin();
    admin.put("/api/v1/endpoints", &json!({})).await.expect_problem(405, "method_not_allowed");
    let long = format!("\"{}\"", "x".repeat(1024 * 1024));
    let json = [("content-type", "application/json")];
    admin.call("POST", "/api/v1/endpoints", &json, long.as_bytes()).await.expect_problem(413, "too_big");
}
