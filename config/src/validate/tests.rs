//! Tests of validation: each kind of wrong input and what is said of it.

mod credentials;
mod dead_letters;
mod delivery;
mod sources;

use super::*;
use serde_json::json;
use wsgateway_model::secret::SecretsSettings;

const SAMPLE: &str = include_str!("../testdata/endpoint-config-sample.json");

fn node() -> NodeFacts {
    NodeFacts { kafka_bootstrap_servers: Some("127.0.0.1:9092".into()), ..NodeFacts::default() }
}

/// Findings of a document as "path: message".
fn faults(document: &Value) -> Vec<String> {
    match validate(&document.to_string(), &node()) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.into_iter().map(|f| format!("{}: {}", f.path, f.message)).collect(),
    }
}

fn base() -> Value {
    json!({"path": "/chat/{room}", "routes": []})
}

fn with(pointer: &str, value: Value) -> Value {
    let mut document = base();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut document;
    for step in parent.split('/').skip(1) {
        at = at.as_object_mut().unwrap().entry(step).or_insert(json!({}));
    }
    at[name] = value;
    document
}

fn with_backend(backend: Value) -> Value {
    with("/routes", json!([{"type": "default", "name": "d", "backends": [backend]}]))
}

fn with_expression(expression: Value) -> Value {
    with("/routes", json!([{"type": "custom", "name": "c", "expression": expression, "backends": []}]))
}

#[track_caller]
fn refused(document: &Value, path: &str, part: &str) {
    let faults = faults(document);
    let found = faults.iter().any(|fault| fault.split_once(": ").is_some_and(|(p, m)| p == path && m.contains(part)));
    assert!(found, "{document}\nexpected {path}: …{part}…\ngot {faults:#?}");
}

#[test]
fn the_sample_is_accepted() {
    let validated = validate(SAMPLE, &node()).unwrap();
    assert_eq!(validated.warnings, vec![]);
    let without_brokers = validate(SAMPLE, &NodeFacts::default()).unwrap().warnings;
    let paths: Vec<_> = without_brokers.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(paths, ["routes[0].backends[1]", "routes[1].backends[1]"]);
}

#[test]
fn a_full_document_is_accepted() {
    let full = json!({
        "path": "/chat/{room}/{*rest}", "name": "chat", "throttling": null, "ack": null, "transform": {"outbound": null},
        "settings": {"ordering": "connection", "orderingKey": null, "backendParallelism": 8, "maxInFlight": 64,
            "heartbeatIntervalInSeconds": 15, "heartbeatMaxMissingPingFrames": 3, "idleTimeoutInSeconds": null,
            "maxConnectionDurationInSeconds": 60, "maxMessageBytes": 131072, "subprotocols": ["a", "b"],
            "outbox": {"maxBytes": 262144, "maxMessages": 256, "whenFull": "dropOldest"}, "onVersionChange": "close"},
        "authentication": {"mode": "apiKey", "in": "query", "name": "k", "keys": [{"id": "a", "key": "0123456789abcdef"}]},
        "filters": {"whitelistIps": ["10.0.0.0/8", "127.0.0", "::1"], "blacklistIps": [], "whitelistHosts": ["h:80", "::1"],
            "blacklistHosts": [], "allowedOrigins": ["https://a.example"]},
        "routeSelector": "$.action",
        "routes": [
            {"type": "custom", "name": "k", "key": "go", "continue": true, "ack": null, "transform": null, "backends": [
                {"type": "http", "destination": "http://h/{room}/{rest}", "method": "PUT", "timeoutInMillis": 100,
                 "connectTimeoutInMillis": 10, "additionalHeaders": {"X-A": "b"}, "required": false, "maxInFlight": 5,
                 "reply": false, "retry": null, "batch": {"maxEvents": 1, "maxDelayMillis": 0}},
                {"type": "kafka", "topic": "t", "bootstrapServers": "a:1,b", "acks": "1", "retriesNr": 0,
                 "key": "$.id", "headers": {"a": "b"}, "compression": "zstd", "security": null}]},
            {"type": "custom", "name": "e", "expression": {"not": {"exists": {"path": "$..a", "source": "connection"}}}},
            {"type": "default", "name": "k", "backends": [{"type": "echo", "raw": false}]}
        ]
    });
    assert_eq!(faults(&full), Vec::<String>::new());
    assert_eq!(faults(&json!({"path": "/a"})), Vec::<String>::new());
}

