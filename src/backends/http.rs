//! An HTTP service as a backend: CloudEvents in binary mode over awc, whose keep-alive connections belong to the worker.
//! Constant headers are frozen once; an event adds its own. 2xx is delivered; redirects are not followed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix_http::header::{HeaderMap, HeaderName, HeaderValue, CONTENT_TYPE, RETRY_AFTER};
use actix_http::{Method, Uri};
use awc::error::{ConnectError, SendRequestError};
use awc::{Client, FrozenClientRequest};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use wsgateway_otlp::Tracer;

use super::batch::begins_list;
use super::breaker::Breaker;
use super::destination::Destination;
use super::event::{attribute_value, names};
use super::retry::{self, Missed};
use super::signing::Signer;
use super::spans::Attempt;
use super::{Backend, Begin, Delivered, Event, Failure, RouteFacts, Undelivered};
use crate::egress::{Connections, Egress, NoWay};
use crate::model::endpoint::{HttpMethod, HttpSpec};
use crate::model::json_check::validate_json;
use crate::model::limits::REPLY_BYTES_MAX;

/// Idle time after which a pooled connection is not used again; common servers close theirs after 60 s or more.
const KEEP_ALIVE: Duration = Duration::from_secs(50);

/// Requests with rendered destinations kept frozen per backend and worker.
const FROZEN_MAX: usize = 1024;

/// Bytes of an ignored answer that are read so that its connection can be used again.
const IGNORED_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long they are waited for, once the status is there.
const IGNORED_ANSWER_WITHIN: Duration = Duration::from_millis(50);
/// How long before the delivery's own time is over that ends, so that the status is not lost.
const IGNORED_ANSWER_MARGIN: Duration = Duration::from_millis(1);

/// One client per service, connect timeout and worker.
pub fn client(egress: &Egress, connect_within: Duration) -> Client {
    egress.client(Connections {
        connect_within,
        keep_alive: KEEP_ALIVE,
        lifetime: Duration::from_secs(600),
        // awc's limit is for all authorities together: each backend's own semaphore is the bound.
        max: 0,
    })
}

pub struct HttpBackend {
    /// Held for as long as this is used: its connections end with it.
    client: Rc<Client>,
    spec: HttpSpec,
    headers: HeaderMap,
    /// By rendered destination; one entry when the destination has no parameters.
    frozen: RefCell<HashMap<String, Rc<FrozenClientRequest>>>,
    fixed: Option<Rc<FrozenClientRequest>>,
    breaker: Option<Arc<Breaker>>,
    destination: Arc<Destination>,
    signer: Option<Signer>,
    tracer: Tracer,
}

impl HttpBackend {
    /// `destination` is what all workers share about this backend.
    pub fn new(
        client: Rc<Client>,
        spec: &HttpSpec,
        route: &RouteFacts,
        destination: Arc<Destination>,
        tracer: Tracer,
    ) -> Result<HttpBackend, Failure> {
        let mut backend = HttpBackend {
            client,
            spec: spec.clone(),
            headers: constant_headers(spec, route)?,
            frozen: RefCell::default(),
            fixed: None,
            breaker: destination.breaker(spec.breaker),
            destination,
            signer: spec.signing.as_ref().map(Signer::new),
            tracer,
        };
        if let Some(destination) = spec.destination.as_constant() {
            backend.fixed = Some(Rc::new(backend.freeze(destination)?));
        }
        Ok(backend)
    }

    fn freeze(&self, destination: &str) -> Result<FrozenClientRequest, Failure> {
        let uri: Uri = destination
            .parse()
            .map_err(|err| Failure::Misconfigured(format!("destination {destination:?} is not a URL: {err}")))?;
        let method = match self.spec.method {
            HttpMethod::Post => Method::POST,
            HttpMethod::Put => Method::PUT,
            HttpMethod::Patch => Method::PATCH,
        };
        let mut request = self.client.request(method, uri);
        for (name, value) in self.headers.iter() {
            request.headers_mut().append(name.clone(), value.clone());
        }
        request.freeze().map_err(|err| Failure::Misconfigured(format!("destination {destination:?}: {err}")))
    }

