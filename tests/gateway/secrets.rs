//! Secrets of documents: a canary in every field that may hold one, looked for in everything that the nodes answer, log
//! and store – as it stands, in hexadecimal and in base64.

use std::path::Path;
use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{custom, document, http, route, with};
use crate::http::{Admin, JSON};
use crate::sandbox::{own_cluster_turn, run_folder, shared, unique_path, Cluster, Plan};
use crate::service::Service;
use crate::wait::eventually;
use crate::ws::Client;

/// Nobody may find this anywhere. Its length is a multiple of three: its base64 has no padding.
const CANARY: &str = "canary-f3c9a1e07d5b";

fn with_secrets(path: &str, canary: &str) -> Value {
    let http = |extra: Value| json!({"type": "http", "destination": "http://127.0.0.1:9/", "additionalHeaders": extra});
    let kafka = json!({"type": "kafka", "topic": "t", "bootstrapServers": "127.0.0.1:9",
        "headers": {"x-api-key": canary, "app": "shop"}, "security": {"protocol": "SASL_SSL", "saslMechanism": "PLAIN",
            "username": "u", "password": canary}});
    let mut secret_headers = http(json!({"Authorization": canary, "X-Debug-Id": "id", "X-Access-Token": canary}));
    secret_headers["signingSecret"] = json!(format!("{canary}-{canary}"));
    let never = json!({"equal": {"path": "$.never", "value": true}});
    let mut on_route = custom("kafka", never, std::slice::from_ref(&kafka));
    on_route["deadLetter"] = kafka;
    let errors = route("error", std::slice::from_ref(&secret_headers));
    let document = document(path, &[errors, on_route]);
    with(
        with(document, "deadLetter", secret_headers),
        "authentication",
        json!({"mode": "none", "username": "u", "password": canary, "clientSecret": canary,
            "users": [{"username": "a", "password": canary}, {"username": "b", "password": "another-password"}],
            "keys": [{"id": "k", "key": canary}]}),
    )
}