#[test]
fn every_fault_is_reported() {
    let document = json!({"path": "/a", "nam": 1, "settings": {"maxInFlight": 0}, "routes": [
        {"type": "custom", "name": "a", "ack": {"when": "sent"}, "expression": {"or": [{"equals": {}}]}}]});
    for (path, part) in [
        ("nam", "did you mean \"name\"?"),
        ("settings.maxInFlight", "must be 1–1024, is 0"),
        ("routes[0].expression.or[0].equals", "did you mean \"equal\"?"),
        ("routes[0].ack.when", "must be one of \"received\", \"delivered\""),
    ] {
        refused(&document, path, part);
    }
}

#[test]
fn json_faults_have_a_place() {
    let fault = |text: &str| validate(text, &node()).unwrap_err().remove(0);
    let syntax = fault("{\"path\": \"/a\",\n  routes: []}");
    assert!(syntax.path.is_empty() && syntax.message.contains("line 2 column 3"), "{syntax:?}");
    assert!(fault("{\"path\": \"/a\", \"path\": \"/b\"}").message.contains("duplicate field `path`"));
    assert!(fault("{\"path\": \"/a\", \"settings\": {\"maxInFlight\": 1e400}}").message.contains("out of range"));
    let fraction = fault("{\"path\": \"/a\", \"settings\": {\"maxInFlight\": 5.0}}");
    assert_eq!(fraction.path, "settings.maxInFlight");
    assert!(fault("[]").message.contains("must be an object"));
    assert!(fault("").message.contains("not JSON"));
    assert!(fault(&"[".repeat(200_000)).message.contains("not JSON"));
    assert!(fault(&format!("\"{}\"", "a".repeat(limits::DOCUMENT_BYTES_MAX))).message.contains("at most"));
}

