//! What the gateway would do with one event of a client, and why: nothing is sent. Made of the code that serves –
//! `model::decode`, `model::expression`, `model::transform`, `model::reply`, the backends' previews – so it cannot disagree with it.
//!
//! Pure but for the clock that its caller reads. Called by the admin surface and the command line; imports model, config,
//! backends and the pure parts of inbound. Filters and authentication come before an event: not here; of throttling, which
//! limits there are, not what is used of them.

mod connection;
mod limits;
mod trace;

use std::rc::Rc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::Value;
use wsgateway_otlp::TraceContext;

use crate::backends::{http, kafka, Event, RouteFacts};
use crate::close_code;
use crate::config::findings::{Finding, Findings};
use crate::config::secrets::{has_reference, is_credential_header};
use crate::inbound::dead_letter::record_keys;
use crate::model::ack::{Ack, AckWhen};
use crate::model::decode::decode;
use crate::model::delivery_policy::RetryAfter;
use crate::model::endpoint::{BackendKind, CompiledBackend, CompiledEndpoint, CompiledRoute};
use crate::model::event::{EventId, EventIdGenerator, EventKind};
use crate::model::expression::RouteScratch;
use crate::model::ordering::OrderRule;
use crate::model::outbound;
use crate::model::reply::{error_event, error_frame, ErrorCode, FailedAt, NO_ROUTE};
use crate::model::transform::{ConnectionTree, Surroundings};

use connection::Connection;
pub use connection::ConnectionInput;
use trace::Trace;
pub use trace::{Comparison, Step};

/// Everything about one event.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    pub endpoint: EndpointFacts,
    /// forwarded, rejected, echoed (raw) or closed.
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorFacts>,
    /// As expressions and services see it.
    pub connection: Value,
    /// Limits that the event would be counted against, in the order in which they are asked. What is used of them is
    /// not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitFacts>,
    /// What routes with a key compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Which events of the connection this one waits for, at each HTTP backend.
    pub ordering: OrderingFacts,
    /// In document order.
    pub custom_routes: Vec<CustomRoute>,
    /// How the client's event is acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<AckFacts>,
    /// The routes that the event takes; for a rejected one the error route.
    pub taken: Vec<Taken>,
    /// What the client is sent at once; errors of services come later.
    #[schemars(with = "Vec<Value>")]
    pub client: Vec<Box<RawValue>>,
}

/// How the endpoint's events are ordered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderingFacts {
    /// connection, key or none.
    pub rule: &'static str,
    /// What this event is ordered by; none: events without a key are ordered among each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Value>,
    /// Deliveries of the connection to one backend at once.
    pub at_once: u32,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct EndpointFacts {
    pub id: String,
    pub version: u64,
    pub path: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorFacts {
    pub code: String,
    pub message: String,
    /// `routes[3]`: the route that refused the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AckFacts {
    /// received (it is among what the client is sent at once) or delivered (it comes when services have taken the event).
    pub when: &'static str,
    #[schemars(with = "Value")]
    pub frame: Box<RawValue>,
    /// Why the frame is the gateway's own and not the template's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_failed: Option<String>,
}

/// One limit of messages.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitFacts {
    /// `throttling.perIdentity`
    pub at: String,
    /// Who shares it with whom: `connection`, `endpoint` or the identity.
    pub of: String,
    pub rate: f64,
    pub burst: f64,
    pub scope: &'static str,
    pub on_exceeded: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Selector {
    pub path: String,
    /// None: there is no such node.
    pub value: Option<Value>,
}

/// One custom route and how it was decided.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomRoute {
    /// `routes[3]`
    pub at: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<Step>,
    /// None: an earlier route had ended the search.
    pub matched: Option<bool>,
    /// Places of the comparisons that made it so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decided_by: Vec<String>,
    #[serde(rename = "continue")]
    pub go_on: bool,
}

/// A route that the event takes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    pub at: String,
    pub r#type: &'static str,
    pub name: String,
    /// Its schema holds; None: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<bool>,
    /// The body is the inbound template's.
    pub transformed: bool,
    /// What its backends are sent.
    #[schemars(with = "Value")]
    pub body: Box<RawValue>,
    pub requests: Vec<Request>,
    /// Where it goes when a required backend has not taken it for good; with more headers then, that say why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<RequestKind>,
}

