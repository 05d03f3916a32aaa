//! Wrong input to every administrative call: what is sent is refused with a problem document that names it – never with an
//! error of the server, an empty body or silence – and changes nothing.

use serde_json::{json, Value};

use crate::document::{document, route};
use crate::http::{Admin, Answer, JSON};
use crate::sandbox::{shared, unique_path};
use crate::ws::Client;

const ECHO: fn() -> Vec<Value> = || vec![route("default", &[json!({ "type": "echo" })])];

/// Checks that it is a refusal by a problem document whose detail or errors name `part`.
#[track_caller]
fn refused(what: &str, answer: &Answer, part: &str) -> Value {
    assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
    let content_type = answer.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("application/problem+json"), "{what}: {content_type:?} {}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status, "{what}: {problem}");
    for field in ["type", "title", "detail", "code"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{what}: no {field} in {problem}");
    }
    let named = problem["detail"].as_str().is_some_and(|detail| detail.to_lowercase().contains(&part.to_lowercase()));
    let errors = problem["errors"].as_array().into_iter().flatten();
    let at = errors.filter_map(|error| error["path"].as_str()).any(|path| path.contains(part));
    assert!(named || at, "{what}: {part:?} is not named in {problem}");
    problem
}

/// Every call with a target that is there.
fn calls(id: &str, cid: &str) -> Vec<(&'static str, String)> {
    let endpoint = format!("/api/v1/endpoints/{id}");
    let connection = format!("/api/v1/connections/{cid}");
    vec![
        ("GET", "/api/v1/schemas/endpoint".to_string()),
        ("GET", "/api/v1/endpoints".to_string()),
        ("POST", "/api/v1/endpoints".to_string()),
        ("GET", endpoint.clone()),
        ("PUT", endpoint.clone()),
        ("DELETE", endpoint.clone()),
        ("GET", format!("{endpoint}/versions")),
        ("GET", format!("{endpoint}/versions/1")),
        ("POST", format!("{endpoint}/versions/1/activate")),
        ("GET", format!("{endpoint}/diff")),
        ("POST", format!("{endpoint}/diff")),
        ("POST", format!("{endpoint}/explain")),
        ("POST", format!("{endpoint}/replay")),
        ("GET", connection.clone()),
        ("POST", connection.clone()),
        ("DELETE", connection.clone()),
        ("PUT", format!("{connection}/tags")),
        ("PUT", format!("/api/v1/groups/g/connections/{cid}")),
        ("DELETE", format!("/api/v1/groups/g/connections/{cid}")),
        ("POST", "/api/v1/groups/g".to_string()),
        ("POST", "/api/v1/users/u".to_string()),
        ("POST", "/api/v1/push".to_string()),
        ("GET", "/api/v1/connections".to_string()),
        ("POST", format!("{endpoint}/broadcast")),
        ("GET", "/api/v1/cluster".to_string()),
        ("GET", format!("{endpoint}/asyncapi")),
        ("GET", format!("{endpoint}/rollout")),
        ("GET", "/api/v1/tokens".to_string()),
        ("POST", "/api/v1/tokens".to_string()),
        ("GET", format!("/api/v1/tokens/{id}")),
        ("DELETE", format!("/api/v1/tokens/{id}")),
        ("GET", "/api/v1/audit".to_string()),
        ("GET", "/api/openapi.json".to_string()),
        ("GET", format!("{endpoint}/rollout")),
        ("GET", "/api/v1/tokens".to_string()),
        ("GET", "/api/v1/audit".to_string()),
    ]
}

/// A body that the call would accept.
fn body(method: &str, target: &str, document: &Value) -> String {
    match (method, target) {
        ("POST", target) if target.ends_with("/explain") => json!({ "event": 1 }).to_string(),
        ("POST", target) if target.ends_with("/replay") => json!({ "attributes": {}, "data": "1" }).to_string(),
        ("POST", "/api/v1/tokens") => json!({ "name": "wrong-input", "role": "viewer" }).to_string(),
        ("POST" | "PUT", target) if target.contains("/endpoints") && !target.ends_with("/activate") => {
            document.to_string()
        }
        ("PUT", target) if target.ends_with("/tags") => "{}".to_string(),
        ("POST", target) if target.contains("/connections/") => "1".to_string(),
        ("POST", "/api/v1/groups/g" | "/api/v1/users/u") => "1".to_string(),
        _ => String::new(),
    }
}

