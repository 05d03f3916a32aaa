//! The TypeScript client (`clients/typescript`): type check, build, its own tests, and its scenarios against a cluster of
//! three nodes in Node.js and in Chromium. Of `./test clients`.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{document, http, route, with};
use crate::programs::{chromium, ended, node_packages, ROOT};
use crate::sandbox::{own_cluster_turn, run_folder, unique_path, Cluster};
use crate::service::{Behaviour, Request, Service};

const WITHIN: Duration = Duration::from_secs(240);
/// A node that was killed comes back for the next scenario.
const DEAD_FOR: Duration = Duration::from_secs(1);

/// `once-…` is good until it is looked at again, `good-…` always.
fn check() -> impl Fn(&Request) -> Behaviour + Send + Sync + 'static {
    let seen: Mutex<HashMap<String, usize>> = Mutex::default();
    move |request| {
        let token = request.json()["access_token"].as_str().unwrap_or_default().to_owned();
        let mut seen = seen.lock().expect("nobody panics with it");
        let times = seen.entry(token.clone()).or_default();
        *times += 1;
        let is_good = token.starts_with("good-") || token.starts_with("once-") && *times == 1;
        Behaviour::status(if is_good { 200 } else { 401 })
    }
}

/// A custom route that is chosen by the event's `action`.
fn keyed(key: &str, backend: Value, more: Value) -> Value {
    let mut route = json!({"type": "custom", "name": key, "key": key, "backends": [backend]});
    for (field, value) in more.as_object().expect("fields") {
        route[field] = value.clone();
    }
    route
}

fn echo_document(service: &Service) -> Value {
    let echo = || json!({"type": "echo"});
    let mut fails = http(service, "/fails");
    fails["retry"] = json!({"attempts": 1});
    let mut die = http(service, "/die");
    die["required"] = json!(false);
    let routes = [
        keyed("whoami", echo(), json!({"transform": {"inbound": "{\"id\": {{ connection.id }}}"}})),
        keyed("acked", echo(), json!({"ack": {"when": "received"}})),
        keyed("fails", fails, json!({})),
        keyed("die", die, json!({})),
        route("default", &[echo()]),
    ];
    let wanted = with(document(&unique_path("typescript"), &routes), "routeSelector", json!("$.action"));
    with(wanted, "settings", json!({"subprotocols": ["chat.v1"]}))
}

fn token_document(service: &Service) -> Value {
    let routes = [route("default", &[json!({"type": "echo"})])];
    let wanted =
        with(document(&unique_path("typescript-token"), &routes), "settings", json!({"subprotocols": ["chat.v1"]}));
    let rule = json!({"mode": "bearer", "authorizationServerUrl": service.url("/check"), "tokenQuery": "token",
        "cacheInSeconds": 0, "recheckInSeconds": 1, "refresh": true});
    with(wanted, "authentication", rule)
}

/// The package as it would be checked out, outside the checkout: it is built there.
async fn copy_of_the_package() -> std::path::PathBuf {
    let packages = node_packages("clients/typescript").await;
    let folder = run_folder().join("typescript");
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(format!("{ROOT}/clients/typescript")).arg(&folder);
    ended(copy, "the copy of the package", Duration::from_secs(20)).await;
    let modules = folder.join("node_modules");
    // Those of whoever develops it are not what the lock file says.
    let _absent = std::fs::remove_dir_all(&modules);
    std::os::unix::fs::symlink(Path::new(&packages).join("node_modules"), modules).expect("a link");
    folder
}

#[tokio::test]
async fn the_client_passes_its_tests_in_node_and_in_chromium() {
    let _turn = own_cluster_turn().await;
    let folder = copy_of_the_package().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    service.behave("/fails", Behaviour::status(500));
    service.decide("/check", check());
    let echo = cluster.create(&echo_document(&service)).await;
    let token = cluster.create(&token_document(&service)).await;
    let nodes: Vec<Value> =
        cluster.nodes.iter().map(|node| json!({"client": node.client, "admin": node.admin})).collect();
    let plan = json!({"nodes": nodes, "echo": echo.path, "token": token.path, "chromium": chromium()});
    let mut tests = Command::new("npm");
    tests.current_dir(&folder).args(["test", "--silent"]).env("WSGATEWAY_TEST_PLAN", plan.to_string());
    let orders = async {
        loop {
            let order = eventually_an_order(&service).await;
            let name = order.attributes().get("node").to_owned();
            let node = cluster.nodes.iter().find(|node| node.name == name).expect("a node of this cluster");
            node.kill();
            tokio::time::sleep(DEAD_FOR).await;
            node.restart().await;
        }
    };
    let done = tokio::select! {
        done = ended(tests, "npm test", WITHIN) => done,
        () = orders => unreachable!("it goes on for ever"),
    };
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    for line in said.lines().filter(|line| line.contains("back on another node") || line.starts_with("# ")) {
        println!("{line}");
    }
    let figure = |name: &str| -> usize {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("# {name} "))).expect(name);
        line.trim().parse().expect("a number")
    };
    assert_eq!((figure("fail"), figure("skipped"), figure("cancelled")), (0, 0, 0), "{said}");
    assert!(figure("pass") >= 60, "{said}");
}

/// The next order to kill the node that the order came through; waits for it without a deadline, which is the tests'.
async fn eventually_an_order(service: &Service) -> Request {
    let before = service.received("/die").len();
    loop {
        if let Some(order) = service.received("/die").into_iter().nth(before) {
            return order;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
