//! One client's socket, in the clear or under TLS. Whoever drives a connection asks it for readiness and tries; during the
//! handshake it is a stream like any other.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_rt::net::TcpStream;
use bytes::BytesMut;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use wsgateway_cluster::stream::{AcceptedStream, PeerStream};

use super::addresses::Place;
use super::tls_socket::TlsSocket;

/// A socket that may be written to from every thread, and is read by its connection's worker.
pub struct ClientSocket {
    way: Way,
    /// Among the sockets of its address, where those are counted.
    place: Option<Box<Place>>,
}

enum Way {
    Plain(TcpStream),
    Tls(Box<TlsSocket>),
}

impl From<TcpStream> for ClientSocket {
    fn from(io: TcpStream) -> ClientSocket {
        ClientSocket { way: Way::Plain(io), place: None }
    }
}

impl From<TlsSocket> for ClientSocket {
    fn from(io: TlsSocket) -> ClientSocket {
        ClientSocket { way: Way::Tls(Box::new(io)), place: None }
    }
}

/// The far end of a tunnel: the client is behind another node.
impl From<AcceptedStream> for ClientSocket {
    fn from(io: AcceptedStream) -> ClientSocket {
        match io {
            PeerStream::Plain(io) => io.into(),
            PeerStream::Tls(io) => {
                let (io, session) = io.into_inner();
                TlsSocket::new(io, session).into()
            }
        }
    }
}

impl ClientSocket {
    /// Counts it at its address for as long as it lives.
    pub fn occupy(&mut self, place: Option<Place>) {
        self.place = place.map(Box::new);
    }

    fn tcp(&self) -> &TcpStream {
        match &self.way {
            Way::Plain(io) => io,
            Way::Tls(io) => io.tcp(),
        }
    }

    /// What the client has shown of itself, and of its issuers.
    pub fn peer_certificates(&self) -> Vec<CertificateDer<'static>> {
        match &self.way {
            Way::Plain(_) => Vec::new(),
            Way::Tls(io) => io.peer_certificates().unwrap_or_default(),
        }
    }

    /// Writes what goes out at once. [`io::ErrorKind::WouldBlock`]: nothing does.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.way {
            Way::Plain(io) => io.try_write(bytes),
            Way::Tls(io) => io.try_write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    /// The same with several frames, of which each slice is one: only the first may be the rest of one.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.way {
            Way::Plain(io) => io.try_write_vectored(slices),
            Way::Tls(io) => io.try_write_vectored(slices),
        }
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_write_ready(cx)
    }

    /// Reads once into the spare capacity of `buffer`. `Ready(Ok(0))` is the end of the stream.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let io = match &self.way {
            Way::Plain(io) => io,
            Way::Tls(io) => {
                let room = buffer.capacity() - buffer.len();
                return io.poll_read(cx, room, |bytes| buffer.extend_from_slice(bytes));
            }
        };
        loop {
            match io.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
                Poll::Ready(Ok(())) => {}
            }
            let room = buffer.capacity() - buffer.len();
            match io.try_read_buf(buffer) {
                Ok(count) => {
                    if count > 0 && count < room {
                        // A short read has drained the socket: saying so spares the read that would only find that out.
                        let drained = io.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
                        debug_assert!(drained.is_err());
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Poll::Ready(Err(err)),
            }
        }
    }

    /// Ends one half or both; under TLS, says so first if that goes out at once.
    pub fn shutdown(&self, how: Shutdown) {
        if let Way::Tls(io) = &self.way {
            io.say_goodbye();
        }
        // An error means that the socket is gone already, which is what is wanted.
        let _gone = socket2::SockRef::from(self.tcp()).shutdown(how);
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            Way::Tls(io) => io.poll_read(cx, buffer.remaining(), |bytes| buffer.put_slice(bytes)).map_ok(|_count| ()),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().way {
            Way::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Way::Tls(io) => loop {
                match io.try_write_vectored(&[IoSlice::new(bytes)]) {
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                    written => return Poll::Ready(written),
                }
                match io.tcp().poll_write_ready(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
                    Poll::Ready(Ok(())) => {}
                }
            },
        }
    }

    /// What was taken is out.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Way::Tls(io) => {
                io.say_goodbye();
                Poll::Ready(socket2::SockRef::from(io.tcp()).shutdown(Shutdown::Write))
            }
        }
    }
}
