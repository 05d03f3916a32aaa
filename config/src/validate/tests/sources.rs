//! Sources and topics of answers.

use super::*;

fn with_source(change: impl FnOnce(&mut Value)) -> Value {
    let mut source = json!({"type": "kafka", "topic": "t", "group": "g", "target": {"connection": "$.key"}});
    change(&mut source);
    json!({"path": "/x", "sources": [source]})
}

#[test]
fn source_faults() {
    let target = |target: Value| with_source(|source| source["target"] = target);
    let field = |name: &str, value: Value| with_source(|source| source[name] = value);
    let twice = json!({"path": "/x", "sources": [
        {"type": "kafka", "topic": "t", "group": "g", "target": {"all": true}},
        {"type": "kafka", "topic": "t", "group": "g", "target": {"connection": "$.key"}}]});
    for (document, path, part) in [
        (json!({"path": "/x", "sources": [{"type": "kafka"}]}), "sources[0]", "needs the field"),
        (field("type", json!("amqp")), "sources[0].type", "must be one of \"kafka\""),
        (field("topic", json!("a b")), "sources[0].topic", "only letters"),
        (field("group", json!("a\nb")), "sources[0].group", "control characters"),
        (field("bootstrapServers", json!("a:0")), "sources[0].bootstrapServers", "1–65535"),
        (
            field("autoOffsetReset", json!("none")),
            "sources[0].autoOffsetReset",
            "must be one of \"latest\", \"earliest\"",
        ),
        (
            field("security", json!({"protocol": "SSL", "username": "u"})),
            "sources[0].security.username",
            "does not belong",
        ),
        (field("retries", json!(1)), "sources[0].retries", "unknown field"),
        (target(json!({})), "sources[0].target", "exactly one of"),
        (target(json!({"all": true, "user": "$.key"})), "sources[0].target", "has 2"),
        (target(json!({"all": false})), "sources[0].target.all", "must be true"),
        (target(json!({"user": "key"})), "sources[0].target.user", "is not a JSONPath"),
        (target(json!({"user": "$.name"})), "sources[0].target.user", "$.key, $.headers or $.value"),
        (target(json!({"connection": "$[?match(@.a, 'x')]"})), "sources[0].target.connection", "matches"),
        (target(json!({"group": "key"})), "sources[0].target.group", "is not a JSONPath"),
        (target(json!({"group": "$.key", "user": "$.key"})), "sources[0].target", "has 2"),
        (twice, "sources[1].group", "an earlier source has the same topic and group"),
    ] {
        refused(&document, path, part);
    }
}

#[test]
fn source_warnings() {
    let document = with_source(|source| source["target"] = json!({"user": "$.headers.user"}));
    let facts = NodeFacts::default();
    let warnings = validate(&document.to_string(), &facts).expect("valid").warnings;
    let paths: Vec<_> = warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(paths, ["sources[0]", "sources[0].target.user"], "{warnings:?}");
}

#[test]
fn answers_are_for_clients_events() {
    let backend = json!({"type": "kafka", "topic": "t", "replyTopic": "answers"});
    let connect = json!({"path": "/x", "routes": [{"type": "connect", "name": "c", "backends": [backend]}]});
    refused(&connect, "routes[0].backends[0].replyTopic", "no event to reply to");
    let mut named = backend.clone();
    named["headers"] = json!({"kafka_replyTopic": "x"});
    let named = json!({"path": "/x", "routes": [{"type": "default", "name": "d", "backends": [named]}]});
    refused(&named, "routes[0].backends[0].headers.kafka_replyTopic", "set by the gateway");
    let http = json!({"type": "http", "destination": "http://h", "replyTopic": "answers"});
    let http = json!({"path": "/x", "routes": [{"type": "default", "name": "d", "backends": [http]}]});
    refused(&http, "routes[0].backends[0].replyTopic", "does not belong to type");
}
