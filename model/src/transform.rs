//! What a route makes of an event before its backends get it: is it as the schema says, then the inbound template; and
//! the frame that acknowledges it. Pure: also what `explain` shows. Nothing of an event is sent before all of its routes
//! have made their bodies, so an event is taken whole or refused whole.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::ack::Ack;
use crate::endpoint::{CompiledEndpoint, CompiledRoute};
use crate::limits::TEMPLATE_OUTPUT_BYTES_MAX;
use crate::reply::{ack_frame, ErrorCode};
use crate::template::{unreadable, Context, Template, TemplateError};

/// The connection description as a shared tree, made when the first template asks.
pub trait ConnectionTree {
    fn tree(&self) -> Arc<Value>;
}

/// What templates see besides the event.
pub struct Surroundings<'a> {
    pub endpoint: &'a CompiledEndpoint,
    pub connection: &'a dyn ConnectionTree,
    pub unix_millis: u64,
}

/// Why a route does not take an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl From<TemplateError> for Refusal {
    fn from(err: TemplateError) -> Refusal {
        Refusal { code: ErrorCode::TransformFailed, message: err.to_string() }
    }
}

impl Surroundings<'_> {
    fn context(&self, template: &Template, event: Option<&Arc<Value>>) -> Context {
        Context {
            event: event.filter(|_| template.uses("event")).cloned(),
            connection: template.uses("connection").then(|| self.connection.tree()),
            endpoint: Some(self.endpoint.described.clone()),
            unix_millis: self.unix_millis,
            ack: None,
        }
    }

    fn render(&self, template: &Template, data: &[u8], tree: Option<&Arc<Value>>) -> Result<Bytes, TemplateError> {
        if template.uses("event") && (tree.is_none() || data.len() > TEMPLATE_OUTPUT_BYTES_MAX) {
            return Err(unreadable(data));
        }
        template.render(self.context(template, tree)).map(Bytes::from)
    }

    /// What the backends of a route get of a client's event. `tree` is None for JSON that no tree can hold.
    pub fn body(&self, route: &CompiledRoute, data: &Bytes, tree: Option<&Arc<Value>>) -> Result<Bytes, Refusal> {
        if let Some(schema) = &route.schema {
            let checked = match tree {
                Some(tree) => schema.check(tree, data.len()),
                None => Err(unreadable(data).to_string()),
            };
            checked.map_err(|message| Refusal { code: ErrorCode::SchemaViolation, message })?;
        }
        match &route.inbound {
            None => Ok(data.clone()),
            Some(template) => Ok(self.render(template, data, tree)?),
        }
    }

    /// What the backends of a route get of an event that the gateway has made.
    pub fn own_body(&self, route: &CompiledRoute, body: Bytes) -> Result<Bytes, Refusal> {
        let Some(template) = &route.inbound else { return Ok(body) };
        // An error event holds the client's event as it came, which may be JSON that no tree can hold.
        let tree = template.uses("event").then(|| serde_json::from_slice(&body).ok().map(Arc::new)).flatten();
        Ok(self.render(template, &body, tree.as_ref())?)
    }

    /// The frame that acknowledges an event. When its template fails, the client gets the gateway's own frame: the event
    /// is taken all the same.
    pub fn acknowledgement(
        &self,
        ack: &Ack,
        event_id: &str,
        data: &[u8],
        tree: Option<&Arc<Value>>,
    ) -> (Bytes, Option<TemplateError>) {
        let plain = Bytes::from(ack_frame(ack.when.as_str(), event_id, data));
        let Some(template) = &ack.template else { return (plain, None) };
        if template.uses("event") && tree.is_none() {
            return (plain, Some(unreadable(data)));
        }
        let mut context = self.context(template, tree);
        context.ack = serde_json::from_slice(&plain).ok().map(Arc::new);
        match template.render(context) {
            Ok(frame) => (Bytes::from(frame), None),
            Err(err) => (plain, Some(err)),
        }
    }
}
