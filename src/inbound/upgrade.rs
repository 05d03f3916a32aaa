//! From an accepted socket to a connection: reads the handshake under a deadline, decides (path, filters,
//! authentication, limits, connect route), answers, and hands the bare socket over. Everything that is no WebSocket
//! handshake is answered 426.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::h1::{Codec, Message};
use actix_http::header::{HeaderMap, HeaderValue, ORIGIN, USER_AGENT};
use actix_http::ws::{hash_key, verify_handshake, HandshakeError};
use actix_http::{Request, ServiceConfig};
use actix_rt::net::TcpStream;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::Decoder;

use super::authenticate::{offered_subprotocols, presented, CREDENTIAL_SUBPROTOCOL_PREFIX};
use super::client_address::{caller, Caller};
use super::client_events::ConnectionEvents;
use super::credential::Held;
use super::describe::{authorizer_question, description, refused_body, Described};
use super::dispatch::Lanes;
use super::resume::{self, Back, Brought, Place, Returning, Stray};
use super::runtime::{InboundWorker, RouteRuntime};
use super::throttle::retry_after_seconds;
use crate::authentication::{Accepted as Known, Denied, Presented};
use crate::backends::{Event, EventSource, Failure};
use crate::connections::connection::unix_millis;
use crate::connections::{Facts, Hub, Opening};
use crate::model::authentication::{Authentication, Mode};
use crate::model::connection_id::ConnectionId;
use crate::model::description::tree;
use crate::model::endpoint::CompiledEndpoint;
use crate::model::live_endpoint::LiveEndpoint;
use crate::model::ordering::Turn;
use crate::model::resume::{Claim, NotResumed};
use crate::model::throttle::{Admission, Exceeded};
use crate::model::transform::{ConnectionTree, Surroundings};
use crate::telemetry::metrics::{EndpointLabels, RefusalLabels, ResumeLabels};

