//! From a document to what the hot path reads. Whatever can only be decided by building it – paths, regexes, addresses,
//! URLs – is decided here, for `validate` on the proposing node and again by the registry on every node.
//!
//! Imports model and config's document and findings.

mod authentication;
mod backends;
pub mod connection_filter;
mod delivery;
mod expression;
mod kafka;
pub mod path_template;
mod sources;
pub mod text;
mod throttling;
mod transform;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use wsgateway_model::endpoint::{
    CompiledEndpoint, CompiledRoute, CompiledRoutes, EndpointSettings, OnVersionChange, OutboxSettings, RouteKind,
};
use wsgateway_model::expression::CustomRoutesBuilder;
use wsgateway_model::filters::{Filters, IpRule};
use wsgateway_model::json_path::JsonPath;
use wsgateway_model::limits;
use wsgateway_model::ordering::OrderRule;

use super::document::{self, AuthenticationMode, EndpointDocument, Route, RouteType};
use super::findings::{Finding, Findings};
use path_template::PathParams;

/// Compiles a document that has the right shape. All faults are reported, not only the first.
pub fn compile(endpoint_id: &str, version: u64, document: &EndpointDocument) -> Result<CompiledEndpoint, Vec<Finding>> {
    let mut findings = Findings::default();
    let params = findings.take("path", PathParams::parse(&document.path)).unwrap_or_default();
    let auth = authentication::compile(document, &mut findings);
    let filters = filters(document, &mut findings);
    let outbox = waiting::outbox(document.settings.as_ref(), &mut findings);
    let order = delivery::order(document.settings.as_ref(), &mut findings).unwrap_or(OrderRule::Connection);
    let throttling = throttling::compile(document.throttling.as_ref(), &mut findings);
    let routes = routes(document, &params, &mut findings);
    let mut sources = sources::compile(document, &mut findings);
    sources.extend(sources::of_replies(endpoint_id, &routes));
    let outbound = transform::outbound(document, &mut findings);
    let ack = transform::ack(document.ack.as_ref(), "ack", &mut findings);
    match findings.0.is_empty() {
        false => Err(findings.0),
        true => Ok(CompiledEndpoint {
            id: endpoint_id.into(),
            version,
            name: document.name.clone(),
            path: document.path.as_str().into(),
            order,
            settings: settings(document.settings.as_ref().unwrap_or(&document::Settings::default()), outbox),
            auth,
            filters,
            resume: waiting::resume(document.resume.as_ref()),
            throttling,
            routes,
            sources,
            outbound,
            ack,
            described: transform::described(endpoint_id, version, document).into(),
        }),
    }
}

/// Sizes of the document are within u32 or memory; where they are not, saturating is right for a limit.
fn size(number: Option<u64>, default: u64) -> usize {
    usize::try_from(number.unwrap_or(default)).unwrap_or(usize::MAX)
}

fn settings(from: &document::Settings, outbox: OutboxSettings) -> EndpointSettings {
    let interval = from.heartbeat_interval_in_seconds.unwrap_or(limits::HEARTBEAT_INTERVAL_SECONDS_DEFAULT);
    EndpointSettings {
        max_in_flight: size(from.max_in_flight.map(u64::from), u64::from(limits::MAX_IN_FLIGHT_DEFAULT)),
        heartbeat_interval: Duration::from_secs(interval),
        heartbeat_max_missing: from.heartbeat_max_missing_ping_frames.unwrap_or(limits::HEARTBEAT_MAX_MISSING_DEFAULT),
        idle_timeout: from.idle_timeout_in_seconds.map(Duration::from_secs),
        max_connection_duration: from.max_connection_duration_in_seconds.map(Duration::from_secs),
        max_message_bytes: size(from.max_message_bytes, limits::MAX_MESSAGE_BYTES_DEFAULT),
        outbox,
        subprotocols: from.subprotocols.clone().unwrap_or_default(),
        on_version_change: match from.on_version_change {
            None | Some(document::OnVersionChange::Keep) => OnVersionChange::Keep,
            Some(document::OnVersionChange::Close) => OnVersionChange::Close,
        },
    }
}

