//! Configuration while sockets are open: stored on all nodes, live within a second, every version at hand.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{json, Value};

use crate::document::{document, http, route};
use crate::http::JSON;
use crate::sandbox::{shared, unique_path};
use crate::service::Service;
use crate::ws::Client;

/// The user's proposal, byte for byte.
const SAMPLE: &str = include_str!("../../config/src/testdata/endpoint-config-sample.json");

/// R5: from the answer to a write until every node uses it.
const LIVE_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn the_sample_document_is_taken_verbatim_and_read_back_on_every_node() {
    let cluster = shared().await;
    let answer = cluster.nodes[1].admin().call("POST", "/api/v1/endpoints", JSON, SAMPLE.as_bytes()).await.expect(201);
    let created = answer.json();
    let id = created["id"].as_str().expect("an id");
    assert!(answer.header("location").is_some_and(|location| location.ends_with(&format!("/api/v1/endpoints/{id}"))));
    assert!(answer.header("etag").is_some());
    cluster.wait_version(id, 1).await;
    let mut sample: Value = serde_json::from_str(SAMPLE).expect("the sample is JSON");
    // Its password is kept as a hash, and neither is shown.
    let authentication = sample["authentication"].as_object_mut().expect("an object");
    authentication.remove("password").expect("the sample's password");
    authentication.insert("passwordHash".into(), json!("$argon2id$redacted"));
    for node in &cluster.nodes {
        let endpoint = node.admin().get(&format!("/api/v1/endpoints/{id}")).await.expect(200).json();
        assert_eq!(endpoint["document"], sample, "as read on {}", node.name);
        assert_eq!(endpoint["path"], "/my-ws-endpoint");
        assert_eq!((&endpoint["activeVersion"], &endpoint["latestVersion"]), (&json!(1), &json!(1)));
        let listed = node.admin().get("/api/v1/endpoints?limit=1000").await.expect(200).json();
        assert!(listed["items"].as_array().expect("items").iter().any(|item| item["id"] == id));
    }
    cluster.nodes[2].admin().delete(&format!("/api/v1/endpoints/{id}")).await.expect(204);
    println!("201 on one node, the same document on all three");
}

#[tokio::test]
async fn a_change_is_live_on_every_node_within_a_second_and_drops_nobody() {
    let cluster = shared().await;
    let service = Service::start().await;
    let path = unique_path("live");
    let to = |destination: &str| {
        let connect = route("connect", &[http(&service, "/connect")]);
        document(&path, &[connect, route("default", &[http(&service, destination)])])
    };
    let endpoint = cluster.create(&to("/old")).await;
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        let (client, visit) = Client::connect_known(node, &path, &service).await;
        clients.push((client, visit.id));
    }
    say_until_all_arrive_at(&mut clients, &service, "/old").await;

    let changed = cluster.nodes[2].admin().put(&format!("{uri}?message=moved"), &to("/new")).await.expect(200).json();
    assert_eq!((&changed["activeVersion"], &changed["latestVersion"]), (&json!(2), &json!(2)));
    let took = say_until_all_arrive_at(&mut clients, &service, "/new").await;
    assert!(took < LIVE_WITHIN, "the change took {took:?}");
    println!("open connections on all nodes used version 2 after {took:?}");

    cluster.nodes[0].admin().post(&format!("{uri}/versions/1/activate"), &json!({})).await.expect(200);
    let old_before = service.received("/old").len();
    let took = say_until_all_arrive_at(&mut clients, &service, "/old").await;
    assert!(service.received("/old").len() >= old_before + clients.len());
    assert!(took < LIVE_WITHIN, "activating version 1 took {took:?}");
    println!("version 1 was back after {took:?}");

    cluster.wait_version(&endpoint.id, 1).await;
    for node in &cluster.nodes {
        let versions = node.admin().get(&format!("{uri}/versions")).await.expect(200).json();
        let mut items = versions["items"].as_array().expect("items").clone();
        items.sort_by_key(|item| item["version"].as_u64());
        let facts: Vec<_> = items.iter().map(|item| (item["version"].as_u64(), item["active"].as_bool())).collect();
        assert_eq!(facts, [(Some(1), Some(true)), (Some(2), Some(false))]);
        assert_eq!(items[1]["message"], "moved");
        assert!(items.iter().all(|item| item.get("document").is_none() && item["hash"].is_string()));
        let second = node.admin().get(&format!("{uri}/versions/2")).await.expect(200).json();
        assert_eq!(second["document"]["routes"][1]["backends"][0]["destination"], service.url("/new"));
    }
}

