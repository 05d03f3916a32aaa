//! Rules between fields: which belong together, which names repeat, what is legal but cannot work here.
//! Called by validate; imports model's limits, document and findings.

use std::collections::HashSet;

use crate::compile::text;
use crate::document::{
    AuthenticationMode, Backend, BackendType, Batch, EndpointDocument, Filters, KafkaProtocol, KafkaSecurity, Ordering,
    Route, RouteType, SaslMechanism,
};
use crate::findings::{Finding, Findings};
use crate::secrets;
use wsgateway_model::limits;

use super::{authentication, dead_letter, egress, NodeFacts};

/// Reports every broken rule that needs no compiling.
pub fn check(document: &EndpointDocument, findings: &mut Findings) {
    let settings = document.settings.as_ref();
    subprotocols(settings.and_then(|settings| settings.subprotocols.as_deref()).unwrap_or_default(), findings);
    if let Some(from) = &document.authentication {
        authentication::check(from, findings);
        secrets::check(from, findings);
    }
    if let Some(filters) = &document.filters {
        hosts_and_origins(filters, findings);
    }
    dead_letter::check(document, findings);
    let mut names = HashSet::new();
    for (index, route) in document.routes.iter().flatten().enumerate() {
        let path = format!("routes[{index}]");
        if !names.insert((route.kind, route.name.as_str())) {
            findings
                .add(format!("{path}.name"), format!("{:?} is the name of an earlier route of this type", route.name));
        }
        if route.name.chars().any(char::is_control) {
            findings.add(format!("{path}.name"), "must not contain control characters");
        }
        foreign_route_fields(route, &path, findings);
        for (index, backend) in route.backends.iter().flatten().enumerate() {
            foreign_backend_fields(backend, &format!("{path}.backends[{index}]"), findings);
        }
    }
}

fn subprotocols(offered: &[String], findings: &mut Findings) {
    let mut seen = HashSet::new();
    for (index, name) in offered.iter().enumerate() {
        let path = format!("settings.subprotocols[{index}]");
        if !text::is_token(name) {
            findings.add(path, "is no subprotocol name (letters, digits and some signs, no spaces)");
        } else if name.starts_with("bearer.") {
            findings.add(path, "must not start with \"bearer.\": that carries credentials");
        } else if !seen.insert(name) {
            findings.add(path, "is there twice");
        }
    }
}

fn hosts_and_origins(from: &Filters, findings: &mut Findings) {
    for (name, hosts) in [("whitelistHosts", &from.whitelist_hosts), ("blacklistHosts", &from.blacklist_hosts)] {
        for (index, host) in hosts.iter().flatten().enumerate() {
            let bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
            if let (false, Err(message)) = (bare_v6, text::check_host_port(host)) {
                findings.add(format!("filters.{name}[{index}]"), message);
            }
        }
    }
    for (index, origin) in from.allowed_origins.iter().flatten().enumerate() {
        let authority = origin.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
        let sound = authority.is_some_and(|(_, authority)| text::check_host_port(authority).is_ok());
        if origin != "*" && !sound {
            let path = format!("filters.allowedOrigins[{index}]");
            findings.add(path, "must be \"*\" or http(s)://host[:port], without a path");
        }
    }
}

fn foreign_route_fields(route: &Route, path: &str, findings: &mut Findings) {
    if !matches!(route.kind, RouteType::Custom | RouteType::Default) {
        of_clients_only(route, path, findings);
    }
    if route.kind == RouteType::Custom {
        return;
    }
    let foreign = [
        ("expression", route.expression.is_some()),
        ("key", route.key.is_some()),
        ("continue", route.go_on == Some(true)),
    ];
    for (field, _) in foreign.iter().filter(|(_, given)| *given) {
        findings.add(format!("{path}.{field}"), "only belongs to custom routes");
    }
}

/// What is about clients' events has no place on routes whose events the gateway makes.
fn of_clients_only(route: &Route, path: &str, findings: &mut Findings) {
    let given =
        [("schema", route.schema.as_ref().is_some_and(|schema| !schema.is_null())), ("ack", route.ack.is_some())];
    for (field, _) in given.iter().filter(|(_, given)| *given) {
        findings
            .add(format!("{path}.{field}"), "only belongs to default and custom routes: it is about clients' events");
    }
    for (index, backend) in route.backends.iter().flatten().enumerate() {
        if backend.reply == Some(true) {
            let path = format!("{path}.backends[{index}].reply");
            findings.add(path, "only belongs to default and custom routes: there is no event to reply to");
        }
        if backend.reply_topic.is_some() {
            let path = format!("{path}.backends[{index}].replyTopic");
            findings.add(path, "only belongs to default and custom routes: there is no event to reply to");
        }
    }
}

