//! `GET /api/v1/endpoints/{id}/asyncapi`: an endpoint as its clients see it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::asyncapi::{asyncapi, Server};
use super::operation::Operation;
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::config::document::EndpointDocument;

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/v1/endpoints/{id}/asyncapi", || web::to(of_endpoint), "getAsyncApi")
        .about("AsyncAPI 3 document of an endpoint", "What its clients send and receive, from the client's side.")
        .query::<AsyncApiQuery>()
        .answers::<BTreeMap<String, Value>>(200, "An AsyncAPI 3.0 document")
        .problems(404, &["endpoint_not_found", "version_not_found"])]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AsyncApiQuery {
    /// Default: the active version.
    version: Option<u64>,
}

async fn of_endpoint(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let options: AsyncApiQuery = query(&request)?;
    let view = match options.version {
        Some(version) => api.config.version(&id, version)?,
        None => api.config.get(&id)?,
    };
    let document: EndpointDocument = serde_json::from_str(&view.version.document)
        .map_err(|err| Problem::new(500, "stored_document_broken", err.to_string()))?;
    Ok(HttpResponse::Ok().json(asyncapi(&document, view.version.version, &servers(&api))))
}

/// The live nodes' client listeners; one that listens on every address says nothing of where it is reached.
fn servers(api: &Api) -> Vec<Server> {
    let members = api.gossip.borrow().clone();
    let reachable = |host: &str| host.parse::<SocketAddr>().is_ok_and(|addr| !addr.ip().is_unspecified());
    members
        .values()
        .filter(|peer| peer.live && reachable(&peer.facts.client_addr))
        .map(|peer| Server { name: peer.facts.name.clone(), host: peer.facts.client_addr.clone() })
        .collect()
}
