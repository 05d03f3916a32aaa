//! Templates, schemas and acknowledgements of a document. Called by compile; imports model and document.

use std::sync::Arc;

use serde_json::{json, Value};

use crate::document::{self, EndpointDocument, Route};
use crate::findings::{member, Findings};
use wsgateway_model::ack::{Ack, AckWhen};
use wsgateway_model::event_schema::EventSchema;
use wsgateway_model::template::Template;

/// The endpoint's template over messages to clients.
pub fn outbound(document: &EndpointDocument, findings: &mut Findings) -> Option<Template> {
    let text = document.transform.as_ref()?.outbound.as_deref()?;
    findings.take("transform.outbound", Template::compile(text))
}

/// A route's template over its events.
pub fn inbound(route: &Route, path: &str, findings: &mut Findings) -> Option<Template> {
    let text = route.transform.as_ref()?.inbound.as_deref()?;
    findings.take(format!("{path}.transform.inbound"), Template::compile(text))
}

/// The acknowledgement at `path`.
pub fn ack(from: Option<&document::Ack>, path: &str, findings: &mut Findings) -> Option<Arc<Ack>> {
    let from = from?;
    let template = match from.template.as_deref() {
        None => None,
        Some(text) => Some(findings.take(format!("{path}.template"), Template::compile_ack(text))?),
    };
    let when = match from.when {
        document::AckWhen::Received => AckWhen::Received,
        document::AckWhen::Delivered => AckWhen::Delivered,
    };
    Some(Arc::new(Ack { when, template }))
}

/// What a route's events must look like; null is a field that is missing.
pub fn schema(route: &Route, path: &str, findings: &mut Findings) -> Option<EventSchema> {
    let schema = route.schema.as_ref().filter(|schema| !schema.is_null())?;
    match EventSchema::compile(schema) {
        Ok(compiled) => Some(compiled),
        Err(error) => {
            findings.add(place(&format!("{path}.schema"), &error.pointer, schema), error.message);
            None
        }
    }
}

/// A JSON Pointer below `path`, as all paths are written.
fn place(path: &str, pointer: &str, schema: &Value) -> String {
    let mut path = path.to_owned();
    let mut at = Some(schema);
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        path = match at {
            Some(Value::Array(_)) => format!("{path}[{step}]"),
            _ => member(&path, &step),
        };
        at = at.and_then(|value| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => value.get(&step),
        });
    }
    path
}

/// The endpoint as templates see it.
pub fn described(id: &str, version: u64, document: &EndpointDocument) -> Value {
    json!({"id": id, "path": document.path, "name": document.name, "version": version})
}