/// Fields and whether they are given, of one type of backend.
type Given = Vec<(&'static str, bool)>;

pub fn foreign_backend_fields(from: &Backend, path: &str, findings: &mut Findings) {
    let http: Given = vec![
        ("destination", from.destination.is_some()),
        ("method", from.method.is_some()),
        ("timeoutInMillis", from.timeout_in_millis.is_some()),
        ("connectTimeoutInMillis", from.connect_timeout_in_millis.is_some()),
        ("additionalHeaders", from.additional_headers.is_some()),
        ("retry", from.retry.is_some()),
        ("circuitBreaker", from.circuit_breaker.is_some()),
        ("reply", from.reply == Some(true)),
        ("signingSecret", from.signing_secret.is_some()),
        ("maxInFlight", from.max_in_flight.is_some()),
        ("batch", from.batch.is_some()),
    ];
    let kafka: Given = vec![
        ("topic", from.topic.is_some()),
        ("bootstrapServers", from.bootstrap_servers.is_some()),
        ("acks", from.acks.is_some()),
        ("retriesNr", from.retries_nr.is_some()),
        ("key", from.key.is_some()),
        ("headers", from.headers.is_some()),
        ("compression", from.compression.is_some()),
        ("replyTopic", from.reply_topic.is_some()),
        ("correlationHeader", from.correlation_header.is_some()),
        ("security", from.security.is_some()),
    ];
    let echo: Given = vec![("raw", from.raw == Some(true))];
    let (owner, foreign) = match from.kind {
        BackendType::Http => ("type \"http\"", [kafka, echo]),
        BackendType::Kafka => ("type \"kafka\"", [http, echo]),
        BackendType::Echo => ("type \"echo\"", [http, kafka]),
    };
    report_foreign(&foreign.concat(), path, owner, findings);
}

pub fn report_foreign(fields: &[(&str, bool)], path: &str, owner: &str, findings: &mut Findings) {
    for (field, _) in fields.iter().filter(|(_, given)| *given) {
        findings.add(format!("{path}.{field}"), format!("does not belong to {owner}"));
    }
}

fn security_warnings(security: &KafkaSecurity, path: &str, warnings: &mut Findings) {
    if (security.protocol, security.sasl_mechanism) == (KafkaProtocol::SaslPlaintext, Some(SaslMechanism::Plain)) {
        let message = "PLAIN over SASL_PLAINTEXT shows the password to everybody between here and the brokers";
        warnings.add(format!("{path}.security.saslMechanism"), message);
    }
}

/// What is legal, but will not work here as it may be meant. For documents without faults.
pub fn warnings(document: &EndpointDocument, node: &NodeFacts) -> Vec<Finding> {
    let mut warnings = Findings::default();
    if let Some(from) = &document.authentication {
        authentication::warnings(from, node, &mut warnings);
    }
    throttling_warnings(document, &mut warnings);
    ordering_warnings(document, &mut warnings);
    egress::warnings(document, &node.egress, &mut warnings);
    if let Some(backend) = &document.dead_letter {
        backend_warnings(backend, RouteType::Default, false, "deadLetter", node, &mut warnings);
    }
    let mut final_keys = HashSet::new();
    let custom_routes = document.routes.iter().flatten().any(|route| route.kind == RouteType::Custom);
    for (index, route) in document.routes.iter().flatten().enumerate() {
        let path = format!("routes[{index}]");
        if let Some(key) = route.key.as_deref() {
            if final_keys.contains(key) {
                warnings.add(format!("{path}.key"), "is never reached: an earlier route of this key does not continue");
            }
            if route.go_on != Some(true) {
                final_keys.insert(key);
            }
        }
        if let Some(backend) = &route.dead_letter {
            let path = format!("{path}.deadLetter");
            backend_warnings(backend, RouteType::Default, false, &path, node, &mut warnings);
        }
        for (index, backend) in route.backends.iter().flatten().enumerate() {
            let path = format!("{path}.backends[{index}]");
            backend_warnings(backend, route.kind, custom_routes, &path, node, &mut warnings);
        }
    }
    source_warnings(document, node, &mut warnings);
    warnings.0
}

fn source_warnings(document: &EndpointDocument, node: &NodeFacts, warnings: &mut Findings) {
    let anonymous = document.authentication.as_ref().is_none_or(|auth| auth.mode == AuthenticationMode::None);
    for (index, source) in document.sources.iter().flatten().enumerate() {
        let path = format!("sources[{index}]");
        if source.bootstrap_servers.is_none() && has_no_brokers(node) {
            let message = "has no brokers: neither \"bootstrapServers\" here nor kafka.bootstrap_servers on this node \
                           is set, so nothing is read";
            warnings.add(path.as_str(), message);
        }
        if anonymous && source.target.user.is_some() {
            warnings.add(format!("{path}.target.user"), "nobody has a user without authentication");
        }
        if let Some(security) = &source.security {
            security_warnings(security, &path, warnings);
        }
    }
}

fn has_no_brokers(node: &NodeFacts) -> bool {
    node.kafka_bootstrap_servers.as_deref().is_none_or(|servers| servers.trim().is_empty())
}

fn ordering_warnings(document: &EndpointDocument, warnings: &mut Findings) {
    let Some(settings) = &document.settings else { return };
    let default = limits::BACKEND_PARALLELISM_DEFAULT;
    let in_order = matches!(settings.ordering, None | Some(Ordering::Connection));
    if in_order && settings.backend_parallelism.is_some_and(|at_once| at_once != default) {
        let message = "has no effect with ordering \"connection\": a backend gets one event at a time";
        warnings.add("settings.backendParallelism", message);
    }
}

fn throttling_warnings(document: &EndpointDocument, warnings: &mut Findings) {
    let Some(limits) = &document.throttling else { return };
    let rates = [&limits.connections_per_second, &limits.messages_per_second, &limits.per_connection];
    if limits.max_connections.is_none() && rates.iter().all(|rate| rate.is_none()) && limits.per_identity.is_none() {
        warnings.add("throttling", "limits nothing");
    }
    let by_user = limits.per_identity.as_ref().is_some_and(|limit| matches!(limit.key.as_deref(), None | Some("user")));
    let anonymous = document.authentication.as_ref().is_none_or(|auth| auth.mode == AuthenticationMode::None);
    if by_user && anonymous {
        warnings.add("throttling.perIdentity.key", "nobody has a user without authentication: addresses count instead");
    }
}

fn backend_warnings(
    backend: &Backend,
    route: RouteType,
    custom_routes: bool,
    path: &str,
    node: &NodeFacts,
    warnings: &mut Findings,
) {
    if backend.kind == BackendType::Kafka && backend.bootstrap_servers.is_none() && has_no_brokers(node) {
        let message =
            "has no brokers: neither \"bootstrapServers\" here nor kafka.bootstrap_servers on this node is set, \
                       so its deliveries will fail";
        warnings.add(path, message);
    }
    if let Some(security) = &backend.security {
        security_warnings(security, path, warnings);
    }
    let connect = backend.connect_timeout_in_millis.unwrap_or(limits::HTTP_CONNECT_TIMEOUT_MILLIS_DEFAULT);
    let whole = backend.timeout_in_millis.unwrap_or(limits::HTTP_TIMEOUT_MILLIS_DEFAULT);
    if backend.kind == BackendType::Http && connect > whole {
        let message = format!("the connect timeout ({connect} ms) cannot exceed the whole timeout ({whole} ms)");
        warnings.add(path, message);
    }
    let alone = |batch: &&Batch| batch.max_events.is_none_or(|events| events == 1);
    if let Some(batch) = backend.batch.as_ref().filter(alone) {
        if batch.max_bytes.is_some() || batch.max_delay_millis.is_some_and(|millis| millis > 0) {
            warnings.add(format!("{path}.batch"), "has no effect with maxEvents 1: each event has its own request");
        }
    }
    if backend.kind == BackendType::Echo {
        if !matches!(route, RouteType::Default | RouteType::Custom) {
            warnings.add(path, "echo answers clients' events only; this route has none");
        } else if backend.raw == Some(true) && custom_routes {
            warnings.add(format!("{path}.raw"), "custom routes need decoded events, so nothing is answered before");
        }
    }
}
