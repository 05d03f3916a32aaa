//! The open connections of all nodes: a page of them, sorted, and how many there are.

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connections_api::ConnectionBody;
use super::many_api::UnreachedBody;
use super::operation::Operation;
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::config::compile::connection_filter;
use crate::config::findings::Finding;
use crate::model::connection_query::{ConnectionQuery, Place, Sort};
use crate::model::delivery::{Recipients, Selection};

const LIMIT_DEFAULT: u16 = 100;
/// A node makes no more rows than this for one call.
const LIMIT_MAX: u16 = 1_000;

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/v1/connections", || web::to(list), "listConnections")
        .about(
            "List and count connections",
            "Of all nodes. With limit=0 they are only counted. Pages by rate and pendingBytes move while they are read.",
        )
        .query::<ListQuery>()
        .answers::<ConnectionsBody>(200, "The connections; nodes that could not be asked are named")
        .problem(503, "overloaded")]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only of the endpoint with this id.
    endpoint: Option<String>,
    /// Only of this user.
    user: Option<String>,
    /// Only those in this group.
    group: Option<String>,
    /// Only on the node with this name or id.
    node: Option<String>,
    /// An expression of the endpoint documents' language over the connection, as JSON.
    #[schemars(length(max = 4096))]
    filter: Option<String>,
    /// age (default): the oldest first; rate: those with the most messages a second; pendingBytes: the most unsent bytes.
    sort: Option<SortBy>,
    /// 0–1000, default 100.
    #[schemars(range(max = 1000))]
    limit: Option<u16>,
    /// The nextCursor of the page before, with everything else the same.
    cursor: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
enum SortBy {
    Age,
    Rate,
    PendingBytes,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Connections")]
struct ConnectionsBody {
    items: Vec<ConnectionBody>,
    next_cursor: Option<String>,
    /// All that fulfil the question, on whichever page.
    matched: u64,
    /// Nodes that have answered.
    nodes: u64,
    /// Nodes that could not be asked: their connections are neither listed nor counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreachable: Vec<UnreachedBody>,
}

fn invalid(path: &str, message: impl Into<String>) -> Problem {
    Problem::invalid("invalid_query", vec![Finding { path: path.to_owned(), message: message.into() }])
}

/// A place in the list as a text: its key, a dot, a connection's id.
fn cursor(text: &str) -> Result<Place, Problem> {
    let read = text.split_once('.').and_then(|(key, id)| {
        let key = super::request::number(key)?;
        id.parse::<crate::model::connection_id::ConnectionId>().ok()?;
        Some(Place { key, id: id.to_owned() })
    });
    read.ok_or_else(|| invalid("cursor", "is not one that was given out"))
}

fn question(asked: ListQuery) -> Result<(ConnectionQuery, Option<String>), Problem> {
    let limit = asked.limit.unwrap_or(LIMIT_DEFAULT);
    if limit > LIMIT_MAX {
        return Err(invalid("limit", format!("must be 0–{LIMIT_MAX}, is {limit}")));
    }
    if let Some(filter) = &asked.filter {
        connection_filter::compile(filter, "filter").map_err(|errors| Problem::invalid("invalid_query", errors))?;
    }
    let after = asked.cursor.as_deref().map(cursor).transpose()?;
    let (to, in_group) = match (asked.user, asked.group) {
        (Some(user), group) => (Recipients::User(user), group),
        (None, Some(group)) => (Recipients::Group(group), None),
        (None, None) => (Recipients::All, None),
    };
    let sort = match asked.sort {
        None | Some(SortBy::Age) => Sort::Age,
        Some(SortBy::Rate) => Sort::Rate,
        Some(SortBy::PendingBytes) => Sort::PendingBytes,
    };
    let selection = Selection { endpoint: asked.endpoint, to, filter: asked.filter };
    Ok((ConnectionQuery { selection, in_group, sort, limit: limit.into(), after }, asked.node))
}

async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (asked, node) = question(query(&request)?)?;
    let listed = api.pushes.query(&asked, node.as_deref()).await?;
    let page = listed.page;
    let last = page.rows.last().filter(|_| page.more).map(|(place, _)| format!("{}.{}", place.key, place.id));
    Ok(HttpResponse::Ok().json(ConnectionsBody {
        next_cursor: last,
        items: page.rows.into_iter().map(|(_, view)| view.into()).collect(),
        matched: page.matched,
        nodes: listed.nodes,
        unreachable: listed.unreachable.into_iter().map(UnreachedBody::from).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<(ConnectionQuery, Option<String>), Problem> {
        question(web::Query::<ListQuery>::from_query(text).unwrap().into_inner())
    }

    #[test]
    fn questions() {
        let (query, node) = asked("").unwrap();
        assert_eq!((query.limit, query.sort, query.after, node), (100, Sort::Age, None, None));
        let (query, node) = asked("user=ann&group=g&node=n2&sort=pendingBytes&limit=0").unwrap();
        assert_eq!(query.selection.to, Recipients::User("ann".into()));
        assert_eq!((query.in_group.as_deref(), node.as_deref()), (Some("g"), Some("n2")));
        let id = crate::model::connection_id::ConnectionId { node: 1, generation: 2, random: 3 };
        let (query, _) = asked(&format!("cursor=77.{id}")).unwrap();
        assert_eq!(query.after, Some(Place { key: 77, id: id.to_string() }));
        for (text, part) in [
            ("limit=1001", "limit: must be 0–1000, is 1001"),
            ("cursor=7", "cursor: "),
            ("cursor=x.y", "cursor: "),
            ("filter=%7B%7D", "filter: has no operator"),
        ] {
            let problem = asked(text).unwrap_err();
            assert!(problem.detail().starts_with(part), "{text}: {problem}");
        }
    }
}
