//! What may fail: nodes (kill -9, SIGTERM, a lost majority, a frozen leader) and backends. Tests with a cluster of their
//! own take turns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::document::{all_routes_to, document, http, route};
use crate::http::{Admin, JSON};
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster};
use crate::service::{Behaviour, Service};
use crate::wait::{eventually, PATIENCE};
use crate::ws::Client;

#[tokio::test]
async fn no_acknowledged_write_is_lost_when_leaders_are_killed() {
    const KILLS: usize = 3;
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let acknowledged: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let go_on = Arc::new(AtomicBool::new(true));
    let admins: Vec<Admin> = cluster.nodes.iter().map(|node| node.admin()).collect();
    let writer = tokio::spawn(write_until_told(admins, Arc::clone(&acknowledged), Arc::clone(&go_on)));

    for kill in 1..=KILLS {
        let before = acknowledged.lock().unwrap().len();
        eventually("writes before the kill", PATIENCE, async || {
            (acknowledged.lock().unwrap().len() >= before + 5).then_some(())
        })
        .await;
        let leader = cluster.leader().await;
        let killed = Instant::now();
        cluster.nodes[leader].kill();
        let at_kill = acknowledged.lock().unwrap().len();
        eventually("a write after the kill", Duration::from_secs(20), async || {
            (acknowledged.lock().unwrap().len() > at_kill).then_some(())
        })
        .await;
        println!(
            "kill {kill}: {} was the leader, the next write was acknowledged after {:?}",
            cluster.nodes[leader].name,
            killed.elapsed()
        );
        cluster.nodes[leader].restart().await;
    }
    go_on.store(false, Ordering::Relaxed);
    let tried = writer.await.expect("the writer");

    let acknowledged = acknowledged.lock().unwrap().clone();
    for node in &cluster.nodes {
        eventually(&format!("all {} acknowledged writes on {}", acknowledged.len(), node.name), PATIENCE, async || {
            let stored = all_endpoints(&node.admin()).await;
            acknowledged.iter().all(|(id, path)| stored.get(id) == Some(path)).then_some(())
        })
        .await;
    }
    println!(
        "{} of {tried} writes were acknowledged, all of them are on all nodes after {KILLS} kills",
        acknowledged.len()
    );
}

/// Creates endpoints one after the other, at any node that answers; answers how many it tried.
async fn write_until_told(
    admins: Vec<Admin>,
    acknowledged: Arc<Mutex<BTreeMap<String, String>>>,
    go_on: Arc<AtomicBool>,
) -> usize {
    let mut tried = 0;
    while go_on.load(Ordering::Relaxed) {
        tried += 1;
        let body = document(&unique_path("acknowledged"), &[]).to_string();
        let admin = &admins[tried % admins.len()];
        let attempt = admin.try_call("POST", "/api/v1/endpoints", JSON, body.as_bytes());
        match tokio::time::timeout(Duration::from_secs(5), attempt).await {
            Ok(Ok(answer)) if answer.status == 201 => {
                let created = answer.json();
                let text = |field: &str| created[field].as_str().expect("text").to_string();
                acknowledged.lock().unwrap().insert(text("id"), text("path"));
            }
            // Refused or unknown: not acknowledged, whatever became of it.
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    tried
}

/// Id → path, read page by page.
async fn all_endpoints(admin: &Admin) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut cursor = None::<String>;
    loop {
        let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = admin.get(&format!("/api/v1/endpoints?limit=100{after}")).await.expect(200).json();
        for item in page["items"].as_array().expect("items") {
            let text = |field: &str| item[field].as_str().expect("text").to_string();
            all.insert(text("id"), text("path"));
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_string()),
            None => return all,
        }
    }
}

