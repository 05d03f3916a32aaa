//! Spans of handshakes and events, by OpenTelemetry's semantic conventions. Called where these begin and end; without a collector
//! nothing here does anything but say which context is passed on.

use std::sync::Arc;

use actix_http::header::HeaderMap;
use actix_http::Request;
use wsgateway_otlp::{Kind, Link, Span, Started, Text, TraceContext};

use super::client_address::Caller;
use super::dispatch::FailedDelivery;
use super::refusal::Refusal;
use super::runtime::RouteRuntime;
use crate::backends::Event;
use crate::connections::connection::Facts;
use crate::model::filters::Scheme;
use crate::telemetry::traces::{in_event, Traces};

/// A handshake that is traced, whether it is recorded or not.
pub struct HandshakeTrace {
    pub context: TraceContext,
    /// The client's own, which it is below, or which it is linked to.
    client: Option<TraceContext>,
    trusted: bool,
    started: Started,
}

/// What a handshake has come to.
pub enum Outcome<'a> {
    Accepted { route: Option<Arc<str>>, facts: Option<&'a Facts> },
    Refused(&'a Refusal),
}

impl HandshakeTrace {
    /// None: there is no collector.
    pub fn begin(traces: &Traces, headers: &HeaderMap) -> Option<HandshakeTrace> {
        if !traces.tracer.is_on() {
            return None;
        }
        let client = of_headers(headers);
        let trusted = traces.trusts_clients;
        let context = traces.tracer.sample(client.as_ref().filter(|_| trusted));
        Some(HandshakeTrace { context, client, trusted, started: Started::now() })
    }

    /// What events of the connection link to.
    pub fn link(&self) -> Option<Link> {
        self.context.sampled.then(|| Link::from(&self.context))
    }

    pub fn end(self, traces: &Traces, request: &Request, caller: &Caller, outcome: &Outcome<'_>) {
        if !self.context.sampled {
            return;
        }
        let route = match outcome {
            Outcome::Accepted { route, .. } => route.clone(),
            Outcome::Refused(_) => None,
        };
        let name = route.as_ref().map_or(Text::from("GET"), |route| Text::from(format!("GET {route}")));
        let mut span = Span::new(&self.context, name, Kind::Server, &self.started);
        match &self.client {
            Some(client) if self.trusted => span = span.below_remote(client.span_id),
            Some(client) => span.link(client),
            None => {}
        }
        span.set("http.request.method", "GET");
        span.set("url.path", request.path().to_owned());
        span.set("url.scheme", if caller.scheme == Some(Scheme::Https) { "wss" } else { "ws" });
        span.set("network.protocol.version", "1.1");
        span.set("client.address", caller.ip.to_string());
        if let Some(route) = route {
            span.set("http.route", Text::from(route));
        }
        match outcome {
            Outcome::Accepted { facts, .. } => {
                span.set("http.response.status_code", 101_u16);
                if let Some(facts) = facts {
                    span.set("wsgateway.connection.id", facts.id_text.clone());
                    if let Some(user_agent) = &facts.user_agent {
                        span.set("user_agent.original", user_agent.clone());
                    }
                }
            }
            Outcome::Refused(refusal) => {
                span.set("http.response.status_code", refusal.status);
                span.set("error.type", refusal.reason);
                if refusal.status >= 500 {
                    span.fail(refusal.detail.clone());
                }
            }
        }
        span.end(&self.started);
        traces.tracer.export(span);
    }
}

/// The context that a client sends, if it sends one.
fn of_headers(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all("traceparent");
    let (first, second) = (values.next()?, values.next());
    if second.is_some() {
        return None;
    }
    let states = headers.get_all("tracestate").map(actix_http::header::HeaderValue::as_bytes);
    Some(TraceContext::parse(first.as_bytes())?.with_tracestate(states))
}

/// An event that is on its way through one route.
pub struct EventTrace {
    pub context: TraceContext,
    parent: Parent,
    /// None: it is not recorded.
    started: Option<Started>,
}

enum Parent {
    None,
    /// The handshake, for its own events.
    Here(TraceContext),
    Client(TraceContext),
    /// A client that is not trusted.
    Linked(TraceContext),
}

impl EventTrace {
    /// Of a client's event, which may carry a context of its own.
    pub fn begin(traces: &Traces, event: &[u8]) -> EventTrace {
        let client = if traces.tracer.is_on() { in_event(event) } else { None };
        let trusted = traces.trusts_clients;
        let context = traces.tracer.sample(client.as_ref().filter(|_| trusted));
        let parent = match client {
            None => Parent::None,
            Some(client) if trusted => Parent::Client(client),
            Some(client) => Parent::Linked(client),
        };
        EventTrace::of(context, parent)
    }

    /// Of an event of the gateway's own making.
    pub fn own(traces: &Traces) -> EventTrace {
        EventTrace::of(traces.tracer.sample(None), Parent::None)
    }

    /// Of a connect event, which is part of its handshake.
    pub fn of_handshake(traces: &Traces, handshake: Option<&HandshakeTrace>) -> EventTrace {
        let Some(handshake) = handshake else { return EventTrace::own(traces) };
        EventTrace::of(handshake.context.child(), Parent::Here(handshake.context.clone()))
    }

    fn of(context: TraceContext, parent: Parent) -> EventTrace {
        let started = context.sampled.then(Started::now);
        EventTrace { context, parent, started }
    }

    /// Every required backend has answered.
    pub fn end(
        self,
        traces: &Traces,
        route: &RouteRuntime,
        event: &Event,
        handshake: Option<Link>,
        failed: Option<&FailedDelivery>,
    ) {
        let Some(started) = self.started else { return };
        let mut span = Span::new(&self.context, &route.span_name, Kind::Consumer, &started);
        match &self.parent {
            Parent::None => {}
            Parent::Here(handshake) => span = span.below(handshake.span_id),
            Parent::Client(client) => span = span.below_remote(client.span_id),
            Parent::Linked(client) => span.link(client),
        }
        if let Some(handshake) = handshake {
            span.link(handshake);
        }
        span.set("wsgateway.endpoint", &route.endpoint_path);
        span.set("wsgateway.route", &route.route.name);
        span.set("wsgateway.connection.id", event.source.connection_id.clone());
        span.set("wsgateway.event.id", event.id.as_str().to_owned());
        span.set("wsgateway.event.sequence", i64::try_from(event.sequence).unwrap_or(i64::MAX));
        span.set("messaging.message.body.size", event.body.len());
        if let Some(failed) = failed {
            span.set("error.type", failed.undelivered.failure.outcome());
            span.fail(format!("{}: {}", failed.backend, failed.undelivered));
        }
        span.end(&started);
        traces.tracer.export(span);
    }
}
