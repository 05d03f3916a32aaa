//! Nodes as a whole: drain one, remove one.

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Deserialize;
use wsgateway_raft_store::types::Authorship;

use super::change::note;
use super::operation::Operation;
use super::problem::Problem;
use super::request::{checked_message, query};
use super::Api;
use crate::nodes::NodesError;

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/api/v1/cluster/nodes/{id}/drain", || web::to(drain), "drainNode")
            .about(
                "Have a node leave in order",
                "As SIGTERM does: its connections are closed with 1012 over its `node.drain_seconds`, what is under way \
                 is finished, leadership handed over; then its process ends. It stays a member and may come back.",
            )
            .query::<WhyQuery>()
            .answers_empty(202, "It leaves")
            .problem(404, "node_not_found")
            .problem(503, "node_unreachable"),
        Operation::delete("/api/v1/cluster/nodes/{id}", || web::to(remove), "removeNode")
            .about(
                "Remove a node for good",
                "Without waiting until it has been silent for `cluster.remove_dead_after_seconds`. Another node takes \
                 its vote; if it lives, it is told, leaves and does not start again with its data.",
            )
            .query::<WhyQuery>()
            .answers_empty(202, "It is recorded as removed")
            .problem(404, "node_not_found")
            .problem(409, "node_needed")
            .problems(503, &["no_leader", "outcome_unknown", "storage_failed"])
            .problem(507, "disk_full"),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WhyQuery {
    /// Why; for the audit log.
    message: Option<String>,
}

fn why(request: &HttpRequest) -> Result<String, Problem> {
    let message = query::<WhyQuery>(request)?.message.unwrap_or_default();
    checked_message(&message)?;
    Ok(message)
}

async fn drain(api: web::Data<Api>, request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let note = note(&api, &request, &why(&request)?)?;
    api.nodes.drain(&id).await?;
    api.audit.record(note);
    Ok(HttpResponse::Accepted().finish())
}

async fn remove(api: web::Data<Api>, request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let message = why(&request)?;
    let note = note(&api, &request, &message)?;
    let by = Authorship { author: note.author.clone(), message, at: note.at };
    api.nodes.remove(&id, by, note.text()).await?;
    Ok(HttpResponse::Accepted().finish())
}

impl From<NodesError> for Problem {
    fn from(err: NodesError) -> Problem {
        let detail = err.to_string();
        match err {
            NodesError::NotFound(_) => Problem::new(404, "node_not_found", detail),
            NodesError::Needed { .. } => Problem::new(409, "node_needed", detail),
            NodesError::Unreachable { .. } => Problem::new(503, "node_unreachable", detail),
            NodesError::Propose(err) => err.into(),
            NodesError::Rejected(_) => Problem::new(409, "node_needed", detail),
        }
    }
}
