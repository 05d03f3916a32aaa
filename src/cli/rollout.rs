//! `--wait`: until what was changed is everywhere.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;

use super::api::{encoded, text, Api};

/// How long `--wait` waits for the slowest node.
const ROLLOUT_WITHIN: Duration = Duration::from_secs(60);
/// One question; shorter than a call may take.
const ASK_SECONDS: u64 = 25;

/// Until every live node serves the endpoint's active version; a sentence about how many those are.
pub async fn wait_for_endpoint(api: &Api, id: &str, path: &str) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        let left = ROLLOUT_WITHIN.saturating_sub(began.elapsed()).as_secs().clamp(1, ASK_SECONDS);
        let target = format!("/api/v1/endpoints/{}/rollout?wait=all&timeoutSeconds={left}", encoded(id));
        let rollout = api.get(&target).await?;
        let nodes = rollout["nodes"].as_array().cloned().unwrap_or_default();
        if rollout["complete"] == true {
            let (live, down) = (nodes.iter().filter(|node| node["live"] == true).count(), names(&rollout["down"]));
            let down = if down.is_empty() { down } else { format!("; down, and without it: {down}") };
            return Ok(format!("{live} live nodes have it{down}"));
        }
        let behind: Vec<&Value> =
            nodes.iter().filter(|node| node["live"] == true && node["complete"] != true).collect();
        if behind.iter().all(|node| !node["degraded"].is_null()) || began.elapsed() > ROLLOUT_WITHIN {
            let after = began.elapsed().as_secs();
            bail!(
                "{path}: changed, but after {after} s not on {}",
                behind.iter().map(|it| reason(it)).collect::<Vec<_>>().join("; ")
            );
        }
    }
}

fn names(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn reason(node: &Value) -> String {
    let name = node["node"].as_str().unwrap_or_else(|| text(node, "nodeId"));
    match node["degraded"].as_str().or(node["unreachable"].as_str()) {
        Some(reason) => format!("{name} ({reason})"),
        None => name.to_owned(),
    }
}

/// Until every live node has applied what the node that answers has, by what the nodes gossip.
pub async fn wait_for_all(api: &Api) -> anyhow::Result<String> {
    let began = Instant::now();
    let mut index = None;
    loop {
        let cluster = api.get("/api/v1/cluster").await?;
        let wanted = *index.get_or_insert(cluster["raft"]["appliedIndex"].as_u64().unwrap_or(0));
        let nodes = cluster["nodes"].as_array().cloned().unwrap_or_default();
        let live: Vec<_> = nodes.iter().filter(|node| node["live"] == true).collect();
        let behind: Vec<_> = live.iter().filter(|node| node["appliedIndex"].as_u64().unwrap_or(0) < wanted).collect();
        if behind.is_empty() {
            return Ok(format!("{} live nodes have it", live.len()));
        }
        if began.elapsed() > ROLLOUT_WITHIN {
            let names: Vec<_> = behind.iter().map(|node| text(node, "name")).collect();
            bail!("changed, but after {} s not on {}", ROLLOUT_WITHIN.as_secs(), names.join(", "));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
