//! Endpoints and their versions: create, read, update, delete, activate. Writes may be sent to any node.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, LOCATION};
use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::Value;
use wsgateway_raft_store::types::{Head, Version};

use super::body::read_body;
use super::change::change;
use super::openapi::{document_schema, Either, EXAMPLE};
use super::operation::{Operation, JSON};
use super::problem::Problem;
use super::request::{number, query};
use super::Api;
use crate::backends::event::rfc3339;
use crate::config::document::{json_schema, EndpointDocument};
use crate::config::secrets::redacted_for_reading;
use crate::config::source_text::{Format, SourceText};
use crate::config::store::{Checked, ConfigError, EndpointView};
use crate::config::validate::Finding;
use crate::model::limits::DOCUMENT_BYTES_MAX;

/// Items of a list without `?limit=`, and at most.
pub(super) const LIMIT_DEFAULT: usize = 100;
pub(super) const LIMIT_MAX: usize = 1000;

/// An endpoint document may be written in these.
pub(super) const DOCUMENT_TYPES: &[&str] = &[JSON, "application/yaml"];

pub fn operations() -> Vec<Operation> {
    let mut operations = vec![Operation::get("/api/v1/schemas/endpoint", || web::to(schema), "getEndpointSchema")
        .about(
            "JSON Schema of endpoint documents",
            "Knows more than this build enforces; what it does not, it refuses.",
        )
        .answers::<BTreeMap<String, Value>>(200, "A JSON Schema, draft 2020-12")];
    operations.extend(endpoint_operations());
    operations.extend(version_operations());
    operations
}

fn endpoint_operations() -> [Operation; 5] {
    [
        Operation::get("/api/v1/endpoints", || web::to(list), "listEndpoints")
            .about("List endpoints", "Sorted by id, without their documents.")
            .query::<PageQuery>()
            .answers::<Page<EndpointBody>>(200, "A page"),
        Operation::post("/api/v1/endpoints", || web::to(create), "createEndpoint")
            .about(
                "Create an endpoint",
                "Its first version is active, unless `activate` is false: then it is a draft. A dry run does not look at whether the path is taken.",
            )
            .query::<WriteQuery>()
            .writes()
            .body::<EndpointDocument>(DOCUMENT_TYPES, serde_json::from_str(EXAMPLE).unwrap_or_default())
            .answers::<Checked>(200, "With `dryRun`: it would be accepted")
            .answers_as::<EndpointBody>(201, "Created", JSON, &["ETag", "Location"])
            .problem(400, "invalid_document")
            .problems(409, &["path_taken", "id_taken"])
            .problem(415, "unsupported_media_type"),
        Operation::get("/api/v1/endpoints/{id}", || web::to(read), "getEndpoint")
            .about("The active version", "From this node, also without a leader, unless `consistency` is linearizable.")
            .query::<ReadQuery>()
            .answers_as::<EndpointBody>(200, "The endpoint", JSON, &["ETag"])
            .problem(404, "endpoint_not_found")
            .problems(503, &["no_leader", "outcome_unknown", "storage_failed"]),
        Operation::put("/api/v1/endpoints/{id}", || web::to(update), "updateEndpoint")
            .about("Commit a new version", "And activate it, unless `activate` is false.")
            .query::<WriteQuery>()
            .writes()
            .if_match()
            .body::<EndpointDocument>(DOCUMENT_TYPES, serde_json::from_str(EXAMPLE).unwrap_or_default())
            .answers::<Either<EndpointBody, Checked>>(200, "The endpoint; with `dryRun`: it would be accepted")
            .problem(400, "invalid_document")
            .problem(404, "endpoint_not_found")
            .problem(409, "path_taken")
            .problem(415, "unsupported_media_type"),
        Operation::delete("/api/v1/endpoints/{id}", || web::to(delete), "deleteEndpoint")
            .about("Delete an endpoint", "With all its versions; its connections are closed with 4410.")
            .query::<MessageQuery>()
            .writes()
            .if_match()
            .answers_empty(204, "Deleted")
            .problem(404, "endpoint_not_found"),
    ]
}

