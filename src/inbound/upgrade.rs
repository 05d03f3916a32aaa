//! From a handshake to a connection: decides (path, filters, authentication, limits, connect route), answers, and hands the
//! socket over. Everything that is no WebSocket handshake is answered 426. Called by arrive.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::header::{HeaderMap, HeaderValue, ORIGIN, USER_AGENT};
use actix_http::ws::{hash_key, verify_handshake, HandshakeError};
use actix_http::Request;
use bytes::{Bytes, BytesMut};
use rustls::pki_types::CertificateDer;

use super::arrive::Counted;
use super::authenticate::{offered_subprotocols, presented, CREDENTIAL_SUBPROTOCOL_PREFIX};
use super::client_address::Caller;
use super::client_events::ConnectionEvents;
use super::credential::Held;
use super::describe::{authorizer_question, description, refused_body, Described};
use super::dispatch::{FailedDelivery, Lanes};
use super::refusal::{refuse, Refusal};
use super::resume::{self, Back, Returning};
use super::runtime::{InboundWorker, RouteRuntime};
use super::tell;
use super::throttle::retry_after_seconds;
use super::trace::{EventTrace, HandshakeTrace, Origin, Outcome};
use crate::authentication::{Accepted as Known, Denied, Presented};

use crate::backends::{Event, EventSource, Failure, Undelivered};
use crate::connections::connection::unix_millis;
use crate::connections::{Facts, Opening};
use crate::listener::ClientSocket;
use crate::model::authentication::{Authentication, Mode};
use crate::model::connection_id::ConnectionId;
use crate::model::description::tree;
use crate::model::endpoint::CompiledEndpoint;
use crate::model::live_endpoint::LiveEndpoint;
use crate::model::ordering::Turn;
use crate::model::resume::{Claim, NotResumed};
use crate::model::throttle::{Admission, Exceeded};
use crate::model::transform::{ConnectionTree, Surroundings};
use crate::telemetry::metrics::{EndpointLabels, ResumeLabels};

/// What was decided about an accepted handshake.
pub struct Accepted {
    endpoint: Arc<LiveEndpoint>,
    facts: Facts,
    held: Held,
    source: Rc<EventSource>,
    answer: Answer,
    not_resumed: Option<NotResumed>,
    last_sequence: u64,
    pending: Counted,
    admission: Admission,
    /// Its span, if it is recorded.
    origin: Option<Rc<Origin>>,
}

/// What an accepted handshake leads to.
pub enum Decided {
    New(Box<Accepted>),
    Back(Box<Back>),
}

