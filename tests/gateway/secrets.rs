//! Secrets of documents: a canary in every field that may hold one, looked for in everything that the nodes answer, log
//! and store – as it stands, in hexadecimal and in base64.

use std::path::Path;
use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{document, with};
use crate::http::{Admin, JSON};
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Plan};

/// Nobody may find this anywhere. Its length is a multiple of three: its base64 has no padding.
const CANARY: &str = "canary-f3c9a1e07d5b";

fn with_secrets(path: &str, canary: &str) -> Value {
    with(
        document(path, &[]),
        "authentication",
        json!({"mode": "none", "username": "u", "password": canary,
            "users": [{"username": "a", "password": canary}, {"username": "b", "password": "another-password"}],
            "keys": [{"id": "k", "key": canary}]}),
    )
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).flat_map(|three| {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift & 63) as usize]))
    });
    groups.collect()
}

/// The canary in the forms in which it may have been written down; base64 in its three alignments.
fn forms() -> Vec<String> {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![CANARY.to_owned(), hex.to_uppercase(), hex];
    forms.extend((0..3).map(|skip| base64(&CANARY.as_bytes()[skip..])));
    forms
}

fn found(bytes: &[u8]) -> Option<String> {
    forms().into_iter().find(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
}

#[track_caller]
fn none_in(what: &str, bytes: &[u8]) {
    if let Some(form) = found(bytes) {
        panic!("{what} holds {form}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(4000)]));
    }
}

/// Every file below a folder; the number of files and of bytes.
fn none_in_files(folder: &Path) -> (usize, usize) {
    let mut seen = (0, 0);
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let more = if entry.is_dir() {
            none_in_files(&entry)
        } else {
            let bytes = std::fs::read(&entry).expect("a file");
            none_in(&entry.display().to_string(), &bytes);
            (1, bytes.len())
        };
        seen = (seen.0 + more.0, seen.1 + more.1);
    }
    seen
}

/// Whatever is answered must not hold the canary.
async fn ask(admin: &Admin, method: &str, target: &str, body: &str) -> crate::http::Answer {
    let answer = admin.call(method, target, JSON, body.as_bytes()).await;
    none_in(&format!("{method} {target}"), &answer.body);
    let headers = format!("{:?}", answer.headers);
    none_in(&format!("the headers of {method} {target}"), headers.as_bytes());
    answer
}

#[tokio::test]
async fn a_canary_is_found_in_no_answer_no_log_no_metric_and_no_database_file() {
    assert!(found(format!("..{}..", base64(format!("x{CANARY}").as_bytes())).as_bytes()).is_some(), "the search works");
    let _turn = own_cluster_turn().await;
    let secret = format!("{CANARY}-of-the-cluster");
    let plan = Plan {
        token: Some(format!("{CANARY}-of-the-admin")),
        environment: vec![
            ("WSGATEWAY__CLUSTER__SECRETS".into(), format!("[\"{secret}\"]")),
            ("WSGATEWAY__LOG__FILTER".into(), "debug".into()),
        ],
        ..Plan::default()
    };
    let cluster = Cluster::start_with(3, plan).await;
    let leader = cluster.leader().await;
    let follower = cluster.nodes[(leader + 1) % 3].admin();
    let path = unique_path("canary");
    let text = with_secrets(&path, CANARY).to_string();
    // Forwarded to the leader, and on the leader itself.
    let created = ask(&follower, "POST", "/api/v1/endpoints", &text).await.expect(201).json();
    let id = created["id"].as_str().expect("an id").to_owned();
    let uri = format!("/api/v1/endpoints/{id}");
    let admin = cluster.nodes[leader].admin();
    let rotated = with_secrets(&path, &format!("{CANARY}-2")).to_string();
    ask(&admin, "POST", &format!("{uri}/diff"), &rotated).await.expect(200);
    ask(&admin, "PUT", &uri, &rotated).await.expect(200);
    ask(&admin, "PUT", &format!("{uri}?activate=false"), &text).await.expect(200);
    ask(&admin, "POST", "/api/v1/endpoints?dryRun=true", &text).await.expect(200);
    cluster.wait_version(&id, 2).await;

    for (pointer, wrong) in [
        ("/authentication", json!(CANARY)),
        ("/authentication/users", json!(CANARY)),
        ("/authentication/users/0", json!(CANARY)),
        ("/authentication/users/0/password", json!([CANARY])),
        ("/authentication/users/0/password", json!(format!("{CANARY}{}", "x".repeat(2000)))),
        ("/authentication/passwordHash", json!(CANARY)),
        ("/authentication/clientSecret", json!(CANARY)),
        ("/authentication/keys/0", json!(CANARY)),
        ("/authentication/keys/0/keyHash", json!(CANARY)),
    ] {
        let mut document = with_secrets(&path, CANARY);
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = document.pointer_mut(parent).expect("a parent");
        match name.parse::<usize>() {
            Ok(index) => parent[index] = wrong,
            Err(_) => parent[name] = wrong,
        }
        for (method, target) in [("POST", "/api/v1/endpoints"), ("PUT", &uri), ("POST", &format!("{uri}/diff"))] {
            ask(&admin, method, target, &document.to_string()).await.expect_problem(400, "invalid_document");
        }
    }
    let cut = &text[..text.len() - 1];
    ask(&admin, "POST", "/api/v1/endpoints", cut).await.expect_problem(400, "invalid_document");
    for node in &cluster.nodes {
        let versions = [1, 2, 3].map(|version| format!("{uri}/versions/{version}"));
        let diffs = ["", "?from=2&to=3", "?from=1"].map(|query| format!("{uri}/diff{query}"));
        let others = [uri.clone(), format!("{uri}/versions")];
        let fixed = ["/api/v1/endpoints", "/api/v1/cluster", "/metrics", "/readyz?verbose"].map(String::from);
        for target in versions.iter().chain(&diffs).chain(&others).chain(&fixed) {
            ask(&node.admin(), "GET", target, "").await.expect(200);
        }
    }
    ask(&admin, "POST", &format!("{uri}/versions/1/activate"), "").await.expect(200);

    for node in &cluster.nodes {
        node.signal(libc::SIGTERM);
    }
    for node in &cluster.nodes {
        node.wait_exit(Duration::from_secs(40)).await;
        none_in(&format!("the log of {}", node.name), node.log().as_bytes());
        let folder = node.log_file().parent().expect("the node's folder").to_owned();
        let (files, bytes) = none_in_files(&folder);
        // What is stored can be seen in the files: they are neither compressed nor elsewhere.
        let stored = std::fs::read_dir(folder.join("data")).is_ok() && holds(&folder, b"$argon2id$v=19$");
        assert!(stored, "{}: the stored hashes are in one of {files} files, {bytes} bytes", node.name);
    }
}

fn holds(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).any(|path| {
        match path.is_dir() {
            true => holds(&path, needle),
            false => std::fs::read(&path).expect("a file").windows(needle.len()).any(|window| window == needle),
        }
    })
}

