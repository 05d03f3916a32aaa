//! Secrets that documents only refer to, and keys that come and go: nodes that know different things, files that are
//! exchanged, rotation of the cluster secret.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{document, http, route, with};
use crate::http::Admin;
use crate::sandbox::{own_cluster_turn, run_folder, shared, unique_path, Cluster, Endpoint, Node, Plan};
use crate::service::Service;
use crate::wait::{eventually, PATIENCE};
use crate::ws::Client;

const AUTHORIZATION: &str = "routes[0].backends[0].additionalHeaders.Authorization";

/// Events go to the service at `/default` with this header.
fn with_header(path: &str, service: &Service, authorization: &str) -> Value {
    let mut backend = http(service, "/default");
    backend["additionalHeaders"] = json!({ "Authorization": authorization, "X-Debug-Id": "id" });
    document(path, &[route("default", &[backend])])
}

/// The header that the service is sent for an event at this node.
async fn header_at(node: &Node, path: &str, service: &Service) -> String {
    let mut client = Client::connect(node, path).await;
    client.send("1").await;
    let request = service.next("/default").await;
    client.leave().await;
    request.header("authorization").unwrap_or_default().to_string()
}

/// Why the node is not at the active version of an endpoint.
async fn degraded(node: &Node, id: &str) -> Option<String> {
    let answer = node.admin().get("/readyz?verbose").await.expect(200).json();
    let check = answer["checks"].as_array().expect("checks").iter().find(|check| check["name"] == "endpoints").cloned();
    let detail = check.expect("the check of endpoints")["detail"].as_str().expect("a detail").to_string();
    detail.contains(id).then_some(detail)
}

async fn healed(node: &Node, id: &str) {
    let what = format!("{} at the active version of {id}", node.name);
    eventually(&what, PATIENCE, async || degraded(node, id).await.is_none().then_some(())).await;
}

fn refused_at<'a>(problem: &'a Value, path: &str) -> &'a str {
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors in {problem}"));
    let error = errors.iter().find(|error| error["path"] == path);
    error.unwrap_or_else(|| panic!("nothing about {path} in {problem}"))["message"].as_str().expect("a message")
}

#[tokio::test]
async fn what_may_not_be_referred_to_is_refused_by_name() {
    let cluster = shared().await;
    let service = Service::start().await;
    let admin = cluster.nodes[1].admin();
    for (reference, part) in [
        ("${env:PATH}", "begin with WSGATEWAY_SECRET_ (setting secrets.env_prefix), not to PATH"),
        ("${env:WSGATEWAY__ADMIN__TOKEN}", "not to WSGATEWAY__ADMIN__TOKEN"),
        ("${env:WSGATEWAY_SECRET_OF_NOBODY}", "WSGATEWAY_SECRET_OF_NOBODY, which is not set on this node"),
        ("Bearer ${env:WSGATEWAY_SECRET_OF_NOBODY}", "WSGATEWAY_SECRET_OF_NOBODY, which is not set on this node"),
        ("${env:}", "whose name"),
        ("${env:A", "without its closing brace"),
        ("${file:/etc/shadow}", "files in /run/secrets (setting secrets.file_dirs), not to /etc/shadow"),
        ("${file:/proc/self/environ}", "not to /proc/self/environ"),
        ("${file:/run/secrets/../../etc/shadow}", "has . or .. in it"),
        ("${file:/run/secretsx/a}", "not to /run/secretsx/a"),
        ("${file:etc/x}", "not absolute"),
        ("${file:/run/secrets/wsgateway-has-no-such-file}", "cannot be read on this node"),
    ] {
        let path = unique_path("refers");
        let wanted = with_header(&path, &service, reference);
        let problem = admin.post("/api/v1/endpoints", &wanted).await.expect_problem(400, "invalid_document");
        let message = refused_at(&problem, AUTHORIZATION);
        assert!(message.contains(part), "{reference}: {message}");
        let dry = admin.post("/api/v1/endpoints?dryRun=true", &wanted).await.expect_problem(400, "invalid_document");
        assert_eq!(dry["errors"], problem["errors"]);
        if reference.starts_with("Bearer") {
            continue;
        }
        let keys = json!({ "mode": "apiKey", "keys": [{ "id": "a", "key": reference }] });
        let wanted = with(document(&path, &[]), "authentication", keys);
        let problem = admin.post("/api/v1/endpoints", &wanted).await.expect_problem(400, "invalid_document");
        assert!(refused_at(&problem, "authentication.keys[0].key").contains(part), "{problem}");
    }
}

