//! Connections: push, describe, close, from any node to any node.

use actix_web::dev::Payload;
use actix_web::{web, HttpRequest, HttpResponse};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{json, Map, Value};

use super::body::read_body;
use super::change::note;
use super::operation::{Operation, JSON};
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::backends::event::rfc3339;
use crate::close_code::REMOVED_BY_OPERATOR;
use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{CloseCause, ConnectionView, Initiator};
use crate::model::json_check::validate_json;
use crate::telemetry::metrics::PushLabels;

/// The answer to a push that is in its connection's socket or outbox.
const QUEUED: &[u8] = b"{\"status\":\"queued\"}";

const PATH: &str = "/api/v1/connections/{cid}";

pub fn operations() -> Vec<Operation> {
    let unreachable = &["owner_unreachable", "overloaded"];
    vec![
        Operation::post(PATH, || web::to(push_routed), "pushToConnection")
            .about(
                "Push to a connection",
                "The body is any JSON; it travels to the client byte for byte, as one message.",
            )
            .query::<PushQuery>()
            .body::<Value>(&[JSON], json!({"order": 1234}))
            .answers::<PushedBody>(202, "In the client's socket or its outbox; no receipt of the client")
            .problems(400, &["malformed_connection_id", "invalid_json"])
            .problem(410, "connection_gone")
            .problem(413, "message_too_big")
            .problem(422, "transform_failed")
            .problem(429, "outbox_full")
            .problems(503, unreachable),
        Operation::get(PATH, || web::to(describe), "getConnection")
            .about("Look at a connection", "")
            .answers::<ConnectionBody>(200, "The connection")
            .problem(400, "malformed_connection_id")
            .problem(410, "connection_gone")
            .problems(503, unreachable),
        Operation::delete(PATH, || web::to(close), "closeConnection")
            .about("Close a connection", "")
            .query::<CloseQuery>()
            .answers_empty(204, "Closed")
            .problem(400, "malformed_connection_id")
            .problem(410, "connection_gone")
            .problems(503, unreachable),
    ]
}

