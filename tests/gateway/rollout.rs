//! How far a version has come: on all nodes, with one that is paused or dead; and endpoints that are drafts so far.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{document, http, route, with};
use crate::http::Admin;
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster};
use crate::service::Service;
use crate::ws::Client;

fn of<'r>(rollout: &'r Value, node: &str) -> &'r Value {
    let nodes = rollout["nodes"].as_array().unwrap_or_else(|| panic!("nodes in {rollout}"));
    nodes.iter().find(|it| it["node"] == node).unwrap_or_else(|| panic!("{node} in {rollout}"))
}

async fn rollout(admin: &Admin, id: &str, query: &str) -> (Value, Duration) {
    let began = Instant::now();
    let answer = admin.get(&format!("/api/v1/endpoints/{id}/rollout{query}")).await.expect(200).json();
    (answer, began.elapsed())
}

#[tokio::test]
async fn a_rollout_waits_for_every_live_node_and_names_the_one_that_is_missing() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let path = unique_path("rollout");
    let endpoint = cluster.create(&document(&path, &[])).await;
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let leader = cluster.leader().await;
    let (asked, paused) = (&cluster.nodes[(leader + 1) % 3], &cluster.nodes[(leader + 2) % 3]);
    let admin = asked.admin();
    let change = |name: &str| with(document(&path, &[]), "name", json!(name));

    // On another node than the one that was asked for the change.
    cluster.nodes[leader].admin().put(&uri, &change("second")).await.expect(200);
    let (all, took) = rollout(&admin, &endpoint.id, "?wait=all").await;
    assert_eq!((&all["complete"], &all["activeVersion"], &all["latestVersion"]), (&json!(true), &json!(2), &json!(2)));
    assert_eq!((&all["down"], &all["id"]), (&json!([]), &json!(endpoint.id)));
    for node in &cluster.nodes {
        let row = of(&all, &node.name);
        assert_eq!((&row["live"], &row["complete"], &row["activeVersion"]), (&json!(true), &json!(true), &json!(2)));
        assert!(row["appliedIndex"].as_u64() >= all["index"].as_u64(), "{row}");
        assert_eq!((&row["degraded"], &row["unreachable"]), (&Value::Null, &Value::Null));
    }
    println!("complete on three nodes after {took:?}");

    paused.signal(libc::SIGSTOP);
    admin.put(&format!("{uri}?activate=false"), &change("third")).await.expect(200);
    admin.post(&format!("{uri}/versions/3/activate"), &json!({})).await.expect(200);
    let (half, took) = rollout(&admin, &endpoint.id, "?wait=all&timeoutSeconds=2").await;
    assert!((Duration::from_millis(1900)..Duration::from_secs(4)).contains(&took), "it took {took:?}");
    assert_eq!((&half["complete"], &half["activeVersion"]), (&json!(false), &json!(3)));
    let row = of(&half, &paused.name);
    assert_eq!((&row["complete"], &row["appliedIndex"]), (&json!(false), &Value::Null));
    assert!(row["unreachable"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
    for node in cluster.nodes.iter().filter(|node| node.name != paused.name) {
        assert_eq!(of(&half, &node.name)["complete"], true, "{half}");
    }
    let (now, took) = rollout(&admin, &endpoint.id, "").await;
    assert!(now["complete"] == false && took < Duration::from_secs(2), "at once, without waiting: {took:?}");
    paused.signal(libc::SIGCONT);
    let (all, took) = rollout(&admin, &endpoint.id, "?wait=all&timeoutSeconds=20").await;
    assert_eq!((&all["complete"], &of(&all, &paused.name)["activeVersion"]), (&json!(true), &json!(3)), "{all}");
    println!("a paused node was named; going on, it had the version after {took:?}");

    // The leader dies under a rollout: the others elect another one and answer.
    cluster.nodes[leader].kill();
    let (rest, took) = rollout(&admin, &endpoint.id, "?wait=all&timeoutSeconds=6").await;
    let row = of(&rest, &cluster.nodes[leader].name);
    assert!(row["complete"] == false && row["unreachable"].is_string(), "{row}");
    assert!(of(&rest, &asked.name)["complete"] == true && of(&rest, &paused.name)["complete"] == true, "{rest}");
    assert!(took < Duration::from_secs(8), "it took {took:?}");
    assert_eq!(rest["complete"] == true, rest["down"] == json!([cluster.nodes[leader].name]), "{rest}");
    println!("with the leader killed: answered after {took:?}");
}

#[tokio::test]
async fn questions_about_rollouts_that_make_no_sense_are_refused() {
    let cluster = shared().await;
    let endpoint = cluster.create(&document(&unique_path("asked"), &[])).await;
    let admin = cluster.nodes[1].admin();
    let uri = format!("/api/v1/endpoints/{}/rollout", endpoint.id);
    for wrong in ["wait=some", "wait=all&timeoutSeconds=0", "wait=all&timeoutSeconds=31", "timeoutSeconds=5", "for=all"]
    {
        admin.get(&format!("{uri}?{wrong}")).await.expect_problem(400, "invalid_query");
    }
    for query in ["", "?wait=all"] {
        let none = format!("/api/v1/endpoints/ep-none/rollout{query}");
        admin.get(&none).await.expect_problem(404, "endpoint_not_found");
    }
}

#[tokio::test]
async fn an_endpoint_may_begin_as_a_draft() {
    let cluster = shared().await;
    let service = Service::start().await;
    let path = unique_path("draft");
    let wanted = document(&path, &[route("connect", &[http(&service, "/connect")])]);
    let admin = cluster.nodes[0].admin();
    let created = admin.post("/api/v1/endpoints?activate=false", &wanted).await.expect(201);
    assert_eq!(created.header("etag"), Some("\"0\""));
    let created = created.json();
    assert_eq!((&created["activeVersion"], &created["latestVersion"]), (&Value::Null, &json!(1)));
    let id = created["id"].as_str().expect("an id");
    let uri = format!("/api/v1/endpoints/{id}");
    let (all, _) = rollout(&admin, id, "?wait=all").await;
    assert_eq!((&all["complete"], &all["activeVersion"]), (&json!(true), &Value::Null), "{all}");
    for node in &cluster.nodes {
        let found = node.admin().get(&uri).await.expect(200).json();
        assert_eq!((&found["activeVersion"], &found["document"]), (&Value::Null, &wanted));
        let refused = Client::try_connect(node, &path, &[]).await.err().expect("nothing is served yet");
        assert_eq!(refused.status, 404);
        let listed = node.admin().get(&format!("/api/v1/endpoints?path={path}")).await.expect(200).json();
        assert!(listed["items"]
            .as_array()
            .expect("items")
            .iter()
            .any(|it| it["id"] == id && it["path"] == path.as_str()));
    }
    admin.post("/api/v1/endpoints", &wanted).await.expect_problem(409, "path_taken");

    // A second draft, compared with the first; the versions say which is active: none.
    let second = with(wanted.clone(), "name", json!("better"));
    let stored = admin.put(&format!("{uri}?activate=false&message=better"), &second).await.expect(200).json();
    assert_eq!((&stored["activeVersion"], &stored["latestVersion"]), (&Value::Null, &json!(2)));
    let diff = admin.get(&format!("{uri}/diff?from=1&to=2")).await.expect(200).json();
    assert_eq!(diff["changes"], json!([{"path": "name", "change": "added", "to": "better"}]), "{diff}");
    let candidate = admin.post(&format!("{uri}/diff"), &wanted).await.expect(200).json();
    assert_eq!((&candidate["from"], &candidate["changes"][0]["change"]), (&json!(2), &json!("removed")), "{candidate}");
    let explained = admin.post(&format!("{uri}/explain"), &json!({"event": 1})).await.expect(200).json();
    assert_eq!(explained["endpoint"]["version"], 2, "{explained}");
    let versions = admin.get(&format!("{uri}/versions")).await.expect(200).json();
    let facts: Vec<_> =
        versions["items"].as_array().expect("items").iter().map(|it| (&it["version"], &it["active"])).collect();
    assert_eq!(facts, [(&json!(1), &json!(false)), (&json!(2), &json!(false))]);

    let activate = format!("{uri}/versions/1/activate");
    let guarded = admin.call("POST", &activate, &[("if-match", "\"1\"")], b"").await;
    guarded.expect_problem(412, "version_mismatch");
    let active = admin.call("POST", &activate, &[("if-match", "\"0\"")], b"").await.expect(200).json();
    assert_eq!(active["activeVersion"], 1);
    cluster.wait_version(id, 1).await;
    for node in &cluster.nodes {
        Client::connect(node, &path).await;
    }
    admin.delete(&uri).await.expect(204);
    println!("a draft was stored, compared, explained and activated; it held its path");
}
