//! An endpoint's outbound template over a message that a service sends to a client. Called by connections and explain.

use std::sync::Arc;

use serde_json::Value;

use super::endpoint::CompiledEndpoint;
use super::limits::TEMPLATE_OUTPUT_BYTES_MAX;
use super::template::{unreadable, Context, Template, TemplateError};

/// The message that the client gets instead.
pub fn transformed(
    template: &Template,
    endpoint: &CompiledEndpoint,
    message: &[u8],
    connection: impl FnOnce() -> Arc<Value>,
    unix_millis: u64,
) -> Result<String, TemplateError> {
    let event = match template.uses("event") {
        false => None,
        true if message.len() > TEMPLATE_OUTPUT_BYTES_MAX => return Err(unreadable(message)),
        true => Some(Arc::new(serde_json::from_slice(message).map_err(|_| unreadable(message))?)),
    };
    template.render(Context {
        event,
        connection: template.uses("connection").then(connection),
        endpoint: Some(endpoint.described.clone()),
        unix_millis,
        ack: None,
    })
}