/// The reference's words for what [`push`] looks at and answers; neither is worth a parser on that path.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "described, never made")]
struct PushQuery {
    /// What is waited for.
    confirm: Option<Confirm>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[allow(dead_code, reason = "described, never made")]
enum Confirm {
    Queued,
}

#[derive(JsonSchema)]
#[schemars(rename = "Pushed")]
#[allow(dead_code, reason = "described, never made")]
struct PushedBody {
    status: Confirm,
}

pub(super) fn connection_id(text: &str) -> Result<ConnectionId, Problem> {
    text.parse().map_err(|err| Problem::new(400, "malformed_connection_id", format!("{text:?}: {err}")))
}

/// What the shortcut leaves to the router: ids that are percent-encoded.
async fn push_routed(
    api: web::Data<Api>,
    request: HttpRequest,
    cid: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    push(&api, &cid, body.into_inner(), request.query_string()).await
}

/// `POST /connections/{cid}`, called by the shortcut.
pub(super) async fn push(api: &Api, cid: &str, payload: Payload, query: &str) -> Result<HttpResponse, Problem> {
    send(api, cid, payload, query).await?;
    Ok(HttpResponse::Accepted().content_type("application/json").body(Bytes::from_static(QUEUED)))
}

/// Reads a push and carries it out; counted, whatever becomes of it.
pub(super) async fn send(api: &Api, cid: &str, payload: Payload, query: &str) -> Result<(), Problem> {
    let body = read_body(payload, api.settings.push_bytes_max).await;
    let pushed = match body {
        Ok(body) => push_body(api, cid, body, query).await,
        Err(problem) => Err(("invalid", problem)),
    };
    counted(api, pushed)
}

/// A message that has been checked, for a connection; counted.
pub(super) async fn push_message(api: &Api, id: &ConnectionId, message: Bytes) -> Result<(), Problem> {
    let pushed = api.pushes.push(id, message).await;
    counted(api, pushed.map_err(|err| (err.result(), err.into())))
}

fn counted(api: &Api, pushed: Result<(), (&'static str, Problem)>) -> Result<(), Problem> {
    match pushed {
        Ok(()) => {
            api.pushes_queued.inc();
            Ok(())
        }
        Err((result, problem)) => {
            api.metrics.pushes.get_or_create(&PushLabels { result }).inc();
            Err(problem)
        }
    }
}

async fn push_body(api: &Api, cid: &str, body: Bytes, query: &str) -> Result<(), (&'static str, Problem)> {
    let invalid = |problem| ("invalid", problem);
    let id = connection_id(cid).map_err(invalid)?;
    if !matches!(query, "" | "confirm=queued") {
        let detail = format!("?{query}: only confirm=queued is supported by this build");
        return Err(invalid(Problem::new(400, "invalid_query", detail)));
    }
    validate_json(&body)
        .map_err(|fault| invalid(Problem::new(400, "invalid_json", format!("the message is not JSON: {fault}"))))?;
    api.pushes.push(&id, body).await.map_err(|err| (err.result(), err.into()))
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Connection")]
pub(super) struct ConnectionBody {
    id: String,
    endpoint: String,
    path: String,
    node: String,
    connected_at: String,
    last_active_at: String,
    identity: IdentityBody,
    groups: Vec<String>,
    tags: Option<Map<String, Value>>,
    events_in: u64,
    events_out: u64,
    pending_bytes: usize,
    in_flight: u32,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Identity")]
struct IdentityBody {
    user: Option<String>,
    source_ip: String,
    user_agent: Option<String>,
}

async fn describe(api: web::Data<Api>, cid: web::Path<String>) -> Result<HttpResponse, Problem> {
    let view = api.pushes.describe(&connection_id(&cid)?).await?;
    Ok(HttpResponse::Ok().json(ConnectionBody::from(view)))
}

impl From<ConnectionView> for ConnectionBody {
    fn from(view: ConnectionView) -> ConnectionBody {
        ConnectionBody {
            id: view.id,
            endpoint: view.endpoint,
            path: view.path,
            node: view.node,
            connected_at: rfc3339(view.connected_at_millis),
            last_active_at: rfc3339(view.last_active_at_millis),
            identity: IdentityBody { user: view.user, source_ip: view.source_ip, user_agent: view.user_agent },
            groups: view.groups,
            // Made from a tree: it parses.
            tags: view.tags.and_then(|tags| serde_json::from_str(&tags).ok()),
            events_in: view.events_in,
            events_out: view.events_out,
            pending_bytes: view.pending_bytes,
            in_flight: view.in_flight,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CloseQuery {
    /// 1000, 1008, 1011–1013 or 3000–4999; default 4403.
    #[schemars(range(min = 1000, max = 4999))]
    code: Option<u16>,
    /// Up to 123 bytes.
    #[schemars(length(max = 123))]
    reason: Option<String>,
}

async fn close(api: web::Data<Api>, cid: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = connection_id(&cid)?;
    let options: CloseQuery = query(&request)?;
    let code = options.code.unwrap_or(REMOVED_BY_OPERATOR.code);
    if !matches!(code, 1000 | 1008 | 1011..=1013 | 3000..=4999) {
        return Err(Problem::new(
            400,
            "invalid_query",
            format!("code must be 1000, 1008, 1011–1013 or 3000–4999, is {code}"),
        ));
    }
    let reason = options.reason.unwrap_or_else(|| REMOVED_BY_OPERATOR.reason.to_owned());
    if reason.len() > 123 {
        return Err(Problem::new(400, "invalid_query", format!("reason may have 123 bytes, has {}", reason.len())));
    }
    let note = note(&api, &request, &reason)?;
    api.pushes.close(&id, CloseCause { code, reason, initiator: Initiator::Service }).await?;
    api.audit.record(note);
    Ok(HttpResponse::NoContent().finish())
}
