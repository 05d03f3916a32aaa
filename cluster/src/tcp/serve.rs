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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::frame::{decode, queue, read_frames, write_frames, Frame, NotQueued, Queue};
use super::handshake::{accept, refuse, HandshakeError, ProvenPeer};
use super::options::{
    is_loopback, payload_bytes_max, ACCEPTED_LINKS_MAX, HANDSHAKES_MAX, ORPHANED_HANDLERS_TIMEOUT,
    REQUESTS_IN_FLIGHT_MAX,
};
use super::socket::configure;
use super::Shared;
use crate::identity::NodeId;
use crate::transport::{kinds, Channel, Services};

/// After a failed accept (usually: no file descriptors left), so that the loop does not spin.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

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
                Err(reason) => tracing::warn!(%from, %reason, "cluster listener: a connection was refused"),
            }
            drop(link);
        };
        shared.tasks.spawn_on(serving, &shared.runtime);
    }
}

async fn meet(mut io: TcpStream, from: SocketAddr, shared: &Shared) -> Result<(TcpStream, ProvenPeer), HandshakeError> {
    let deadline = shared.timeouts.handshake;
    let meeting = async {
        configure(&io, shared.timeouts.dead_link)?;
        if shared.loopback_only && !is_loopback(from.ip()) {
            let reason = "this node has no cluster secret and talks to peers on its own machine only";
            return refuse(&mut io, reason.to_owned()).await;
        }
        accept(&mut io, &shared.keys, &shared.identity).await
    };
    match tokio::time::timeout(deadline, meeting).await {
        Ok(met) => met.map(|peer| (io, peer)),
        Err(_) => Err(HandshakeError::Refused(format!("no handshake within {} ms", deadline.as_millis()))),
    }
}

async fn serve_link(io: TcpStream, peer: ProvenPeer, shared: &Shared, services: &Services) {
    let (read, write) = io.into_split();
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
async fn serve_requests(
    read: tokio::net::tcp::OwnedReadHalf,
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