#[tokio::test]
async fn a_killed_node_takes_nobody_elses_client_with_it() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("killed"), &all_routes_to(&service))).await;
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        clients.push(Client::connect_known(node, &endpoint.path, &service).await);
    }
    let (_lost_client, lost) = clients.pop().expect("three clients");
    let dead = &cluster.nodes[2];
    dead.kill();
    let killed = Instant::now();

    // The truth about the dead node's connections: perhaps unreachable at first, gone within ten seconds, never a success.
    let mut answers = Vec::new();
    eventually("410 for the dead node's connection", Duration::from_secs(10), async || {
        let asked = Instant::now();
        let status = cluster.nodes[0].admin().push(&lost.id, "1").await.status;
        assert!(matches!(status, 410 | 503), "a push to a dead node was answered {status}");
        assert!(asked.elapsed() < Duration::from_secs(3), "the answer took {:?}", asked.elapsed());
        if answers.last() != Some(&status) {
            answers.push(status);
        }
        (status == 410).then_some(())
    })
    .await;
    println!("pushes to the dead node's connection were answered {answers:?}, 410 after {:?}", killed.elapsed());

    for (index, (client, visit)) in clients.iter_mut().enumerate() {
        client.send(r#"{"alive":true}"#).await;
        let call = service.next("/default").await;
        assert_eq!(call.attributes().get("connectionid"), visit.id, "client of node {index}");
        cluster.nodes[1 - index].admin().push(&visit.id, "\"alive\"").await.expect(202);
        assert_eq!(client.text().await, "\"alive\"");
    }
    println!("the clients of the other nodes talk on");

    let meanwhile = cluster.create(&document(&unique_path("meanwhile"), &[])).await;
    dead.restart().await;
    cluster.wait_version(&meanwhile.id, 1).await;
    Client::connect(dead, &meanwhile.path).await;
    dead.admin().push(&lost.id, "1").await.expect(410);
    let (mut back, visit) = Client::connect_known(dead, &endpoint.path, &service).await;
    eventually("a push to the restarted node", PATIENCE, async || {
        (cluster.nodes[0].admin().push(&visit.id, "\"welcome\"").await.status == 202).then_some(())
    })
    .await;
    assert_eq!(back.text().await, "\"welcome\"");
    assert!(service.received("/disconnect").len() <= 1, "never two disconnect events of one connection");
}

#[tokio::test]
async fn sigterm_drains_with_1012() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    service.behave("/default", Behaviour::status(200).after(Duration::from_millis(500)));
    let endpoint = cluster.create(&document(&unique_path("drained"), &all_routes_to(&service))).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[1], &endpoint.path, &service).await;
    let (mut other, _) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    client.send(r#"{"in":"flight"}"#).await;
    service.wait_for("/default", 1).await;
    let asked = Instant::now();
    cluster.nodes[1].signal(libc::SIGTERM);
    assert_eq!(client.closed().await, 1012);
    let status = cluster.nodes[1].wait_exit(Duration::from_secs(45)).await;
    assert!(status.success(), "the drained node ended with {status}\n{}", cluster.nodes[1].log_tail());
    let goodbye = service.next("/disconnect").await;
    assert_eq!(goodbye.attributes().get("connectionid"), visit.id);
    assert_eq!((goodbye.json()["code"].as_u64(), goodbye.json()["initiator"].as_str()), (Some(1012), Some("gateway")));
    println!("closed with 1012, its disconnect event delivered, process ended after {:?}", asked.elapsed());
    other.send("1").await;
    service.wait_for("/default", 2).await;
    eventually("410 for the drained node's connection", Duration::from_secs(10), async || {
        let status = cluster.nodes[0].admin().push(&visit.id, "1").await.status;
        assert!(matches!(status, 410 | 503), "a push to a node that left was answered {status}");
        (status == 410).then_some(())
    })
    .await;
    assert_eq!(service.received("/disconnect").len(), 1);
}

