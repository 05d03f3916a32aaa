//! Peer links over TCP: the production implementation of [`PeerTransport`]. Started by the gateway's wiring, called
//! through the trait. May import `identity`, `transport`, `stream` and `spacing`.
//!
//! Each node dials its own links, two per peer (one per [`Channel`]); accepted ones are served only. `options` has
//! every bound and its reason, `handshake` proves who is who, `tls` encrypts where it is configured (a `stream` is a
//! connection with or without), `frame` is the wire format and the coalescing writer, `dial` and `link` are the
//! dialling end, `serve` the accepting end, `refusals` counts what became no link.

mod dial;
mod frame;
mod handshake;
mod link;
mod options;
mod refusals;
mod serve;
mod socket;
mod tls;
#[doc(hidden)]
pub mod untrusted;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::dial::dial;
use self::handshake::Keys;
use self::link::Link;
use self::options::WHOIS_TIMEOUT;
use crate::identity::{Identity, NodeId};
use crate::stream::DialledStream;
use crate::transport::{kinds, Channel, PeerAddress, PeerError, PeerTransport, Services};

pub(crate) use self::options::{check_listen, check_secrets, payload_bytes_max};
pub use self::options::{
    QueueBounds, TcpOptions, Timeouts, CONTROL_FRAME_BYTES_MAX, CONTROL_QUEUE, PUSH_FRAME_BYTES_MAX, PUSH_QUEUE,
    SECRETS_MAX, SHUTDOWN_TIMEOUT,
};
pub use self::refusals::{LinkRefusal, LinkRefusals};
pub(crate) use self::serve::call_service;
pub use self::tls::{PeerTls, PeerTlsError, PeerTlsMode, PeerTlsPem};

/// The node's listener and its links to others. Dropping it closes everything.
pub struct TcpTransport {
    shared: Arc<Shared>,
    links: RwLock<HashMap<PeerAddress, Links>>,
    local_addr: SocketAddr,
}

/// What tasks of all links need.
struct Shared {
    identity: Identity,
    keys: Keys,
    tls: Option<PeerTls>,
    refusals: LinkRefusals,
    open_links: OpenLinks,
    loopback_only: bool,
    control_queue: QueueBounds,
    push_queue: QueueBounds,
    timeouts: Timeouts,
    /// The runtime of `start`: callers come from others, which may end sooner or be busy.
    runtime: Handle,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Shared {
    fn queue(&self, channel: Channel) -> QueueBounds {
        match channel {
            Channel::Control => self.control_queue,
            Channel::Push | Channel::Tunnel => self.push_queue,
        }
    }
}

/// Accepted ones.
#[derive(Default)]
struct OpenLinks {
    plain: AtomicU64,
    tls: AtomicU64,
}

/// One more, until it is dropped.
struct OpenLink<'a>(&'a AtomicU64);

impl OpenLinks {
    fn count(&self, tls: bool) -> OpenLink<'_> {
        let of_its_kind = if tls { &self.tls } else { &self.plain };
        of_its_kind.fetch_add(1, Ordering::Relaxed);
        OpenLink(of_its_kind)
    }
}

impl Drop for OpenLink<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Links {
    control: Arc<Link>,
    push: Arc<Link>,
}

impl Links {
    fn on(&self, channel: Channel) -> &Arc<Link> {
        match channel {
            Channel::Control => &self.control,
            Channel::Push | Channel::Tunnel => &self.push,
        }
    }
}

