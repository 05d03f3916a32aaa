//! The audit log, newest first.

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoints_api::{Page, LIMIT_DEFAULT, LIMIT_MAX};
use super::operation::Operation;
use super::problem::Problem;
use super::request::{number, query};
use super::Api;
use crate::access::audit::{Entry, Wanted};
use crate::backends::event::rfc3339;

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/v1/audit", || web::to(list), "listAudit")
        .about("Who did what", "Newest first. The newest 10,000 administrative acts are kept.")
        .query::<AuditQuery>()
        .answers::<Page<EntryBody>>(200, "A page")
        .problem(503, "storage_failed")]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Entries of a page; default 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// `nextCursor` of the page before.
    #[schemars(regex(pattern = "^[0-9]{1,19}$"))]
    cursor: Option<String>,
    /// Only what was done with the token of this name.
    author: Option<String>,
    /// Only what was about the endpoint, token or connection of this id.
    target: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuditEntry")]
struct EntryBody {
    id: u64,
    at: String,
    author: String,
    token_id: Option<String>,
    method: String,
    route: String,
    target: Option<String>,
    version: Option<u64>,
    /// done, or refused.
    outcome: &'static str,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    node: String,
    address: String,
    message: String,
}

fn body(entry: Entry) -> EntryBody {
    EntryBody {
        id: entry.id,
        at: rfc3339(entry.note.at),
        author: entry.note.author,
        token_id: entry.note.token,
        method: entry.note.method,
        route: entry.note.route,
        target: entry.target,
        version: entry.version,
        outcome: if entry.refused.is_none() { "done" } else { "refused" },
        detail: entry.refused,
        node: entry.note.node,
        address: entry.note.address,
        message: entry.note.message,
    }
}

async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let AuditQuery { limit, cursor, author, target } = query(&request)?;
    let invalid = |detail: String| Problem::new(400, "invalid_query", detail);
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(invalid(format!("limit must be 1–{LIMIT_MAX}, is {limit}")));
    }
    let below =
        cursor.map(|cursor| number(&cursor).ok_or_else(|| invalid(format!("cursor {cursor:?} is none of ours"))));
    let wanted = Wanted { below: below.transpose()?, author, target, limit };
    // All ten thousand may have to be read to find one.
    let audit = api.audit.clone();
    let read = web::block(move || audit.read(&wanted)).await;
    let failed = |detail: String| Problem::new(503, "storage_failed", detail);
    let (entries, more) = read.map_err(|err| failed(err.to_string()))?.map_err(|err| failed(err.to_string()))?;
    let next_cursor = entries.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(HttpResponse::Ok().json(Page { items: entries.into_iter().map(body).collect(), next_cursor }))
}