#[tokio::test]
async fn without_a_majority_traffic_goes_on_and_writes_are_503() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("minority"), &all_routes_to(&service))).await;
    let left = &cluster.nodes[0];
    let (mut client, visit) = Client::connect_known(left, &endpoint.path, &service).await;
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();

    // At once, and again when the node knows that it is alone.
    for wait in [0, 4] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let asked = Instant::now();
        let answer = left.admin().post("/api/v1/endpoints", &document(&unique_path("refused"), &[])).await;
        let took = asked.elapsed();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.header("retry-after").is_some(), "503 comes with Retry-After");
        assert!(took < Duration::from_millis(2_300), "the 503 took {took:?}");
        println!("a write without a majority: 503 after {took:?}");

        client.send(r#"{"going":"on"}"#).await;
        assert_eq!(service.next("/default").await.text(), r#"{"going":"on"}"#);
        left.admin().push(&visit.id, "\"pushed\"").await.expect(202);
        assert_eq!(client.text().await, "\"pushed\"");
        let (newcomer, _) = Client::connect_known(left, &endpoint.path, &service).await;
        newcomer.leave().await;
        left.admin().get(&format!("/api/v1/endpoints/{}", endpoint.id)).await.expect(200);
        left.admin().get(&format!("/api/v1/endpoints/{}?consistency=linearizable", endpoint.id)).await.expect(503);
    }
    cluster.nodes[1].restart().await;
    eventually("a write with the majority back", Duration::from_secs(20), async || {
        let answer = left.admin().post("/api/v1/endpoints", &document(&unique_path("back"), &[])).await;
        (answer.status == 201).then_some(())
    })
    .await;
    client.send("1").await;
    service.next("/default").await;
}

#[tokio::test]
async fn a_frozen_leader_is_replaced_and_falls_in_again() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let frozen = cluster.leader().await;
    let others: Vec<&crate::sandbox::Node> =
        cluster.nodes.iter().enumerate().filter(|(index, _)| *index != frozen).map(|(_, node)| node).collect();
    cluster.nodes[frozen].signal(libc::SIGSTOP);
    let stopped = Instant::now();
    let path = unique_path("thawed");
    let created: Value = eventually("a write while the leader is frozen", Duration::from_secs(20), async || {
        let body = document(&path, &[]).to_string();
        let attempt = others[0].admin().try_call("POST", "/api/v1/endpoints", JSON, body.as_bytes()).await.ok()?;
        match attempt.status {
            201 => Some(attempt.json()),
            // An earlier attempt, answered "unknown", was committed after all.
            409 => {
                let all = all_endpoints(&others[0].admin()).await;
                let id = all.into_iter().find(|(_, stored)| *stored == path)?.0;
                Some(serde_json::json!({ "id": id }))
            }
            _ => None,
        }
    })
    .await;
    println!("the others wrote {:?} after the leader froze", stopped.elapsed());
    cluster.nodes[frozen].signal(libc::SIGCONT);
    let uri = format!("/api/v1/endpoints/{}?consistency=linearizable", created["id"].as_str().expect("an id"));
    // A linearizable read on the node that still takes itself for the leader waits or fails, but is never stale.
    eventually("a linearizable read on the thawed node", PATIENCE, async || {
        let answer = cluster.nodes[frozen].admin().get(&uri).await;
        assert!(matches!(answer.status, 200 | 503), "a stale read: {} {}", answer.status, answer.text());
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dead_backend_is_reported_to_the_client_and_the_error_route() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/fails", Behaviour::status(500));
    let mut nobody = http(&service, "/x");
    // Port 1 on loopback: nobody listens there.
    nobody["destination"] = "http://127.0.0.1:1/x".into();
    for (what, backend) in [("nobody listens", nobody), ("500", http(&service, "/fails"))] {
        let routes = [route("default", &[backend]), route("error", &[http(&service, "/error")])];
        let endpoint = cluster.create(&document(&unique_path("dead"), &routes)).await;
        let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
        client.send(r#"{"lost":1}"#).await;
        let frame = client.error_frame("delivery_failed").await;
        let event = service.next("/error").await.json();
        assert_eq!(event["code"], "delivery_failed", "{event}");
        assert_eq!(event["event"]["lost"], 1, "{event}");
        assert_eq!(event["eventId"], frame["eventId"]);
        println!("{what}: {frame}");
    }
    let calls = service.received("/fails");
    let ids: std::collections::BTreeSet<String> =
        calls.iter().map(|call| call.attributes().get("id").to_string()).collect();
    assert_eq!(ids.len(), 1, "a retry has the id of the first attempt");
    println!("{} attempts with one id", calls.len());
}