#[tokio::test]
async fn queries() {
    let cluster = shared().await;
    let admin = cluster.nodes[1].admin();
    let wanted = document(&unique_path("wrong-query"), &ECHO());
    let endpoint = cluster.create(&wanted).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    let described = cluster.nodes[1].admin().get("/api/v1/cluster").await.expect(200);
    assert!(!described.body.is_empty());
    let cid = connection_id(&admin, &mut client).await;
    let all = calls(&endpoint.id, &cid);
    for (method, target) in &all {
        let body = body(method, target, &wanted);
        for query in ["colour=red", "Colour", "%00=1", "a%5B%5D=1&colour=red"] {
            let what = format!("{method} {target}?{query}");
            let answer = admin.call(method, &format!("{target}?{query}"), JSON, body.as_bytes()).await;
            refused(&what, &answer, if query.contains("olour") && !query.starts_with('a') { "olour" } else { "" });
        }
    }
    let of = |target: &str| target.replace("{id}", &endpoint.id).replace("{cid}", &cid);
    for (method, target, part) in [
        ("GET", "/api/v1/endpoints?limit=0", "limit"),
        ("GET", "/api/v1/endpoints?limit=1001", "limit"),
        ("GET", "/api/v1/endpoints?limit=-1", "limit"),
        ("GET", "/api/v1/endpoints?limit=ten", "limit"),
        ("GET", "/api/v1/endpoints?limit=1.5", "limit"),
        ("GET", "/api/v1/endpoints?limit=99999999999999999999", "limit"),
        ("GET", "/api/v1/endpoints?limit=1&limit=2", "limit"),
        ("GET", "/api/v1/endpoints/{id}?consistency=maybe", "consistency"),
        ("PUT", "/api/v1/endpoints/{id}?activate=perhaps", "activate"),
        ("PUT", "/api/v1/endpoints/{id}?dryRun=1", "dryRun"),
        ("POST", "/api/v1/endpoints?dryRun=", "dryRun"),
        ("DELETE", "/api/v1/endpoints/{id}?dryRun=true", "dryRun"),
        ("DELETE", "/api/v1/endpoints/{id}?activate=false", "activate"),
        ("POST", "/api/v1/endpoints/{id}/versions/1/activate?dryRun=true", "dryRun"),
        ("GET", "/api/v1/endpoints/{id}/diff?from=one", "from"),
        ("GET", "/api/v1/endpoints/{id}/diff?from=-1", "from"),
        ("GET", "/api/v1/endpoints/{id}/diff?to=1e3", "to"),
        ("GET", "/api/v1/endpoints/{id}/diff?from=77", "77"),
        ("POST", "/api/v1/endpoints/{id}/diff?to=1", "to"),
        ("DELETE", "/api/v1/connections/{cid}?code=1001", "code"),
        ("DELETE", "/api/v1/connections/{cid}?code=70000", "code"),
        ("DELETE", "/api/v1/connections/{cid}?code=", "code"),
        ("GET", "/api/v1/endpoints/{id}/rollout?wait=some", "wait"),
        ("GET", "/api/v1/endpoints/{id}/rollout?wait=all&timeoutSeconds=0", "timeoutSeconds"),
        ("GET", "/api/v1/endpoints/{id}/rollout?wait=all&timeoutSeconds=31", "timeoutSeconds"),
        ("GET", "/api/v1/tokens?limit=0", "limit"),
        ("GET", "/api/v1/tokens?limit=many", "limit"),
        ("GET", "/api/v1/audit?limit=1001", "limit"),
        ("GET", "/api/v1/audit?cursor=x", "cursor"),
        ("GET", "/api/v1/audit?cursor=-1", "cursor"),
        ("POST", "/api/v1/endpoints/{id}/broadcast?filter=1", "filter"),
        ("POST", "/api/v1/groups/g?filter=%7B%7D", "filter"),
        ("POST", "/api/v1/connections/{cid}?confirm=perhaps", "confirm"),
        ("POST", "/api/v1/connections/{cid}?confirm", "confirm"),
    ] {
        let answer = admin.call(method, &of(target), JSON, body(method, target, &wanted).as_bytes()).await;
        refused(&format!("{method} {target}"), &answer, part);
    }
    let long = format!("/api/v1/connections/{cid}?reason={}", "x".repeat(124));
    refused("a long reason", &admin.delete(&long).await, "reason");
    let long = format!("/api/v1/endpoints/{}?message={}", endpoint.id, "x".repeat(1025));
    refused("a long message", &admin.delete(&long).await, "message");
    client.send("\"still\"").await;
    assert_eq!(client.text().await, "\"still\"", "the connection is open");
    let read = admin.get(&format!("/api/v1/endpoints/{}", endpoint.id)).await.expect(200).json();
    assert_eq!(read["latestVersion"], 1, "nothing was written");
}

