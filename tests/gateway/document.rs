//! Endpoint documents for scenarios, put together from small pieces.

use serde_json::{json, Value};

use crate::kafka::{Broker, Topic};
use crate::service::Service;

/// An endpoint with these routes and nothing else set.
pub fn document(path: &str, routes: &[Value]) -> Value {
    json!({ "path": path, "routes": routes })
}

/// The same with one more top-level field.
pub fn with(mut document: Value, field: &str, value: Value) -> Value {
    document[field] = value;
    document
}

/// `kind` is connect, disconnect, error or default; it serves as the name too.
pub fn route(kind: &str, backends: &[Value]) -> Value {
    json!({ "type": kind, "name": kind, "backends": backends })
}

pub fn custom(name: &str, expression: Value, backends: &[Value]) -> Value {
    json!({ "type": "custom", "name": name, "expression": expression, "backends": backends })
}

/// The timeout is for a busy machine, not part of any scenario.
pub fn http(service: &Service, path: &str) -> Value {
    json!({ "type": "http", "destination": service.url(path), "timeoutInMillis": 10_000, "connectTimeoutInMillis": 2_000 })
}

pub fn kafka(broker: &Broker, topic: &Topic) -> Value {
    json!({ "type": "kafka", "topic": topic.name, "bootstrapServers": broker.bootstrap_servers })
}

/// Connect, default, error and disconnect, each to the path of its name.
pub fn all_routes_to(service: &Service) -> Vec<Value> {
    ["connect", "default", "error", "disconnect"]
        .map(|kind| route(kind, &[http(service, &format!("/{kind}"))]))
        .to_vec()
}
