//! The accepting end: lets proven peers in and answers their requests. Started by [`super::TcpTransport`]; calls the
//! [`Services`] of this node.
//!
//! One task per link reads frames and calls `handle` in their order. The returned futures are driven by the same task, so
//! a handler that computes for long holds up its link and belongs on a thread of its own. A link that breaks does not cut
//! its handlers off: they may go on for [`ORPHANED_HANDLERS_TIMEOUT`].

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::frame::{decode, queue, read_frames, write_frames, Frame, NotQueued, Queue};
use super::handshake::{accept, refuse, turn_away, HandshakeError, ProvenPeer, Way, TLS_RECORD};
use super::options::{
    is_loopback, payload_bytes_max, ACCEPTED_LINKS_MAX, HANDSHAKES_MAX, ORPHANED_HANDLERS_TIMEOUT,
    REQUESTS_IN_FLIGHT_MAX,
};
use super::refusals::LinkRefusal;
use super::socket::configure;
use super::tls::{PeerTls, PeerTlsMode};
use super::Shared;
use crate::identity::NodeId;
use crate::stream::{binding_of_accepted, AcceptedStream, PeerStream};
use crate::transport::{kinds, Channel, Services};

/// After a failed accept (usually: no file descriptors left), so that the loop does not spin.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection without a peer is kept for the other side to read the reason.
const LINGER: Duration = Duration::from_millis(500);

/// The id of a request and what its handler said.
type Finished = (u64, Result<Bytes, String>);

pub(super) async fn accept_peers(listener: TcpListener, shared: Arc<Shared>, services: Services) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let links = Arc::new(Semaphore::new(ACCEPTED_LINKS_MAX));
    loop {
        let accepted = tokio::select! {
            () = shared.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (io, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cluster listener: accept failed");
                tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                continue;
            }
        };
        let (Ok(handshake), Ok(link)) = (handshakes.clone().try_acquire_owned(), links.clone().try_acquire_owned())
        else {
            tracing::warn!(%from, "cluster listener: too many connections, one was closed");
            continue;
        };
        let (task_shared, services) = (shared.clone(), services.clone());
        let serving = async move {
            let shared = task_shared;
            let met = tokio::select! {
                () = shared.closing.cancelled() => return,
                met = meet(io, from, &shared) => met,
            };
            drop(handshake);
            match met {
                // Bounded by the connections that they belong to, not among the links.
                Ok((io, peer)) if peer.channel == Channel::Tunnel => {
                    if let Some(tunnels) = services.tunnels() {
                        tunnels.accept(peer.node_id, io);
                    }
                }
                Ok((io, peer)) => serve_link(io, peer, &shared, &services).await,
                Err(error) => {
                    let why = match error {
                        HandshakeError::Broken(_) => LinkRefusal::Foreign,
                        HandshakeError::Refused(_) => LinkRefusal::Handshake,
                        HandshakeError::Because(why, _) => why,
                    };
                    shared.refusals.note(why, format_args!("a connection from {from}"), &error.to_string());
                }
            }
            drop(link);
        };
        shared.tasks.spawn_on(serving, &shared.runtime);
    }
}

async fn meet(
    io: TcpStream,
    from: SocketAddr,
    shared: &Shared,
) -> Result<(AcceptedStream, ProvenPeer), HandshakeError> {
    let deadline = shared.timeouts.handshake;
    match tokio::time::timeout(deadline, let_in(io, from, shared)).await {
        Ok(met) => met,
        Err(_) => {
            let reason = format!("no handshake within {} ms", deadline.as_millis());
            Err(HandshakeError::Because(LinkRefusal::Foreign, reason))
        }
    }
}

/// Tells TLS from our own first message by its first byte.
async fn let_in(
    mut io: TcpStream,
    from: SocketAddr,
    shared: &Shared,
) -> Result<(AcceptedStream, ProvenPeer), HandshakeError> {
    configure(&io, shared.timeouts.dead_link)?;
    if shared.loopback_only && !is_loopback(from.ip()) {
        let reason = "this node has no cluster secret and talks to peers on its own machine only";
        return refuse(&mut io, reason.to_owned()).await;
    }
    let mut first = [0];
    let begins_with_tls = io.peek(&mut first).await? == 1 && first[0] == TLS_RECORD;
    match (&shared.tls, begins_with_tls) {
        (None, true) => {
            // Closed without an answer, which is what tells the other side to try without, where it may.
            let reason = "it speaks TLS, and none is configured here";
            Err(HandshakeError::Because(LinkRefusal::Tls, reason.to_owned()))
        }
        (Some(tls), true) => let_in_with_tls(io, tls, shared).await,
        (Some(tls), false) if tls.mode() == PeerTlsMode::Required => {
            turn_away(&mut io).await.map(|peer| (PeerStream::Plain(io), peer))
        }
        (tls, false) => {
            let way = Way::Plain { tls_here: tls.is_some() };
            let peer = accept(&mut io, &shared.keys, &shared.identity, &way).await?;
            if tls.is_some() {
                shared.refusals.note_in_the_clear(format_args!("a peer at {from}"));
            }
            Ok((PeerStream::Plain(io), peer))
        }
    }
}