/// For its span.
pub fn outcome(decided: &Result<Decided, Refusal>) -> Outcome<'_> {
    match decided {
        Ok(Decided::New(accepted)) => {
            let route = Some(accepted.endpoint.current().path.to_string().into());
            Outcome::Accepted { route, facts: Some(&accepted.facts) }
        }
        Ok(Decided::Back(back)) => Outcome::Accepted { route: Some(back.endpoint.as_str().into()), facts: None },
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// The answer to an accepted handshake.
pub struct Answer {
    subprotocol: Option<String>,
    accept_key: [u8; 28],
}

impl Answer {
    fn new(headers: &HeaderMap, supported: &[String]) -> Answer {
        // verify_handshake has seen the key.
        let key = headers.get("sec-websocket-key").map(HeaderValue::as_bytes).unwrap_or_default();
        Answer { subprotocol: choose_subprotocol(headers, supported), accept_key: hash_key(key) }
    }

    pub(super) fn head(&self) -> BytesMut {
        let mut head = BytesMut::with_capacity(256);
        head.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
        head.extend_from_slice(b"Sec-WebSocket-Accept: ");
        head.extend_from_slice(&self.accept_key);
        if let Some(subprotocol) = &self.subprotocol {
            head.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            head.extend_from_slice(subprotocol.as_bytes());
        }
        head.extend_from_slice(b"\r\n\r\n");
        head
    }
}

pub async fn decide(
    inbound: &Rc<InboundWorker>,
    request: &Request,
    client: &Caller,
    returning: Returning,
    trace: Option<&HandshakeTrace>,
) -> Result<Decided, Refusal> {
    let head = request.head();
    verify_handshake(head).map_err(|err| not_a_handshake(&err))?;
    admit_load(inbound, &returning)?;
    let path = head.uri.path();
    let Some((endpoint, params)) = inbound.registry.find(path) else {
        return Err(refuse(404, "Not Found", "no_endpoint", format!("there is no endpoint at {path}")));
    };
    let current = endpoint.current_owned();
    // Bytes that are no text are an Origin too, and none of ours.
    let origin = head.headers.get(ORIGIN).map(|value| String::from_utf8_lossy(value.as_bytes()));
    current
        .filters
        .admit(client.ip, client.host.as_deref(), origin.as_deref(), client.scheme)
        .map_err(|err| refuse(403, "Forbidden", "filtered", err.to_string()))?;
    let mut query = parse_query(head.uri.query());
    if current.resume.is_some() {
        query.retain(|(name, _)| !resume::PARAMETERS.contains(&name.as_str()));
    }
    let (params_of, headers) = (&params, &head.headers);
    let (ip, certificates) = (client.ip, &client.certificates[..]);
    let asking = Asking { endpoint: endpoint.id(), path, params: params_of, query: &query, headers, ip, certificates };
    let mut known = identify(inbound, &current.auth, &asking).await?;
    let answer = Answer::new(&head.headers, &current.settings.subprotocols);
    let not_resumed = match comes_back(inbound, returning, &endpoint, known.user.as_deref()) {
        Ok(claim) => {
            let endpoint = current.path.to_string();
            return Ok(Decided::Back(Box::new(Back { claim, held: Held::returning(&mut known), answer, endpoint })));
        }
        Err(why) => why,
    };
    // Also one that thought to have its place already.
    admit_load(inbound, &Returning::No)?;

    let admission = endpoint.throttle.admit(current.throttling.as_ref(), Instant::now()).map_err(|exceeded| {
        inbound.runtime(&endpoint).throttled.count(&exceeded);
        too_many_connections(&exceeded)
    })?;

    let id = inbound.worker.new_connection_id();
    let held = Held::new(&mut known);
    let accepted = Handshake { id, path, params, query, headers: &head.headers, ip: client.ip, known };
    let (facts, source) = accepted.describe(&endpoint, &current);
    // From its connect event on a connection is waited for by a node that leaves.
    let pending = Counted::new(&inbound.worker.hub, |hub| &hub.deliveries);
    let last_sequence = connect_route(inbound, &endpoint, &facts, &source, trace).await?;
    Ok(Decided::New(Box::new(Accepted {
        endpoint,
        facts,
        held,
        source,
        answer,
        not_resumed,
        last_sequence,
        pending,
        admission,
        origin: trace.map(HandshakeTrace::origin),
    })))
}

/// The connection that the client has back, or why it has not, if it wanted one.
fn comes_back(
    inbound: &InboundWorker,
    returning: Returning,
    endpoint: &LiveEndpoint,
    user: Option<&str>,
) -> Result<Claim, Option<NotResumed>> {
    let why = match returning {
        Returning::No => return Err(None),
        Returning::Not(why) => why,
        Returning::With(claim) => match inbound.worker.may_resume(&claim, endpoint.id(), user) {
            Ok(()) => return Ok(claim),
            Err(why) => why,
        },
    };
    let labels = ResumeLabels { endpoint: endpoint.current().path.to_string(), outcome: why.as_str() };
    inbound.metrics.resumes.get_or_create(&labels).inc();
    Err(Some(why))
}

/// Who is asking, before it is known.
struct Asking<'a> {
    endpoint: &'a str,
    path: &'a str,
    params: &'a [(String, String)],
    query: &'a [(String, String)],
    headers: &'a HeaderMap,
    ip: IpAddr,
    certificates: &'a [CertificateDer<'static>],
}

