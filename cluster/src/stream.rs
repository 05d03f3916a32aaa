//! A connection to a peer, in the clear or under TLS, and what binds a proof to it. Made by `tcp`, named by
//! `transport`; the ends of tunnels are handed to the gateway. Imports nothing.
//!
//! An enum and no trait object: on a link without TLS, reads and writes are those of the bare socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ConnectionCommon;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// What both ends of one TLS session know, and nobody else.
pub(crate) type Binding = [u8; 32];

/// For keying material of this use alone (RFC 8446, 7.5).
const BINDING_LABEL: &[u8] = b"EXPORTER-wsgateway-cluster-handshake-1";

pub type DialledTls = client::TlsStream<TcpStream>;
pub type AcceptedTls = server::TlsStream<TcpStream>;

/// The end of a connection that this node has opened.
pub type DialledStream = PeerStream<DialledTls>;
/// The end of a connection that a peer has opened.
pub type AcceptedStream = PeerStream<AcceptedTls>;

/// A connection whose other end is proven. Under TLS, what was written may wait for a flush.
#[derive(Debug)]
pub enum PeerStream<T> {
    Plain(TcpStream),
    Tls(Box<T>),
}

impl<T> PeerStream<T> {
    pub fn is_tls(&self) -> bool {
        matches!(self, PeerStream::Tls(_))
    }
}

pub(crate) fn binding_of_dialled(io: &DialledTls) -> io::Result<Binding> {
    binding(io.get_ref().1)
}

pub(crate) fn binding_of_accepted(io: &AcceptedTls) -> io::Result<Binding> {
    binding(io.get_ref().1)
}

fn binding<S>(session: &ConnectionCommon<S>) -> io::Result<Binding> {
    session.export_keying_material(Binding::default(), BINDING_LABEL, None).map_err(io::Error::other)
}

impl<T: AsyncRead + Unpin> AsyncRead for PeerStream<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PeerStream::Plain(io) => Pin::new(io).poll_read(cx, buf),
            PeerStream::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for PeerStream<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            PeerStream::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            PeerStream::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PeerStream::Plain(io) => Pin::new(io).poll_flush(cx),
            PeerStream::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            PeerStream::Plain(io) => Pin::new(io).poll_shutdown(cx),
            PeerStream::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