#[tokio::test]
async fn a_document_that_was_read_is_sent_back_with_its_secrets() {
    let cluster = shared().await;
    let path = unique_path("read-back");
    let endpoint = cluster.create(&with_secrets(&path, "first-password-of-all")).await;
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let admin = cluster.nodes[1].admin();
    let mut read = admin.get(&uri).await.expect(200).json()["document"].clone();
    let authentication = &read["authentication"];
    assert_eq!(authentication["passwordHash"], "$argon2id$redacted");
    assert_eq!(authentication["users"][1], json!({"username": "b", "passwordHash": "$argon2id$redacted"}));
    assert_eq!(authentication["keys"][0], json!({"id": "k", "keyHash": "sha256:redacted"}));

    let none = admin.post(&format!("{uri}/diff"), &read).await.expect(200).json();
    assert_eq!(none["changes"], json!([]));
    read["name"] = json!("renamed");
    admin.put(&uri, &read).await.expect(200);
    let changed = admin.get(&format!("{uri}/diff?from=1")).await.expect(200).json();
    assert_eq!(
        changed["changes"],
        json!([{"path": "name", "change": "added", "to": "renamed"}]),
        "every secret is still what it was"
    );

    // The same literals are no change, another one is, and is not told.
    let same = with(with_secrets(&path, "first-password-of-all"), "name", json!("renamed"));
    let none = admin.post(&format!("{uri}/diff"), &same).await.expect(200).json();
    assert_eq!(none["changes"], json!([]));
    let mut other = same.clone();
    other["authentication"]["users"][0]["password"] = json!("second-password");
    let changed = admin.post(&format!("{uri}/diff"), &other).await.expect(200).json();
    assert_eq!(
        changed["changes"],
        json!([{"path": "authentication.users[0].passwordHash", "change": "changed",
            "from": "(hidden)", "to": "(hidden)"}])
    );

    // A user that is not known has nothing to be restored.
    read["authentication"]["users"][0]["username"] = json!("stranger");
    let problem = admin.put(&uri, &read).await.expect_problem(400, "invalid_document");
    assert_eq!(problem["errors"][0]["path"], "authentication.users[0].passwordHash", "{problem}");
}