async fn let_in_with_tls(
    io: TcpStream,
    tls: &PeerTls,
    shared: &Shared,
) -> Result<(AcceptedStream, ProvenPeer), HandshakeError> {
    let explained = |error: io::Error| match LinkRefusal::of_tls(&error) {
        Some(why) => HandshakeError::Because(why, why.explained(&error)),
        None => error.into(),
    };
    let mut io = match tls.accept(io).await {
        Ok(io) => io,
        Err((error, io)) => {
            linger(io).await;
            return Err(explained(error));
        }
    };
    let way = Way::Tls(binding_of_accepted(&io)?);
    let met = accept(&mut io, &shared.keys, &shared.identity, &way).await;
    let peer = met.map_err(|error| match error {
        HandshakeError::Broken(error) => explained(error),
        refused => refused,
    })?;
    Ok((PeerStream::Tls(Box::new(io)), peer))
}

/// What came and was not read would make the kernel reset the connection, past the alert that says why.
async fn linger(mut io: TcpStream) {
    let emptied = async {
        io.shutdown().await?;
        let mut ignored = [0; 4_096];
        while io.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    };
    // However it ends: the connection is given up.
    let _ = tokio::time::timeout(LINGER, emptied).await;
}

async fn serve_link(io: AcceptedStream, peer: ProvenPeer, shared: &Shared, services: &Services) {
    let _open = shared.open_links.count(io.is_tls());
    match io {
        PeerStream::Plain(io) => {
            let (read, write) = io.into_split();
            serve_halves(read, write, peer, shared, services).await;
        }
        // Both halves are polled by this task, so their lock is never waited for.
        PeerStream::Tls(io) => {
            let (read, write) = tokio::io::split(*io);
            serve_halves(read, write, peer, shared, services).await;
        }
    }
}

async fn serve_halves<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    read: R,
    write: W,
    peer: ProvenPeer,
    shared: &Shared,
    services: &Services,
) {
    let (answers, frames) = queue(shared.queue(peer.channel));
    let mut in_flight = FuturesUnordered::new();
    tracing::debug!(node = peer.node_id, generation = peer.generation, channel = ?peer.channel, "peer connected");
    let ended = tokio::select! {
        () = shared.closing.cancelled() => return,
        ended = serve_requests(read, peer, services, &answers, &mut in_flight) => ended,
        ended = write_frames(write, frames, |_| true) => ended,
    };
    tracing::debug!(node = peer.node_id, channel = ?peer.channel, ?ended, "peer disconnected");
    let orphaned = async { while in_flight.next().await.is_some() {} };
    tokio::select! {
        () = shared.closing.cancelled() => {}
        _ = tokio::time::timeout(ORPHANED_HANDLERS_TIMEOUT, orphaned) => {}
    }
}

/// `Ok` when the peer closed the link.
async fn serve_requests<R: AsyncRead + Unpin>(
    read: R,
    peer: ProvenPeer,
    services: &Services,
    answers: &Queue,
    in_flight: &mut FuturesUnordered<BoxFuture<'static, Finished>>,
) -> io::Result<()> {
    let mut frames = read_frames(read, peer.channel);
    loop {
        tokio::select! {
            Some((id, result)) = in_flight.next() => answer(answers, peer.channel, id, result).await?,
            frame = frames.next(), if in_flight.len() < REQUESTS_IN_FLIGHT_MAX => {
                let Some(frame) = frame else { return Ok(()) };
                let mut handling = handle(frame?, peer.node_id, services)?;
                // Most handlers are done at once; those need no place among the waiting.
                match futures::poll!(&mut handling) {
                    Poll::Ready((id, result)) => answer(answers, peer.channel, id, result).await?,
                    Poll::Pending => in_flight.push(handling),
                }
            }
        }
    }
}

async fn answer(answers: &Queue, channel: Channel, id: u64, result: Result<Bytes, String>) -> io::Result<()> {
    let (ok, payload) = match result {
        Ok(payload) if payload.len() > payload_bytes_max(channel) => {
            let reason = format!("the answer of {} bytes is too long for a frame", payload.len());
            (false, Bytes::from(reason))
        }
        Ok(payload) => (true, payload),
        Err(mut reason) => {
            let mut end = reason.len().min(payload_bytes_max(channel));
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            reason.truncate(end);
            (false, Bytes::from(reason))
        }
    };
    answers.push_when_room(Frame::answer(id, ok, payload)).await.map_err(|not_queued| match not_queued {
        NotQueued::Full | NotQueued::Closed => io::Error::from(io::ErrorKind::BrokenPipe),
    })
}

/// Calls the service now and returns the rest as a future that does not panic.
fn handle(frame: BytesMut, from: NodeId, services: &Services) -> io::Result<BoxFuture<'static, Finished>> {
    let ((id, kind), payload) = decode::<(u64, u16)>(frame)?;
    Ok(call_service(services, from, kind, payload).map(move |result| (id, result)).boxed())
}

/// Shared with the in-process transport: what a service is called with and how its panics look from outside.
pub(crate) fn call_service(
    services: &Services,
    from: NodeId,
    kind: u16,
    payload: Bytes,
) -> BoxFuture<'static, Result<Bytes, String>> {
    if kind == kinds::PING {
        return futures::future::ready(Ok(Bytes::new())).boxed();
    }
    let Some(service) = services.find(kind) else {
        return futures::future::ready(Err(format!("no service for requests of kind {kind}"))).boxed();
    };
    match catch_unwind(AssertUnwindSafe(|| service.handle(from, kind, payload))) {
        Ok(handling) => AssertUnwindSafe(handling)
            .catch_unwind()
            .map(move |result| result.unwrap_or_else(|panic| Err(panicked(kind, panic))))
            .boxed(),
        Err(panic) => futures::future::ready(Err(panicked(kind, panic))).boxed(),
    }
}

fn panicked(kind: u16, panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(kind, text, "a peer service panicked");
    format!("the service for requests of kind {kind} panicked")
}
