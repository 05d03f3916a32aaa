//! Tests of compiling documents.

use super::*;
use serde_json::json;
use wsgateway_model::authentication::Authentication;
use wsgateway_model::endpoint::WhenFull;
use wsgateway_model::endpoint::{BackendKind, HttpMethod};
use wsgateway_model::expression::RouteScratch;
use wsgateway_model::json_path::JsonPath;
use wsgateway_model::projection::Projection;
use wsgateway_model::secret::Secret;

fn compiled(document: serde_json::Value) -> CompiledEndpoint {
    let document: EndpointDocument = serde_json::from_value(document).unwrap();
    compile("e1", 3, &document).unwrap()
}

#[test]
fn the_sample_compiles() {
    let document: EndpointDocument =
        serde_json::from_str(include_str!("../testdata/endpoint-config-sample.json")).unwrap();
    let endpoint = compile("e1", 1, &document).unwrap();
    assert_eq!(endpoint.auth, Authentication::default());
    assert!(endpoint.looked_at().is_some_and(|part| !part.is_whole()));
    let connect = endpoint.routes.connect.as_ref().unwrap();
    assert_eq!(connect.backends.len(), 2);
    let BackendKind::Http(http) = &connect.backends[0].kind else { panic!("{connect:?}") };
    assert_eq!(http.destination.as_constant(), Some("http://service.1.example.com/connect"));
    assert_eq!(http.timeout, Duration::from_millis(300));
    assert_eq!(http.headers, [("x-debug-id".to_owned(), Secret::new("id"))]);
    assert_eq!(&*connect.backends[1].label, "connect/Connect/1");
    assert!(endpoint.routes.error.is_none());
    // Its blacklist holds the same prefix as its whitelist.
    assert!(endpoint.filters.admit("127.0.0.1".parse().unwrap(), Some("localhost"), None, None).is_err());
    let mut scratch = RouteScratch::default();
    // $.b would have to be 8 and "b" at once, unless $.a matches.
    for (event, expected) in
        [(json!({"a": "xax", "b": "b"}), vec![0]), (json!({"b": 8}), vec![]), (json!({"a": "a", "b": "c"}), vec![])]
    {
        assert_eq!(endpoint.routes.custom.select(&event, &json!({}), &mut scratch), expected, "{event}");
    }
}

#[test]
fn defaults_are_those_of_the_document_language() {
    let endpoint = compiled(json!({"path": "/a", "routes": [{"type": "default", "name": "d", "backends": [
        {"type": "http", "destination": "http://h"}, {"type": "kafka", "topic": "t"}, {"type": "echo", "required": false}]}]}));
    let settings = &endpoint.settings;
    assert_eq!(
        (settings.max_in_flight, settings.heartbeat_interval.as_secs(), settings.heartbeat_max_missing),
        (64, 15, 3)
    );
    assert_eq!(
        (settings.idle_timeout, settings.max_connection_duration, settings.max_message_bytes),
        (None, None, 131_072)
    );
    let outbox =
        OutboxSettings { max_bytes: 262_144, max_messages: 256, when_full: WhenFull::Close, coalesce_by: None };
    assert_eq!((&settings.outbox, settings.on_version_change), (&outbox, OnVersionChange::Keep));
    assert!(endpoint.looked_at().is_none() && endpoint.resume.is_none());
    let backends = &endpoint.routes.default.as_ref().unwrap().backends;
    let BackendKind::Http(http) = &backends[0].kind else { panic!() };
    assert_eq!(
        (http.method, http.timeout.as_millis(), http.connect_timeout.as_millis()),
        (HttpMethod::Post, 1500, 200)
    );
    assert!(backends[0].required && !backends[2].required);
    assert!(matches!(backends[2].kind, BackendKind::Echo { raw: false }));
}

#[test]
fn kafka_keys_from_the_event_are_looked_at() {
    let endpoint = compiled(json!({"path": "/a", "routes": [{"type": "default", "name": "d", "backends": [
        {"type": "kafka", "topic": "t", "key": "$.id"}]}]}));
    let mut id = Projection::default();
    id.add(&JsonPath::parse("$.id").unwrap());
    assert_eq!(endpoint.looked_at(), Some(id));
}

#[test]
fn an_endpoint_never_opens_up_by_mistake() {
    for mode in ["basic", "apiKey", "bearer", "jwt", "oauth2", "authorizer"] {
        let document = json!({"path": "/a", "authentication": {"mode": mode}});
        let document: EndpointDocument = serde_json::from_value(document).unwrap();
        assert!(compile("e1", 1, &document).is_err(), "{mode} without what it needs");
    }
}

#[test]
fn topics_of_answers_are_sources_each_once() {
    let backend = |topic: &str| json!({"type": "kafka", "topic": topic, "replyTopic": "answers"});
    let other = json!({"type": "kafka", "topic": "c", "replyTopic": "answers", "bootstrapServers": "h:1"});
    let endpoint = compiled(json!({"path": "/a",
        "sources": [{"type": "kafka", "topic": "t", "group": "g", "target": {"all": true}}],
        "routes": [{"type": "default", "name": "d", "backends": [backend("a"), backend("b"), other]}]}));
    let labels: Vec<_> = endpoint.sources.iter().map(|source| source.label()).collect();
    assert_eq!(labels, ["t/g", "answers/wsgateway-replies-e1", "answers/wsgateway-replies-e1"]);
    assert_eq!(endpoint.sources[2].bootstrap_servers.as_deref(), Some("h:1"));
}