#[test]
fn shapes_and_ranges() {
    for (document, path, part) in [
        (json!({"routes": []}), "", "needs the field \"path\""),
        (with("/setings", json!({})), "setings", "did you mean \"settings\"?"),
        (with("/zzzzzz", json!({})), "zzzzzz", "is not known here"),
        (with("/a.b", json!({})), "[\"a.b\"]", "is not known here"),
        (
            with("/settings/heartbeatIntervalInSeconds", json!(3)),
            "settings.heartbeatIntervalInSeconds",
            "must be 5–60, is 3",
        ),
        (
            with("/settings/heartbeatIntervalInSeconds", json!(61)),
            "settings.heartbeatIntervalInSeconds",
            "must be 5–60",
        ),
        (
            with("/settings/heartbeatIntervalInSeconds", json!("9")),
            "settings.heartbeatIntervalInSeconds",
            "must be a whole number, is \"9\"",
        ),
        (with("/settings/heartbeatMaxMissingPingFrames", json!(11)), "settings.heartbeatMaxMissingPingFrames", "1–10"),
        (with("/settings/maxMessageBytes", json!(-1)), "settings.maxMessageBytes", "must be 1–16777216"),
        (with("/settings/maxMessageBytes", json!(1.5)), "settings.maxMessageBytes", "whole number"),
        (
            with("/settings/outbox/whenFull", json!("wait")),
            "settings.outbox.whenFull",
            "must be one of \"close\", \"dropOldest\", \"dropNewest\", \"coalesce\", is \"wait\"",
        ),
        (with("/settings/outbox/whenFull", json!("coalesce")), "settings.outbox.coalesceBy", "is needed with whenFull"),
        (with("/settings/outbox/coalesceBy", json!("$.a")), "settings.outbox.coalesceBy", "only belongs to whenFull"),
        (
            with("/settings/outbox", json!({"whenFull": "coalesce", "coalesceBy": "symbol"})),
            "settings.outbox.coalesceBy",
            "is not a JSONPath",
        ),
        (with("/resume", json!({"windowInSeconds": 0})), "resume.windowInSeconds", "must be 1–3600"),
        (with("/resume", json!({"maxBytes": 1})), "resume.maxBytes", "must be 1024–16777216"),
        (with("/resume", json!({"bytes": 1})), "resume.bytes", "unknown field"),
        (with("/resume", json!(true)), "resume", "must be an object"),
        (with("/settings", json!([])), "settings", "must be an object, is a list"),
        (with("/authentication/mode", json!("magic")), "authentication.mode", "must be one of"),
        (with("/authentication", json!({})), "authentication", "needs the field \"mode\""),
        (with("/routes", json!([{"type": "default"}])), "routes[0]", "needs the field \"name\""),
        (with("/routes", json!([{"type": "defaul", "name": "a"}])), "routes[0].type", "must be one of"),
        (
            with("/routes", json!(vec![json!({"type": "custom", "name": "a"}); 256])),
            "routes",
            "at most 255 entries, has 256",
        ),
        (
            with("/routes", json!([{"type": "default", "name": "a", "backends": vec![json!({"type": "echo"}); 11]}])),
            "routes[0].backends",
            "at most 10 entries",
        ),
        (
            with_backend(json!({"type": "http", "destination": "http://h", "timeoutInMillis": 0})),
            "routes[0].backends[0].timeoutInMillis",
            "1–120000, is 0",
        ),
        (
            with_backend(json!({"type": "http", "destination": "http://h", "additionalHeaders": {"3": 1}})),
            "routes[0].backends[0].additionalHeaders.3",
            "must be a string",
        ),
        (with("/filters/whitelistIps", json!("x")), "filters.whitelistIps", "must be a list"),
    ] {
        refused(&document, path, part);
    }
}