    fn request(&self, event: &Event) -> Result<Rc<FrozenClientRequest>, Failure> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let destination = destination(&self.spec, event)?;
        if let Some(known) = self.frozen.borrow().get(&*destination) {
            return Ok(known.clone());
        }
        let request = Rc::new(self.freeze(&destination)?);
        let mut frozen = self.frozen.borrow_mut();
        if frozen.len() >= FROZEN_MAX {
            frozen.clear();
        }
        frozen.insert(destination.into_owned(), request.clone());
        Ok(request)
    }

    /// One request; the answer's body is read, and dropped unless something is to be found in it.
    async fn exchange(&self, request: Outgoing<'_>, deadline: Instant) -> Result<Answer, SendRequestError> {
        let Outgoing { frozen, mut headers, id, body } = request;
        if let Some(signer) = &self.signer {
            signer.sign(id, &body, SystemTime::now(), &mut headers);
        }
        let mut answer = frozen.extra_headers(headers).send_body(body).await?;
        let status = answer.status().as_u16();
        let asked = |value: &HeaderValue| retry::retry_after(status, value, SystemTime::now());
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(asked);
        if (200..=299).contains(&status) && (self.spec.reply || self.spec.batch.is_some()) {
            let mut body = BytesMut::new();
            let whole = read_body(&mut answer, &mut body).await;
            let reply = match whole {
                Ok(()) if self.spec.reply => as_reply(body.freeze()),
                Ok(()) => Ok(Some(body.freeze())),
                // A service that takes a batch and begins no list of results says nothing of single events.
                Err(_) if self.spec.batch.is_some() && !begins_list(&body) => Ok(None),
                Err(fault) => Err(fault),
            };
            return Ok(Answer { status, retry_after, reply });
        }
        // A body that breaks off, lingers or goes on without end costs its connection; the status has been said.
        let until = (Instant::now() + IGNORED_ANSWER_WITHIN).min(deadline - IGNORED_ANSWER_MARGIN);
        let _late = tokio::time::timeout_at(until.into(), skip_body(&mut answer)).await;
        Ok(Answer { status, retry_after, reply: Ok(None) })
    }

    async fn attempt(&self, request: Outgoing<'_>) -> Result<Delivered, Missed> {
        // Waiting for a place is not the service's time.
        let entered = self.destination.enter(self.breaker.as_deref()).await?;
        let started = Instant::now();
        let deadline = started + self.spec.timeout;
        let answered = tokio::time::timeout_at(deadline.into(), self.exchange(request, deadline)).await;
        let result = match answered {
            Err(_elapsed) => Err(Failure::Timeout { millis: started.elapsed().as_millis() }.into()),
            Ok(Err(err)) => Err(describe(err, &started).into()),
            Ok(Ok(Answer { status: status @ 200..=299, reply, .. })) => match reply {
                Ok(reply) => Ok(Delivered { status: Some(status), reply }),
                Err(fault) => Err(Failure::Reply(fault).into()),
            },
            Ok(Ok(Answer { status, retry_after, .. })) => {
                Err(Missed { failure: Failure::Status { status }, retry_after })
            }
        };
        entered.ended(result.as_ref().err().map(|missed: &Missed| &missed.failure));
        result
    }

    async fn deliver(&self, event: &Event) -> Result<Delivered, Undelivered> {
        let frozen = &*self.request(event)?;
        let (id, body) = (event.id.as_str(), &event.body);
        let attempt = |number| {
            let trace =
                event.trace.as_deref().filter(|_| self.tracer.is_on()).map(|parent| Attempt::begin(parent, number));
            let mut headers = event_headers(event, number);
            if let Some(trace) = &trace {
                trace.tell(&mut headers);
            }
            let attempt = self.attempt(Outgoing { frozen, headers, id, body: body.clone() });
            async move {
                let result = attempt.await;
                if let Some(span) = trace.and_then(|trace| trace.end(frozen, &result)) {
                    self.tracer.export(span);
                }
                result
            }
        };
        retry::deliver(&self.spec.retry, &self.destination, attempt).await
    }

    /// One request with several events. What it answers is in the reply.
    pub(super) async fn send_batch(&self, id: &str, body: Bytes) -> Result<Delivered, Missed> {
        // Destinations of batches have no parameters.
        let no_destination = || Failure::Misconfigured("a batch needs one destination".to_owned());
        let frozen = self.fixed.as_deref().ok_or_else(no_destination)?;
        self.attempt(Outgoing { frozen, headers: HeaderMap::new(), id, body }).await
    }

    pub(super) fn spec(&self) -> &HttpSpec {
        &self.spec
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
    }
}

/// A request that is ready to leave.
struct Outgoing<'r> {
    frozen: &'r FrozenClientRequest,
    headers: HeaderMap,
    /// For its signature.
    id: &'r str,
    body: Bytes,
}

/// What a service has answered.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    /// What of it goes to the sender, or why that cannot be.
    reply: Result<Option<Bytes>, String>,
}