/// Finds out who the client is.
async fn identify(inbound: &InboundWorker, rule: &Authentication, asking: &Asking<'_>) -> Result<Known, Refusal> {
    let mut text = String::new();
    let shown = match rule.mode {
        Mode::None => return Ok(Known::default()),
        Mode::Authorizer { .. } => {
            let Asking { endpoint, path, params, query, headers, ip, .. } = *asking;
            Presented::Handshake(authorizer_question(endpoint, path, params, query, headers, ip).into())
        }
        Mode::ClientCertificate(_) if asking.certificates.is_empty() => Presented::Nothing,
        Mode::ClientCertificate(_) => Presented::Certificates(asking.certificates),
        _ => presented(rule, asking.headers, asking.query, &mut text),
    };
    let checked = inbound.authenticator.check(rule, asking.ip, shown).await;
    checked.map_err(|denied| not_identified(&denied, rule))
}

fn not_identified(denied: &Denied, rule: &Authentication) -> Refusal {
    let challenge = match rule.mode {
        Mode::ApiKey(_) => "ApiKey",
        // A browser asks its user, and remembers.
        Mode::Basic(_) => "Basic realm=\"wsgateway\", charset=\"UTF-8\"",
        _ if *denied == Denied::Missing => "Bearer",
        _ => "Bearer error=\"invalid_token\"",
    };
    let again = |after: &Duration| Some(("Retry-After", after.as_secs_f64().ceil().to_string()));
    let (status, title, reason, header) = match denied {
        // HTTP has no challenge for what is shown before it.
        Denied::Missing if matches!(rule.mode, Mode::ClientCertificate(_)) => {
            (403, "Forbidden", "certificate_required", None)
        }
        Denied::Certificate(_) => (403, "Forbidden", "certificate_refused", None),
        Denied::Missing | Denied::Wrong | Denied::Token(_) => {
            (401, "Unauthorized", "unauthenticated", Some(("WWW-Authenticate", challenge.to_owned())))
        }
        Denied::Forbidden => (403, "Forbidden", "forbidden", None),
        Denied::TooMany { retry_after } => (429, "Too Many Requests", "too_many_failures", again(retry_after)),
        Denied::Unavailable { retry_after } => {
            (503, "Service Unavailable", "authentication_unavailable", again(retry_after))
        }
    };
    Refusal { header, ..refuse(status, title, reason, denied.to_string()) }
}

/// Refuses what this node has no room for.
fn admit_load(inbound: &InboundWorker, returning: &Returning) -> Result<(), Refusal> {
    let hub = &inbound.worker.hub;
    // A connection counts until its last event is answered: its socket may be held until then. Handshakes count too.
    let open = hub.deliveries.load(Ordering::Relaxed) + hub.handshakes.load(Ordering::Relaxed);
    let refusal = if hub.is_draining() {
        refuse(503, "Service Unavailable", "draining", "this node is leaving")
    } else if matches!(returning, Returning::With(_)) {
        return Ok(()); // its connection has its place already
    } else if open > inbound.settings.max_connections {
        let max = inbound.settings.max_connections;
        refuse(503, "Service Unavailable", "connections_max", format!("this node has its {max} connections"))
    } else {
        return Ok(());
    };
    Err(Refusal { header: Some(("Retry-After", "1".to_owned())), ..refusal })
}

fn too_many_connections(exceeded: &Exceeded) -> Refusal {
    let detail = format!("too many connections: {} is exceeded", exceeded.limit.as_str());
    let retry_after = retry_after_seconds(exceeded.retry_after).to_string();
    let header = Some(("Retry-After", retry_after));
    Refusal { header, ..refuse(429, "Too Many Requests", "throttled", detail) }
}

fn not_a_handshake(err: &HandshakeError) -> Refusal {
    let header = match err {
        HandshakeError::BadWebsocketKey => return refuse(400, "Bad Request", "bad_handshake", err.to_string()),
        HandshakeError::UnsupportedVersion | HandshakeError::NoVersionHeader => {
            Some(("Sec-WebSocket-Version", "13".to_owned()))
        }
        _ => None,
    };
    let detail = format!("only WebSocket handshakes (RFC 6455) are served here: {err}");
    Refusal { header, ..refuse(426, "Upgrade Required", "not_websocket", detail) }
}