fn version_operations() -> [Operation; 3] {
    [
        Operation::get("/api/v1/endpoints/{id}/versions", || web::to(versions), "listVersions")
            .about("The history", "All versions, without their documents.")
            .answers::<Page<VersionBody>>(200, "All versions")
            .problem(404, "endpoint_not_found"),
        Operation::get("/api/v1/endpoints/{id}/versions/{version}", || web::to(version), "getVersion")
            .about("One version", "")
            .answers::<VersionBody>(200, "The version")
            .problems(404, &["endpoint_not_found", "version_not_found"]),
        Operation::post("/api/v1/endpoints/{id}/versions/{version}/activate", || web::to(activate), "activateVersion")
            .about("Apply any stored version", "Makes no new version.")
            .query::<MessageQuery>()
            .writes()
            .if_match()
            .answers_as::<EndpointBody>(200, "The endpoint", JSON, &["ETag"])
            .problems(404, &["endpoint_not_found", "version_not_found"])
            .problem(409, "path_taken"),
    ]
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Endpoint")]
struct EndpointBody {
    id: String,
    path: String,
    /// None: only drafts so far.
    active_version: Option<u64>,
    latest_version: u64,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "document_schema")]
    document: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Finding>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Version")]
struct VersionBody {
    version: u64,
    author: String,
    message: String,
    #[serde(rename = "createdAt")]
    created_at: String,
    hash: String,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "document_schema")]
    document: Option<Box<RawValue>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "{T}Page")]
pub(super) struct Page<T> {
    pub items: Vec<T>,
    /// What `cursor` of the next page is; null: this is the last.
    pub next_cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// Items of a page; default 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Only endpoints whose path contains this.
    path: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MessageQuery {
    /// Why; kept with the version.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    message: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WriteQuery {
    /// Why; kept with the version.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    message: String,
    /// Validate and write nothing.
    #[serde(default)]
    dry_run: bool,
    /// False: store the version and leave the active one; of a new endpoint, none is active then.
    activate: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadQuery {
    /// linearizable: only once this node has everything that was committed before.
    consistency: Option<Consistency>,
}

#[derive(Deserialize, PartialEq, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Consistency {
    Stale,
    Linearizable,
}

fn raw(document: &str) -> Result<Box<RawValue>, Problem> {
    redacted_for_reading(document)
        .and_then(RawValue::from_string)
        .map_err(|err| Problem::new(500, "stored_document_broken", err.to_string()))
}

/// The body as the JSON text of a document: as it is, or for YAML what it says.
pub(super) fn document_text<'b>(request: &HttpRequest, body: &'b [u8]) -> Result<Cow<'b, str>, Problem> {
    let format = content_format(request)?;
    let text = std::str::from_utf8(body)
        .map_err(|err| Problem::new(400, "invalid_document", format!("the body is not UTF-8: {err}")))?;
    if format == Format::Json {
        return Ok(Cow::Borrowed(text));
    }
    let read = SourceText::read(text, Format::Yaml).map_err(|fault| {
        let message = format!("{} (line {}, column {})", fault.finding.message, fault.place.line, fault.place.column);
        Problem::from(ConfigError::Invalid(vec![Finding { message, ..fault.finding }]))
    })?;
    if read.tests.is_some() {
        let message = "is for `wsgateway check` only and not part of the document".to_owned();
        return Err(ConfigError::Invalid(vec![Finding { path: "tests".to_owned(), message }]).into());
    }
    Ok(Cow::Owned(read.json))
}

/// What the body is written in, as it is: nothing here unpacks it. None said, or what curl says when it is told nothing: JSON.
fn content_format(request: &HttpRequest) -> Result<Format, Problem> {
    if request.headers().get(CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        let detail = "Content-Encoding: bodies are read as they are, not compressed";
        return Err(Problem::new(415, "unsupported_media_type", detail));
    }
    let given = request.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "" | "application/json" | "application/x-www-form-urlencoded" => Ok(Format::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Ok(Format::Yaml),
        other if other.starts_with("application/") && other.ends_with("+json") => Ok(Format::Json),
        _ => {
            let detail = format!("Content-Type {given:?} is neither application/json nor application/yaml");
            Err(Problem::new(415, "unsupported_media_type", detail))
        }
    }
}

fn head_body(head: &Head) -> EndpointBody {
    EndpointBody {
        id: head.id.clone(),
        path: String::new(),
        active_version: Some(head.active_version).filter(|version| *version > 0),
        latest_version: head.latest_version,
        created_at: rfc3339(head.created_at),
        updated_at: rfc3339(head.updated_at),
        document: None,
        warnings: Vec::new(),
    }
}

#[derive(Deserialize)]
struct PathOnly {
    path: String,
}

pub(super) fn document_path(document: &str) -> String {
    // Stored documents have passed validation, which requires a path.
    serde_json::from_str::<PathOnly>(document).map(|document| document.path).unwrap_or_default()
}

fn view_body(view: EndpointView) -> Result<EndpointBody, Problem> {
    let mut body = head_body(&view.head);
    body.path = document_path(&view.version.document);
    body.document = Some(raw(&view.version.document)?);
    body.warnings = view.warnings;
    Ok(body)
}

