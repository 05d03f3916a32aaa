//! Sends a dead letter again: `POST /api/v1/endpoints/{id}/replay`.

use actix_web::{web, HttpResponse};
use futures::future::LocalBoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::body::read_body;
use super::operation::{Operation, JSON};
use super::problem::Problem;
use super::Api;
use crate::config::findings::Finding;
use crate::model::dead_letter::{Letter, Resent};

/// The largest message of a client twice over, since a body's quotes are escaped here, and its attributes.
const BODY_BYTES_MAX: usize = 2 * 16 * 1024 * 1024 + 64 * 1024;

/// Who sends events again; app has one.
pub trait Replays: Send + Sync {
    fn resend(&self, endpoint_id: String, event: Resent) -> LocalBoxFuture<'static, Replayed>;
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    Delivered {
        status: Option<u16>,
    },
    Failed {
        outcome: &'static str,
        status: Option<u16>,
        reason: String,
    },
    NoEndpoint,
    /// The endpoint's active version has no backend of that label.
    NoBackend,
    /// The thread carries no connections.
    NotHere,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Replayed")]
struct ReplayedBody {
    event_id: String,
    backend: String,
    /// delivered, or the outcome that the metrics count.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub fn operations() -> Vec<Operation> {
    let example = json!({"attributes": {"id": "01JD0000000000000000000000", "type": "io.wsgateway.message",
        "time": "2026-01-01T00:00:00.000Z", "sequence": "7", "connectionid": "AWCg6Txq", "deadletterbackend": "default/orders/0"},
        "data": "{\"action\": \"buy\"}"});
    vec![Operation::post("/api/v1/endpoints/{id}/replay", || web::to(replay), "replayEvent")
        .about(
            "Send a dead letter again",
            "To the backend that has not taken it, with the same id, attributes and body. The answer says what became of it.",
        )
        .body::<Letter>(&[JSON], example)
        .answers::<ReplayedBody>(200, "The outcome, also of a delivery that failed again")
        .problem(400, "invalid_letter")
        .problems(404, &["endpoint_not_found", "backend_not_found"])
        .problem(503, "not_ready")]
}

fn invalid(path: String, message: String) -> Problem {
    Problem::invalid("invalid_letter", vec![Finding { path, message }])
}

async fn replay(api: web::Data<Api>, id: web::Path<String>, body: web::Payload) -> Result<HttpResponse, Problem> {
    let body = read_body(body.into_inner(), BODY_BYTES_MAX).await?;
    let mut deserializer = serde_json::Deserializer::from_slice(&body);
    let letter: Letter = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|err| invalid(err.path().to_string().trim_start_matches('.').to_owned(), err.inner().to_string()))?;
    deserializer.end().map_err(|err| invalid(String::new(), err.to_string()))?;
    let event = letter.event().map_err(|err| invalid(format!("attributes.{}", err.name()), err.to_string()))?;
    let (event_id, backend) = (event.id.to_string(), event.backend.clone());
    let answer = |outcome, status, reason| {
        HttpResponse::Ok().json(ReplayedBody { event_id, backend: backend.clone(), outcome, status, reason })
    };
    match api.replays.resend(id.into_inner(), event).await {
        Replayed::Delivered { status } => Ok(answer("delivered", status, None)),
        Replayed::Failed { outcome, status, reason } => Ok(answer(outcome, status, Some(reason))),
        Replayed::NoEndpoint => Err(Problem::new(404, "endpoint_not_found", "this node serves no such endpoint")),
        Replayed::NoBackend => Err(Problem::new(
            404,
            "backend_not_found",
            format!("the endpoint's active version has no backend {backend:?} for events of this type"),
        )),
        Replayed::NotHere => Err(Problem::new(503, "not_ready", "this node does not serve clients yet")),
    }
}