#[test]
fn rules_between_fields() {
    let two = |a: Value, b: Value| with("/routes", json!([a, b]));
    let keyed = json!({"type": "custom", "name": "a", "key": "k"});
    let custom = |expression: Value| json!({"type": "custom", "name": "a", "expression": expression});
    let exists = json!({"exists": {"path": "$.a"}});
    for (document, path, part) in [
        (with("/path", json!("chat")), "path", "must start with"),
        (with("/path", json!("/{a")), "path", "braces"),
        (with("/routeSelector", json!("$.")), "routeSelector", "is not a JSONPath"),
        (with("/settings/subprotocols", json!(["a b"])), "settings.subprotocols[0]", "no subprotocol name"),
        (with("/settings/subprotocols", json!(["a", "a"])), "settings.subprotocols[1]", "twice"),
        (with("/settings/subprotocols", json!(["bearer.x"])), "settings.subprotocols[0]", "bearer."),
        (two(custom(exists.clone()), custom(exists.clone())), "routes[1].name", "earlier route"),
        (
            two(json!({"type": "default", "name": "a"}), json!({"type": "default", "name": "b"})),
            "routes[1].type",
            "already",
        ),
        (with("/routes", json!([keyed])), "routes[0].key", "routeSelector"),
        (
            with("/routes", json!([{"type": "custom", "name": "a"}])),
            "routes[0]",
            "needs an \"expression\" or a \"key\"",
        ),
        (
            with("/routes", json!([{"type": "custom", "name": "a", "key": "k", "expression": exists}])),
            "routes[0]",
            "not both",
        ),
        (
            with("/routes", json!([{"type": "connect", "name": "a", "key": "k"}])),
            "routes[0].key",
            "only belongs to custom",
        ),
        (
            with("/filters/whitelistIps", json!(["10.0.0.0/8", "300.1"])),
            "filters.whitelistIps[1]",
            "is not an IP address",
        ),
        (with("/filters/blacklistHosts", json!(["http://x"])), "filters.blacklistHosts[0]", "must be 1–65535"),
        (with("/filters/allowedOrigins", json!(["https://a/"])), "filters.allowedOrigins[0]", "without a path"),
        (with("/filters/allowedOrigins", json!(["null"])), "filters.allowedOrigins[0]", "must be"),
        (with("/authentication", json!({"mode": "apiKey"})), "authentication.keys", "at least one key"),
        (
            with("/authentication", json!({"mode": "apiKey", "issuer": "x", "keys": []})),
            "authentication.issuer",
            "does not belong",
        ),
        (
            with("/authentication", json!({"mode": "apiKey", "keys": [{"id": "a"}]})),
            "authentication.keys[0]",
            "needs a \"key\"",
        ),
        (
            with(
                "/authentication",
                json!({"mode": "apiKey", "keys": [{"id": "a", "key": "x"}, {"id": "a", "key": "y"}]}),
            ),
            "authentication.keys[1].id",
            "earlier key",
        ),
        (
            with(
                "/authentication",
                json!({"mode": "apiKey", "keys": [{"id": "a", "key": "x"}, {"id": "b", "key": "x"}]}),
            ),
            "authentication.keys[1]",
            "same key",
        ),
        (
            with(
                "/authentication",
                json!({"mode": "apiKey", "in": "subprotocol", "keys": [{"id": "a", "key": "x y"}]}),
            ),
            "authentication.keys[0].key",
            "cannot carry",
        ),
        (
            with("/authentication", json!({"mode": "apiKey", "name": "Host", "keys": [{"id": "a", "key": "x"}]})),
            "authentication.name",
            "no header",
        ),
    ] {
        refused(&document, path, part);
    }
}

