//! The OpenAPI document: what it lists is there, wants a token, and nothing else is there.

use serde_json::{json, Value};

use crate::http::{Admin, JSON};
use crate::sandbox::{own_cluster_turn, shared, Cluster, Plan};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Method and path template of every operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                operations.push((method.to_uppercase(), path.clone(), operation.clone()));
            }
        }
    }
    operations
}

/// With values that need not be there; a stream is to end.
fn target(path: &str) -> String {
    let end = if path.ends_with("/live") { "?seconds=1" } else { "" };
    path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/") + end
}

#[tokio::test]
async fn every_call_of_the_reference_is_there_and_wants_a_token() {
    let _turn = own_cluster_turn().await;
    let token = "the-token-of-the-reference";
    let cluster = Cluster::start_with(1, Plan { token: Some(token.into()), ..Plan::default() }).await;
    let node = &cluster.nodes[0];
    let document = node.admin().get("/api/openapi.json").await.expect(200).json();
    let operations = operations(&document);
    assert!(operations.len() >= 25, "{} operations", operations.len());
    let mut open = Vec::new();
    for (method, path, operation) in &operations {
        let target = target(path);
        let of_aws = path.contains("@connections");
        if operation["security"] == json!([]) {
            open.push(path.as_str());
            Admin { addr: node.admin, token: None }.call(method, &target, &[], b"").await.expect(200);
            continue;
        }
        for wrong in [None, Some("the-token-of-the-referenc"), Some("")] {
            let stranger = Admin { addr: node.admin, token: wrong.map(str::to_owned) };
            let answer = stranger.call(method, &target, JSON, b"1").await;
            if of_aws {
                assert_eq!(
                    answer.expect(403).header("x-amzn-errortype"),
                    Some("ForbiddenException"),
                    "{method} {path}"
                );
            } else {
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}: {}", answer.text());
                answer.expect_problem(401, "unauthenticated");
            }
        }
        // With the token, in either header, it is answered by what the document says; the key wins.
        let nobody = Admin { addr: node.admin, token: Some("wrong".into()) };
        for answer in [
            node.admin().call(method, &target, JSON, b"1").await,
            nobody.call(method, &target, &[("x-api-key", token)], b"1").await,
        ] {
            let status = answer.status.to_string();
            assert!(
                operation["responses"].get(&status).is_some(),
                "{method} {path} answered {status}: {}",
                answer.text()
            );
            assert!(answer.status != 401 && (of_aws || answer.status != 403), "{method} {path} refuses the token");
        }
    }
    assert_eq!(open, ["/livez", "/readyz"], "only these answer without a token");
    println!("{} operations want a token; {open:?} do not", operations.len() - open.len());
}

#[tokio::test]
async fn what_the_reference_does_not_list_is_405_or_404() {
    let cluster = shared().await;
    let admin = cluster.nodes[2].admin();
    let answer = admin.get("/api/openapi.json").await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document, cluster.nodes[0].admin().get("/api/openapi.json").await.json(), "the same on every node");
    let operations = operations(&document);
    let mut others = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in METHODS.iter().chain(&["head", "options", "trace"]) {
            if item.get(method).is_some() {
                continue;
            }
            others += 1;
            // The answer to HEAD has a length and no body.
            if *method == "head" {
                continue;
            }
            let answer = admin.call(&method.to_uppercase(), &target(path), &[], b"").await.expect(405);
            let mut allow: Vec<&str> = answer.header("allow").expect("Allow").split(", ").collect();
            let mut listed: Vec<&str> =
                operations.iter().filter(|(_, of, _)| of == path).map(|(method, _, _)| method.as_str()).collect();
            allow.sort_unstable();
            listed.sort_unstable();
            assert_eq!(allow, listed, "{path}");
        }
    }
    for nowhere in ["/api", "/api/v1", "/api/v1/", "/api/v1/endpoint", "/api/v1/endpoints/", "/@connections"] {
        admin.get(nowhere).await.expect_problem(404, "not_found");
    }
    // A dry run is a matter of writing documents: elsewhere it is refused, not overlooked.
    for (method, target) in [("DELETE", "/api/v1/endpoints/x"), ("POST", "/api/v1/endpoints/x/versions/1/activate")] {
        let target = format!("{target}?dryRun=true");
        admin.call(method, &target, &[], b"").await.expect_problem(400, "invalid_query");
    }
    println!("{others} methods that no path has: 405 with Allow");
}
