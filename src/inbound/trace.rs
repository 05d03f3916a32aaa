//! Spans of handshakes and events, by OpenTelemetry's semantic conventions. Called where these begin and end; without a collector
//! nothing here does anything but say which context is passed on.

use std::cell::RefCell;
use std::rc::Rc;
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
use crate::model::endpoint::CompiledEndpoint;
use crate::model::filters::Scheme;
use crate::model::reply::ErrorCode;
use crate::telemetry::traces::{in_event, Traces};

/// What has brought a connection here. The span of its handshake is recorded at once or, if it is not in the sample, with
/// the first of the connection's events that is: those link to it.
#[derive(Debug, Default)]
pub struct Origin(RefCell<Handshake>);

#[derive(Debug, Default)]
enum Handshake {
    /// Not traced.
    #[default]
    Nothing,
    Recorded(Link),
    Waiting(Box<Span>),
}

impl Origin {
    /// What a span that is recorded links to.
    fn link(&self, traces: &Traces) -> Option<Link> {
        let mut handshake = self.0.borrow_mut();
        if let Handshake::Waiting(_) = *handshake {
            if let Handshake::Waiting(mut span) = std::mem::take(&mut *handshake) {
                *handshake = Handshake::Recorded(Link { trace_id: span.trace_id, span_id: span.span_id });
                span.record();
                traces.tracer.export(*span);
            }
        }
        match *handshake {
            Handshake::Recorded(link) => Some(link),
            Handshake::Nothing | Handshake::Waiting(_) => None,
        }
    }
}

/// A handshake that is traced, whether it is recorded or not.
pub struct HandshakeTrace {
    pub context: TraceContext,
    origin: Rc<Origin>,
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
    /// None: there is no collector, and clients' own contexts are not to be passed on.
    pub fn begin(traces: &Traces, headers: &HeaderMap) -> Option<HandshakeTrace> {
        if !traces.look_at_clients() {
            return None;
        }
        let client = of_headers(headers);
        let trusted = traces.trusts_clients;
        let context = traces.tracer.sample(client.as_ref().filter(|_| trusted));
        Some(HandshakeTrace { context, origin: Rc::default(), client, trusted, started: Started::now() })
    }

    /// What events of the connection link to.
    pub fn origin(&self) -> Rc<Origin> {
        self.origin.clone()
    }

    pub fn end(self, traces: &Traces, request: &Request, caller: &Caller, outcome: &Outcome<'_>) {
        // Of a connection it is kept until an event needs it.
        let is_waited_for = Rc::strong_count(&self.origin) > 1;
        if !traces.tracer.is_on() || !(self.context.sampled || is_waited_for) {
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
        let link = Link::from(&self.context);
        *self.origin.0.borrow_mut() = match self.context.sampled {
            true => {
                traces.tracer.export(span);
                Handshake::Recorded(link)
            }
            false => {
                span.attributes.shrink_to_fit();
                Handshake::Waiting(Box::new(span))
            }
        };
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
    /// Of this process: the handshake, for its connect event; the event, for what it has caused.
    Here(TraceContext),
    Client(TraceContext),
    /// A client that is not trusted.
    Linked(TraceContext),
}

impl EventTrace {
    /// Of a client's event, which may carry a context of its own.
    pub fn begin(traces: &Traces, event: &[u8]) -> EventTrace {
        let client = if traces.look_at_clients() { in_event(event) } else { None };
        let trusted = traces.trusts_clients;
        let context = traces.tracer.sample(client.as_ref().filter(|_| trusted));
        let parent = match client {
            None => Parent::None,
            Some(client) if trusted => Parent::Client(client),
            Some(client) => Parent::Linked(client),
        };
        EventTrace::of(traces, context, parent)
    }

    /// Of an event of the gateway's own making that nothing here has caused.
    pub fn own(traces: &Traces) -> EventTrace {
        EventTrace::of(traces, traces.tracer.sample(None), Parent::None)
    }

    /// Of what an event or a handshake here has caused: another route that takes it, what is told of its failure.
    pub fn below(traces: &Traces, cause: &TraceContext) -> EventTrace {
        match traces.tracer.is_on() {
            true => EventTrace::of(traces, cause.child(), Parent::Here(cause.clone())),
            false => EventTrace::of(traces, cause.clone(), Parent::None),
        }
    }

    /// Of a connect event, which is part of its handshake.
    pub fn of_handshake(traces: &Traces, handshake: Option<&HandshakeTrace>) -> EventTrace {
        match handshake {
            Some(handshake) => EventTrace::below(traces, &handshake.context),
            None => EventTrace::own(traces),
        }
    }

    fn of(traces: &Traces, context: TraceContext, parent: Parent) -> EventTrace {
        let started = (context.sampled && traces.tracer.is_on()).then(Started::now);
        EventTrace { context, parent, started }
    }

    fn span(&self, name: impl Into<Text>, started: &Started) -> Span {
        let mut span = Span::new(&self.context, name, Kind::Consumer, started);
        match &self.parent {
            Parent::None => {}
            Parent::Here(cause) => span = span.below(cause.span_id),
            Parent::Client(client) => span = span.below_remote(client.span_id),
            Parent::Linked(client) => span.link(client),
        }
        span
    }

    /// No route has taken it.
    pub fn refused(
        &self,
        traces: &Traces,
        endpoint: &CompiledEndpoint,
        (connection, event): (&str, &str),
        origin: Option<&Origin>,
        (code, message): (ErrorCode, &str),
    ) {
        let Some(started) = &self.started else { return };
        let mut span = self.span("event", started);
        if let Some(link) = origin.and_then(|origin| origin.link(traces)) {
            span.link(link);
        }
        span.set("wsgateway.endpoint", endpoint.path.to_string());
        span.set("wsgateway.connection.id", connection.to_owned());
        span.set("wsgateway.event.id", event.to_owned());
        span.set("error.type", code.as_str());
        span.fail(message.to_owned());
        span.end(started);
        traces.tracer.export(span);
    }

    /// Every required backend has answered.
    pub fn end(
        &self,
        traces: &Traces,
        route: &RouteRuntime,
        event: &Event,
        origin: Option<&Origin>,
        failed: Option<&FailedDelivery>,
    ) {
        let Some(started) = &self.started else { return };
        let mut span = self.span(&route.span_name, started);
        if let Some(link) = origin.and_then(|origin| origin.link(traces)) {
            span.link(link);
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
        span.end(started);
        traces.tracer.export(span);
    }
}