async fn skip_body<S>(answer: &mut S)
where
    S: futures::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin,
{
    let mut left = IGNORED_ANSWER_BYTES_MAX;
    while let Some(Ok(chunk)) = answer.next().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

async fn read_body<S>(answer: &mut S, body: &mut BytesMut) -> Result<(), String>
where
    S: futures::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin,
{
    while let Some(chunk) = answer.next().await {
        let chunk = chunk.map_err(|err| format!("broke off: {err}"))?;
        if body.len() + chunk.len() > REPLY_BYTES_MAX {
            return Err(format!("is longer than {REPLY_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(())
}

/// A body without content is no reply; anything else must be JSON.
fn as_reply(body: Bytes) -> Result<Option<Bytes>, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    validate_json(&body).map_err(|fault| format!("is not JSON: {fault}"))?;
    Ok(Some(body))
}

impl Backend for HttpBackend {
    fn one_at_a_time(&self) -> bool {
        true
    }

    fn begin(self: Rc<Self>, event: &Rc<Event>) -> Begin {
        let event = event.clone();
        Begin::Started(Box::pin(async move { self.deliver(&event).await }))
    }
}

/// A request as it would be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPreview {
    pub url: String,
    /// The backend's, then the event's own.
    pub headers: Vec<(String, String)>,
}

/// What a backend would send for an event, made by the code that does send it.
pub fn preview(spec: &HttpSpec, route: &RouteFacts, event: &Event) -> Result<RequestPreview, Failure> {
    let url = destination(spec, event)?.into_owned();
    let own = if spec.batch.is_some() { HeaderMap::new() } else { event_headers(event, 1) };
    let constant = constant_headers(spec, route)?;
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Ok(RequestPreview { url, headers: constant.iter().chain(own.iter()).map(text).collect() })
}

fn destination<'s>(spec: &'s HttpSpec, event: &Event) -> Result<Cow<'s, str>, Failure> {
    let param =
        |name: &str| event.source.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    spec.destination.render(param).map_err(|err| Failure::Misconfigured(format!("destination: {err}")))
}

/// The headers that an event adds to its backend's constant ones. Attempts after the first one say so.
fn event_headers(event: &Event, attempt: u32) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    for (name, value) in event.header_values() {
        headers.insert(name.clone(), value);
    }
    headers.insert(names::CONNECTION_ID.clone(), event.source.connection_id_header.clone());
    if let Some(user) = &event.source.user_header {
        headers.insert(names::USER_ID.clone(), user.clone());
    }
    if attempt > 1 {
        headers.insert(names::ATTEMPT.clone(), HeaderValue::from(attempt));
    }
    for (extension, value) in &event.extensions {
        headers.insert(HeaderName::from_static(extension.http), attribute_value(value));
    }
    headers
}

fn constant_headers(spec: &HttpSpec, route: &RouteFacts) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let is_batch = spec.batch.is_some();
    let content_type = if is_batch { "application/cloudevents-batch+json" } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-type", route.kind.cloud_event_type()),
        ("ce-source", &format!("/endpoints/{}", route.endpoint_id)),
        ("ce-endpointpath", &route.endpoint_path),
        ("ce-route", &route.route),
        ("ce-node", &route.node),
    ]
    .into_iter()
    // Events of a batch have their attributes beside their data.
    .filter(|_| !is_batch)
    {
        headers.insert(HeaderName::from_static(name), attribute_value(value));
    }
    for (name, value) in &spec.headers {
        let illegal = |_| Failure::Misconfigured(format!("additionalHeaders: {name:?} is not a legal header"));
        let mut value = HeaderValue::from_str(value.expose()).map_err(|err| illegal(err.to_string()))?;
        // It may be a credential: for whoever prints a request.
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name.as_str()).map_err(|err| illegal(err.to_string()))?, value);
    }
    Ok(headers)
}

/// The connection ended before an answer: what happens when a kept-alive connection was closed by the other side.
fn broke_off(err: &SendRequestError) -> bool {
    matches!(err, SendRequestError::Send(_) | SendRequestError::Response(_))
        || matches!(err, SendRequestError::Connect(ConnectError::Disconnected))
}

fn describe(err: SendRequestError, started: &Instant) -> Failure {
    match NoWay::of(&err) {
        Some(NoWay::Denied(denied)) => return Failure::EgressDenied(denied.to_string()),
        Some(NoWay::Tls(reason)) => return Failure::Tls(reason),
        None => {}
    }
    match err {
        SendRequestError::Timeout | SendRequestError::Connect(ConnectError::Timeout) => {
            Failure::Timeout { millis: started.elapsed().as_millis() }
        }
        err if broke_off(&err) => Failure::BrokeOff(err.to_string()),
        SendRequestError::Connect(err) => Failure::Unreachable(err.to_string()),
        other => Failure::Unreachable(other.to_string()),
    }
}
