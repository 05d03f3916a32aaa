//! Spans of attempts at backends, by OpenTelemetry's semantic conventions for HTTP clients and messaging. Only events that are
//! recorded have them. Used by http and kafka.

use std::sync::Arc;

use actix_http::header::{HeaderMap, HeaderName, HeaderValue};
use awc::FrozenClientRequest;
use wsgateway_otlp::{Kind, Span, SpanId, Started, TraceContext};

use super::event::names;
use super::retry::Missed;
use super::{Delivered, Failure};

static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// One request on its way.
pub(super) struct Attempt {
    context: TraceContext,
    parent: SpanId,
    number: u32,
    started: Started,
}

impl Attempt {
    pub fn begin(parent: &TraceContext, number: u32) -> Attempt {
        Attempt { context: parent.child(), parent: parent.span_id, number, started: Started::now() }
    }

    /// The service's spans are below this one.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&self.context.traceparent()) {
            headers.insert(names::TRACEPARENT.clone(), value);
        }
        if let Some(value) =
            self.context.tracestate.as_ref().and_then(|state| HeaderValue::from_str(state.as_str()).ok())
        {
            headers.insert(TRACESTATE.clone(), value);
        }
    }

    /// None: nothing was sent.
    pub fn end(self, request: &FrozenClientRequest, result: &Result<Delivered, Missed>) -> Option<Span> {
        let failure = result.as_ref().err().map(|missed| &missed.failure);
        if failure.is_some_and(|failure| !failure.was_sent()) {
            return None;
        }
        let method = request.get_method();
        let uri = request.get_uri();
        let mut span =
            Span::new(&self.context, method.as_str().to_owned(), Kind::Client, &self.started).below(self.parent);
        span.set("http.request.method", method.as_str().to_owned());
        span.set("server.address", uri.host().unwrap_or_default().to_owned());
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        span.set("server.port", uri.port_u16().unwrap_or(default_port));
        span.set("url.full", without_secrets(uri));
        if self.number > 1 {
            span.set("http.request.resend_count", self.number - 1);
        }
        let status = match result {
            Ok(delivered) => delivered.status,
            Err(missed) => missed.failure.status(),
        };
        if let Some(status) = status {
            span.set("http.response.status_code", status);
        }
        if let Some(failure) = failure {
            fail(&mut span, failure);
        }
        span.end(&self.started);
        Some(span)
    }
}

/// Queries and user parts may hold credentials.
fn without_secrets(uri: &actix_http::Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{}://{host}{}", uri.scheme_str().unwrap_or("http"), uri.path())
}

fn fail(span: &mut Span, failure: &Failure) {
    match failure.status() {
        Some(status) => span.set("error.type", status.to_string()),
        None => span.set("error.type", failure.outcome()),
    }
    span.fail(failure.to_string());
}

/// One record on its way.
pub(super) struct Sent {
    pub context: TraceContext,
    parent: SpanId,
    started: Started,
}

impl Sent {
    pub fn begin(parent: &TraceContext) -> Sent {
        Sent { context: parent.child(), parent: parent.span_id, started: Started::now() }
    }

    pub fn end(self, name: &Arc<str>, topic: &Arc<str>, bytes: usize, failure: Option<&Failure>) -> Span {
        let mut span = Span::new(&self.context, name, Kind::Producer, &self.started).below(self.parent);
        span.set("messaging.system", "kafka");
        span.set("messaging.operation.type", "send");
        span.set("messaging.operation.name", "send");
        span.set("messaging.destination.name", topic);
        span.set("messaging.message.body.size", bytes);
        if let Some(failure) = failure {
            fail(&mut span, failure);
        }
        span.end(&self.started);
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_without_what_may_be_secret() {
        for (url, told) in [
            ("http://a.example:8000/x?token=secret", "http://a.example:8000/x"),
            ("https://user:secret@a.example/", "https://a.example/"),
        ] {
            assert_eq!(without_secrets(&url.parse().unwrap()), told);
        }
    }
}
