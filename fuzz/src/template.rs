//! A template over a message: the template, a line `===`, the message. What a template makes is JSON within its limits,
//! whatever it is made of. Shared by the fuzz target and `tests/fuzz_corpus.rs`.

use std::sync::Arc;

use serde_json::{json, Value};
use wsgateway_model::limits::TEMPLATE_OUTPUT_BYTES_MAX;
use wsgateway_model::template::{Context, Template};

const SEPARATOR: &str = "\n===\n";

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (template, message) = text.split_once(SEPARATOR).unwrap_or((text, "null"));
    let event: Option<Value> = serde_json::from_str(message).ok();
    for compiled in [Template::compile(template), Template::compile_ack(template)].into_iter().flatten() {
        let made = compiled.render(Context {
            event: event.clone().map(Arc::new),
            connection: Some(Arc::new(json!({"id": "c", "user": null, "claims": {"a": [1, {"b": "\u{1}\"<é"}]}}))),
            endpoint: Some(Arc::new(json!({"id": "ep-1", "path": "/a/{b}"}))),
            unix_millis: 1_764_000_000_000,
            ack: Some(Arc::new(json!({"type": "ack", "eventId": "e"}))),
        });
        let Ok(made) = made else { continue };
        assert!(made.len() <= TEMPLATE_OUTPUT_BYTES_MAX, "{} bytes", made.len());
        let read = serde_json::from_str::<&serde_json::value::RawValue>(&made);
        assert!(read.is_ok(), "{read:?}: {made}");
    }
}
