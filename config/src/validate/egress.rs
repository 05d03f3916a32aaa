//! Hosts of a document that this node's egress rules never let it call: warnings, since other nodes may. Called by
//! rules; imports model's egress rules and document.

use crate::compile::text::host_of_url;
use crate::document::{Backend, BackendType, EndpointDocument};
use crate::findings::Findings;
use wsgateway_model::egress::EgressRules;

use super::authentication::called_urls;

pub fn warnings(document: &EndpointDocument, rules: &EgressRules, warnings: &mut Findings) {
    let mut look = |path: String, host: &str| {
        if let Some(why) = rules.never(host) {
            warnings.add(path, format!("{host} can never be called from this node: {why}"));
        }
    };
    for (name, url) in document.authentication.iter().flat_map(called_urls).filter(|(_, url)| url.contains("://")) {
        look(format!("authentication.{name}"), host_of_url(url));
    }
    for (index, source) in document.sources.iter().flatten().enumerate() {
        for server in source.bootstrap_servers.iter().flat_map(|servers| servers.split(',')) {
            look(format!("sources[{index}].bootstrapServers"), host_of_url(server.trim()));
        }
    }
    let mut backend = |path: String, from: &Backend| match (from.kind, &from.destination, &from.bootstrap_servers) {
        (BackendType::Http, Some(url), _) => look(format!("{path}.destination"), host_of_url(url)),
        (BackendType::Kafka, _, Some(servers)) => {
            for server in servers.split(',') {
                look(format!("{path}.bootstrapServers"), host_of_url(server.trim()));
            }
        }
        _ => {}
    };
    if let Some(from) = &document.dead_letter {
        backend("deadLetter".to_owned(), from);
    }
    for (route_index, route) in document.routes.iter().flatten().enumerate() {
        for (index, from) in route.backends.iter().flatten().enumerate() {
            backend(format!("routes[{route_index}].backends[{index}]"), from);
        }
        if let Some(from) = &route.dead_letter {
            backend(format!("routes[{route_index}].deadLetter"), from);
        }
    }
}