/// What one backend would be sent.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// `routes[3].backends[0]`
    pub at: String,
    pub required: bool,
    #[serde(flatten)]
    pub what: RequestKind,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum RequestKind {
    #[serde(rename_all = "camelCase")]
    Http {
        method: &'static str,
        url: String,
        headers: Vec<(String, String)>,
        /// Of each attempt.
        timeout_in_millis: u128,
        /// With the headers of Standard Webhooks, which each attempt has of its own.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        signed: bool,
        retry: RetryFacts,
        #[serde(skip_serializing_if = "Option::is_none")]
        circuit_breaker: Option<BreakerFacts>,
        /// Then the event's attributes stand beside it in the body, and it may share its request with others.
        #[serde(skip_serializing_if = "Option::is_none")]
        batch: Option<BatchFacts>,
    },
    Kafka {
        topic: String,
        key: String,
        headers: Vec<(String, String)>,
    },
    /// The sender gets its own event.
    Echo,
    /// It could not be made: the delivery fails.
    Impossible {
        reason: String,
    },
}

/// How often one request is tried.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryFacts {
    /// The first included.
    pub attempts: u32,
    pub backoff_in_millis: u128,
    pub max_backoff_in_millis: u128,
    /// `passing`: lost connections, time-outs and answers that say "later"; `lostConnections`: those only.
    pub after: &'static str,
}

/// When a destination is left alone. Whether it is now, is not looked at.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerFacts {
    pub failures: u32,
    pub open_in_millis: u128,
}

/// How events are put together.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchFacts {
    pub max_events: usize,
    pub max_delay_millis: u128,
    pub max_bytes: usize,
}

impl RequestKind {
    /// In one line, as tests of endpoint files name it.
    pub fn summary(&self) -> String {
        match self {
            RequestKind::Http { method, url, .. } => format!("{method} {url}"),
            RequestKind::Kafka { topic, .. } => format!("kafka {topic}"),
            RequestKind::Echo => "echo".to_owned(),
            RequestKind::Impossible { reason } => format!("impossible: {reason}"),
        }
    }
}

/// Where and when an event is thought to come in.
pub struct Place<'a> {
    /// The node's name, which services are told.
    pub node: &'a str,
    pub unix_millis: u64,
}

/// Explains one event. Findings: the connection that is described cannot be one.
pub fn explain(
    endpoint: &CompiledEndpoint,
    event: &[u8],
    connection: &ConnectionInput,
    place: &Place<'_>,
) -> Result<Explained, Vec<Finding>> {
    let mut findings = Findings::default();
    let connection = connection.make(endpoint, place.unix_millis, &mut findings);
    if !findings.0.is_empty() {
        return Err(findings.0);
    }
    let explained = Explained {
        endpoint: EndpointFacts {
            id: endpoint.id.to_string(),
            version: endpoint.version,
            path: endpoint.path.to_string(),
        },
        outcome: "forwarded",
        error: None,
        connection: connection.description.clone(),
        limits: limits::of(endpoint, &connection),
        selector: None,
        ordering: OrderingFacts {
            rule: endpoint.order.as_str(),
            key: None,
            at_once: match endpoint.order {
                OrderRule::Connection => 1,
                OrderRule::Key { at_once, .. } | OrderRule::None { at_once } => at_once,
            },
        },
        custom_routes: Vec::new(),
        ack: None,
        taken: Vec::new(),
        client: Vec::new(),
    };
    let data = Bytes::copy_from_slice(event);
    let mut explainer = Explainer { endpoint, data, connection, place, ids: EventIdGenerator::new(), explained };
    explainer.run();
    Ok(explainer.explained)
}

struct Explainer<'a> {
    endpoint: &'a CompiledEndpoint,
    data: Bytes,
    connection: Connection,
    place: &'a Place<'a>,
    ids: EventIdGenerator,
    explained: Explained,
}

