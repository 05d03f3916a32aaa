//! Connections: push, describe, close, from any node to any node.

use actix_web::dev::Payload;
use actix_web::{web, HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::Api;
use crate::backends::event::rfc3339;
use crate::close_code::REMOVED_BY_OPERATOR;
use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{CloseCause, Initiator};
use crate::model::json_check::validate_json;
use crate::telemetry::metrics::PushLabels;

/// The answer to a push that is in its connection's socket or outbox.
const QUEUED: &[u8] = b"{\"status\":\"queued\"}";

pub fn routes(scope: &mut web::ServiceConfig) {
    scope.service(web::resource("/connections/{cid}").route(web::get().to(describe)).route(web::delete().to(close)));
}

fn connection_id(text: &str) -> Result<ConnectionId, Problem> {
    text.parse().map_err(|err| Problem::new(400, "malformed_connection_id", format!("{text:?}: {err}")))
}

/// Reads the whole body, also one that is too long: an unread rest would cost the caller its connection.
async fn read_body(mut payload: Payload, max: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    let mut total = 0;
    let mut only = None;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|err| Problem::new(400, "invalid_body", err.to_string()))?;
        total += chunk.len();
        if total > max.saturating_mul(64) {
            break; // this is no mistake any more
        }
        if total <= max {
            match only.take() {
                None if body.is_empty() => only = Some(chunk),
                None => body.extend_from_slice(&chunk),
                Some(first) => {
                    body.extend_from_slice(&first);
                    body.extend_from_slice(&chunk);
                }
            }
        }
    }
    if total > max {
        return Err(Problem::new(413, "message_too_big", format!("a message may have {max} bytes, this has {total}")));
    }
    Ok(only.unwrap_or_else(|| body.freeze()))
}

/// `POST /connections/{cid}`, called by the shortcut.
pub(super) async fn push(api: &Api, cid: &str, payload: Payload, query: &str) -> Result<HttpResponse, Problem> {
    let body = read_body(payload, api.settings.push_bytes_max).await;
    let pushed = match body {
        Ok(body) => push_body(api, cid, body, query).await,
        Err(problem) => Err(("invalid", problem)),
    };
    match pushed {
        Ok(()) => {
            api.pushes_queued.inc();
            Ok(HttpResponse::Accepted().content_type("application/json").body(Bytes::from_static(QUEUED)))
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionBody {
    id: String,
    endpoint: String,
    path: String,
    node: String,
    connected_at: String,
    last_active_at: String,
    identity: IdentityBody,
    events_in: u64,
    events_out: u64,
    pending_bytes: usize,
    in_flight: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdentityBody {
    user: Option<String>,
    source_ip: String,
    user_agent: Option<String>,
}

async fn describe(api: web::Data<Api>, cid: web::Path<String>) -> Result<HttpResponse, Problem> {
    let view = api.pushes.describe(&connection_id(&cid)?).await?;
    Ok(HttpResponse::Ok().json(ConnectionBody {
        id: view.id,
        endpoint: view.endpoint,
        path: view.path,
        node: view.node,
        connected_at: rfc3339(view.connected_at_millis),
        last_active_at: rfc3339(view.last_active_at_millis),
        identity: IdentityBody { user: view.user, source_ip: view.source_ip, user_agent: view.user_agent },
        events_in: view.events_in,
        events_out: view.events_out,
        pending_bytes: view.pending_bytes,
        in_flight: view.in_flight,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseQuery {
    code: Option<u16>,
    reason: Option<String>,
}

async fn close(api: web::Data<Api>, cid: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = connection_id(&cid)?;
    let options = web::Query::<CloseQuery>::from_query(request.query_string())
        .map_err(|err| Problem::new(400, "invalid_query", err.to_string()))?
        .into_inner();
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
    api.pushes.close(&id, CloseCause { code, reason, initiator: Initiator::Service }).await?;
    Ok(HttpResponse::NoContent().finish())
}
