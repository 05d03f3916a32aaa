//! Tests of how hard backends are tried, in documents.

use super::*;

fn http(field: &str, value: Value) -> Value {
    let mut backend = json!({"type": "http", "destination": "http://h"});
    backend[field] = value;
    with_backend(backend)
}

#[test]
fn retries_have_ranges() {
    for retry in [
        json!({}),
        json!({"attempts": 1}),
        json!({"attempts": 20, "backoffInMillis": 60_000, "maxBackoffInMillis": 600_000}),
        json!({"backoffInMillis": 1, "maxBackoffInMillis": 1}),
        // A default gives way to what is written.
        json!({"backoffInMillis": 5_000}),
        json!({"maxBackoffInMillis": 1}),
    ] {
        assert_eq!(faults(&http("retry", retry.clone())), Vec::<String>::new(), "{retry}");
    }
    let at = "routes[0].backends[0].retry";
    for (retry, field, part) in [
        (json!({"attempts": 0}), ".attempts", "1–20"),
        (json!({"attempts": 21}), ".attempts", "1–20"),
        (json!({"backoffInMillis": 0}), ".backoffInMillis", "1–60000"),
        (json!({"maxBackoffInMillis": 600_001}), ".maxBackoffInMillis", "1–600000"),
        (
            json!({"backoffInMillis": 50, "maxBackoffInMillis": 20}),
            ".maxBackoffInMillis",
            "at least backoffInMillis (50), is 20",
        ),
        (json!({"times": 3}), ".times", "unknown field"),
        (json!(3), "", "must be an object"),
    ] {
        refused(&http("retry", retry), &format!("{at}{field}"), part);
    }
    let kafka = json!({"type": "kafka", "topic": "t", "retry": {}});
    refused(&with_backend(kafka), at, "does not belong to type \"kafka\"");
}

#[test]
fn breakers_have_ranges() {
    for breaker in
        [json!({}), json!({"failures": 1, "openInMillis": 100}), json!({"failures": 1000, "openInMillis": 600_000})]
    {
        assert_eq!(faults(&http("circuitBreaker", breaker.clone())), Vec::<String>::new(), "{breaker}");
    }
    let at = "routes[0].backends[0].circuitBreaker";
    for (breaker, field, part) in [
        (json!({"failures": 0}), ".failures", "1–1000"),
        (json!({"openInMillis": 99}), ".openInMillis", "100–600000"),
        (json!({"open": true}), ".open", "unknown field"),
    ] {
        refused(&http("circuitBreaker", breaker), &format!("{at}{field}"), part);
    }
}

#[test]
fn signing_secrets_are_keys() {
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let raw = "r".repeat(24);
    for secret in [key.to_owned(), raw.clone(), format!("{key} {raw}"), "${env:WSGATEWAY_SECRET_SIGNING}".to_owned()] {
        let document = http("signingSecret", json!(secret)).to_string();
        assert!(validate(&document, &NodeFacts::default()).is_ok(), "{secret}");
    }
    let at = "routes[0].backends[0].signingSecret";
    for (secret, part) in [
        ("canary", "24–64 bytes, has 6"),
        ("whsec_canary!", "no base64"),
        ("", "must not be empty"),
        ("(hidden)", "send the secret itself"),
        ("enc:redacted", "is redacted"),
        ("x${env:WSGATEWAY_SECRET_SIGNING}", "one reference"),
    ] {
        let found = validate(&http("signingSecret", json!(secret)).to_string(), &NodeFacts::default()).unwrap_err();
        assert!(found.iter().any(|fault| fault.path == at && fault.message.contains(part)), "{secret}: {found:?}");
        assert!(!format!("{found:?}").contains("canary"), "{found:?}");
    }
    let mut signed = json!({"type": "http", "destination": "http://h", "additionalHeaders": {"Webhook-Id": "x"}});
    assert_eq!(faults(&with_backend(signed.clone())), Vec::<String>::new());
    signed["signingSecret"] = json!("${env:WSGATEWAY_SECRET_SIGNING}");
    let found = validate(&with_backend(signed).to_string(), &NodeFacts::default()).unwrap_err();
    assert_eq!(found[0].path, "routes[0].backends[0].additionalHeaders.Webhook-Id");
    let kafka = json!({"type": "kafka", "topic": "t", "signingSecret": "${env:WSGATEWAY_SECRET_SIGNING}"});
    let found = validate(&with_backend(kafka).to_string(), &node()).unwrap_err();
    assert!(found.iter().any(|fault| fault.path == at && fault.message.contains("does not belong")), "{found:?}");
}

