//! How far the active version of an endpoint has come, node by node.

use std::time::Duration;

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::Operation;
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::config::rollout::{NodeRollout, Rollout};

const TIMEOUT_SECONDS_DEFAULT: u64 = 10;
/// A caller's own patience, and that of what stands between, is rarely longer.
const TIMEOUT_SECONDS_MAX: u64 = 30;

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/v1/endpoints/{id}/rollout", || web::to(rollout), "getRollout")
        .about(
            "What each node serves",
            "With `wait`, once every live node serves the active version, or as far as they came in the time.",
        )
        .query::<RolloutQuery>()
        .answers::<RolloutBody>(200, "Node by node")
        .problem(404, "endpoint_not_found")
        .problems(503, &["no_leader", "outcome_unknown", "storage_failed"])]
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RolloutQuery {
    /// For whom to wait.
    wait: Option<Wait>,
    /// Goes with `wait`; default 10.
    #[schemars(range(min = 1, max = 30))]
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Wait {
    All,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Rollout")]
struct RolloutBody {
    id: String,
    active_version: Option<u64>,
    latest_version: u64,
    /// The log index of the endpoint's last change.
    index: u64,
    /// Every live node serves the active version.
    complete: bool,
    /// Nodes of the cluster that are not live.
    down: Vec<String>,
    nodes: Vec<NodeBody>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "NodeRollout")]
struct NodeBody {
    node: Option<String>,
    node_id: String,
    live: bool,
    complete: bool,
    applied_index: Option<u64>,
    active_version: Option<u64>,
    latest_version: Option<u64>,
    degraded: Option<String>,
    unreachable: Option<String>,
}

fn node_body(node: NodeRollout) -> NodeBody {
    let (served, unreachable) = match node.served {
        Ok(served) => (Some(served), None),
        Err(reason) => (None, Some(reason)),
    };
    NodeBody {
        node: node.name,
        node_id: format!("{:016x}", node.node_id),
        live: node.live,
        complete: node.complete,
        applied_index: served.as_ref().map(|served| served.applied_index),
        active_version: served.as_ref().and_then(|served| served.version),
        latest_version: served.as_ref().and_then(|served| served.latest_version),
        degraded: served.and_then(|served| served.degraded),
        unreachable,
    }
}

fn body(rollout: Rollout) -> RolloutBody {
    let complete = rollout.is_complete();
    let nodes: Vec<_> = rollout.nodes.into_iter().map(node_body).collect();
    let name = |node: &NodeBody| node.node.clone().unwrap_or_else(|| node.node_id.clone());
    RolloutBody {
        id: rollout.head.id,
        active_version: Some(rollout.head.active_version).filter(|version| *version > 0),
        latest_version: rollout.head.latest_version,
        index: rollout.head.modified_index,
        complete,
        down: nodes.iter().filter(|node| !node.live).map(name).collect(),
        nodes,
    }
}

async fn rollout(api: web::Data<Api>, request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let options: RolloutQuery = query(&request)?;
    let invalid = |detail: String| Problem::new(400, "invalid_query", detail);
    let rollout = match (options.wait, options.timeout_seconds) {
        (None, None) => api.rollouts.of(&id).await?,
        (None, Some(_)) => return Err(invalid("timeoutSeconds: goes with wait=all only".to_owned())),
        (Some(Wait::All), seconds) => {
            let seconds = seconds.unwrap_or(TIMEOUT_SECONDS_DEFAULT);
            if !(1..=TIMEOUT_SECONDS_MAX).contains(&seconds) {
                return Err(invalid(format!("timeoutSeconds must be 1–{TIMEOUT_SECONDS_MAX}, is {seconds}")));
            }
            api.rollouts.wait(&id, Duration::from_secs(seconds)).await?
        }
    };
    Ok(HttpResponse::Ok().json(body(rollout)))
}
