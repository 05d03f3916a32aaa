//! From an accepted socket to a handshake: what the listener makes of it, the request head under a deadline, who is
//! calling, and the worker or node that it belongs to. Calls upgrade, or resume where the client comes back.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use actix_http::h1::{Codec, Message};
use actix_http::{Request, ServiceConfig};
use actix_rt::net::TcpStream;
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::{timeout_at, Instant};
use tokio_util::codec::Decoder;

use super::client_address::{caller, Caller};
use super::refusal::{self, refuse, too_many_of_address, Refusal};
use super::resume::{self, Brought, Place, Returning, Stray};
use super::runtime::InboundWorker;
use super::trace::HandshakeTrace;
use super::upgrade::{self, Decided};
use crate::connections::Hub;
use crate::listener::{Arrived, ClientSocket, Unwelcome};
use crate::model::filters::Scheme;
use crate::model::proxies::TrustedProxies;
use crate::model::resume::{Claim, NotResumed};

/// A handshake's head may have so many bytes; common servers allow 8 to 16 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// One of something that is counted while it lasts.
pub struct Counted {
    hub: Arc<Hub>,
    counter: fn(&Hub) -> &AtomicU64,
}

impl Counted {
    pub fn new(hub: &Arc<Hub>, counter: fn(&Hub) -> &AtomicU64) -> Counted {
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
pub async fn accept(inbound: Rc<InboundWorker>, io: TcpStream) {
    let _counted = Counted::new(&inbound.worker.hub, |hub| &hub.handshakes);
    let deadline = Instant::now() + inbound.settings.handshake_deadline();
    let received = match timeout_at(deadline, inbound.listener.receive(io)).await {
        Ok(received) => received,
        Err(_elapsed) => return inbound.count_unwelcome("timeout"),
    };
    let Arrived { mut io, ip, unnamed, https, certificates } = match received {
        Ok(arrived) => arrived,
        Err(unwelcome) => return turn_away(&inbound, unwelcome).await,
    };
    let Head { request, early, raw } = match timeout_at(deadline, read_head(&mut io)).await {
        Ok(Ok(Some(head))) => head,
        Ok(Ok(None)) => return, // closed or broken before a whole head
        Ok(Err(refusal)) => return refusal::answer(&inbound, &mut io, ip, refusal).await,
        Err(_elapsed) => {
            let refusal = refuse(408, "Request Timeout", "handshake_timeout", "the handshake took too long");
            return refusal::answer(&inbound, &mut io, ip, refusal).await;
        }
    };
    let settings = &inbound.settings;
    let nobody = TrustedProxies::default();
    let trusted = if unnamed { &nobody } else { &settings.trusted_proxies };
    let mut client = match caller(ip, &request.head().headers, trusted, settings.forwarded_header) {
        Ok(client) => client,
        Err(err) => {
            let refusal = refuse(400, "Bad Request", "proxy_headers", err.to_string());
            return refusal::answer(&inbound, &mut io, ip, refusal).await;
        }
    };
    client.scheme = client.scheme.or(https.then_some(Scheme::Https));
    client.certificates = certificates;
    if let Err(excess) = inbound.listener.admit_behind_proxy(ip, client.ip, &mut io) {
        return refusal::answer(&inbound, &mut io, client.ip, too_many_of_address(excess)).await;
    }
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
                refusal::answer(&inbound, &mut io, client.ip, Refusal { header, ..refusal }).await;
            }
        },
        // Its name was written so that only a parser sees it.
        (Place::AnotherWorker(_) | Place::AnotherNode(_), None) => {
            serve(inbound, io, request, early, client, Returning::Not(NotResumed::Malformed)).await;
        }
        (Place::ThisWorker(returning), _) => serve(inbound, io, request, early, client, returning).await,
    }
}

/// Lets go of a socket on which there was no handshake.
async fn turn_away(inbound: &InboundWorker, unwelcome: Unwelcome) {
    match unwelcome {
        Unwelcome::Lost => {}
        Unwelcome::ProxyHeader(fault) => {
            tracing::warn!("a trusted proxy's PROXY header: {fault}");
            inbound.count_unwelcome("proxy_header");
        }
        Unwelcome::Tls(fault) => {
            tracing::debug!("TLS handshake: {fault}");
            inbound.count_unwelcome("tls");
        }
        Unwelcome::Excess { excess, ip, io: Some(mut io) } => {
            refusal::answer_one_of_many(inbound, &mut io, ip, excess).await;
        }
        Unwelcome::Excess { excess, ip, io: None } => {
            tracing::debug!(%ip, "refused: {}", excess.as_str());
            inbound.count_unwelcome(excess.as_str());
        }
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
    mut io: ClientSocket,
    request: Request,
    early: Bytes,
    client: Caller,
    returning: Returning,
) {
    let trace = HandshakeTrace::begin(&inbound.traces, &request.head().headers);
    let decided = upgrade::decide(&inbound, &request, &client, returning, trace.as_ref()).await;
    if let Some(trace) = trace {
        trace.end(&inbound.traces, &request, &client, &upgrade::outcome(&decided));
    }
    match decided {
        Ok(Decided::New(accepted)) => upgrade::open(inbound, io, early, *accepted),
        Ok(Decided::Back(back)) => resume::open(inbound, io, early, *back).await,
        Err(refusal) => refusal::answer(&inbound, &mut io, client.ip, refusal).await,
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
async fn read_head(io: &mut ClientSocket) -> Result<Option<Head>, Refusal> {
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