#[test]
fn ordering_by_key_needs_a_key_and_nothing_else_has_one() {
    let settings = |settings: Value| with("/settings", settings);
    for sound in [
        json!({"ordering": "key", "orderingKey": "$.orderId", "backendParallelism": 32}),
        json!({"ordering": "none"}),
        json!({"ordering": "none", "backendParallelism": 1}),
        json!({"ordering": "connection", "backendParallelism": 8}),
    ] {
        assert_eq!(faults(&settings(sound.clone())), Vec::<String>::new(), "{sound}");
    }
    for (wrong, path, part) in [
        (json!({"ordering": "key"}), "settings.orderingKey", "is needed"),
        (json!({"ordering": "none", "orderingKey": "$.a"}), "settings.orderingKey", "only belongs"),
        (json!({"orderingKey": "$.a"}), "settings.orderingKey", "only belongs"),
        (json!({"ordering": "key", "orderingKey": "a"}), "settings.orderingKey", "is not a JSONPath"),
        (json!({"ordering": "key", "orderingKey": "$..a..b"}), "settings.orderingKey", "descendant"),
        (json!({"ordering": "random"}), "settings.ordering", "connection"),
        (json!({"ordering": "none", "backendParallelism": 0}), "settings.backendParallelism", "1–32"),
        (json!({"ordering": "none", "backendParallelism": 33}), "settings.backendParallelism", "1–32"),
    ] {
        refused(&settings(wrong), path, part);
    }
    let idle = settings(json!({"backendParallelism": 4})).to_string();
    let warnings = validate(&idle, &node()).unwrap().warnings;
    assert_eq!(warnings[0].path, "settings.backendParallelism");
}

#[test]
fn batches_have_ranges_and_one_destination() {
    for batch in [
        json!({"maxEvents": 2}),
        json!({"maxEvents": 1000, "maxDelayMillis": 10_000, "maxBytes": 67_108_864}),
        json!({"maxEvents": 1, "maxDelayMillis": 0}),
        json!({}),
    ] {
        assert_eq!(faults(&http("batch", batch.clone())), Vec::<String>::new(), "{batch}");
    }
    let at = "routes[0].backends[0].batch";
    for (batch, field, part) in [
        (json!({"maxEvents": 0}), ".maxEvents", "1–1000"),
        (json!({"maxEvents": 1001}), ".maxEvents", "1–1000"),
        (json!({"maxDelayMillis": 10_001}), ".maxDelayMillis", "10000"),
        (json!({"maxBytes": 0}), ".maxBytes", "1–67108864"),
        (json!({"size": 3}), ".size", "unknown field"),
    ] {
        refused(&http("batch", batch), &format!("{at}{field}"), part);
    }
    let backend = |destination: &str, reply: bool| {
        with_backend(json!({"type": "http", "destination": destination, "reply": reply, "batch": {"maxEvents": 2}}))
    };
    refused(&backend("http://h/{room}", false), at, "without placeholders");
    refused(&backend("http://h", true), at, "\"reply\"");
    let idle = http("batch", json!({"maxDelayMillis": 5})).to_string();
    assert_eq!(validate(&idle, &node()).unwrap().warnings[0].path, at);
}
