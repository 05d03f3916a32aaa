//! schemathesis against a running node: every answer to what it makes up from the OpenAPI document is one that the
//! document has, none is a 5xx, and what the document forbids is refused. Of `./test reference`.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::document::{all_routes_to, document, with};
use crate::programs::{ended, python, ROOT};
use crate::sandbox::{own_cluster_turn, run_folder, unique_path, Cluster, Plan};
use crate::service::Service;
use crate::ws::Client;

/// What is made up for each operation, in each phase.
const EXAMPLES: &str = "WSGATEWAY_SCHEMATHESIS_EXAMPLES";
const EXAMPLES_DEFAULT: &str = "25";
const SEED: &str = "WSGATEWAY_SCHEMATHESIS_SEED";
const WITHIN: Duration = Duration::from_secs(420);
/// Closed one by one by what is made up.
const CLIENTS: usize = 60;

#[tokio::test]
async fn no_answer_is_a_5xx_or_one_that_the_reference_does_not_have() {
    let _turn = own_cluster_turn().await;
    let token = "the-token-of-schemathesis";
    let cluster = Cluster::start_with(1, Plan { token: Some(token.into()), ..Plan::default() }).await;
    let node = &cluster.nodes[0];
    // It makes up tokens too, more than admin.token would be looked at after.
    let made = node.admin().post("/api/v1/tokens", &json!({"name": "schemathesis", "role": "admin"})).await;
    let token = made.expect(201).json()["token"].as_str().expect("its text").to_owned();
    let service = Service::start().await;
    let wanted = with(document(&unique_path("fuzzed"), &all_routes_to(&service)), "name", json!("A shop"));
    let endpoint = cluster.create(&wanted).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect_known(node, &endpoint.path, &service).await);
    }
    let ids: Vec<&str> = clients.iter().map(|(_, visit)| visit.id.as_str()).collect();

    let seed = std::env::var(SEED).unwrap_or_else(|_| rand::random_range(0..1_000_000).to_string());
    let examples = std::env::var(EXAMPLES).unwrap_or_else(|_| EXAMPLES_DEFAULT.to_owned());
    println!("{SEED}={seed} {EXAMPLES}={examples}");
    let mut command = Command::new(std::path::Path::new(python().await).with_file_name("schemathesis"));
    command
        .current_dir(run_folder())
        .args(["--config-file", &format!("{ROOT}/tests/python/schemathesis.toml"), "--no-color"])
        .args(["run", &format!("http://{}/api/openapi.json", node.admin)])
        // It finds out the node's id, and has it leave; `healing.rs` looks at that call.
        .args(["--exclude-operation-id", "drainNode"])
        // A stream that has no end: `observe.rs` looks at that.
        .args(["--exclude-operation-id", "live"])
        .args(["--seed", &seed, "--max-examples", &examples, "--header", &format!("Authorization: Bearer {token}")])
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("PYTHONPATH", format!("{ROOT}/tests/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("WSGATEWAY_CONNECTIONS", ids.join(","))
        .env("WSGATEWAY_ENDPOINTS", &endpoint.id);
    let said = ended(command, "schemathesis", WITHIN).await;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let summary = said.rfind("SUMMARY").map_or(said.as_str(), |at| &said[at..]);
    println!("{summary}");

    // The node is as well as before.
    assert!(node.exited().is_none(), "{}", node.log_tail());
    node.admin().get("/readyz").await.expect(200);
    let log = node.log();
    assert!(!log.contains("panicked"), "{}", node.log_tail());
}