impl Explainer<'_> {
    /// The order of `inbound::client_events`.
    fn run(&mut self) {
        let routes = &self.endpoint.routes;
        let max = self.endpoint.settings.max_message_bytes;
        if self.data.len() > max {
            let code = close_code::TOO_BIG.code;
            let message = format!("the message has {} bytes, at most {max} are allowed", self.data.len());
            self.explained.error = Some(ErrorFacts { code: code.to_string(), message, at: None });
            self.explained.outcome = "closed";
            return;
        }
        let is_raw =
            |backend: &std::sync::Arc<CompiledBackend>| matches!(backend.kind, BackendKind::Echo { raw: true });
        if routes.default.as_ref().is_some_and(|route| route.backends.iter().any(is_raw)) {
            self.explained.outcome = "echoed";
            self.explained.client.push(raw(&self.data));
            return;
        }
        let decoded = match decode(&self.data, self.endpoint.looked_at().as_ref()) {
            Ok(decoded) => decoded,
            Err(fault) => return self.reject(ErrorCode::InvalidJson, &fault.to_string(), None),
        };
        let tree = decoded.tree();
        self.explained.ordering.key = self.endpoint.order.key(tree.map(|tree| &**tree)).cloned();
        let mut taken = self.select(tree.map(|tree| &**tree));
        if taken.is_empty() {
            taken.extend(routes.default.clone());
        }
        if taken.is_empty() {
            return self.reject(ErrorCode::NoRoute, NO_ROUTE, None);
        }
        let mut bodies = Vec::new();
        for route in &taken {
            match self.around().body(route, &self.data, tree) {
                Ok(body) => bodies.push(body),
                Err(refusal) => return self.reject(refusal.code, &refusal.message, Some(route)),
            }
        }
        let id = self.ids.next_id(self.place.unix_millis);
        if let Some(ack) = self.endpoint.ack_of(taken.iter().map(|route| &**route)) {
            self.acknowledge(&ack, id, tree);
        }
        for (route, body) in taken.iter().zip(bodies) {
            self.forward(route, (EventKind::Message, id), body, tree.map(|tree| &**tree));
        }
    }

    fn around(&self) -> Surroundings<'_> {
        Surroundings { endpoint: self.endpoint, connection: &self.connection, unix_millis: self.place.unix_millis }
    }

    fn acknowledge(&mut self, ack: &Ack, id: EventId, tree: Option<&std::sync::Arc<Value>>) {
        let (frame, failed) = self.around().acknowledgement(ack, id.as_str(), &self.data, tree);
        if ack.when == AckWhen::Received {
            self.explained.client.push(raw(&frame));
        }
        let template_failed = failed.map(|err| err.to_string());
        self.explained.ack = Some(AckFacts { when: ack.when.as_str(), frame: raw(&frame), template_failed });
    }

    /// What an echo answers, through the outbound template.
    fn echo(&mut self, body: &[u8]) {
        let connection = || self.connection.tree();
        let made = match &self.endpoint.outbound {
            None => Ok(None),
            Some(template) => {
                outbound::transformed(template, self.endpoint, body, connection, self.place.unix_millis).map(Some)
            }
        };
        match made {
            Ok(made) => self.explained.client.push(raw(made.as_deref().map_or(body, str::as_bytes))),
            Err(err) => {
                let (code, message) = (ErrorCode::TransformFailed, format!("the outbound template: {err}"));
                self.explained.error = Some(ErrorFacts { code: code.as_str().to_owned(), message, at: None });
            }
        }
    }

    /// The custom routes that match.
    fn select(&mut self, tree: Option<&Value>) -> Vec<std::sync::Arc<CompiledRoute>> {
        let routes = &self.endpoint.routes;
        let mut trace = Trace::default();
        let mut scratch = RouteScratch::default();
        let selected = match tree {
            Some(tree) => {
                routes.custom.select_watched(tree, &self.connection.description, &mut scratch, &mut trace).to_vec()
            }
            None => Vec::new(),
        };
        if let Some(selector) = routes.custom.selector() {
            let value = tree.and_then(|tree| selector.first(tree)).cloned();
            self.explained.selector = Some(Selector { path: selector.as_str().to_owned(), value });
        }
        let ended_at = selected.last().copied().filter(|index| !routes.custom.describe(*index).1);
        let mut steps: std::collections::HashMap<usize, Step> = trace.routes.into_iter().collect();
        for (index, route) in routes.custom_routes.iter().enumerate() {
            let at = format!("routes[{}]", route.index);
            let (key, go_on) = routes.custom.describe(index);
            let mut expression = steps.remove(&index);
            let mut decided_by = Vec::new();
            if let Some(step) = &mut expression {
                step.place(&format!("{at}.expression"));
                let mut deciders = Vec::new();
                step.deciders(&mut deciders);
                decided_by = deciders.into_iter().map(|step| step.at.clone()).collect();
            }
            let reached = tree.is_some() && ended_at.is_none_or(|end| index <= end);
            let matched = reached.then(|| selected.contains(&index));
            let (name, key) = (route.name.to_string(), key.map(str::to_owned));
            self.explained.custom_routes.push(CustomRoute { at, name, key, expression, matched, decided_by, go_on });
        }
        selected.into_iter().filter_map(|index| routes.custom_routes.get(index).cloned()).collect()
    }

    fn forward(&mut self, route: &CompiledRoute, (kind, id): (EventKind, EventId), body: Bytes, tree: Option<&Value>) {
        let now = self.place.unix_millis;
        let mut event =
            Event::new(kind, id, now, 1, body, Rc::clone(&self.connection.source), &TraceContext::root(false));
        if let (true, Some(tree)) = (route.takes_keys(), tree) {
            event.keys = route.backends.iter().map(|backend| backend.record_key(tree)).collect();
        }
        let facts = RouteFacts {
            kind,
            endpoint_id: self.endpoint.id.to_string(),
            endpoint_path: self.endpoint.path.to_string(),
            route: route.name.to_string(),
            node: self.place.node.to_owned(),
        };
        let at = format!("routes[{}]", route.index);
        let mut requests = Vec::new();
        for backend in &route.backends {
            let what = request(backend, &facts, &event);
            if matches!(what, RequestKind::Echo) && kind == EventKind::Message {
                self.echo(&event.body);
            }
            requests.push(Request {
                at: format!("{at}.backends[{}]", backend.index),
                required: backend.required,
                what,
            });
        }
        let dead_letter = route.dead_letter.as_ref().map(|backend| {
            event.keys = record_keys(backend, &event.body);
            request(backend, &facts, &event)
        });
        self.explained.taken.push(Taken {
            at,
            r#type: route.kind.as_str(),
            name: route.name.to_string(),
            schema: route.schema.is_some().then_some(true),
            transformed: route.inbound.is_some(),
            body: raw(&event.body),
            requests,
            dead_letter,
        });
    }

    fn reject(&mut self, code: ErrorCode, message: &str, refused_by: Option<&CompiledRoute>) {
        let id = self.ids.next_id(self.place.unix_millis);
        let connection = self.connection.source.connection_id.clone();
        self.explained.outcome = "rejected";
        let at = refused_by.map(|route| format!("routes[{}]", route.index));
        self.explained.error = Some(ErrorFacts { code: code.as_str().to_owned(), message: message.to_owned(), at });
        self.explained.client.push(raw(&error_frame(code, message, &connection, id.as_str(), &self.data)));
        if let Some(route) = self.endpoint.routes.error.clone() {
            let at = FailedAt { route: refused_by.map(|route| &*route.name), ..FailedAt::default() };
            let body = error_event(code, message, at, &self.data, id.as_str(), &connection);
            let id = self.ids.next_id(self.place.unix_millis);
            // Where its template fails, the error route gets nothing.
            if let Ok(body) = self.around().own_body(&route, body.into()) {
                self.forward(&route, (EventKind::Error, id), body, None);
            }
        }
    }
}

