//! Connections: push, describe, close, from any node to any node.

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{web, HttpRequest, HttpResponse};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{json, Map, Value};

use super::body::read_body;
use super::change::note;
use super::operation::{Operation, JSON};
use super::problem::Problem;
use super::request::{idempotency_key, query};
use super::Api;
use crate::backends::event::rfc3339;
use crate::close_code::REMOVED_BY_OPERATOR;
use crate::config::findings::Finding;
use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{CloseCause, ConnectionView, Initiator};
use crate::model::json_check::validate_json;
use crate::model::receipt::{Confirm, PushOptions};
use crate::telemetry::metrics::PushLabels;

/// The answer to a push that is in its connection's socket or outbox.
const QUEUED: &[u8] = b"{\"status\":\"queued\"}";
const WRITTEN: &[u8] = b"{\"status\":\"written\"}";
const CONFIRMED: &[u8] = b"{\"status\":\"confirmed\"}";

/// How long a confirmation is waited for; a caller that keeps its call open for longer holds a place of the node's links.
const CONFIRM_SECONDS_DEFAULT: u32 = 10;
const CONFIRM_SECONDS_MAX: u32 = 30;
/// A day: outboxes are no stores.
const TTL_SECONDS_MAX: u32 = 86_400;

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
            .header("Idempotency-Key")
            .answers::<PushedBody>(202, "In the client's socket or its outbox; no receipt of the client")
            .answers::<PushedBody>(200, "As far as was waited for: written, or confirmed by the client")
            .problems(400, &["malformed_connection_id", "invalid_json", "invalid_idempotency_key", "invalid_header"])
            .problems(504, &["not_written", "not_confirmed", "expired"])
            .problem(429, "too_many_unconfirmed")
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PushQuery {
    /// What is waited for: queued (default): it is in the client's socket or outbox; written: its last byte is in the
    /// socket; client: the client has confirmed it.
    confirm: Option<ConfirmBy>,
    /// How long that is waited for; default 10.
    #[schemars(range(min = 1, max = 30))]
    timeout_seconds: Option<u32>,
    /// A message that has waited for so long is not sent any more.
    #[schemars(range(min = 1, max = 86400))]
    ttl_seconds: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum ConfirmBy {
    Queued,
    Written,
    Client,
}

/// How far a message has come; never made, the texts are constants.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[allow(dead_code, reason = "described, never made")]
enum Status {
    Queued,
    Written,
    Confirmed,
}

#[derive(JsonSchema)]
#[schemars(rename = "Pushed")]
#[allow(dead_code, reason = "described, never made")]
struct PushedBody {
    status: Status,
}

/// What a request wants of its push; None: nothing but that it is queued, as nearly all do.
fn wishes(request: &HttpRequest) -> Result<Option<PushOptions>, Problem> {
    let text = request.query_string();
    if matches!(text, "" | "confirm=queued") && !request.headers().contains_key("idempotency-key") {
        return Ok(None);
    }
    let asked: PushQuery = query(request)?;
    let seconds = asked.timeout_seconds.unwrap_or(CONFIRM_SECONDS_DEFAULT);
    for (name, value, max) in
        [("timeoutSeconds", Some(seconds), CONFIRM_SECONDS_MAX), ("ttlSeconds", asked.ttl_seconds, TTL_SECONDS_MAX)]
    {
        if let Some(value) = value.filter(|value| !(1..=max).contains(value)) {
            let message = format!("must be 1–{max}, is {value}");
            return Err(Problem::invalid("invalid_query", vec![Finding { path: name.to_owned(), message }]));
        }
    }
    Ok(Some(PushOptions {
        confirm: match asked.confirm {
            None | Some(ConfirmBy::Queued) => Confirm::Queued,
            Some(ConfirmBy::Written) => Confirm::Written,
            Some(ConfirmBy::Client) => Confirm::Client,
        },
        wait_millis: seconds * 1_000,
        ttl_millis: asked.ttl_seconds.map(|seconds| seconds * 1_000),
        idempotency_key: idempotency_key(request)?.map(str::to_owned),
    }))
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
    push(&api, &cid, body.into_inner(), &request).await
}

/// `POST /connections/{cid}`, called by the shortcut.
pub(super) async fn push(
    api: &Api,
    cid: &str,
    payload: Payload,
    request: &HttpRequest,
) -> Result<HttpResponse, Problem> {
    let json = |status: u16, body| {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        HttpResponse::build(status).content_type(JSON).body(Bytes::from_static(body))
    };
    let options = match wishes(request) {
        Ok(Some(options)) => options,
        Ok(None) => {
            send(api, cid, payload).await?;
            return Ok(json(202, QUEUED));
        }
        Err(problem) => {
            // An unread rest would cost the caller its connection.
            let _unwanted = read_body(payload, api.settings.push_bytes_max).await;
            api.metrics.pushes.get_or_create(&PushLabels { result: "invalid" }).inc();
            return Err(problem);
        }
    };
    let pushed = match checked(api, cid, payload).await {
        Ok((id, body)) => api.pushes.push_with(&id, body, options).await.map_err(|err| (err.result(), err.into())),
        Err(problem) => Err(("invalid", problem)),
    };
    match pushed {
        Ok(Confirm::Queued) => {
            api.pushes_queued.inc();
            Ok(json(202, QUEUED))
        }
        Ok(Confirm::Written) => {
            api.metrics.pushes.get_or_create(&PushLabels { result: "written" }).inc();
            Ok(json(200, WRITTEN))
        }
        Ok(Confirm::Client) => {
            api.metrics.pushes.get_or_create(&PushLabels { result: "confirmed" }).inc();
            Ok(json(200, CONFIRMED))
        }
        Err((result, problem)) => {
            api.metrics.pushes.get_or_create(&PushLabels { result }).inc();
            Err(problem)
        }
    }
}

/// Reads a push and carries it out; counted, whatever becomes of it.
pub(super) async fn send(api: &Api, cid: &str, payload: Payload) -> Result<(), Problem> {
    let pushed = match checked(api, cid, payload).await {
        Ok((id, body)) => api.pushes.push(&id, body).await.map_err(|err| (err.result(), err.into())),
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

/// Reads a push: whom it is for, and a message that is JSON.
async fn checked(api: &Api, cid: &str, payload: Payload) -> Result<(ConnectionId, Bytes), Problem> {
    let body = read_body(payload, api.settings.push_bytes_max).await?;
    let id = connection_id(cid)?;
    validate_json(&body)
        .map_err(|fault| Problem::new(400, "invalid_json", format!("the message is not JSON: {fault}")))?;
    Ok((id, body))
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