/// Each client sends until an event that it sent after the start of this call arrives at `destination`; answers how long
/// the slowest took.
async fn say_until_all_arrive_at(clients: &mut [(Client, String)], service: &Service, destination: &str) -> Duration {
    let started = Instant::now();
    let before = service.received(destination).len();
    let all = clients.iter_mut().map(|(client, id)| async move {
        loop {
            client.send(r#"{"hello":1}"#).await;
            let arrived = service.received(destination).split_off(before);
            if arrived.iter().any(|call| call.attributes().get("connectionid") == id.as_str()) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "nothing of {id} arrived at {destination}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    join_all(all).await;
    started.elapsed()
}

#[tokio::test]
async fn a_new_endpoint_accepts_on_every_node_within_a_second() {
    let cluster = shared().await;
    let service = Service::start().await;
    let path = unique_path("new");
    let routes = [route("connect", &[http(&service, "/connect")])];
    cluster.nodes[1].admin().post("/api/v1/endpoints", &document(&path, &routes)).await.expect(201);
    let started = Instant::now();
    for node in &cluster.nodes {
        while let Err(refused) = Client::try_connect(node, &path, &[]).await {
            assert_eq!(refused.status, 404, "before the endpoint is known");
            assert!(started.elapsed() < LIVE_WITHIN, "{} does not know the endpoint", node.name);
        }
    }
    println!("accepted on all nodes after {:?}", started.elapsed());
}

#[tokio::test]
async fn deleting_an_endpoint_closes_its_connections_with_4410() {
    let cluster = shared().await;
    let service = Service::start().await;
    let path = unique_path("deleted");
    let endpoint = cluster.create(&document(&path, &[route("connect", &[http(&service, "/connect")])])).await;
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        clients.push(Client::connect(node, &path).await);
    }
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    cluster.nodes[1].admin().delete(&uri).await.expect(204);
    for client in &mut clients {
        assert_eq!(client.closed().await, 4410);
    }
    for node in &cluster.nodes {
        node.admin().get(&uri).await.expect_problem(404, "endpoint_not_found");
        let refused = Client::try_connect(node, &path, &[]).await.err().expect("the endpoint is gone");
        assert_eq!(refused.status, 404);
    }
    // The path is free again.
    cluster.create(&document(&path, &[])).await;
}

#[tokio::test]
async fn of_two_creates_at_once_exactly_one_gets_the_path() {
    let cluster = shared().await;
    for round in 1..=5 {
        let wanted = document(&unique_path("contested"), &[]);
        let admins: Vec<_> = cluster.nodes.iter().map(|node| node.admin()).collect();
        let answers = join_all(admins.iter().map(|admin| admin.post("/api/v1/endpoints", &wanted))).await;
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409], "round {round}");
        for answer in answers.into_iter().filter(|answer| answer.status == 409) {
            answer.expect_problem(409, "path_taken");
        }
    }
    println!("5 rounds of three nodes at once: one 201, two 409");
}

#[tokio::test]
async fn path_templates_give_their_parameters() {
    let cluster = shared().await;
    let service = Service::start().await;
    let root = unique_path("chat");
    let routes = [route("connect", &[http(&service, "/connect")])];
    cluster.create(&document(&format!("{root}/{{room}}"), &routes)).await;
    cluster.create(&document(&format!("{root}/files/{{*rest}}"), &routes)).await;
    cluster.create(&document(&format!("{root}/exact"), &routes)).await;
    let node = &cluster.nodes[1];

    let (_, visit) = Client::connect_known(node, &format!("{root}/blue%20room"), &service).await;
    assert_eq!(visit.call.json()["params"], json!({ "room": "blue room" }));
    let (_, visit) = Client::connect_known(node, &format!("{root}/files/a/b"), &service).await;
    assert_eq!(visit.call.json()["params"], json!({ "rest": "a/b" }));
    let (_, visit) = Client::connect_known(node, &format!("{root}/exact"), &service).await;
    assert_eq!(visit.call.json()["params"], json!({}), "an exact path wins over a template");
    let refused = Client::try_connect(node, &format!("{root}/a/b"), &[]).await.err().expect("no such endpoint");
    assert_eq!(refused.status, 404);
}

#[tokio::test]
async fn writes_can_be_guarded_tried_out_and_repeated() {
    let cluster = shared().await;
    let path = unique_path("guarded");
    let endpoint = cluster.create(&document(&path, &[])).await;
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let admin = cluster.nodes[1].admin();

    let etag = admin.get(&uri).await.expect(200).header("etag").expect("an ETag").to_string();
    let guarded = [("content-type", "application/json"), ("if-match", etag.as_str())];
    let changed = crate::document::with(document(&path, &[]), "name", json!("second"));
    let body = changed.to_string();
    let answer = admin.call("PUT", &uri, &guarded, body.as_bytes()).await.expect(200);
    assert_ne!(answer.header("etag"), Some(etag.as_str()));
    admin.call("PUT", &uri, &guarded, body.as_bytes()).await.expect_problem(412, "version_mismatch");
    println!("If-Match: the first writer wins, the second gets 412");

    let stored = admin.put(&format!("{uri}?activate=false"), &document(&path, &[])).await.expect(200).json();
    assert_eq!((&stored["activeVersion"], &stored["latestVersion"]), (&json!(2), &json!(3)));

    let other = document(&unique_path("tried"), &[]);
    let tried = admin.post("/api/v1/endpoints?dryRun=true", &other).await;
    assert!((200..300).contains(&tried.status), "{}", tried.text());
    let listed = admin.get("/api/v1/endpoints?limit=1000").await.expect(200).json();
    assert!(listed["items"].as_array().expect("items").iter().all(|item| item["path"] != other["path"]));

    let repeatable = [("content-type", "application/json"), ("idempotency-key", "the-same-write")];
    let body = other.to_string();
    let once = admin.call("POST", "/api/v1/endpoints", &repeatable, body.as_bytes()).await.expect(201).json();
    let other_admin = cluster.nodes[2].admin();
    let again = other_admin.call("POST", "/api/v1/endpoints", &repeatable, body.as_bytes()).await.expect(201).json();
    assert_eq!(once["id"], again["id"], "a repeated write is the same write");
}
