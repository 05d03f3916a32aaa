//! The audit log: each administrative act leaves one entry, on every node, with who, what, when and from where; refused
//! ones too. Pushes and reading leave none.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{document, http, route};
use crate::http::{Admin, JSON};
use crate::sandbox::{shared, unique_path};
use crate::service::Service;
use crate::wait::eventually;
use crate::ws::Client;

/// What is about a target, oldest first, once there are so many.
async fn entries(admin: &Admin, target: &str, count: usize) -> Vec<Value> {
    let path = format!("/api/v1/audit?limit=1000&target={target}");
    eventually(&format!("{count} entries about {target}"), Duration::from_secs(5), async || {
        let found = admin.get(&path).await.expect(200).json();
        let mut items = found["items"].as_array().expect("items").clone();
        assert!(items.len() <= count, "more than {count}: {items:?}");
        items.reverse();
        (items.len() == count).then_some(items)
    })
    .await
}

fn facts(entry: &Value) -> (&str, &str, Option<u64>, &str, &str) {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    (text("method"), text("route"), entry["version"].as_u64(), text("outcome"), text("message"))
}

#[tokio::test]
async fn every_write_route_leaves_one_entry_and_refused_ones_do_too() {
    let cluster = shared().await;
    let service = Service::start().await;
    let path = unique_path("audited");
    let routes = [route("connect", &[http(&service, "/connect")])];
    let wanted = document(&path, &routes);
    let admin = cluster.nodes[1].admin();

    let created = admin.post("/api/v1/endpoints?message=first", &wanted).await.expect(201).json();
    let id = created["id"].as_str().expect("an id");
    let uri = format!("/api/v1/endpoints/{id}");
    admin.put(&format!("{uri}?message=second"), &wanted).await.expect(200);
    let repeatable = [("content-type", "application/json"), ("idempotency-key", "audited-once")];
    for _ in 0..2 {
        let body = wanted.to_string();
        admin.call("PUT", &format!("{uri}?activate=false"), &repeatable, body.as_bytes()).await.expect(200);
    }
    admin.post(&format!("{uri}/versions/1/activate"), &json!({})).await.expect(200);
    let guarded = [("content-type", "application/json"), ("if-match", "\"9\"")];
    admin.call("PUT", &uri, &guarded, wanted.to_string().as_bytes()).await.expect_problem(412, "version_mismatch");
    // What changes nothing leaves nothing.
    admin.get(&uri).await.expect(200);
    admin.put(&format!("{uri}?dryRun=true"), &wanted).await.expect(200);
    admin.post(&format!("{uri}/diff"), &wanted).await.expect(200);
    admin.post(&format!("{uri}/explain"), &json!({"event": 1})).await.expect(200);
    admin.put(&uri, &json!({"path": "no slash"})).await.expect_problem(400, "invalid_document");
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &path, &service).await;
    admin.push(&visit.id, "1").await.expect(202);
    admin.delete(&format!("/api/v1/connections/{}?reason=enough", visit.id)).await.expect(204);
    assert_eq!(client.closed().await, 4403);
    admin.delete(&format!("/api/v1/connections/{}", visit.id)).await.expect_problem(410, "connection_gone");
    admin.delete(&uri).await.expect(204);

    let (collection, item) = ("/api/v1/endpoints", "/api/v1/endpoints/{id}");
    let activate = "/api/v1/endpoints/{id}/versions/{version}/activate";
    for node in &cluster.nodes {
        let found = entries(&node.admin(), id, 6).await;
        let expected = [
            ("POST", collection, Some(1), "done", "first"),
            ("PUT", item, Some(2), "done", "second"),
            ("PUT", item, Some(3), "done", ""),
            ("POST", activate, Some(1), "done", ""),
            ("PUT", item, None, "refused", ""),
            ("DELETE", item, Some(1), "done", ""),
        ];
        assert_eq!(found.iter().map(facts).collect::<Vec<_>>(), expected, "on {}", node.name);
        for entry in &found {
            assert_eq!((&entry["author"], &entry["tokenId"]), (&json!("anonymous"), &Value::Null), "{entry}");
            assert_eq!((&entry["node"], &entry["address"]), (&json!("n2"), &json!("127.0.0.1")), "{entry}");
            assert!(entry["at"].as_str().is_some_and(|at| at.ends_with('Z') && at.len() == 24), "{entry}");
        }
        assert!(found[4]["detail"].as_str().is_some_and(|it| it.contains("version 9 was expected")), "{}", found[4]);
        let closed = entries(&node.admin(), &visit.id, 1).await;
        assert_eq!(facts(&closed[0]), ("DELETE", "/api/v1/connections/{cid}", None, "done", "enough"));
    }

    let name = unique_path("audited").trim_start_matches('/').to_owned();
    let made = admin.post("/api/v1/tokens", &json!({"name": name, "role": "viewer"})).await.expect(201).json();
    let token = made["id"].as_str().expect("an id");
    admin.delete(&format!("/api/v1/tokens/{token}")).await.expect(204);
    let found = entries(&cluster.nodes[0].admin(), token, 2).await;
    let (with_role, text) = (format!("{name} with the role viewer"), made["token"].as_str().expect("its text"));
    assert_eq!(facts(&found[0]), ("POST", "/api/v1/tokens", None, "done", with_role.as_str()));
    assert_eq!(facts(&found[1]), ("DELETE", "/api/v1/tokens/{id}", None, "done", name.as_str()));
    assert!(!format!("{found:?}").contains(text), "the token is not in the log");
    println!("6 acts on an endpoint, 1 on a connection, 2 on a token: one entry each on every node");
}

#[tokio::test]
async fn entries_come_page_by_page_newest_first_and_by_author() {
    let cluster = shared().await;
    let admin = cluster.nodes[2].admin();
    let name = unique_path("author").trim_start_matches('/').to_owned();
    let made = admin.post("/api/v1/tokens", &json!({"name": name, "role": "editor"})).await.expect(201).json();
    let editor = Admin { addr: admin.addr, token: made["token"].as_str().map(str::to_owned) };
    let body = document(&unique_path("paged"), &[]).to_string();
    let created = editor.call("POST", "/api/v1/endpoints", JSON, body.as_bytes()).await.expect(201).json();
    let uri = format!("/api/v1/endpoints/{}", created["id"].as_str().expect("an id"));
    for number in 2..=5 {
        editor.call("PUT", &format!("{uri}?message=v{number}"), JSON, body.as_bytes()).await.expect(200);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = format!("/api/v1/audit?author={name}&limit=2{cursor}");
        let page = admin.get(&page).await.expect(200).json();
        for item in page["items"].as_array().expect("items") {
            assert_eq!((&item["author"], &item["tokenId"]), (&json!(name), &made["id"]), "{item}");
            seen.push(item["version"].as_u64());
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [5, 4, 3, 2, 1].map(Some));
    editor.get("/api/v1/audit").await.expect_problem(403, "forbidden");
    for wrong in ["limit=0", "limit=1001", "cursor=x", "since=yesterday"] {
        admin.get(&format!("/api/v1/audit?{wrong}")).await.expect_problem(400, "invalid_query");
    }
}
