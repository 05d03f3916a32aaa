//! A client's message on its way: decoded, routed, transformed, acknowledged, refused. The input is an endpoint document
//! on the first line and the message after it; where the document is none, one that has everything takes its place.
//!
//! What is checked, besides that nothing panics: reading a part of a message decides as reading all of it does, and
//! everything that leaves is JSON. Shared by the fuzz target and `tests/fuzz_corpus.rs`.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{json, Value};
use wsgateway_config::compile::compile;
use wsgateway_config::validate::{validate, NodeFacts};
use wsgateway_model::decode::{decode, Decoded};
use wsgateway_model::endpoint::{CompiledEndpoint, CompiledRoute};
use wsgateway_model::expression::RouteScratch;
use wsgateway_model::outbound;
use wsgateway_model::projection::Projection;
use wsgateway_model::reply::{error_frame, ErrorCode};
use wsgateway_model::transform::{ConnectionTree, Surroundings};

const EVERYTHING: &str = include_str!("everything.json");

struct Connection;

impl ConnectionTree for Connection {
    fn tree(&self) -> Arc<Value> {
        Arc::new(facts())
    }
}

fn facts() -> Value {
    json!({"id": "c", "user": "alice", "claims": {"role": "admin"}, "query": {"a": "1"}, "params": {"room": "r"}})
}

pub fn check(data: &[u8]) {
    let line = data.iter().position(|byte| *byte == b'\n');
    let own = line.and_then(|end| endpoint(std::str::from_utf8(&data[..end]).ok()?));
    let message = line.map_or(data, |end| &data[end + 1..]);
    match own {
        Some(endpoint) => on(&endpoint, message),
        None => {
            static DEFAULT: OnceLock<CompiledEndpoint> = OnceLock::new();
            on(DEFAULT.get_or_init(|| endpoint(EVERYTHING).expect("everything.json is a document")), message);
        }
    }
}

fn endpoint(document: &str) -> Option<CompiledEndpoint> {
    let valid = validate(document, &NodeFacts::default()).ok()?;
    Some(compile("ep-1", 1, &valid.document).expect("what is valid compiles"))
}

fn on(endpoint: &CompiledEndpoint, message: &[u8]) {
    let looked_at = endpoint.looked_at();
    let decoded = decode(message, looked_at.as_ref());
    let whole = decode(message, Some(&Projection::whole()));
    let unread = decode(message, None);
    assert_eq!(decoded.is_ok(), whole.is_ok(), "a part is JSON exactly when the whole is");
    assert_eq!(decoded.is_ok(), unread.is_ok(), "unread is JSON exactly when read is");
    let data = Bytes::copy_from_slice(message);
    let (Ok(decoded), Ok(whole)) = (decoded, whole) else {
        is_json(&error_frame(ErrorCode::InvalidJson, "m", "c", "e", message));
        return;
    };
    let taken = selected(endpoint, &decoded);
    if let Decoded::Tree(_) = whole {
        assert_eq!(taken, selected(endpoint, &whole), "a part decides as the whole");
    }
    let around = Surroundings { endpoint, connection: &Connection, unix_millis: 1_764_000_000_000 };
    let tree = decoded.tree();
    for route in routes(endpoint, &taken) {
        match around.body(route, &data, tree) {
            Ok(body) => is_json(&body),
            Err(refused) => is_json(&error_frame(refused.code, &refused.message, "c", "e", message)),
        }
        if let Some(tree) = tree {
            for backend in &route.backends {
                let _ = backend.record_key(tree);
            }
        }
        if let Some(ack) = endpoint.ack_of(std::iter::once(route)) {
            is_json(&around.acknowledgement(&ack, "e", &data, tree).0);
        }
    }
    let _ = endpoint.order.turn(tree.map(|tree| &**tree));
    if let Some(template) = &endpoint.outbound {
        if let Ok(made) = outbound::transformed(template, endpoint, message, || Connection.tree(), 0) {
            is_json(made.as_bytes());
        }
    }
}

fn selected(endpoint: &CompiledEndpoint, decoded: &Decoded) -> Vec<usize> {
    let Some(tree) = decoded.tree() else { return Vec::new() };
    endpoint.routes.custom.select(tree, &facts(), &mut RouteScratch::default()).to_vec()
}

fn routes<'e>(endpoint: &'e CompiledEndpoint, taken: &[usize]) -> Vec<&'e CompiledRoute> {
    match taken.is_empty() {
        true => endpoint.routes.default.iter().map(|route| &**route).collect(),
        false => taken.iter().map(|index| &*endpoint.routes.custom_routes[*index]).collect(),
    }
}

fn is_json(bytes: &[u8]) {
    let read = serde_json::from_slice::<&serde_json::value::RawValue>(bytes);
    assert!(read.is_ok(), "{read:?}: {}", String::from_utf8_lossy(bytes));
}