/// A handshake's head may have so many bytes; common servers allow 8 to 16 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A handshake that is not answered with 101.
#[derive(Debug)]
struct Refusal {
    status: u16,
    title: &'static str,
    /// A metric label.
    reason: &'static str,
    detail: String,
    header: Option<(&'static str, String)>,
}

fn refuse(status: u16, title: &'static str, reason: &'static str, detail: impl Into<String>) -> Refusal {
    Refusal { status, title, reason, detail: detail.into(), header: None }
}

/// What was decided about an accepted handshake.
struct Accepted {
    endpoint: Arc<LiveEndpoint>,
    facts: Facts,
    held: Held,
    source: Rc<EventSource>,
    answer: Answer,
    not_resumed: Option<NotResumed>,
    last_sequence: u64,
    pending: Counted,
    admission: Admission,
}

/// What an accepted handshake leads to.
enum Decided {
    New(Box<Accepted>),
    Back(Box<Back>),
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

/// One of something that is counted while it lasts.
struct Counted {
    hub: Arc<Hub>,
    counter: fn(&Hub) -> &AtomicU64,
}

impl Counted {
    fn new(hub: &Arc<Hub>, counter: fn(&Hub) -> &AtomicU64) -> Counted {
        counter(hub).fetch_add(1, Ordering::Relaxed);
        Counted { hub: hub.clone(), counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.hub).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one accepted socket until it is a connection or refused.
pub async fn accept(inbound: Rc<InboundWorker>, mut io: TcpStream) {
    let _counted = Counted::new(&inbound.worker.hub, |hub| &hub.handshakes);
    let Ok(peer) = io.peer_addr() else { return }; // gone already
    if let Err(err) = io.set_nodelay(true) {
        tracing::debug!(%peer, "TCP_NODELAY: {err}");
    }
    if let Err(err) = socket2::SockRef::from(&io).set_tcp_user_timeout(Some(inbound.settings.tcp_user_timeout())) {
        tracing::debug!(%peer, "TCP_USER_TIMEOUT: {err}");
    }
    let read = tokio::time::timeout(inbound.settings.handshake_deadline(), read_head(&mut io)).await;
    let Head { request, early, raw } = match read {
        Ok(Ok(Some(head))) => head,
        Ok(Ok(None)) => return, // closed or broken before a whole head
        Ok(Err(refusal)) => return answer_refusal(&inbound, &mut io, peer.ip(), refusal).await,
        Err(_elapsed) => {
            let refusal = refuse(408, "Request Timeout", "handshake_timeout", "the handshake took too long");
            return answer_refusal(&inbound, &mut io, peer.ip(), refusal).await;
        }
    };
    let settings = &inbound.settings;
    let client = match caller(peer.ip(), &request.head().headers, &settings.trusted_proxies, settings.forwarded_header)
    {
        Ok(client) => client,
        Err(err) => {
            let refusal = refuse(400, "Bad Request", "proxy_headers", err.to_string());
            return answer_refusal(&inbound, &mut io, peer.ip(), refusal).await;
        }
    };
    match (resume::place(&inbound, &request), raw) {
        (Place::AnotherWorker(claim), Some(head)) => {
            resume::arrive(&inbound.worker.hub, claim, Stray { io, head, caller: client });
        }
        (Place::AnotherNode(claim), Some(head)) => match inbound.other_nodes.bring(claim, &head, &client).await {
            Brought::There(there) => {
                let relayed = Counted::new(&inbound.worker.hub, |hub| &hub.handshakes);
                actix_rt::spawn(async move {
                    resume::relay(inbound.worker.hub.clone(), io, there).await;
                    drop(relayed);
                });
            }
            Brought::Not(why) => serve(inbound, io, request, early, client, Returning::Not(why)).await,
            Brought::Unreachable(reason) => {
                tracing::debug!("a session's node cannot be reached: {reason}");
                let detail = "the node that has the connection cannot be reached now";
                let header = Some(("Retry-After", "1".to_owned()));
                let refusal = refuse(503, "Service Unavailable", "session_unreachable", detail);
                answer_refusal(&inbound, &mut io, client.ip, Refusal { header, ..refusal }).await;
            }
        },
        (Place::AnotherWorker(_) | Place::AnotherNode(_), None) => {} // it has just been read from there
        (Place::ThisWorker(returning), _) => serve(inbound, io, request, early, client, returning).await,
    }
}

/// Serves a socket that another worker has accepted, for a connection of this one.
pub(super) async fn accept_stray(inbound: Rc<InboundWorker>, stray: Stray, claim: Claim) {
    let Stray { io, head, caller } = stray;
    let _counted = Counted::new(&inbound.worker.hub, |hub| &hub.handshakes);
    let mut buffer = BytesMut::from(&head[..]);
    // It has been read before.
    let Ok(Some(Message::Item(request))) = Codec::new(ServiceConfig::default()).decode(&mut buffer) else { return };
    serve(inbound, io, request, buffer.freeze(), caller, Returning::With(claim)).await;
}

async fn serve(
    inbound: Rc<InboundWorker>,
    mut io: TcpStream,
    request: Request,
    early: Bytes,
    client: Caller,
    returning: Returning,
) {
    match decide(&inbound, &request, &client, returning).await {
        Ok(Decided::New(accepted)) => open(inbound, io, early, *accepted).await,
        Ok(Decided::Back(back)) => resume::open(inbound, io, early, *back).await,
        Err(refusal) => answer_refusal(&inbound, &mut io, client.ip, refusal).await,
    }
}

/// A handshake that was read.
struct Head {
    request: Request,
    /// Bytes behind it belong to the WebSocket.
    early: Bytes,
    /// All of it, if it may have to be read again.
    raw: Option<Bytes>,
}

/// Reads one request head.
async fn read_head(io: &mut TcpStream) -> Result<Option<Head>, Refusal> {
    let mut codec = Codec::new(ServiceConfig::default());
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        match io.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
        let too_long = buffer.len() > HEAD_BYTES_MAX;
        let raw = resume::may_return(&buffer).then(|| Bytes::copy_from_slice(&buffer));
        match codec.decode(&mut buffer) {
            Ok(Some(Message::Item(request))) => return Ok(Some(Head { request, early: buffer.freeze(), raw })),
            Ok(_) if too_long => {
                let detail = format!("the request head is longer than {HEAD_BYTES_MAX} bytes");
                return Err(refuse(431, "Request Header Fields Too Large", "head_too_long", detail));
            }
            Ok(_) => {}
            Err(err) => return Err(refuse(400, "Bad Request", "not_http", format!("not an HTTP/1.1 request: {err}"))),
        }
    }
}

async fn decide(
    inbound: &Rc<InboundWorker>,
    request: &Request,
    client: &Caller,
    returning: Returning,
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
    let asking = Asking { endpoint: endpoint.id(), path, params: params_of, query: &query, headers, ip: client.ip };
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
    let last_sequence = connect_route(inbound, &endpoint, &facts, &source).await?;
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
}

/// Finds out who the client is.
async fn identify(inbound: &InboundWorker, rule: &Authentication, asking: &Asking<'_>) -> Result<Known, Refusal> {
    let mut text = String::new();
    let shown = match rule.mode {
        Mode::None => return Ok(Known::default()),
        Mode::Authorizer { .. } => {
            let Asking { endpoint, path, params, query, headers, ip } = *asking;
            Presented::Handshake(authorizer_question(endpoint, path, params, query, headers, ip).into())
        }
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
) -> Result<u64, Refusal> {
    let Some(route) = inbound.runtime(endpoint).connect.clone() else { return Ok(0) };
    let now = unix_millis();
    let body = Bytes::copy_from_slice(facts.description.as_bytes());
    let around = Surroundings { endpoint: &endpoint.current(), connection: facts, unix_millis: now };
    let body = around.own_body(&route.route, body).map_err(|refusal| {
        tracing::warn!(endpoint = %endpoint.id(), "connection refused, its connect event cannot be made: {}", refusal.message);
        refuse(502, "Bad Gateway", "connect_route", "the connect event for the service behind this endpoint cannot be made")
    })?;
    let event = Rc::new(Event::new(route.kind, inbound.next_event_id(now), now, 1, body, source.clone()));
    let failed = fan_out(&route, event).await;
    match failed {
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
    let event = Event::new(route.kind, inbound.next_event_id(now), now, 2, body, source.clone());
    let pending = Counted::new(&inbound.worker.hub, |hub| &hub.deliveries);
    let settled = Box::new(move |_: &Rc<Event>, _: Option<super::dispatch::FailedDelivery>| drop(pending));
    Lanes::default().dispatch(&route, Rc::new(event), Turn::Alone, settled);
}

async fn fan_out(route: &Rc<RouteRuntime>, event: Rc<Event>) -> Option<(String, Failure)> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let settled = Box::new(move |_: &Rc<Event>, failed: Option<super::dispatch::FailedDelivery>| {
        // Nobody listens any more when the node is going down.
        let _gone = sender.send(failed.map(|failed| (failed.backend, failed.undelivered.failure)));
    });
    Lanes::default().dispatch(route, event, Turn::Alone, settled);
    receiver.await.unwrap_or_else(|_| Some((String::new(), Failure::Unreachable("the node is going down".to_owned()))))
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

async fn open(inbound: Rc<InboundWorker>, mut io: TcpStream, early: Bytes, accepted: Accepted) {
    let Accepted { endpoint, facts, held, source, answer, not_resumed, last_sequence, pending, admission } = accepted;
    if let Err(err) = io.write_all(&answer.head()).await {
        // The connect event is out, so the connection opens and ends like any other, with its disconnect event.
        tracing::debug!(connection = %facts.id_text, "client gone before the answer: {err}");
    }
    let path = endpoint.current().path.to_string();
    inbound.metrics.connections_opened.get_or_create(&EndpointLabels { endpoint: path }).inc();
    let counters = inbound.runtime(&endpoint).outlets.clone();
    let worker = inbound.worker.clone();
    let opening = Opening { facts, endpoint, io, early, last_sequence, counters, not_resumed, admission };
    worker.open(opening, |connection| Box::new(ConnectionEvents::new(inbound, connection, source, held)));
    drop(pending); // the connection counts itself now
}

async fn answer_refusal(inbound: &InboundWorker, io: &mut TcpStream, client: IpAddr, refusal: Refusal) {
    let Refusal { status, title, reason, detail, header } = refusal;
    tracing::debug!(%client, status, "handshake refused: {detail}");
    let labels = RefusalLabels { status: u32::from(status), reason };
    inbound.metrics.handshakes_refused.get_or_create(&labels).inc();
    let body =
        serde_json::json!({"type": "about:blank", "title": title, "status": status, "code": reason, "detail": detail})
            .to_string();
    let mut answer = format!(
        "HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    if status == 426 {
        answer.push_str("Upgrade: websocket\r\n");
    }
    if let Some((name, value)) = header {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    answer.push_str(&body);
    let goodbye = async {
        io.write_all(answer.as_bytes()).await?;
        io.shutdown().await?;
        // Read what is left, a little: a reset would take the answer with it.
        let mut rest = [0; 4096];
        while io.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let bounded = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
    if let Ok(Err(err)) = bounded {
        tracing::debug!(%client, "refusal not delivered: {err}");
    }
}