#[test]
fn backend_faults() {
    let http = |field: &str, value: Value| {
        let mut backend = json!({"type": "http", "destination": "http://h/a"});
        backend[field] = value;
        with_backend(backend)
    };
    let kafka = |field: &str, value: Value| {
        let mut backend = json!({"type": "kafka", "topic": "t"});
        backend[field] = value;
        with_backend(backend)
    };
    let at = |rest: &str| format!("routes[0].backends[0]{rest}");
    for (document, path, part) in [
        (with_backend(json!({"type": "http"})), at(""), "needs a \"destination\""),
        (http("destination", json!("ftp://h")), at(".destination"), "http://"),
        (http("destination", json!("ftp://h")), at(".destination"), "starts with https:// or http://"),
        (http("destination", json!("https://[::1]/")), at(".destination"), "must name its host"),
        (http("destination", json!("http://h/{user}")), at(".destination"), "no parameter \"user\""),
        (http("destination", json!("http://{room}/")), at(".destination"), "placeholders in its host"),
        (http("destination", json!("http://h/{room")), at(".destination"), "placeholders are written"),
        (http("method", json!("GET")), at(".method"), "must be one of"),
        (http("additionalHeaders", json!({"a b": "c"})), at(".additionalHeaders[\"a b\"]"), "no header name"),
        (http("additionalHeaders", json!({"ce-id": "c"})), at(".additionalHeaders.ce-id"), "set by the gateway"),
        (http("additionalHeaders", json!({"X": "a\nb"})), at(".additionalHeaders.X"), "printable"),
        (http("additionalHeaders", json!({"X": "a", "x": "b"})), at(".additionalHeaders.x"), "twice"),
        (http("topic", json!("t")), at(".topic"), "does not belong to type \"http\""),
        (with_backend(json!({"type": "kafka"})), at(""), "needs a \"topic\""),
        (kafka("topic", json!("a b")), at(".topic"), "only letters"),
        (kafka("topic", json!("..")), at(".topic"), "only letters"),
        (kafka("topic", json!("t".repeat(250))), at(".topic"), "must have 1–249 characters, has 250"),
        (kafka("bootstrapServers", json!("a:0")), at(".bootstrapServers"), "1–65535"),
        (kafka("bootstrapServers", json!("a:1,,b:2")), at(".bootstrapServers"), "no host name"),
        (kafka("key", json!("user")), at(".key"), "must be \"connectionId\""),
        (kafka("key", json!("$[")), at(".key"), "is not a JSONPath"),
        (kafka("headers", json!({"ce_id": "x"})), at(".headers.ce_id"), "set by the gateway"),
        (kafka("acks", json!(1)), at(".acks"), "must be"),
        (kafka("replyTopic", json!("a b")), at(".replyTopic"), "only letters"),
        (kafka("correlationHeader", json!("x")), at(".correlationHeader"), "needs a \"replyTopic\""),
        (kafka("security", json!("x")), at(".security"), "must be an object, is a string"),
        (
            kafka("security", json!({"protocol": "TLS"})),
            at(".security.protocol"),
            "must be one of \"PLAINTEXT\", \"SSL\"",
        ),
        (kafka("security", json!({"username": "u"})), at(".security"), "needs the field \"protocol\""),
        (
            kafka("security", json!({"protocol": "SASL_SSL", "username": "u", "password": "${env:A}"})),
            at(".security"),
            "needs the field \"saslMechanism\"",
        ),
        (
            kafka("security", json!({"protocol": "SSL", "username": "u"})),
            at(".security.username"),
            "does not belong to SSL",
        ),
        (
            kafka("security", json!({"protocol": "PLAINTEXT", "ca": "${env:A}"})),
            at(".security.ca"),
            "does not belong to PLAINTEXT",
        ),
        (
            kafka("security", json!({"protocol": "SSL", "ca": "/etc/ca.pem"})),
            at(".security.ca"),
            "is no certificate in PEM",
        ),
        (
            kafka("security", json!({"protocol": "SSL", "ca": "x ${file:/run/secrets/ca}"})),
            at(".security.ca"),
            "must be one reference",
        ),
        (kafka("security", json!({"protocol": "SSL", "privateKey": "${env:A}"})), at(".security"), "either both"),
        (
            kafka("security", json!({"protocol": "SASL_SSL", "saslMechanism": "GSSAPI"})),
            at(".security.saslMechanism"),
            "must be one of \"PLAIN\"",
        ),
        (
            kafka("security", json!({"protocol": "SASL_SSL", "password": 12})),
            at(".security.password"),
            "must be a string, is a number",
        ),
        (with_backend(json!({"type": "echo", "destination": "http://h"})), at(".destination"), "does not belong"),
    ] {
        refused(&document, &path, part);
    }
}

