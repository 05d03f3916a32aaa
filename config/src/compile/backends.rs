//! Backends: fields that their type needs, and what those must look like. Called by compile; imports model and document.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::document::{self, Backend, BackendType, EndpointDocument, HeaderMap, Route, RouteType};
use crate::findings::{member, Findings};
use wsgateway_model::endpoint::{BackendKind, CompiledBackend, HttpMethod, HttpSpec};
use wsgateway_model::limits;
use wsgateway_model::secret::Secret;
use wsgateway_model::url_template::UrlTemplate;

use super::path_template::PathParams;
use super::{delivery, kafka, text};

/// Compiles the backends of the route at `path`; those with findings are left out.
pub fn compile(route: &Route, path: &str, params: &PathParams, findings: &mut Findings) -> Vec<Arc<CompiledBackend>> {
    let mut compiled = Vec::new();
    for (index, backend) in route.backends.iter().flatten().enumerate() {
        let path = format!("{path}.backends[{index}]");
        let Some(kind) = kind_of(backend, route.kind, &path, params, findings) else { continue };
        let label = format!("{}/{}/{index}", super::kind(route.kind).as_str(), route.name);
        let required = backend.required.unwrap_or(true);
        compiled.push(Arc::new(CompiledBackend { index, kind, required, label: label.into() }));
    }
    compiled
}

/// The route's dead letter backend, or the endpoint's; connect routes have none, since a refused client hears of it.
pub fn dead_letter(
    document: &EndpointDocument,
    route: &Route,
    path: &str,
    params: &PathParams,
    findings: &mut Findings,
) -> Option<Arc<CompiledBackend>> {
    let (from, path) = match &route.dead_letter {
        Some(own) => (own, format!("{path}.deadLetter")),
        None if route.kind == RouteType::Connect => return None,
        // Looked at once, for the whole document.
        None => (document.dead_letter.as_ref()?, "deadLetter".to_owned()),
    };
    let kind = match route.dead_letter.is_some() {
        true => kind_of(from, route.kind, &path, params, findings),
        false => kind_of(from, route.kind, &path, params, &mut Findings::default()),
    }?;
    let label = format!("{}/{}/deadLetter", super::kind(route.kind).as_str(), route.name);
    Some(Arc::new(CompiledBackend { index: 0, kind, required: true, label: label.into() }))
}

/// Reports what is wrong with the endpoint's.
pub fn check_dead_letter(from: &Backend, path: &str, params: &PathParams, findings: &mut Findings) {
    let _compiled_for_each_route = kind_of(from, RouteType::Default, path, params, findings);
}

fn kind_of(
    from: &Backend,
    route: RouteType,
    path: &str,
    params: &PathParams,
    findings: &mut Findings,
) -> Option<BackendKind> {
    match from.kind {
        BackendType::Http => http(from, route, path, params, findings).map(BackendKind::Http),
        BackendType::Kafka => kafka::compile(from, path, findings).map(BackendKind::Kafka),
        BackendType::Echo => Some(BackendKind::Echo { raw: from.raw.unwrap_or(false) }),
    }
}

fn http(
    from: &Backend,
    route: RouteType,
    path: &str,
    params: &PathParams,
    findings: &mut Findings,
) -> Option<HttpSpec> {
    let signing = delivery::signing(from, path, findings);
    let headers = headers(from.additional_headers.as_ref(), from.signing_secret.is_some(), path, findings);
    let retry = delivery::retry(from, route, path, findings);
    let Some(destination) = &from.destination else {
        findings.add(path, "an http backend needs a \"destination\"");
        return None;
    };
    let at = format!("{path}.destination");
    findings.take(at.as_str(), text::check_destination(destination))?;
    let destination = findings.take(at, UrlTemplate::parse(destination, |name| params.is_catch_all(name)))?;
    let batch = delivery::batch(from, &destination, path, findings);
    let timeout = from.timeout_in_millis.unwrap_or(limits::HTTP_TIMEOUT_MILLIS_DEFAULT);
    let connect_timeout = from.connect_timeout_in_millis.unwrap_or(limits::HTTP_CONNECT_TIMEOUT_MILLIS_DEFAULT);
    let max_in_flight = u64::from(from.max_in_flight.unwrap_or(limits::HTTP_MAX_IN_FLIGHT_DEFAULT));
    Some(HttpSpec {
        method: match from.method {
            None | Some(document::HttpMethod::Post) => HttpMethod::Post,
            Some(document::HttpMethod::Put) => HttpMethod::Put,
            Some(document::HttpMethod::Patch) => HttpMethod::Patch,
        },
        destination,
        timeout: Duration::from_millis(timeout),
        connect_timeout: Duration::from_millis(connect_timeout),
        headers,
        max_in_flight: super::size(Some(max_in_flight), 0),
        reply: from.reply.unwrap_or(false),
        retry,
        batch,
        signing,
        breaker: delivery::breaker(from),
    })
}

fn headers(from: Option<&HeaderMap>, signed: bool, path: &str, findings: &mut Findings) -> Vec<(String, Secret)> {
    let path = format!("{path}.additionalHeaders");
    let mut seen = HashSet::new();
    let mut headers = Vec::new();
    for (name, value) in from.into_iter().flatten() {
        let at = member(&path, name);
        let lower = name.to_ascii_lowercase();
        if !text::is_token(name) {
            findings.add(at.as_str(), "is no header name");
        } else if text::is_reserved_header(name) || (signed && text::is_signature_header(&lower)) {
            findings.add(at.as_str(), "is set by the gateway");
        } else if !seen.insert(lower.clone()) {
            findings.add(at.as_str(), "is there twice (names ignore case)");
        }
        findings.take(at, text::check_header_value(value.expose()));
        headers.push((lower, value.clone()));
    }
    too_many(headers.len(), path, findings);
    headers
}

pub(super) fn too_many(count: usize, path: String, findings: &mut Findings) {
    if count > limits::HEADERS_MAX {
        findings.add(path, format!("must have at most {} entries, has {count}", limits::HEADERS_MAX));
    }
}