/// The same, with a default route whose service is sent a literal, a variable and a file.
fn with_service(path: &str, canary: &str, service: &Service, file: &Path) -> Value {
    let mut backend = http(service, "/default");
    backend["additionalHeaders"] = json!({"Authorization": canary, "X-Of-Variable": "${env:WSGATEWAY_SECRET_CANARY}",
        "X-Of-File": format!("Bearer ${{file:{}}}", file.display())});
    let mut document = with_secrets(path, canary);
    document["routes"].as_array_mut().expect("routes").push(route("default", &[backend]));
    document
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
    let files = run_folder().join("canary-secrets");
    std::fs::create_dir_all(&files).expect("a folder");
    let file = files.join("canary");
    std::fs::write(&file, format!("{CANARY}-of-the-file\n")).expect("a file");
    let service = Service::start().await;
    let plan = Plan {
        token: Some(format!("{CANARY}-of-the-admin")),
        environment: vec![
            ("WSGATEWAY__CLUSTER__SECRETS".into(), format!("[\"{secret}\"]")),
            ("WSGATEWAY__LOG__FILTER".into(), "trace".into()),
            ("WSGATEWAY_SECRET_CANARY".into(), format!("{CANARY}-of-the-environment")),
            ("WSGATEWAY__SECRETS__FILE_DIRS".into(), format!("[{:?}]", files.display().to_string())),
        ],
        ..Plan::default()
    };
    let cluster = Cluster::start_with(3, plan).await;
    let leader = cluster.leader().await;
    let follower = cluster.nodes[(leader + 1) % 3].admin();
    let path = unique_path("canary");
    let text = with_service(&path, CANARY, &service, &file).to_string();
    // Forwarded to the leader, and on the leader itself.
    let created = ask(&follower, "POST", "/api/v1/endpoints", &text).await.expect(201).json();
    let id = created["id"].as_str().expect("an id").to_owned();
    let uri = format!("/api/v1/endpoints/{id}");
    let admin = cluster.nodes[leader].admin();
    let rotated = with_service(&path, &format!("{CANARY}-2"), &service, &file).to_string();
    ask(&admin, "POST", &format!("{uri}/diff"), &rotated).await.expect(200);
    ask(&admin, "PUT", &uri, &rotated).await.expect(200);
    ask(&admin, "PUT", &format!("{uri}?activate=false"), &text).await.expect(200);
    ask(&admin, "POST", "/api/v1/endpoints?dryRun=true", &text).await.expect(200);
    cluster.wait_version(&id, 2).await;
    // Only the service is told them.
    for node in &cluster.nodes {
        let mut client = Client::connect(node, &path).await;
        client.send("{}").await;
        let request = service.next("/default").await;
        client.leave().await;
        for (name, value) in [
            ("authorization", format!("{CANARY}-2")),
            ("x-of-variable", format!("{CANARY}-of-the-environment")),
            ("x-of-file", format!("Bearer {CANARY}-of-the-file")),
        ] {
            assert_eq!(request.header(name), Some(value.as_str()), "{name} from {}", node.name);
        }
    }
    for question in [json!({"event": {}}), json!({"text": "{", "version": 1}), json!({"event": {"never": true}})] {
        ask(&admin, "POST", &format!("{uri}/explain"), &question.to_string()).await.expect(200);
    }
    let candidate = format!("{{\"event\": {{}}, \"document\": {text}}}");
    ask(&admin, "POST", &format!("{uri}/explain"), &candidate).await.expect(200);

    for (pointer, wrong) in [
        ("/authentication", json!(CANARY)),
        ("/authentication/users", json!(CANARY)),
        ("/authentication/users/0", json!(CANARY)),
        ("/authentication/users/0/password", json!([CANARY])),
        ("/authentication/users/0/password", json!(format!("{CANARY}{}", "x".repeat(2000)))),
        ("/authentication/passwordHash", json!(CANARY)),
        ("/authentication/clientSecret", json!([CANARY])),
        ("/authentication/clientSecret", json!(format!("enc:v1:{CANARY}"))),
        ("/authentication/clientSecret", json!(format!("{CANARY}${{env:WSGATEWAY_SECRET_CANARY}}"))),
        ("/routes/0/backends/0/additionalHeaders/Authorization", json!(format!("{CANARY}\n"))),
        ("/routes/0/backends/0/additionalHeaders/Authorization", json!({ CANARY: 1 })),
        ("/routes/0/backends/0/additionalHeaders", json!(CANARY)),
        ("/routes/1/backends/0/headers/x-api-key", json!(format!("{CANARY}{}", "x".repeat(5000)))),
        ("/routes/1/backends/0/security", json!({"password": CANARY})),
        ("/routes/0/backends/0/signingSecret", json!(CANARY)),
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
    none_in_any_reading(&cluster, &id).await;
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
        for kept in ["$argon2id$v=19$", "enc:v1:", "${env:WSGATEWAY_SECRET_CANARY}"] {
            assert!(holds(&folder, kept.as_bytes()), "{}: {kept} is in one of {files} files, {bytes} bytes", node.name);
        }
    }
}

/// Every call that only reads, as the reference lists them; of a connection that is open.
async fn none_in_any_reading(cluster: &Cluster, id: &str) {
    let path = unique_path("canary-reader");
    let secret = json!({"mode": "apiKey", "keys": [{"id": "reader", "key": format!("{CANARY}-key")}]});
    cluster.create(&with(document(&path, &[]), "authentication", secret)).await;
    let mut client = Client::try_connect(&cluster.nodes[0], &path, &[("x-api-key", &format!("{CANARY}-key"))])
        .await
        .expect("the right key opens");
    client.send("{").await;
    let cid = client.error_frame("invalid_json").await["connectionId"].as_str().expect("an id").to_string();
    let reference = ask(&cluster.nodes[0].admin(), "GET", "/api/openapi.json", "").await.expect(200).json();
    let paths = reference["paths"].as_object().expect("paths");
    let mut asked = 0;
    for path in paths.iter().filter(|(_, calls)| calls.get("get").is_some()).map(|(path, _)| path) {
        let target = path.replace("{id}", id).replace("{version}", "2").replace("{n}", "2").replace("{cid}", &cid);
        let target = target.replace("{stage}", "prod");
        // A stream is to end.
        let target = if path.ends_with("/live") { format!("{target}?seconds=1") } else { target };
        for node in &cluster.nodes {
            let answer = ask(&node.admin(), "GET", &target, "").await;
            assert!(answer.status < 500, "GET {target}: {} {}", answer.status, answer.text());
            asked += 1;
        }
    }
    assert!(asked >= 3 * 12, "{asked} readings");
    client.leave().await;
}

