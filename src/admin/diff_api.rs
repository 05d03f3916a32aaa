//! What is different between versions of an endpoint, or between one and a document that is not stored. Both sides as
//! they are stored, so that a literal secret equals what is kept of it; shown without either.

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::read_body;
use super::endpoints_api::{document_text, DOCUMENT_TYPES};
use super::openapi::EXAMPLE;
use super::operation::Operation;
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::config::diff::{diff, Change};
use crate::config::document::EndpointDocument;
use crate::config::secrets::hide;
use crate::config::validate::Finding;
use crate::model::limits::DOCUMENT_BYTES_MAX;

const PATH: &str = "/api/v1/endpoints/{id}/diff";

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(PATH, || web::to(of_versions), "diffVersions")
            .about("Between two stored versions", "A version that is not named is the active one.")
            .query::<DiffQuery>()
            .answers::<Difference>(200, "What is different")
            .problems(404, &["endpoint_not_found", "version_not_found"]),
        Operation::post(PATH, || web::to(of_candidate), "diffDocument")
            .about("Between a stored version and this document", "Which is validated and not stored.")
            .query::<CandidateQuery>()
            .body::<EndpointDocument>(DOCUMENT_TYPES, serde_json::from_str(EXAMPLE).unwrap_or_default())
            .answers::<Difference>(200, "What is different")
            .problem(400, "invalid_document")
            .problems(404, &["endpoint_not_found", "version_not_found"])
            .problem(415, "unsupported_media_type"),
    ]
}

#[derive(Serialize, JsonSchema)]
struct Difference {
    from: u64,
    /// None: a document that is not stored.
    to: Option<u64>,
    changes: Vec<Change>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Finding>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CandidateQuery {
    /// Default: the active version, or the latest while none is active.
    from: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    /// Default: the active version, or the latest while none is active.
    from: Option<u64>,
    /// Default: the active version.
    to: Option<u64>,
}

fn tree(document: &str) -> Result<Value, Problem> {
    serde_json::from_str(document).map_err(|err| Problem::new(500, "stored_document_broken", err.to_string()))
}

/// Differences of secrets are said without them.
fn compared(from: &str, to: &str) -> Result<Vec<Change>, Problem> {
    let mut changes = diff(&tree(from)?, &tree(to)?);
    for change in &mut changes {
        for value in [&mut change.from, &mut change.to].into_iter().flatten() {
            hide(&change.path, value);
        }
    }
    Ok(changes)
}

async fn of_versions(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let options: DiffQuery = query(&request)?;
    let active = api.config.get(&id)?.version.version;
    let (from, to) = (options.from.unwrap_or(active), options.to.unwrap_or(active));
    let (older, newer) = (api.config.version(&id, from)?.version, api.config.version(&id, to)?.version);
    let changes = compared(&older.document, &api.config.comparable(&newer.document, &older.document)?)?;
    Ok(HttpResponse::Ok().json(Difference { from, to: Some(to), changes, warnings: Vec::new() }))
}

async fn of_candidate(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = read_body(body.into_inner(), DOCUMENT_BYTES_MAX).await?;
    let options: CandidateQuery = query(&request)?;
    let active = api.config.get(&id)?.version.version;
    let from = options.from.unwrap_or(active);
    let stored = api.config.version(&id, from)?.version;
    let (text, warnings) = api.config.as_stored(&document_text(&request, &body)?, &stored.document).await?;
    let changes = compared(&stored.document, &text)?;
    Ok(HttpResponse::Ok().json(Difference { from, to: None, changes, warnings }))
}
