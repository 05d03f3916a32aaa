//! The AWS-compatible paths: by AWS's own SDK on every node of a cluster, and byte by byte.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, http, route, with};
use crate::http::{call, Answer, JSON};
use crate::programs::run_python;
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Plan};
use crate::service::Service;
use crate::ws::{Client, RawSocket};

const SDK_WITHIN: Duration = Duration::from_secs(60);

/// An error as an SDK reads it.
#[track_caller]
fn expect_error(answer: Answer, status: u16, kind: &str) {
    let answer = answer.expect(status);
    assert_eq!(answer.header("x-amzn-errortype"), Some(kind), "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    let members: Vec<&String> = body.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["message"]);
    assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
}

#[tokio::test]
async fn an_aws_sdk_pushes_describes_and_deletes_through_every_node() {
    let _turn = own_cluster_turn().await;
    let token = "the-token-of-this-cluster".to_owned();
    let cluster = Cluster::start_with(3, Plan { token: Some(token.clone()), ..Plan::default() }).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("aws"), &all_routes_to(&service))).await;
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        clients.push(Client::connect_known(node, &endpoint.path, &service).await);
    }
    // One with a stage in its path, as applications have it that came from AWS.
    let urls: Vec<String> = ["", "/production", "/"]
        .iter()
        .zip(&cluster.nodes)
        .map(|(stage, node)| format!("http://{}{stage}", node.admin))
        .collect();
    let ids: Vec<&str> = clients.iter().map(|(_, visit)| visit.id.as_str()).collect();
    let plan = json!({ "key": token, "urls": urls, "connections": ids });
    let said = run_python("aws_sdk.py", &plan, SDK_WITHIN).await;

    assert_eq!(said["posts"].as_array().expect("posts").len(), 9);
    for post in said["posts"].as_array().expect("posts") {
        assert_eq!(post["status"], 200, "{post}");
    }
    for get in said["gets"].as_array().expect("gets") {
        let found = &get["answer"];
        assert_eq!((&get["status"], &found["Identity"]["SourceIp"]), (&json!(200), &json!("127.0.0.1")), "{get}");
        // Read as times by the SDK, and printed by it.
        for time in ["ConnectedAt", "LastActiveAt"] {
            assert!(found[time].as_str().is_some_and(|text| text.ends_with("+00:00")), "{get}");
        }
    }
    for delete in said["deletes"].as_array().expect("deletes") {
        assert_eq!(delete["status"], 204, "{delete}");
    }
    for (case, typed, status) in [
        ("no key", "ForbiddenException", 403),
        ("wrong key", "ForbiddenException", 403),
        ("too long", "PayloadTooLargeException", 413),
    ] {
        let refused = &said["refused"][case];
        assert_eq!((&refused["typed"], &refused["status"]), (&json!(typed), &json!(status)), "{case}: {refused}");
    }
    let not_json = &said["refused"]["not JSON"];
    assert_eq!((&not_json["code"], &not_json["status"]), (&json!("BadRequestException"), &json!(400)), "{not_json}");
    let gone = said["gone"].as_object().expect("what is gone");
    assert_eq!(gone.len(), 4);
    for (case, refused) in gone {
        assert_eq!((&refused["typed"], &refused["status"]), (&json!("GoneException"), &json!(410)), "{case}");
    }

    for (client, _) in &mut clients {
        for number in 0..3 {
            assert_eq!(client.text().await, format!("{{\"from\": {number}, \"text\": \"gr\\u00fc\\u00dfe\"}}"));
        }
        assert_eq!(client.closed().await, 4403);
    }
    println!("3 clients, 3 nodes: every post arrived; get, delete and all errors as the SDK types them");
}

#[tokio::test]
async fn the_aws_paths_answer_byte_by_byte_as_documented() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("aws-bytes"), &all_routes_to(&service))).await;
    let node = &cluster.nodes[1];
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    let encoded: String = visit.id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for target in [
        format!("/@connections/{}", visit.id),
        format!("/%40connections/{}", visit.id),
        format!("/a-stage/@connections/{encoded}"),
        format!("/$default/%40connections/{encoded}?X-Amz-Signature=abc"),
    ] {
        // As an SDK signs: this is no bearer token and not looked at.
        let signed = [("authorization", "AWS4-HMAC-SHA256 Credential=x"), ("content-type", "application/octet-stream")];
        let posted = call(node.admin, "POST", &target, &signed, b" {\"a\":  1.0} ").await.expect("an answer");
        assert!(posted.expect(200).body.is_empty(), "{target}");
        assert_eq!(client.text().await, " {\"a\":  1.0} ", "byte for byte");
        let found = call(node.admin, "GET", &target, &signed, b"").await.expect("an answer").expect(200).json();
        let members: Vec<&String> = found.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["connectedAt", "identity", "lastActiveAt"], "{found}");
        for time in ["connectedAt", "lastActiveAt"] {
            let time = found[time].as_str().expect("a time");
            assert!(time.len() == "2026-11-23T20:33:11.408Z".len() && time.ends_with('Z'), "{time}");
        }
        assert_eq!(found["identity"], json!({ "sourceIp": "127.0.0.1", "userAgent": null }));
    }
    let target = format!("/@connections/{}", visit.id);
    let largest = format!("\"{}\"", "x".repeat(131_070));
    node.admin().call("POST", &target, JSON, largest.as_bytes()).await.expect(200);
    assert_eq!(client.text().await, largest);
    let longer = format!("\"{}\"", "x".repeat(131_071));
    expect_error(node.admin().call("POST", &target, JSON, longer.as_bytes()).await, 413, "PayloadTooLargeException");
    for body in ["", "hello", "{\"a\":1} x", "\"\u{1}\""] {
        let refused = node.admin().call("POST", &target, JSON, body.as_bytes()).await;
        expect_error(refused, 400, "BadRequestException");
    }
    expect_error(node.admin().call("POST", &target, JSON, b"\"\xff\"").await, 400, "BadRequestException");
    expect_error(node.admin().call("PUT", &target, JSON, b"1").await, 405, "MethodNotAllowedException");
    node.admin().delete(&target).await.expect(204);
    assert_eq!(client.closed().await, 4403);
    for id in [visit.id.as_str(), "Iu3cKdJ2oAMCKqg%3D", "L0SM9cOFvHcCIhw=", "x%2Fy"] {
        for method in ["POST", "GET", "DELETE"] {
            let target = format!("/stage/@connections/{id}");
            expect_error(node.admin().call(method, &target, JSON, b"1").await, 410, "GoneException");
        }
    }
    node.admin().get("/a/b/@connections/x").await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_full_outbox_is_a_limit_that_is_exceeded() {
    let cluster = shared().await;
    let service = Service::start().await;
    let settings = json!({ "outbox": { "maxBytes": 262_144, "maxMessages": 256, "whenFull": "dropNewest" } });
    let connect = [route("connect", &[http(&service, "/connect")])];
    let wanted = with(document(&unique_path("aws-full"), &connect), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let _slow = RawSocket::connect(&cluster.nodes[0], &endpoint.path, Some(4_096)).await;
    let id = service.next("/connect").await.attributes().get("connectionid").to_string();
    let filler = Value::from("x".repeat(60_000)).to_string();
    let mut posts = 0;
    let refused = loop {
        assert!(posts < 400, "the outbox never filled up");
        posts += 1;
        let target = format!("/@connections/{id}");
        let answer = cluster.nodes[2].admin().call("POST", &target, JSON, filler.as_bytes()).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.header("retry-after"), Some("1"));
    expect_error(refused, 429, "LimitExceededException");
}