#[tokio::test]
async fn nodes_that_know_different_secrets() {
    let _turn = own_cluster_turn().await;
    let files = run_folder().join("exchanged-secrets");
    std::fs::create_dir_all(&files).expect("a folder");
    let file = files.join("authorization");
    let plan = Plan {
        environment: vec![("WSGATEWAY__SECRETS__FILE_DIRS".into(), format!("[{:?}]", files.display().to_string()))],
        ..Plan::default()
    };
    let cluster = Cluster::prepare(3, plan);
    let [first, second, third] = &cluster.nodes[..] else { panic!("three nodes") };
    first.set_environment("WSGATEWAY_SECRET_A", "of-the-first");
    second.set_environment("WSGATEWAY_SECRET_A", "of-the-second");
    cluster.begin().await;
    let service = Service::start().await;
    let path = unique_path("different");
    let endpoint = cluster.create(&with_header(&path, &service, "literal-1")).await;
    for node in &cluster.nodes {
        assert_eq!(header_at(node, &path, &service).await, "literal-1");
    }
    missing_on_one_node(&cluster, &endpoint, &service).await;

    // A file on all nodes; it is exchanged while they run.
    std::fs::write(&file, "in-the-file-1\n").expect("a file");
    let reference = format!("${{file:{}}}", file.display());
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    let admin = third.admin();
    admin.put(&uri, &with_header(&path, &service, &format!("Bearer {reference}"))).await.expect(200);
    for node in &cluster.nodes {
        healed(node, &endpoint.id).await;
        sent_in_the_end(node, &path, &service, "Bearer in-the-file-1").await;
    }
    std::fs::write(&file, "in-the-file-2\n").expect("a file");
    for node in &cluster.nodes {
        sent_in_the_end(node, &path, &service, "Bearer in-the-file-2").await;
    }
    std::fs::remove_file(&file).expect("the file is there");
    for node in &cluster.nodes {
        let reason = eventually("a reason", PATIENCE, async || degraded(node, &endpoint.id).await).await;
        assert!(reason.contains(AUTHORIZATION) && reason.contains("cannot be read on this node"), "{reason}");
        assert_eq!(header_at(node, &path, &service).await, "Bearer in-the-file-2", "the last good one stays");
    }
    std::fs::write(&file, "in-the-file-3").expect("a file");
    for node in &cluster.nodes {
        healed(node, &endpoint.id).await;
        assert_eq!(header_at(node, &path, &service).await, "Bearer in-the-file-3");
    }
    keys_by_reference(&cluster, &reference).await;
    for node in &cluster.nodes {
        assert!(!node.log().contains("in-the-file") && !node.log().contains("of-the-"), "{}", node.log_tail());
    }
}

/// The third node lacks a variable.
async fn missing_on_one_node(cluster: &Cluster, endpoint: &Endpoint, service: &Service) {
    let [first, second, third] = &cluster.nodes[..] else { panic!("three nodes") };
    let (path, id) = (endpoint.path.as_str(), endpoint.id.as_str());
    let uri = format!("/api/v1/endpoints/{id}");
    let referring = with_header(path, service, "${env:WSGATEWAY_SECRET_A}");
    let problem = third.admin().put(&uri, &referring).await.expect_problem(400, "invalid_document");
    let message = refused_at(&problem, AUTHORIZATION);
    assert!(message.contains("WSGATEWAY_SECRET_A, which is not set on this node"), "{message}");

    first.admin().put(&uri, &referring).await.expect(200);
    cluster.wait_version(id, 2).await;
    assert_eq!(header_at(first, path, service).await, "of-the-first");
    sent_in_the_end(second, path, service, "of-the-second").await;
    let reason = eventually("a reason", PATIENCE, async || degraded(third, id).await).await;
    assert!(reason.contains(AUTHORIZATION) && reason.contains("WSGATEWAY_SECRET_A, which is not set"), "{reason}");
    assert_eq!(header_at(third, path, service).await, "literal-1", "it keeps its last good version");
    let metrics = third.admin().get("/metrics").await.expect(200).text();
    assert!(metrics.contains("wsgateway_endpoints_degraded 1"), "{metrics}");
    let read = third.admin().get(&uri).await.expect(200).json();
    let headers = &read["document"]["routes"][0]["backends"][0]["additionalHeaders"];
    assert_eq!(headers["Authorization"], "${env:WSGATEWAY_SECRET_A}", "references are no secrets");

    // The others go on; that node neither makes it the active version again nor explains it wrongly.
    let activate = async |admin: Admin, version: u64| {
        admin.call("POST", &format!("{uri}/versions/{version}/activate"), &[], b"").await
    };
    activate(first.admin(), 1).await.expect(200);
    cluster.wait_version(id, 1).await;
    healed(third, id).await;
    let problem = activate(third.admin(), 2).await.expect_problem(400, "invalid_document");
    assert!(refused_at(&problem, AUTHORIZATION).contains("WSGATEWAY_SECRET_A"), "{problem}");
    let question = json!({ "event": 1, "version": 2 });
    let explained = third.admin().post(&format!("/api/v1/endpoints/{id}/explain"), &question).await.expect(200).text();
    assert!(explained.contains("${env:WSGATEWAY_SECRET_A}"), "{explained}");
    activate(second.admin(), 2).await.expect(200);
    cluster.wait_version(id, 2).await;

    third.signal(libc::SIGTERM);
    third.wait_exit(Duration::from_secs(40)).await;
    third.set_environment("WSGATEWAY_SECRET_A", "of-the-third");
    third.restart().await;
    healed(third, id).await;
    assert_eq!(header_at(third, path, service).await, "of-the-third");
}

