//! Connects to a peer, with TLS or without, and proves who is who. Called by `link` and for tunnels. May import
//! `identity`, `stream`, `transport` and its neighbours `handshake`, `tls`, `refusals`, `options` and `socket`.
//!
//! Where TLS is optional, a peer that takes the connection and then closes it on being spoken to in TLS, or answers
//! something else, is connected to a second time, without. One that does not take connections, or says nothing, is
//! not: so that a peer which is down costs no more than before.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::handshake::{initiate, HandshakeError, ProvenPeer, Way};
use super::options::is_loopback;
use super::refusals::LinkRefusal;
use super::socket::configure;
use super::tls::{PeerTls, PeerTlsMode};
use super::Shared;
use crate::stream::{binding_of_dialled, DialledStream, PeerStream};
use crate::transport::{Channel, PeerAddress, PeerError};

/// The caller sets the deadline.
pub(super) async fn dial(
    peer: &PeerAddress,
    channel: Channel,
    shared: &Shared,
) -> Result<(DialledStream, ProvenPeer), PeerError> {
    let unreachable = |reason: String| PeerError::Unreachable { addr: peer.addr.clone(), reason, sent: false };
    let refused = |reason: String| PeerError::Refused { addr: peer.addr.clone(), reason };
    let addrs = tokio::net::lookup_host(&peer.addr).await.map_err(|error| unreachable(error.to_string()))?;
    let mut last = unreachable("the name has no address".to_owned());
    for addr in addrs {
        if shared.loopback_only && !is_loopback(addr.ip()) {
            last = refused(format!("{addr} is not on loopback: that needs a cluster secret"));
            continue;
        }
        let io = match TcpStream::connect(addr).await {
            Ok(io) => io,
            Err(error) => {
                last = unreachable(error.to_string());
                continue;
            }
        };
        let dialling = Dialling { peer, addr, channel, shared };
        return dialling.meet(io).await.map_err(|error| match error {
            HandshakeError::Refused(reason) => refused(reason),
            HandshakeError::Because(why, reason) => {
                shared.refusals.note(why, format_args!("the peer at {}", peer.addr), &reason);
                refused(reason)
            }
            HandshakeError::Broken(broken) => unreachable(broken.to_string()),
        });
    }
    Err(last)
}

struct Dialling<'a> {
    peer: &'a PeerAddress,
    addr: SocketAddr,
    channel: Channel,
    shared: &'a Shared,
}

impl Dialling<'_> {
    async fn meet(&self, io: TcpStream) -> Result<(DialledStream, ProvenPeer), HandshakeError> {
        configure(&io, self.shared.timeouts.dead_link)?;
        match &self.shared.tls {
            None => self.meet_plain(io, false).await,
            Some(tls) => self.meet_with_tls(io, tls).await,
        }
    }

    async fn meet_with_tls(&self, io: TcpStream, tls: &PeerTls) -> Result<(DialledStream, ProvenPeer), HandshakeError> {
        let error = match tls.connect(io).await {
            Ok(mut io) => {
                let way = Way::Tls(binding_of_dialled(&io)?);
                let proven = self.prove(&mut io, &way).await?;
                return Ok((PeerStream::Tls(Box::new(io)), proven));
            }
            Err(error) => error,
        };
        match (speaks_no_tls(&error), tls.mode()) {
            (false, _) => Err(explained(error)),
            (true, PeerTlsMode::Required) => {
                let reason =
                    format!("it does not answer in TLS, which is required here ({error}): see cluster.tls there");
                Err(io::Error::new(error.kind(), reason).into())
            }
            (true, PeerTlsMode::Optional) => {
                let io = TcpStream::connect(self.addr).await?;
                configure(&io, self.shared.timeouts.dead_link)?;
                let met = self.meet_plain(io, true).await?;
                self.shared.refusals.note_in_the_clear(format_args!("the peer at {}", self.peer.addr));
                Ok(met)
            }
        }
    }

    async fn meet_plain(
        &self,
        mut io: TcpStream,
        tls_here: bool,
    ) -> Result<(DialledStream, ProvenPeer), HandshakeError> {
        let proven = self.prove(&mut io, &Way::Plain { tls_here }).await?;
        Ok((PeerStream::Plain(io), proven))
    }

    async fn prove<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: &mut S,
        way: &Way,
    ) -> Result<ProvenPeer, HandshakeError> {
        let Shared { keys, identity, .. } = self.shared;
        let met = initiate(io, keys, identity, self.channel, self.peer.node_id, way).await;
        met.map_err(|error| match error {
            HandshakeError::Broken(error) => explained(error),
            refused => refused,
        })
    }
}

/// Whether the other side closed the connection, or answered something that is no TLS. An alert is TLS.
fn speaks_no_tls(error: &io::Error) -> bool {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => matches!(error, rustls::Error::InvalidMessage(_)),
        None => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        ),
    }
}

/// What TLS says of the peer, or the peer of this node's certificate.
fn explained(error: io::Error) -> HandshakeError {
    match LinkRefusal::of_tls(&error) {
        Some(LinkRefusal::Foreign) | None => error.into(),
        Some(why) => HandshakeError::Because(why, why.explained(&error)),
    }
}