#[test]
fn expression_faults() {
    let nested = (0..40).fold(json!({"exists": {"path": "$.a"}}), |inner, _| json!({"not": inner}));
    let wide = json!({"or": vec![json!({"exists": {"path": "$.a"}}); 257]});
    let at = |rest: &str| format!("routes[0].expression{rest}");
    for (expression, path, part) in [
        (json!({}), at(""), "has no operator"),
        (json!({"and": [], "or": []}), at(""), "exactly one operator, has 2"),
        (json!({"equal": {"path": "$", "value": 1}, "gt": {"path": "$", "value": 1}}), at(""), "exactly one operator"),
        (json!({"and": []}), at(".and"), "must not be empty"),
        (json!({"equal": {"path": "$.a"}}), at(".equal.value"), "is missing"),
        (json!({"equal": {"value": 1}}), at(".equal"), "needs the field \"path\""),
        (json!({"equal": {"path": "a", "value": 1}}), at(".equal.path"), "is not a JSONPath"),
        (json!({"equal": {"path": "$", "value": 1, "source": "x"}}), at(".equal.source"), "must be one of"),
        (
            json!({"not": {"or": [{"matches": {"path": "$", "value": "("}}]}}),
            at(".not.or[0].matches.value"),
            "no regular expression",
        ),
        (json!({"matches": {"path": "$", "value": 1}}), at(".matches.value"), "must be a string"),
        (json!({"matches": {"path": "$", "value": "(?:\\w{1000}){1000}"}}), at(".matches.value"), "too much"),
        (json!({"matches": {"path": "$", "value": "a".repeat(3000)}}), at(".matches.value"), "at most 2048 bytes"),
        (json!({"gt": {"path": "$", "value": true}}), at(".gt.value"), "must be a number or a string"),
        (json!({"in": {"path": "$", "value": "a"}}), at(".in.value"), "must be a list"),
        (json!({"startsWith": {"path": "$", "value": 1}}), at(".startsWith.value"), "must be a string"),
        (json!({"exists": {"path": "$", "value": "yes"}}), at(".exists.value"), "true or false"),
        (json!({"exists": {"path": "$..a..b"}}), at(".exists.path"), "descendant"),
        (json!({"exists": {"path": "$[?match(@.a, 'x')]"}}), at(".exists.path"), "use the operator \"matches\""),
        (nested, format!("{}{}", at(""), ".not".repeat(32)), "deeper than 32"),
        (wide, at(""), "at most 256 comparisons, has 257"),
    ] {
        refused(&with_expression(expression), &path, part);
    }
}

#[test]
fn templates_and_schemas_are_compiled_and_tried() {
    let route = |kind: &str, field: &str, value: Value| {
        let mut route = json!({"type": kind, "name": "d"});
        route[field] = value;
        with("/routes", json!([route]))
    };
    let inbound = |text: &str| route("default", "transform", json!({"inbound": text}));
    for (document, path, part) in [
        (
            inbound("{\n{{ event.x | b64 }}}"),
            "routes[0].transform.inbound",
            "line 2 of the template: there is no filter",
        ),
        (inbound("{{ evnt.x }}"), "routes[0].transform.inbound", "no variable \"evnt\""),
        (inbound("{% for x in event.list %}{{ x }}"), "routes[0].transform.inbound", "unexpected end of input"),
        (inbound("{\"a\": }"), "routes[0].transform.inbound", "the output is not JSON"),
        (inbound("{% include 'x' %}1"), "routes[0].transform.inbound", "{% include %} is not available"),
        (
            inbound("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}1"),
            "routes[0].transform.inbound",
            "also on an empty event",
        ),
        (
            route("connect", "transform", json!({"inbound": "{{ ack }}"})),
            "routes[0].transform.inbound",
            "no variable \"ack\"",
        ),
        (with("/transform/outbound", json!("{{ event")), "transform.outbound", "line 1"),
        (with("/ack", json!({"when": "received", "template": "{{ acks }}"})), "ack.template", "no variable"),
        (route("default", "ack", json!({"when": "received", "template": "x"})), "routes[0].ack.template", "not JSON"),
        (route("error", "ack", json!({"when": "received"})), "routes[0].ack", "only belongs to default and custom"),
        (route("connect", "schema", json!({})), "routes[0].schema", "only belongs to default and custom"),
        (
            route("disconnect", "backends", json!([{"type": "http", "destination": "http://h", "reply": true}])),
            "routes[0].backends[0].reply",
            "only belongs to default and custom",
        ),
        (
            route("default", "schema", json!({"properties": {"a b": {"items": [{"type": "x"}]}}})),
            "routes[0].schema.properties[\"a b\"]",
            "",
        ),
        (
            route("default", "schema", json!({"allOf": [true, {"$ref": "x"}]})),
            "routes[0].schema.allOf[1][\"$ref\"]",
            "fetched",
        ),
    ] {
        if part.is_empty() {
            assert!(faults(&document)[0].starts_with(path), "{:?}", faults(&document));
            continue;
        }
        refused(&document, path, part);
    }
    let sound = json!({"path": "/a", "transform": {"outbound": "{{ event }}"}, "ack": {"when": "delivered", "template": "{{ ack }}"},
        "routes": [
            {"type": "default", "name": "d", "schema": {"type": "object"}, "transform": {"inbound": "{\"a\": {{ event.a }}}"},
             "ack": {"when": "received"}, "backends": [{"type": "http", "destination": "http://h", "reply": true}]},
            {"type": "connect", "name": "c", "schema": null, "transform": {"inbound": "{{ event.path }}"}}]});
    assert_eq!(faults(&sound), Vec::<String>::new());
}