fn etag(version: u64) -> (actix_web::http::header::HeaderName, String) {
    (ETAG, format!("\"{version}\""))
}

async fn schema() -> HttpResponse {
    HttpResponse::Ok().json(json_schema())
}

async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let page: PageQuery = query(&request)?;
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::new(400, "invalid_query", format!("limit must be 1–{LIMIT_MAX}, is {limit}")));
    }
    let mut items = Vec::new();
    let mut next_cursor = None;
    let mut heads = api.config.list();
    heads.sort_by(|a, b| a.id.cmp(&b.id));
    for head in heads.into_iter().filter(|head| page.cursor.as_ref().is_none_or(|cursor| head.id > *cursor)) {
        let mut body = head_body(&head);
        // Deleted meanwhile: not an item any more.
        let Ok(view) = api.config.get(&head.id) else { continue };
        body.path = document_path(&view.version.document);
        if page.path.as_ref().is_some_and(|part| !body.path.contains(part)) {
            continue;
        }
        if items.len() == limit {
            next_cursor = items.last().map(|last: &EndpointBody| last.id.clone());
            break;
        }
        items.push(body);
    }
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

async fn create(api: web::Data<Api>, request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Problem> {
    let body = read_body(body.into_inner(), DOCUMENT_BYTES_MAX).await?;
    let options: WriteQuery = query(&request)?;
    let document = &document_text(&request, &body)?;
    if options.dry_run {
        return Ok(HttpResponse::Ok().json(api.config.check_new(document)?));
    }
    let activate = options.activate.unwrap_or(true);
    let view = api.config.create(document, activate, change(&api, &request, options.message, &body)?).await?;
    let location = format!("/api/v1/endpoints/{}", view.head.id);
    let mut answer = HttpResponse::Created();
    answer.insert_header((LOCATION, location)).insert_header(etag(view.head.active_version));
    Ok(answer.json(view_body(view)?))
}

async fn read(api: web::Data<Api>, request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let options: ReadQuery = query(&request)?;
    if options.consistency == Some(Consistency::Linearizable) {
        api.config.raft().linearize().await.map_err(ConfigError::from)?;
    }
    let view = api.config.get(&id)?;
    Ok(HttpResponse::Ok().insert_header(etag(view.head.active_version)).json(view_body(view)?))
}

async fn update(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = read_body(body.into_inner(), DOCUMENT_BYTES_MAX).await?;
    let options: WriteQuery = query(&request)?;
    let document = &document_text(&request, &body)?;
    if options.dry_run {
        let stored = api.config.get(&id)?.version.document;
        return Ok(HttpResponse::Ok().json(api.config.restored(document, &stored)?.1));
    }
    let activate = options.activate.unwrap_or(true);
    let view = api.config.update(&id, document, activate, change(&api, &request, options.message, &body)?).await?;
    Ok(HttpResponse::Ok().insert_header(etag(view.head.active_version)).json(view_body(view)?))
}

async fn delete(api: web::Data<Api>, request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let options: MessageQuery = query(&request)?;
    api.config.delete(&id, change(&api, &request, options.message, &[])?).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn version_body(version: &Version, active: u64, with_document: bool) -> Result<VersionBody, Problem> {
    Ok(VersionBody {
        version: version.version,
        author: version.by.author.clone(),
        message: version.by.message.clone(),
        created_at: rfc3339(version.by.at),
        hash: version.hash.clone(),
        active: version.version == active,
        document: if with_document { Some(raw(&version.document)?) } else { None },
    })
}

async fn versions(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let (head, versions) = api.config.versions(&id)?;
    let items: Result<Vec<_>, _> =
        versions.iter().map(|version| version_body(version, head.active_version, false)).collect();
    Ok(HttpResponse::Ok().json(Page { items: items?, next_cursor: None }))
}

fn version_number(text: &str) -> Result<u64, Problem> {
    let number = number(text).filter(|number| *number > 0);
    number.ok_or_else(|| Problem::new(404, "version_not_found", format!("{text:?} is no version number")))
}

async fn version(api: web::Data<Api>, path: web::Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (id, version) = path.into_inner();
    let view = api.config.version(&id, version_number(&version)?)?;
    Ok(HttpResponse::Ok().json(version_body(&view.version, view.head.active_version, true)?))
}

async fn activate(
    api: web::Data<Api>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (id, version) = path.into_inner();
    let options: MessageQuery = query(&request)?;
    let view =
        api.config.activate(&id, version_number(&version)?, change(&api, &request, options.message, &[])?).await?;
    Ok(HttpResponse::Ok().insert_header(etag(view.head.active_version)).json(view_body(view)?))
}