fn request(backend: &CompiledBackend, route: &RouteFacts, event: &Event) -> RequestKind {
    match &backend.kind {
        BackendKind::Echo { .. } => RequestKind::Echo,
        BackendKind::Kafka(spec) => {
            let record = kafka::preview(spec, backend.index, route, event);
            RequestKind::Kafka { topic: spec.topic.clone(), key: record.key, headers: redacted(record.headers) }
        }
        BackendKind::Http(spec) => match http::preview(spec, route, event) {
            Ok(request) => RequestKind::Http {
                method: spec.method.as_str(),
                url: request.url,
                headers: redacted(request.headers),
                timeout_in_millis: spec.timeout.as_millis(),
                signed: spec.signing.is_some(),
                retry: RetryFacts {
                    attempts: spec.retry.attempts,
                    backoff_in_millis: spec.retry.backoff.as_millis(),
                    max_backoff_in_millis: spec.retry.max_backoff.as_millis(),
                    after: match spec.retry.after {
                        RetryAfter::LostConnections => "lostConnections",
                        RetryAfter::Passing => "passing",
                    },
                },
                batch: spec.batch.map(|batch| BatchFacts {
                    max_events: batch.max_events,
                    max_delay_millis: batch.max_delay.as_millis(),
                    max_bytes: batch.max_bytes,
                }),
                circuit_breaker: spec.breaker.map(|breaker| BreakerFacts {
                    failures: breaker.failures,
                    open_in_millis: breaker.open.as_millis(),
                }),
            },
            Err(failure) => RequestKind::Impossible { reason: failure.to_string() },
        },
    }
}

/// A reference is shown: it says where a secret is, not which.
fn redacted(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    let hide = |(name, value): (String, String)| match is_credential_header(&name) && !has_reference(&value) {
        true => (name, "(redacted)".to_owned()),
        false => (name, value),
    };
    let mut shown: Vec<_> = headers.into_iter().map(hide).collect();
    // Their order means nothing; the same question gets the same answer.
    shown.sort();
    shown
}

/// JSON as it is; as a text what is none, or what the reader of the answer could not read (1e999).
fn raw(data: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(data).into_owned();
    let json = match serde_json::from_str::<Value>(&text) {
        Ok(_) => text,
        Err(_) => Value::from(text).to_string(),
    };
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests;
