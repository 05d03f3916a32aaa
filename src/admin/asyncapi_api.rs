//! `GET /api/v1/endpoints/{id}/asyncapi`: an endpoint as its clients see it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use wsgateway_cluster::membership::LocalFacts;

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

/// The live nodes' client listeners; one that listens on every address, and was not told how it is reached, says nothing
/// of that.
fn servers(api: &Api) -> Vec<Server> {
    let members = api.gossip.borrow().clone();
    members.values().filter(|peer| peer.live).filter_map(|peer| server(&peer.facts)).collect()
}

fn server(facts: &LocalFacts) -> Option<Server> {
    // Programs of before say the address only.
    let url = match facts.client_url.as_str() {
        "" => format!("ws://{}", facts.client_addr),
        url => url.to_owned(),
    };
    let url: actix_http::Uri = url.parse().ok()?;
    let everywhere =
        |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip: IpAddr| ip.is_unspecified());
    url.host().filter(|host| !host.is_empty() && !everywhere(host))?;
    Some(Server {
        name: facts.name.clone(),
        protocol: url.scheme_str()?.to_owned(),
        host: url.authority()?.to_string(),
        pathname: url.path().trim_end_matches('/').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_where_it_says_that_clients_reach_it() {
        let of = |client_addr: &str, client_url: &str| {
            let (client_addr, client_url) = (client_addr.to_owned(), client_url.to_owned());
            let server = server(&LocalFacts { client_addr, client_url, ..LocalFacts::default() })?;
            Some(format!("{} {} {}", server.protocol, server.host, server.pathname))
        };
        assert_eq!(of("0.0.0.0:8080", "ws://0.0.0.0:8080"), None);
        assert_eq!(of("[::]:8080", "ws://[::]:8080"), None);
        assert_eq!(of("10.0.0.1:8080", "").as_deref(), Some("ws 10.0.0.1:8080 "));
        assert_eq!(of("0.0.0.0:8080", "wss://ws.example.com/live").as_deref(), Some("wss ws.example.com /live"));
        assert_eq!(of("", ""), None);
    }
}