#[test]
fn warnings_name_what_cannot_work() {
    let document = json!({"path": "/a", "routeSelector": "$.a",
        "authentication": {"mode": "apiKey", "keys": [{"id": "a", "key": "short"}]},
        "routes": [
            {"type": "connect", "name": "c", "backends": [{"type": "echo"}]},
            {"type": "custom", "name": "1", "key": "k", "backends": [{"type": "http", "destination": "http://h", "timeoutInMillis": 100}]},
            {"type": "custom", "name": "2", "key": "k", "backends": [{"type": "kafka", "topic": "t"}]},
            {"type": "default", "name": "d", "backends": [{"type": "echo", "raw": true}]}]});
    let facts = NodeFacts { kafka_bootstrap_servers: Some(" ".into()), ..NodeFacts::default() };
    let warnings = validate(&document.to_string(), &facts).unwrap().warnings;
    let paths: Vec<_> = warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "authentication.keys[0].key",
            "routes[0].backends[0]",
            "routes[1].backends[0]",
            "routes[2].key",
            "routes[2].backends[0]",
            "routes[3].backends[0].raw"
        ]
    );
}

#[test]
fn limits_have_ranges_and_keys() {
    let all = json!({"maxConnections": 100_000_000, "connectionsPerSecond": {"rate": 0.01},
        "messagesPerSecond": {"rate": 1_000_000, "burst": 1_000_000}, "perConnection": {"rate": 2.5, "burst": 1},
        "perIdentity": {"key": "$.claims.tenant", "rate": 1}, "scope": "node", "onExceeded": "drop"});
    assert_eq!(faults(&with("/throttling", all)), Vec::<String>::new());
    for (limits, path, part) in [
        (json!({"maxConnections": 0}), "maxConnections", "must be 1–100000000, is 0"),
        (json!({"maxConnections": 1.5}), "maxConnections", "whole number"),
        (json!({"messagesPerSecond": 5}), "messagesPerSecond", "must be an object"),
        (json!({"messagesPerSecond": {}}), "messagesPerSecond", "needs the field \"rate\""),
        (json!({"messagesPerSecond": {"rate": 0}}), "messagesPerSecond.rate", "must be 0.01–1000000, is 0"),
        (json!({"connectionsPerSecond": {"rate": 2e6}}), "connectionsPerSecond.rate", "must be 0.01–1000000"),
        (json!({"perConnection": {"rate": 1, "burst": 0}}), "perConnection.burst", "must be 1–1000000, is 0"),
        (json!({"perConnection": {"rate": 1, "bursts": 2}}), "perConnection.bursts", "did you mean \"burst\"?"),
        (json!({"perIdentity": {"rate": -1}}), "perIdentity.rate", "must be 0.01–1000000"),
        (
            json!({"perIdentity": {"key": "tenant", "rate": 1}}),
            "perIdentity.key",
            "must be \"user\", \"ip\" or a JSONPath",
        ),
        (json!({"perIdentity": {"key": "$..a..b", "rate": 1}}), "perIdentity.key", "descendant"),
        (json!({"perIdentity": {"key": "$.a[", "rate": 1}}), "perIdentity.key", "is not a JSONPath"),
        (json!({"scope": "world"}), "scope", "must be one of \"cluster\", \"node\""),
        (json!({"onExceeded": "wait"}), "onExceeded", "must be one of \"reject\", \"drop\", \"close\""),
        (json!({"perUser": {}}), "perUser", "is not known here"),
    ] {
        refused(&with("/throttling", limits), &format!("throttling.{path}"), part);
    }
    let warned = |limits: Value| {
        let validated = validate(&with("/throttling", limits).to_string(), &node()).unwrap();
        validated.warnings.into_iter().map(|warning| warning.path).collect::<Vec<_>>()
    };
    assert_eq!(warned(json!({"scope": "node"})), ["throttling"]);
    assert_eq!(warned(json!({"perIdentity": {"rate": 1}})), ["throttling.perIdentity.key"]);
    assert!(warned(json!({"perIdentity": {"key": "ip", "rate": 1}})).is_empty());
}