pub(super) fn parse_query(query: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The first of the client's subprotocols that the endpoint has; a credential is none.
fn choose_subprotocol(headers: &HeaderMap, supported: &[String]) -> Option<String> {
    offered_subprotocols(headers)
        .filter(|offered| !offered.starts_with(CREDENTIAL_SUBPROTOCOL_PREFIX))
        .find(|offered| supported.iter().any(|known| known == offered))
        .map(str::to_owned)
}

/// The facts of a handshake that passed the checks.
struct Handshake<'a> {
    id: ConnectionId,
    path: &'a str,
    params: Vec<(String, String)>,
    query: Vec<(String, String)>,
    headers: &'a HeaderMap,
    ip: IpAddr,
    known: Known,
}

impl Handshake<'_> {
    fn describe(self, endpoint: &LiveEndpoint, current: &CompiledEndpoint) -> (Facts, Rc<EventSource>) {
        let id_text = self.id.to_string();
        let connected_at_millis = unix_millis();
        let description = description(&Described {
            connection_id: &id_text,
            endpoint: endpoint.id(),
            path: self.path,
            params: &self.params,
            query: &self.query,
            headers: self.headers,
            secret_header: current.auth.secret_header(),
            secret_query: current.auth.secret_query(),
            source_ip: &self.ip.to_string(),
            user: self.known.user.as_deref(),
            claims: self.known.claims.as_ref(),
            connected_at_millis,
        });
        let source = EventSource::new(id_text.clone(), self.known.user.clone(), self.params);
        let facts = Facts {
            id: self.id,
            id_text,
            path: self.path.to_owned(),
            user: self.known.user,
            groups: self.known.groups.into(),
            version: current.version,
            source_ip: self.ip,
            user_agent: self
                .headers
                .get(USER_AGENT)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            connected_at_millis,
            description: description.into(),
        };
        (facts, source)
    }
}

impl ConnectionTree for Facts {
    fn tree(&self) -> Arc<serde_json::Value> {
        Arc::new(tree(&self.description))
    }
}

/// Tells the connect route. Its required backends are awaited, and may refuse the connection. Returns the sequence
/// number that the event took.
async fn connect_route(
    inbound: &Rc<InboundWorker>,
    endpoint: &LiveEndpoint,
    facts: &Facts,
    source: &Rc<EventSource>,
    trace: Option<&HandshakeTrace>,
) -> Result<u64, Refusal> {
    let Some(route) = inbound.runtime(endpoint).connect.clone() else { return Ok(0) };
    let now = unix_millis();
    let body = Bytes::copy_from_slice(facts.description.as_bytes());
    let around = Surroundings { endpoint: &endpoint.current(), connection: facts, unix_millis: now };
    let body = around.own_body(&route.route, body).map_err(|refusal| {
        tracing::warn!(endpoint = %endpoint.id(), "connection refused, its connect event cannot be made: {}", refusal.message);
        refuse(502, "Bad Gateway", "connect_route", "the connect event for the service behind this endpoint cannot be made")
    })?;
    let trace = EventTrace::of_handshake(&inbound.traces, trace);
    let id = inbound.next_event_id(now);
    let event = Rc::new(Event::new(route.kind, id, now, 1, body, source.clone(), &trace.context));
    let failed = fan_out(&route, event.clone()).await;
    trace.end(&inbound.traces, &route, &event, None, failed.as_ref());
    match failed.map(|failed| (failed.backend, failed.undelivered.failure)) {
        None => Ok(1),
        Some((backend, failure)) => {
            let plainly_refused = matches!(failure, Failure::Status { .. }) && route.backends.len() == 1;
            tracing::info!(endpoint = %endpoint.id(), %backend, "connection refused by its connect route: {failure}");
            if !plainly_refused {
                take_back(inbound, endpoint, facts, source);
            }
            Err(refused_by_service(&failure))
        }
    }
}