#[tokio::test]
async fn a_canary_is_found_in_no_snapshot() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let admin = node.admin();
    let path = unique_path("snapshot");
    let endpoint = cluster.create(&with_secrets(&path, CANARY)).await;
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    admin.put(&uri, &with_secrets(&path, &format!("{CANARY}-2"))).await.expect(200);
    // Writes until there is one.
    let taken = eventually("a snapshot", Duration::from_secs(60), async || {
        let target = format!("{uri}/versions/2/activate");
        let activations = (0..256).map(|_| admin.call("POST", &target, &[], b""));
        for answer in futures::future::join_all(activations).await {
            answer.expect(200);
        }
        let view = admin.get("/api/v1/cluster").await.expect(200).json();
        view["raft"]["snapshotIndex"].as_u64().filter(|index| *index > 0)
    })
    .await;
    node.signal(libc::SIGTERM);
    node.wait_exit(Duration::from_secs(40)).await;
    let folder = node.log_file().parent().expect("the node's folder").to_owned();
    let (files, bytes) = none_in_files(&folder);
    assert!(holds(&folder, b"enc:v1:"), "what is stored can be seen in {files} files, {bytes} bytes");
    println!("snapshot at {taken}: nothing in {files} files, {bytes} bytes");
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
    assert_eq!(authentication["clientSecret"], "enc:redacted");
    let headers = &read["routes"][0]["backends"][0]["additionalHeaders"];
    assert_eq!(headers["Authorization"], "enc:redacted");
    assert_eq!(headers["X-Debug-Id"], "id");
    assert_eq!(read["routes"][1]["backends"][0]["headers"], json!({"app": "shop", "x-api-key": "enc:redacted"}));

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
    let mut other = same.clone();
    other["authentication"]["clientSecret"] = json!("second-secret");
    other["routes"][0]["backends"][0]["additionalHeaders"]["X-Access-Token"] = json!("second-token");
    other["routes"][0]["backends"][0]["additionalHeaders"]["X-Debug-Id"] = json!("other");
    let changed = admin.post(&format!("{uri}/diff"), &other).await.expect(200).json();
    let at = |path: &str, from: &str, to: &str| json!({"path": path, "change": "changed", "from": from, "to": to});
    let headers = "routes[0].backends[0].additionalHeaders";
    assert_eq!(
        changed["changes"],
        json!([
            at("authentication.clientSecret", "(hidden)", "(hidden)"),
            at(&format!("{headers}.X-Access-Token"), "(hidden)", "(hidden)"),
            at(&format!("{headers}.X-Debug-Id"), "id", "other"),
        ])
    );

    // Redacted secrets go nowhere else, and encrypted texts are for nodes to write.
    let mut moved = read.clone();
    moved["routes"][0]["backends"][0]["destination"] = json!("http://127.0.0.1:10/");
    let problem = admin.put(&uri, &moved).await.expect_problem(400, "invalid_document");
    assert_eq!(problem["errors"][0]["path"], format!("{headers}.Authorization"), "{problem}");
    let mut forged = read.clone();
    forged["authentication"]["clientSecret"] = json!("enc:v1:00000000:AAAA");
    for answer in [admin.put(&uri, &forged).await, admin.post("/api/v1/endpoints", &forged).await] {
        let problem = answer.expect_problem(400, "invalid_document");
        assert_eq!(problem["errors"][0]["path"], "authentication.clientSecret", "{problem}");
    }
    admin.put(&format!("{uri}?dryRun=true"), &read).await.expect(200);

    // A user that is not known has nothing to be restored.
    read["authentication"]["users"][0]["username"] = json!("stranger");
    let problem = admin.put(&uri, &read).await.expect_problem(400, "invalid_document");
    assert_eq!(problem["errors"][0]["path"], "authentication.users[0].passwordHash", "{problem}");
}