#[test]
fn bombs_are_refused_quickly() {
    let started = std::time::Instant::now();
    let leaf = |n: usize| json!({"matches": {"path": "$.a", "value": format!("(?:\\w{{{}}}){{20}}", 100 + n)}});
    let routes: Vec<_> = (0..100)
        .map(|n| json!({"type": "custom", "name": n.to_string(), "expression": {"or": (0..100).map(leaf).collect::<Vec<_>>()}}))
        .collect();
    assert!(!faults(&with("/routes", json!(routes))).is_empty());
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn secrets_are_checked_as_what_they_stand_for() {
    // cargo sets variables of this prefix for every test.
    let settings = SecretsSettings { env_prefix: "CARGO_PKG_".to_owned(), file_dirs: Vec::new() };
    let facts = NodeFacts {
        secrets: NodeSecrets::new(&["the secret of the cluster".to_owned()], &settings).unwrap(),
        ..NodeFacts::default()
    };
    let keys = |first: &str, second: &str| {
        json!({"path": "/a", "authentication": {"mode": "apiKey", "in": "subprotocol",
            "keys": [{"id": "a", "key": first}, {"id": "b", "key": second}]}})
        .to_string()
    };
    let (variable, its_value) = ("${env:CARGO_PKG_LICENSE}", env!("CARGO_PKG_LICENSE"));
    let validated = validate(&keys(variable, "0123456789abcdef"), &facts).unwrap();
    let key = validated.document.authentication.unwrap().keys.unwrap().remove(0);
    assert_eq!(key.key.as_deref(), Some(its_value), "plain for whoever compiles it");
    assert_eq!(validated.warnings[0].path, "authentication.keys[0].key", "it is short");
    let twice = validate(&keys(variable, its_value), &facts).unwrap_err();
    assert!(twice[0].message.contains("same key as an earlier one"), "{twice:?}");
    let unset = validate(&keys(variable, "${env:CARGO_PKG_NONE}"), &facts).unwrap_err();
    assert_eq!(unset[0].path, "authentication.keys[1].key");
    assert!(unset[0].message.contains("CARGO_PKG_NONE"), "{unset:?}");
    // Without a node only how they are written is known.
    assert!(validate(&keys(variable, "${env:NONE}"), &node()).is_ok());

    let long = "x".repeat(4096);
    let secret =
        |text: &str| json!({"path": "/a", "authentication": {"mode": "none", "clientSecret": text}}).to_string();
    let stored = facts.secrets.kept(&secret(&long), None).unwrap();
    // A ciphertext in base64 has three equal letters somewhere once in fifty times, and never this many.
    assert!(stored.len() > 5000 && !stored.contains(&long[..16]));
    assert!(validate(&stored, &facts).is_ok(), "what is encrypted is longer than what may be written");
    let longer = validate(&secret(&format!("{long}x")), &facts).unwrap_err();
    assert_eq!(longer[0].path, "authentication.clientSecret");
    assert!(longer[0].message.contains("4096") && !longer[0].message.contains("xx"), "{longer:?}");
}