impl TcpTransport {
    /// Binds the listener and serves it. To be called within the tokio runtime on which all links are to run.
    ///
    /// Fails when the address cannot be bound, with more than [`SECRETS_MAX`] or empty secrets, and when there is no
    /// secret and the listener is not on loopback.
    pub fn start(options: TcpOptions, identity: Identity, services: Services) -> io::Result<Arc<TcpTransport>> {
        check_secrets(&options.secrets)?;
        let TcpOptions { listen, listener, secrets, tls, control_queue, push_queue, timeouts } = options;
        let loopback_only = secrets.is_empty();
        let listener = match listener {
            Some(listener) => listener,
            None => {
                // Before binding, so that the port is never open to others, not even for a moment.
                check_listen(loopback_only, listen)?;
                std::net::TcpListener::bind(listen)?
            }
        };
        let local_addr = listener.local_addr()?;
        check_listen(loopback_only, local_addr)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shared = Arc::new(Shared {
            identity,
            keys: Keys::new(secrets),
            tls,
            refusals: LinkRefusals::default(),
            open_links: OpenLinks::default(),
            loopback_only,
            control_queue,
            push_queue,
            timeouts,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        let accepting = serve::accept_peers(listener, shared.clone(), services);
        shared.tasks.spawn_on(accepting, &shared.runtime);
        Ok(Arc::new(Self { shared, links: RwLock::default(), local_addr }))
    }

    /// Where the listener is, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What links are encrypted with, to reload it; none when they are in the clear.
    pub fn tls(&self) -> Option<&PeerTls> {
        self.shared.tls.as_ref()
    }

    /// What became no link, by reason, on both ends.
    pub fn refusals(&self) -> &LinkRefusals {
        &self.shared.refusals
    }

    /// Links that peers have opened to this node and that are open now: without TLS, and with it. Once no node has any
    /// without, TLS can be required.
    pub fn accepted_links(&self) -> (u64, u64) {
        let OpenLinks { plain, tls } = &self.shared.open_links;
        (plain.load(Ordering::Relaxed), tls.load(Ordering::Relaxed))
    }

    /// Closes the listener and all links and waits for their tasks, for [`SHUTDOWN_TIMEOUT`] at most. Calls under way,
    /// and all later ones, fail with `Unreachable`.
    pub async fn shutdown(&self) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("peer links did not end in time");
        }
    }

    /// Like [`PeerTransport::call`], and tells which node answered.
    pub async fn call_proven(
        &self,
        peer: &PeerAddress,
        channel: Channel,
        kind: u16,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<(NodeId, Bytes), PeerError> {
        let link = self.link(peer, channel);
        let mut waiting = link.submit(kind, payload)?;
        match tokio::time::timeout(deadline, &mut waiting.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let reason = "the link's task ended".to_owned();
                Err(PeerError::Unreachable { addr: peer.addr.clone(), reason, sent: true })
            }
            Err(_) => {
                let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
                Err(PeerError::Timeout { addr: peer.addr.clone(), millis })
            }
        }
    }

    fn link(&self, peer: &PeerAddress, channel: Channel) -> Arc<Link> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(links) = links.get(peer) {
            return links.on(channel).clone();
        }
        drop(links);
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let new = |channel| Link::new(peer.clone(), channel, self.shared.clone());
        let links = links
            .entry(peer.clone())
            .or_insert_with(|| Links { control: new(Channel::Control), push: new(Channel::Push) });
        links.on(channel).clone()
    }
}

#[async_trait]
impl PeerTransport for TcpTransport {
    async fn call(
        &self,
        peer: &PeerAddress,
        channel: Channel,
        kind: u16,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        self.call_proven(peer, channel, kind, payload, deadline).await.map(|(_, answer)| answer)
    }

    fn forget(&self, peer: &PeerAddress) {
        let links = self.links.write().unwrap_or_else(PoisonError::into_inner).remove(peer);
        if let Some(links) = links {
            links.control.close();
            links.push.close();
        }
    }

    async fn open_tunnel(&self, peer: &PeerAddress) -> Result<DialledStream, PeerError> {
        let open = self.shared.timeouts.open;
        match tokio::time::timeout(open, dial(peer, Channel::Tunnel, &self.shared)).await {
            Ok(opened) => opened.map(|(io, _)| io),
            Err(_) => {
                let reason = format!("no connection within {} ms", open.as_millis());
                Err(PeerError::Unreachable { addr: peer.addr.clone(), reason, sent: false })
            }
        }
    }

    async fn whois(&self, addr: &str) -> Result<NodeId, PeerError> {
        let peer = PeerAddress { node_id: None, addr: addr.to_owned() };
        let answer = self.call_proven(&peer, Channel::Control, kinds::PING, Bytes::new(), WHOIS_TIMEOUT).await;
        answer.map(|(node_id, _)| node_id)
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpTransport").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}