/// A refused connection of which some backend may have heard (another took it, or it answered too late) gets its
/// disconnect event.
fn take_back(inbound: &Rc<InboundWorker>, endpoint: &LiveEndpoint, facts: &Facts, source: &Rc<EventSource>) {
    let Some(route) = inbound.runtime(endpoint).disconnect.clone() else { return };
    tracing::debug!(connection = %facts.id_text, "refused after its connect event: sending its disconnect event");
    let now = unix_millis();
    let duration_millis = now.saturating_sub(facts.connected_at_millis);
    let body = refused_body(&facts.description, duration_millis);
    let around = Surroundings { endpoint: &endpoint.current(), connection: facts, unix_millis: now };
    let body = match around.own_body(&route.route, body.into()) {
        Ok(body) => body,
        Err(refusal) => {
            tracing::warn!(connection = %facts.id_text, "disconnect event lost: {}", refusal.message);
            return;
        }
    };
    let trace = EventTrace::own(&inbound.traces);
    let event = Event::new(route.kind, inbound.next_event_id(now), now, 2, body, source.clone(), &trace.context);
    let pending = Counted::new(&inbound.worker.hub, |hub| &hub.deliveries);
    let (traces, of) = (inbound.traces.clone(), route.clone());
    let settled = Box::new(move |event: &Rc<Event>, failed: Option<FailedDelivery>| {
        trace.end(&traces, &of, event, None, failed.as_ref());
        drop(pending);
    });
    Lanes::default().dispatch(&route, Rc::new(event), Turn::Alone, settled);
}

async fn fan_out(route: &Rc<RouteRuntime>, event: Rc<Event>) -> Option<FailedDelivery> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let settled = Box::new(move |_: &Rc<Event>, failed: Option<FailedDelivery>| {
        // Nobody listens any more when the node is going down.
        let _gone = sender.send(failed);
    });
    Lanes::default().dispatch(route, event, Turn::Alone, settled);
    receiver.await.unwrap_or_else(|_| {
        let failure = Failure::Unreachable("the node is going down".to_owned());
        Some(FailedDelivery {
            backend: String::new(),
            undelivered: Undelivered { failure, attempts: 1, stopped: None },
        })
    })
}

/// A service's 401, 403 and 429 are passed on, its other refusals are 403; that it cannot be asked is a 502 or 504.
fn refused_by_service(failure: &Failure) -> Refusal {
    let detail = "the service behind this endpoint refused the connection";
    match failure {
        Failure::Status { status: 401 } => refuse(401, "Unauthorized", "connect_route", detail),
        Failure::Status { status: 429 } => refuse(429, "Too Many Requests", "connect_route", detail),
        Failure::Status { status: 400..=499 } => refuse(403, "Forbidden", "connect_route", detail),
        Failure::Timeout { .. } => {
            refuse(504, "Gateway Timeout", "connect_route", "the service behind this endpoint did not answer in time")
        }
        _ => {
            refuse(502, "Bad Gateway", "connect_route", "the service behind this endpoint did not take the connection")
        }
    }
}

/// Makes a connection of an accepted handshake. That its client has gone meanwhile is found by who writes the answer: the
/// connect event is out, so the connection opens and ends like any other, with its disconnect event.
pub fn open(inbound: Rc<InboundWorker>, io: ClientSocket, early: Bytes, accepted: Accepted) {
    let Accepted { endpoint, facts, held, source, answer, not_resumed, last_sequence, pending, admission, origin } =
        accepted;
    let path = endpoint.current().path.to_string();
    inbound.metrics.connections_opened.get_or_create(&EndpointLabels { endpoint: path }).inc();
    let runtime = inbound.runtime(&endpoint);
    tell::if_watched(&inbound.metrics.tail, &facts, &runtime.endpoint, |teller| teller.opened());
    let counters = runtime.outlets.clone();
    let worker = inbound.worker.clone();
    let answer = answer.head().freeze();
    let opening = Opening { facts, endpoint, io, answer, early, last_sequence, counters, not_resumed, admission };
    worker.open(opening, |connection| Box::new(ConnectionEvents::new(inbound, connection, (source, origin), held)));
    drop(pending); // the connection counts itself now
}