/// A connection's id, as its error frames tell.
async fn connection_id(admin: &Admin, client: &mut Client) -> String {
    client.send("{").await;
    let cid = client.error_frame("invalid_json").await["connectionId"].as_str().expect("an id").to_string();
    admin.get(&format!("/api/v1/connections/{cid}")).await.expect(200);
    cid
}

#[tokio::test]
async fn paths() {
    let cluster = shared().await;
    let admin = cluster.nodes[2].admin();
    let wanted = document(&unique_path("wrong-path"), &ECHO());
    let endpoint = cluster.create(&wanted).await;
    let long = "x".repeat(8000);
    let odd = ["%00", "%FF", "%2F", "%2e%2e", "..", "%25", "%", "%zz", "a%0d%0ab", "%F0%9F%A6%80", "*", "{id}", &long];
    for odd in odd {
        for (method, target) in calls(odd, odd) {
            let body = body(method, &target, &wanted);
            // Those have nothing odd about them, or are another call's target.
            if !target.contains(odd) {
                continue;
            }
            refused(&format!("{method} {target}"), &admin.call(method, &target, JSON, body.as_bytes()).await, "");
        }
    }
    for version in ["0", "-1", "+1", "x", "1.0", "%00", "%FF", "99999999999999999999999", "2"] {
        for (method, end) in [("GET", ""), ("POST", "/activate")] {
            let target = format!("/api/v1/endpoints/{}/versions/{version}{end}", endpoint.id);
            let answer = admin.call(method, &target, &[], b"").await;
            assert_eq!(answer.status, 404, "{method} {target}: {}", answer.text());
            refused(&format!("{method} {target}"), &answer, "version");
        }
    }
    for target in
        ["/api", "/api/v1", "/api/v1/", "//api/v1/endpoints", "/api/v1/endpoints/", "/API/V1/ENDPOINTS", "/%00"]
    {
        refused(target, &admin.get(target).await, "");
    }
    for (method, target) in calls(&endpoint.id, "x") {
        for other in ["PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = admin.call(other, &target, &[], b"").await;
            assert_eq!(answer.status, 405, "{other} {target}: {}", answer.text());
            refused(&format!("{other} {target}, which is for {method}"), &answer, other);
        }
    }
}

