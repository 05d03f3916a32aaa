//! Pushes to many at once: all connections of a user, in a group, or of an endpoint, on all nodes, narrowed down by a
//! condition over their descriptions.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use super::body::read_body;
use super::operation::{Operation, JSON};
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::config::compile::connection_filter;
use crate::model::delivery::{Recipients, Selection};
use crate::model::json_check::validate_json;
use crate::push::{Reached, Unreached};
use crate::telemetry::metrics::{BroadcastLabels, BroadcastMessageLabels};

/// A node whose link breaks at this moment is back by then; who waits for the answer should not wait long.
const PATIENCE: Duration = Duration::from_millis(250);

pub fn operations() -> Vec<Operation> {
    let pushes = |operation: Operation| {
        operation
            .body::<Value>(&[JSON], json!({"news": "we open at nine"}))
            .answers::<ReachedBody>(202, "In the sockets or outboxes of those that are queued; no receipt of clients")
            .problem(400, "invalid_json")
            .problem(503, "nodes_unreachable")
    };
    let all = "All its connections on all nodes, of every endpoint or of one. Nobody there is no error: matched is 0.";
    vec![
        pushes(Operation::post("/api/v1/users/{user}", || web::to(to_user), "pushToUser").about("Push to a user", all))
            .query::<ManyQuery>(),
        pushes(
            Operation::post("/api/v1/groups/{group}", || web::to(to_group), "pushToGroup")
                .about("Push to a group", all),
        )
        .query::<ManyQuery>()
        .problem(400, "invalid_group"),
        pushes(
            Operation::post("/api/v1/endpoints/{id}/broadcast", || web::to(broadcast), "broadcast")
                .about("Push to all connections of an endpoint", "On all nodes."),
        )
        .query::<BroadcastQuery>()
        .problem(404, "endpoint_not_found"),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ManyQuery {
    /// Only connections of the endpoint with this id.
    endpoint: Option<String>,
    /// An expression of the endpoint documents' language over the connection, as JSON.
    #[schemars(length(max = 4096))]
    filter: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BroadcastQuery {
    /// An expression of the endpoint documents' language over the connection, as JSON.
    #[schemars(length(max = 4096))]
    filter: Option<String>,
}

/// What a message for many has reached.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Reached")]
pub(super) struct ReachedBody {
    /// Connections that it was for.
    matched: u64,
    /// Those in whose socket or outbox it is.
    queued: u64,
    /// Nodes that have answered.
    nodes: u64,
    /// Why the other matched ones have not got it: `outboxFull`, `tooBig`, `gone`, `transformFailed`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    missed: BTreeMap<&'static str, u64>,
    /// Nodes that could not be asked: their connections are not counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreachable: Vec<UnreachedBody>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Unreached")]
pub(super) struct UnreachedBody {
    node: String,
    reason: String,
    /// Its connections may have got the message all the same.
    perhaps: bool,
}

impl From<Unreached> for UnreachedBody {
    fn from(missed: Unreached) -> UnreachedBody {
        UnreachedBody { node: missed.node, reason: missed.reason, perhaps: missed.perhaps }
    }
}

impl ReachedBody {
    fn of(reached: Reached) -> ReachedBody {
        let tally = reached.tally;
        let missed = [
            ("outboxFull", tally.full),
            ("tooBig", tally.too_big),
            ("gone", tally.gone),
            ("transformFailed", tally.transform_failed),
        ];
        ReachedBody {
            matched: tally.matched(),
            queued: tally.queued,
            nodes: reached.nodes,
            missed: missed.into_iter().filter(|(_, count)| *count > 0).collect(),
            unreachable: reached.unreachable.into_iter().map(UnreachedBody::from).collect(),
        }
    }
}

async fn to_user(
    api: web::Data<Api>,
    request: HttpRequest,
    user: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let to = Recipients::User(user.into_inner());
    let asked =
        query::<ManyQuery>(&request).map(|asked| Selection { endpoint: asked.endpoint, to, filter: asked.filter });
    push(&api, asked, body).await
}

async fn to_group(
    api: web::Data<Api>,
    request: HttpRequest,
    group: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let asked = query::<ManyQuery>(&request).and_then(|asked| {
        let to = Recipients::Group(super::groups_api::group_name(&group)?.to_owned());
        Ok(Selection { endpoint: asked.endpoint, to, filter: asked.filter })
    });
    push(&api, asked, body).await
}

async fn broadcast(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let asked = query::<BroadcastQuery>(&request).and_then(|asked| {
        let id = id.into_inner();
        if api.config.registry().by_id(&id).is_none() {
            return Err(Problem::new(
                404,
                "endpoint_not_found",
                format!("there is no endpoint {id:?}, or it is a draft"),
            ));
        }
        Ok(Selection { endpoint: Some(id), to: Recipients::All, filter: asked.filter })
    });
    push(&api, asked, body).await
}

/// The whole call, counted whatever becomes of it. The body is read in any case: an unread rest would cost the caller its
/// connection.
async fn push(api: &Api, asked: Result<Selection, Problem>, body: web::Payload) -> Result<HttpResponse, Problem> {
    let body = read_body(body.into_inner(), api.settings.push_bytes_max).await;
    let checked = asked.and_then(|selection| {
        if let Some(filter) = &selection.filter {
            connection_filter::compile(filter, "filter").map_err(|errors| Problem::invalid("invalid_query", errors))?;
        }
        let body = body?;
        let not_json = |fault| Problem::new(400, "invalid_json", format!("the message is not JSON: {fault}"));
        validate_json(&body).map_err(not_json)?;
        Ok((selection, body))
    });
    let (selection, body) = checked.inspect_err(|_| count(api, "invalid"))?;
    let reached = reach(api, &selection, body).await?;
    Ok(HttpResponse::Accepted().json(reached))
}

/// Carries out a checked push, and counts it. Nobody was found and some nodes could not be asked: 503, for then the message
/// has reached no one for sure.
pub(super) async fn reach(api: &Api, selection: &Selection, message: bytes::Bytes) -> Result<ReachedBody, Problem> {
    let reached = api.pushes.push_many(selection, message, PATIENCE).await;
    let tally = &reached.tally;
    for (outcome, number) in [
        ("queued", tally.queued),
        ("outbox_full", tally.full),
        ("too_big", tally.too_big),
        ("gone", tally.gone),
        ("transform_failed", tally.transform_failed),
    ] {
        if number > 0 {
            api.metrics.broadcast_messages.get_or_create(&BroadcastMessageLabels { outcome }).inc_by(number);
        }
    }
    api.metrics.broadcast_nodes_missed.inc_by(reached.unreachable.len() as u64);
    let nobody = tally.matched() == 0;
    let result = match (reached.unreachable.is_empty(), nobody) {
        (true, true) => "nobody",
        (true, false) => "queued",
        (false, true) => "unreachable",
        (false, false) => "partial",
    };
    count(api, result);
    if result == "unreachable" {
        let missed: Vec<String> = reached
            .unreachable
            .iter()
            .map(|missed| {
                let perhaps = if missed.perhaps { "; it may have the message" } else { "" };
                format!("{} ({}{perhaps})", missed.node, missed.reason)
            })
            .collect();
        let detail = format!("no connection was found, and these nodes cannot be asked: {}", missed.join(", "));
        return Err(Problem::new(503, "nodes_unreachable", detail));
    }
    Ok(ReachedBody::of(reached))
}

fn count(api: &Api, result: &'static str) {
    api.metrics.broadcasts.get_or_create(&BroadcastLabels { result }).inc();
}
