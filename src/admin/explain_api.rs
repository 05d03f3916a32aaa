//! A dry run of one event: `POST /api/v1/endpoints/{id}/explain`. Nothing is sent and nothing is stored.

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::access::{caller, forbidden};
use super::body::read_body;
use super::openapi::{any_json, document_schema};
use super::operation::{Operation, JSON};
use super::problem::Problem;
use super::Api;
use crate::access::Role;
use crate::config::compile::compile;
use crate::config::secrets::NodeSecrets;
use crate::config::store::ConfigError;
use crate::config::validate::Finding;
use crate::connections::connection::unix_millis;
use crate::explain::{explain, ConnectionInput, Explained, Place};
use crate::model::limits::DOCUMENT_BYTES_MAX;

/// A candidate document, the event and the connection.
const BODY_BYTES_MAX: usize = 2 * DOCUMENT_BYTES_MAX;

pub fn operations() -> Vec<Operation> {
    vec![Operation::post("/api/v1/endpoints/{id}/explain", || web::to(explain_event), "explainEvent")
        .about("What would happen to one event", "A dry run by the code that serves: nothing is sent, nothing is stored.")
        .body::<Question<'_>>(
            &[JSON],
            json!({"event": {"action": "buy", "sku": "A-1"}, "connection": {"params": {"country": "nl"}, "user": "ann"}}),
        )
        .answers::<Explained>(200, "Each step")
        .problems(400, &["invalid_request", "invalid_document"])
        .problem(403, "forbidden")
        .problems(404, &["endpoint_not_found", "version_not_found"])]
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question<'a> {
    /// The event, byte by byte as it stands here.
    #[serde(borrow)]
    #[schemars(schema_with = "any_json")]
    event: Option<&'a RawValue>,
    /// Instead: what a client sends that may be no JSON.
    text: Option<String>,
    #[serde(default)]
    connection: ConnectionInput,
    /// A stored version; default: the active one.
    version: Option<u64>,
    /// Instead: a document that is not stored.
    #[serde(borrow)]
    #[schemars(schema_with = "document_schema")]
    document: Option<&'a RawValue>,
}

fn invalid(path: &str, message: impl Into<String>) -> Problem {
    Problem::invalid("invalid_request", vec![Finding { path: path.to_owned(), message: message.into() }])
}

async fn explain_event(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = read_body(body.into_inner(), BODY_BYTES_MAX).await?;
    let mut deserializer = serde_json::Deserializer::from_slice(&body);
    let question: Question<'_> = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| invalid(error.path().to_string().trim_start_matches('.'), error.inner().to_string()))?;
    deserializer.end().map_err(|error| invalid("", error.to_string()))?;
    let event = match (question.event, &question.text) {
        (Some(event), None) => event.get(),
        (None, Some(text)) => text,
        (None, None) => return Err(invalid("event", "is missing; give an \"event\" or a \"text\"")),
        (Some(_), Some(_)) => return Err(invalid("text", "cannot stand beside an \"event\"")),
    };
    let caller = caller(&request)?;
    if question.document.is_some() && caller.role < Role::Editor {
        return Err(forbidden(&caller, Role::Editor));
    }
    let view = match question.version {
        Some(version) => api.config.version(&id, version)?,
        None => api.config.get(&id)?,
    };
    let (version, text) = match (question.version, question.document) {
        (Some(_), Some(_)) => return Err(invalid("document", "cannot stand beside a \"version\"")),
        (_, None) => (view.version.version, view.version.document),
        (None, Some(candidate)) => {
            let (text, _) = api.config.restored(candidate.get(), &view.version.document)?;
            // No version: it is not stored.
            (0, text.into())
        }
    };
    // Nothing is sent, so no secret is needed: they stay hidden, and references as they are written.
    let document = NodeSecrets::default().read(&text).map_err(ConfigError::Invalid)?;
    let endpoint = compile(&id, version, &document).map_err(ConfigError::Invalid)?;
    let place = Place { node: &api.hub.node_name, unix_millis: unix_millis() };
    let explained = explain(&endpoint, event.as_bytes(), &question.connection, &place)
        .map_err(|findings| Problem::invalid("invalid_request", findings))?;
    Ok(HttpResponse::Ok().json(explained))
}