#[tokio::test]
async fn bodies() {
    let cluster = shared().await;
    let admin = cluster.nodes[0].admin();
    let wanted = document(&unique_path("wrong-body"), &ECHO());
    let endpoint = cluster.create(&wanted).await;
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let deep = format!("{{\"path\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let large = format!("{{\"path\": \"/a\", \"name\": \"{}\"}}", "x".repeat(3 << 20));
    let with_path = [("POST", "/api/v1/endpoints".to_string()), ("PUT", uri.clone()), ("POST", format!("{uri}/diff"))];
    let bodies: [(&str, &[u8], &str); 13] = [
        ("nothing", b"", ""),
        ("half an object", b"{\"path\": ", ""),
        ("two values", b"{} {}", ""),
        ("a list", b"[]", ""),
        ("null", b"null", ""),
        ("a number", b"7", ""),
        ("no UTF-8", b"{\"path\": \"/\xff\"}", "UTF-8"),
        ("a NUL", b"{\"path\": \"/a\"}\0", ""),
        ("a BOM in UTF-16", b"\xff\xfe{\0}\0", "UTF-8"),
        ("a field twice", b"{\"path\": \"/a\", \"path\": \"/b\"}", "path"),
        ("a wrong type", b"{\"path\": 7}", "path"),
        ("depth", deep.as_bytes(), ""),
        ("size", large.as_bytes(), "bytes"),
    ];
    for (method, target) in &with_path {
        for (what, body, part) in &bodies {
            let answer = admin.call(method, target, JSON, body).await;
            refused(&format!("{method} {target} with {what}"), &answer, part);
        }
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-type", "application/xml"),
            ("content-type", "é"),
            ("content-encoding", "gzip"),
            ("content-encoding", "br"),
        ] {
            let answer = admin.call(method, target, &[(name, value)], wanted.to_string().as_bytes()).await;
            let what = format!("{method} {target} with {name}: {value}");
            assert_eq!(answer.status, 415, "{what}: {}", answer.text());
            refused(&what, &answer, name);
        }
    }
    for (question, part) in [
        (json!({}), "event"),
        (json!([]), ""),
        (json!({ "event": 1, "text": "1" }), "text"),
        (json!({ "evnt": 1 }), "evnt"),
        (json!({ "event": 1, "version": -1 }), "version"),
        (json!({ "event": 1, "version": "1" }), "version"),
        (json!({ "event": 1, "version": 77 }), "77"),
        (json!({ "event": 1, "version": 1, "document": {} }), "document"),
        (json!({ "event": 1, "document": { "path": 7 } }), "path"),
        (json!({ "event": 1, "connection": 1 }), "connection"),
        (json!({ "event": 1, "connection": { "sourceIp": "x" } }), "connection.sourceIp"),
        (json!({ "event": 1, "connection": { "headers": { "a b": "1" } } }), "connection.headers"),
        (json!({ "event": 1, "connection": { "colour": "red" } }), "colour"),
    ] {
        let answer = admin.post(&format!("{uri}/explain"), &question).await;
        refused(&format!("explain {question}"), &answer, part);
    }
    for (token, part) in [
        (json!({}), "name"),
        (json!({ "name": "a" }), "role"),
        (json!({ "name": "", "role": "viewer" }), "name"),
        (json!({ "name": "a b", "role": "viewer" }), "name"),
        (json!({ "name": "a\u{0}", "role": "viewer" }), "name"),
        (json!({ "name": 1, "role": "viewer" }), "name"),
        (json!({ "name": "a", "role": "king" }), "role"),
        (json!({ "name": "a", "role": "viewer", "expiresInSeconds": 0 }), "expiresInSeconds"),
        (json!({ "name": "a", "role": "viewer", "expiresInSeconds": -1 }), "expiresInSeconds"),
        (json!({ "name": "a", "role": "viewer", "expiresInSeconds": 1e30 }), "expiresInSeconds"),
        (json!({ "name": "a", "role": "viewer", "colour": "red" }), "colour"),
    ] {
        let answer = admin.post("/api/v1/tokens", &token).await;
        refused(&format!("a token {token}"), &answer, part);
    }
    for (what, body, _) in &bodies {
        let answer = admin.call("POST", "/api/v1/tokens", JSON, body).await;
        refused(&format!("a token with {what}"), &answer, "");
    }
    for (what, body, _) in
        bodies.iter().filter(|(what, ..)| !what.starts_with("a field") && !what.starts_with("a wrong"))
    {
        let answer = admin.call("POST", &format!("{uri}/explain"), JSON, body).await;
        refused(&format!("explain with {what}"), &answer, "");
    }
    assert_eq!(admin.get(&uri).await.expect(200).json()["latestVersion"], 1, "nothing was written");
}

#[tokio::test]
async fn headers() {
    let cluster = shared().await;
    let admin = cluster.nodes[0].admin();
    let wanted = document(&unique_path("wrong-header"), &ECHO());
    let endpoint = cluster.create(&wanted).await;
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let activate = format!("{uri}/versions/1/activate");
    let key = "k".repeat(256);
    for (method, target) in [("PUT", uri.as_str()), ("DELETE", &uri), ("POST", &activate)] {
        let body = body(method, target, &wanted);
        for (name, value, status) in [
            ("if-match", "\"7\"", 412),
            ("if-match", "7", 412),
            ("if-match", "x", 412),
            ("if-match", "\"1\", \"2\"", 412),
            ("if-match", "\"-1\"", 412),
            ("if-match", "é", 400),
            ("idempotency-key", "", 400),
            ("idempotency-key", "é", 400),
            ("idempotency-key", &key, 400),
        ] {
            let answer = admin.call(method, target, &[JSON[0], (name, value)], body.as_bytes()).await;
            let what = format!("{method} {target} with {name}: {value}");
            assert_eq!(answer.status, status, "{what}: {}", answer.text());
            refused(&what, &answer, if status == 412 { "" } else { name });
        }
        for name in ["if-match", "idempotency-key"] {
            let answer = admin.call(method, target, &[JSON[0], (name, "1"), (name, "2")], body.as_bytes()).await;
            assert_eq!(answer.status, 400, "{method} {target} with {name} twice: {}", answer.text());
            refused(&format!("{method} {target} with {name} twice"), &answer, name);
        }
    }
    assert_eq!(admin.get(&uri).await.expect(200).json()["latestVersion"], 1, "nothing was written");
    for node in &cluster.nodes {
        assert!(!node.log().contains("panicked"), "{}", node.log_tail());
    }
}