fn filters(document: &EndpointDocument, findings: &mut Findings) -> Filters {
    let from = document.filters.clone().unwrap_or_default();
    let lists = [("whitelistIps", &from.whitelist_ips), ("blacklistIps", &from.blacklist_ips)];
    for (name, rules) in lists {
        for (index, rule) in rules.iter().flatten().enumerate() {
            findings.take(format!("filters.{name}[{index}]"), IpRule::parse(rule));
        }
    }
    // Browsers send basic credentials by themselves, from any page.
    let basic = document.authentication.as_ref().is_some_and(|auth| auth.mode == AuthenticationMode::Basic);
    let origins = from.allowed_origins.or(basic.then(Vec::new));
    Filters::new(
        &from.whitelist_ips.unwrap_or_default(),
        &from.blacklist_ips.unwrap_or_default(),
        &from.whitelist_hosts.unwrap_or_default(),
        &from.blacklist_hosts.unwrap_or_default(),
        origins.as_deref(),
    )
    // A bad rule is a finding already.
    .unwrap_or_default()
}

fn routes(document: &EndpointDocument, params: &PathParams, findings: &mut Findings) -> CompiledRoutes {
    let selector = document.route_selector.as_deref();
    let selector = selector.and_then(|text| findings.take("routeSelector", JsonPath::parse(text)));
    let mut custom = CustomRoutesBuilder::new(selector);
    let mut compiled = CompiledRoutes::default();
    let mut regexes = 0;
    if let Some(backend) = &document.dead_letter {
        backends::check_dead_letter(backend, "deadLetter", params, findings);
    }
    for (index, route) in document.routes.iter().flatten().enumerate() {
        let path = format!("routes[{index}]");
        let made = Arc::new(CompiledRoute {
            kind: kind(route.kind),
            name: route.name.as_str().into(),
            index,
            schema: transform::schema(route, &path, findings),
            inbound: transform::inbound(route, &path, findings),
            ack: transform::ack(route.ack.as_ref(), &format!("{path}.ack"), findings),
            backends: backends::compile(route, &path, params, findings),
            dead_letter: backends::dead_letter(document, route, &path, params, findings),
        });
        let slot = match route.kind {
            RouteType::Connect => &mut compiled.connect,
            RouteType::Disconnect => &mut compiled.disconnect,
            RouteType::Error => &mut compiled.error,
            RouteType::Default => &mut compiled.default,
            RouteType::Custom => {
                condition(route, &path, document, &mut custom, &mut regexes, findings);
                compiled.custom_routes.push(made);
                continue;
            }
        };
        if slot.is_some() {
            findings.add(format!("{path}.type"), format!("there is a {} route already", kind(route.kind).as_str()));
        }
        *slot = Some(made);
    }
    if regexes > limits::REGEXES_MAX {
        findings.add("routes", format!("have at most {} \"matches\", there are {regexes}", limits::REGEXES_MAX));
    }
    compiled.custom = custom.build();
    compiled
}

fn condition(
    route: &Route,
    path: &str,
    document: &EndpointDocument,
    custom: &mut CustomRoutesBuilder,
    regexes: &mut usize,
    findings: &mut Findings,
) {
    let go_on = route.go_on.unwrap_or(false);
    match (&route.expression, &route.key) {
        (Some(expression), None) => {
            let path = format!("{path}.expression");
            if let Some(expression) = expression::compile(expression, &path, regexes, findings) {
                custom.push_expression(expression, go_on);
            }
        }
        (None, Some(_)) if document.route_selector.is_none() => {
            findings.add(format!("{path}.key"), "needs the endpoint's \"routeSelector\"");
        }
        (None, Some(key)) => custom.push_key(key, go_on),
        (None, None) => findings.add(path, "a custom route needs an \"expression\" or a \"key\""),
        (Some(_), Some(_)) => findings.add(path, "a custom route has either an \"expression\" or a \"key\", not both"),
    }
}

fn kind(from: RouteType) -> RouteKind {
    match from {
        RouteType::Connect => RouteKind::Connect,
        RouteType::Disconnect => RouteKind::Disconnect,
        RouteType::Error => RouteKind::Error,
        RouteType::Default => RouteKind::Default,
        RouteType::Custom => RouteKind::Custom,
    }
}

#[cfg(test)]
mod tests;