async fn sent_in_the_end(node: &Node, path: &str, service: &Service, header: &str) {
    let what = format!("{header} from {}", node.name);
    eventually(&what, PATIENCE, async || (header_at(node, path, service).await == header).then_some(())).await;
}

async fn keys_by_reference(cluster: &Cluster, reference: &str) {
    let keys = json!({ "mode": "apiKey", "keys": [{ "id": "alice", "key": reference }] });
    let wanted = with(document(&unique_path("key-in-file"), &[]), "authentication", keys);
    let endpoint = cluster.create(&wanted).await;
    for node in &cluster.nodes {
        let right = Client::try_connect(node, &endpoint.path, &[("x-api-key", "in-the-file-3")]).await;
        assert!(right.is_ok(), "the key is what the file holds");
        for wrong in [reference, "in-the-file-2"] {
            let refused = Client::try_connect(node, &endpoint.path, &[("x-api-key", wrong)]).await.err();
            assert_eq!(refused.map(|refused| refused.status), Some(401), "{wrong}");
        }
    }
}

#[tokio::test]
async fn the_cluster_secret_is_rotated() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::prepare(1, Plan::default());
    let node = &cluster.nodes[0];
    let (old, new) = ("the-old-cluster-secret", "the-new-cluster-secret");
    let secrets = async |secrets: &[&str]| {
        if node.exited().is_none() && node.admin().try_call("GET", "/livez", &[], b"").await.is_ok() {
            node.signal(libc::SIGTERM);
            node.wait_exit(Duration::from_secs(40)).await;
        }
        node.set_environment("WSGATEWAY__CLUSTER__SECRETS", &format!("{secrets:?}"));
        node.restart().await;
    };
    let service = Service::start().await;
    let path = unique_path("rotated");
    let wanted = with_header(&path, &service, "literal");

    secrets(&[]).await;
    let problem = node.admin().post("/api/v1/endpoints", &wanted).await.expect_problem(400, "invalid_document");
    assert!(refused_at(&problem, AUTHORIZATION).contains("set cluster.secrets"), "{problem}");
    let secret = json!({ "mode": "none", "clientSecret": "literal" });
    let other = with(document(&path, &[]), "authentication", secret);
    let problem = node.admin().post("/api/v1/endpoints", &other).await.expect_problem(400, "invalid_document");
    assert!(refused_at(&problem, "authentication.clientSecret").contains("set cluster.secrets"), "{problem}");

    secrets(&[old]).await;
    let endpoint = cluster.create(&wanted).await;
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    secrets(&[new, old]).await;
    assert_eq!(header_at(node, &path, &service).await, "literal", "the old key still opens");
    let unchanged = node.admin().post(&format!("{uri}/diff"), &wanted).await.expect(200).json();
    assert_eq!(unchanged["changes"], json!([]));
    // What was read and is sent back is encrypted anew.
    let read = node.admin().get(&uri).await.expect(200).json()["document"].clone();
    node.admin().put(&uri, &read).await.expect(200);
    let changes = node.admin().get(&format!("{uri}/diff?from=1&to=2")).await.expect(200).json();
    assert_eq!(changes["changes"], json!([]), "which is no difference");
    secrets(&[new]).await;
    assert_eq!(header_at(node, &path, &service).await, "literal");
    let back = node.admin().call("POST", &format!("{uri}/versions/1/activate"), &[], b"").await;
    let problem = back.expect_problem(400, "invalid_document");
    assert!(refused_at(&problem, AUTHORIZATION).contains("none of this node's cluster.secrets"), "{problem}");

    secrets(&["another-secret-altogether"]).await;
    let reason = eventually("a reason", PATIENCE, async || degraded(node, &endpoint.id).await).await;
    assert!(reason.contains(AUTHORIZATION) && reason.contains("is encrypted under the key"), "{reason}");
    let shown = node.admin().get(&uri).await.expect(200).text();
    assert!(shown.contains("enc:redacted") && !shown.contains("enc:v1:"), "{shown}");
    // A new secret heals it.
    node.admin().put(&uri, &with_header(&path, &service, "literal-2")).await.expect(200);
    assert_eq!(header_at(node, &path, &service).await, "literal-2");
}
