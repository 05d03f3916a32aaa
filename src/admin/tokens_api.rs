//! Tokens of the admin API: make, list, revoke. The text of a token is in one answer, once.

use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::body::read_body;
use super::change::{note, request_id};
use super::endpoints_api::{Page, LIMIT_DEFAULT, LIMIT_MAX};
use super::operation::{Operation, JSON};
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::access::tokens::{check_name, By, NewToken, Token, TokenError};
use crate::access::Role;
use crate::backends::event::rfc3339;
use crate::config::validate::Finding;

/// A name, a role and a number.
const BODY_BYTES_MAX: usize = 4096;
/// Ten years: whoever wants more wants no expiry.
const EXPIRES_SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/tokens", || web::to(list), "listTokens")
            .about("List tokens", "Sorted by id, without their texts.")
            .query::<PageQuery>()
            .answers::<Page<TokenBody>>(200, "A page"),
        Operation::post("/api/v1/tokens", || web::to(create), "createToken")
            .about(
                "Make a token",
                "Its text is in this answer and nowhere else. The first admin token ends anonymous access.",
            )
            .writes()
            .body::<Wanted>(
                &[JSON],
                json!({"name": "shop-service", "role": "publisher", "expiresInSeconds": 7_776_000}),
            )
            .answers_as::<TokenBody>(201, "Created", JSON, &["Location"])
            .problem(400, "invalid_request")
            .problems(409, &["name_taken", "token_shown_already", "too_many_tokens", "id_taken"])
            .problem(503, "overloaded"),
        Operation::get("/api/v1/tokens/{id}", || web::to(read), "getToken")
            .about("A token, without its text", "")
            .answers::<TokenBody>(200, "The token")
            .problem(404, "token_not_found"),
        Operation::delete("/api/v1/tokens/{id}", || web::to(revoke), "revokeToken")
            .about("Revoke a token", "It is refused on every node within moments.")
            .writes()
            .answers_empty(204, "Revoked")
            .problem(404, "token_not_found")
            .problems(409, &["last_admin_token", "id_taken"]),
    ]
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Token")]
struct TokenBody {
    id: String,
    name: String,
    role: Role,
    created_at: String,
    created_by: String,
    expires_at: Option<String>,
    /// Its text; in the answer that made it only.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Finding>,
}

fn body(token: &Token) -> TokenBody {
    TokenBody {
        id: token.id.to_string(),
        name: token.caller.name.to_string(),
        role: token.caller.role,
        created_at: rfc3339(token.created_at),
        created_by: token.created_by.clone(),
        expires_at: token.expires_at.map(rfc3339),
        token: None,
        warnings: Vec::new(),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "NewToken")]
struct Wanted {
    /// The author of the changes made with it.
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._@:-]{0,63}$"))]
    name: String,
    role: Role,
    /// Default: never.
    #[schemars(range(min = 1, max = EXPIRES_SECONDS_MAX))]
    expires_in_seconds: Option<u64>,
}

fn invalid(path: &str, message: impl Into<String>) -> Problem {
    Problem::invalid("invalid_request", vec![Finding { path: path.to_owned(), message: message.into() }])
}

fn wanted(body: &[u8]) -> Result<NewToken, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let wanted: Wanted = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| invalid(error.path().to_string().trim_start_matches('.'), error.inner().to_string()))?;
    deserializer.end().map_err(|error| invalid("", error.to_string()))?;
    check_name(&wanted.name).map_err(|reason| invalid("name", reason))?;
    if let Some(seconds) = wanted.expires_in_seconds.filter(|seconds| !(1..=EXPIRES_SECONDS_MAX).contains(seconds)) {
        return Err(invalid("expiresInSeconds", format!("must be 1–{EXPIRES_SECONDS_MAX}, is {seconds}")));
    }
    let expires_in = wanted.expires_in_seconds.map(Duration::from_secs);
    Ok(NewToken { name: wanted.name, role: wanted.role, expires_in })
}

fn by(api: &Api, request: &HttpRequest, body: &[u8], message: &str) -> Result<By, Problem> {
    let note = note(api, request, message)?;
    Ok(By { request_id: request_id(request, body)?, author: note.author.clone(), note: Some(note.text()) })
}

async fn create(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let given = read_body(payload.into_inner(), BODY_BYTES_MAX).await?;
    let new = wanted(&given)?;
    let by = by(&api, &request, &given, &format!("{} with the role {}", new.name, new.role))?;
    let created = api.tokens.create(new, by).await?;
    let mut answer = body(&created.token);
    let mut warn = |message: &str| answer.warnings.push(Finding { path: String::new(), message: message.to_owned() });
    if created.closed_anonymous {
        warn("from now on every call needs a token, on all nodes and for good; keep this one, or set admin.token");
    } else if api.tokens.is_open() {
        warn("this node has no admin.token, and there is no admin token yet: whoever reaches it may still do everything without a token");
    }
    answer.token = Some(created.text);
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/api/v1/tokens/{}", answer.id)))
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(answer))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// Tokens of a page; default 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let page: PageQuery = query(&request)?;
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::new(400, "invalid_query", format!("limit must be 1–{LIMIT_MAX}, is {limit}")));
    }
    let after = |token: &Token| page.cursor.as_ref().is_none_or(|cursor| *token.id > **cursor);
    let mut items: Vec<_> =
        api.tokens.list().iter().filter(|token| after(token)).take(limit + 1).map(|token| body(token)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items.last().filter(|_| more).map(|last| last.id.clone());
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

async fn read(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let token = api.tokens.get(&id).ok_or_else(|| TokenError::NotFound(id.into_inner()))?;
    Ok(HttpResponse::Ok().json(body(&token)))
}

async fn revoke(api: web::Data<Api>, request: HttpRequest, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let name = api.tokens.get(&id).map_or_else(String::new, |token| token.caller.name.to_string());
    api.tokens.revoke(&id, by(&api, &request, &[], &name)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
