//! What carries a client's bytes: a bare socket, or TLS on one. Both take bytes as far as they can now, from whoever has an
//! event or a pong, and are read by one task. Used by `client` and by who chooses between the two.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::{Buf, BytesMut};
use rustls::pki_types::ServerName;
use rustls::ClientConnection;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;

/// Plaintext that is taken out of a TLS session at a time.
const READ_BYTES: usize = 4096;

/// How clients get to a server.
#[derive(Clone)]
pub enum Transport {
    Clear,
    Tls(TlsConnector),
}

/// An open connection before it is taken apart.
pub enum Line {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub enum Reader {
    Clear(OwnedReadHalf),
    Tls(Arc<Session>),
}

pub enum Writer {
    Clear(OwnedWriteHalf),
    Tls(Arc<Session>),
}

/// A TLS session and the socket below it, for a reader and writers that do not wait for each other.
pub struct Session {
    socket: TcpStream,
    tls: Mutex<ClientConnection>,
}

/// The socket as rustls wants it: what would have to wait is an error.
struct Now<'a>(&'a TcpStream);

/// A connection without delays for small frames.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The same with a TLS handshake.
pub async fn connect_tls(connector: &TlsConnector, address: SocketAddr) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = connect(address).await?;
    connector.connect(ServerName::from(address.ip()), stream).await.context("TLS handshake")
}

impl Line {
    pub fn into_halves(self) -> (Reader, Writer) {
        match self {
            Line::Clear(stream) => {
                let (reader, writer) = stream.into_split();
                (Reader::Clear(reader), Writer::Clear(writer))
            }
            Line::Tls(stream) => {
                let (socket, tls) = stream.into_inner();
                let session = Arc::new(Session { socket, tls: Mutex::new(tls) });
                (Reader::Tls(session.clone()), Writer::Tls(session))
            }
        }
    }
}

impl Reader {
    /// Appends what has come, and waits for something to come. 0: the server is done.
    pub async fn read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Reader::Clear(reader) => reader.read_buf(input).await,
            Reader::Tls(session) => session.read(input).await,
        }
    }
}

impl Writer {
    /// Takes off `unsent` what goes out now. `Ok(true)`: nothing is left, here or there.
    pub fn try_write_all(&self, unsent: &mut BytesMut) -> io::Result<bool> {
        let writer = match self {
            Writer::Clear(writer) => writer,
            Writer::Tls(session) => return session.try_write_all(unsent),
        };
        while !unsent.is_empty() {
            let Some(written) = unless_it_waits(writer.try_write(unsent))? else { return Ok(false) };
            unsent.advance(written);
        }
        Ok(true)
    }

    /// Waits until it is worth trying again.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Writer::Clear(writer) => writer.writable().await,
            Writer::Tls(session) => session.socket.writable().await,
        }
    }
}

impl Session {
    fn try_write_all(&self, unsent: &mut BytesMut) -> io::Result<bool> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while tls.wants_write() {
                if unless_it_waits(tls.write_tls(&mut Now(&self.socket)))?.is_none() {
                    return Ok(false);
                }
            }
            if unsent.is_empty() {
                return Ok(true);
            }
            let taken = tls.writer().write(unsent)?;
            unsent.advance(taken);
        }
    }

    async fn read(&self, input: &mut BytesMut) -> io::Result<usize> {
        loop {
            if let Some(count) = self.try_read(input)? {
                return Ok(count);
            }
            self.socket.readable().await?;
        }
    }

    /// `None`: nothing has come.
    fn try_read(&self, input: &mut BytesMut) -> io::Result<Option<usize>> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut plain = [0; READ_BYTES];
        loop {
            if let Some(count) = unless_it_waits(tls.reader().read(&mut plain))? {
                input.extend_from_slice(&plain[..count]);
                return Ok(Some(count));
            }
            match unless_it_waits(tls.read_tls(&mut Now(&self.socket)))? {
                None => return Ok(None),
                // Cut off without TLS' own end, as far as the load program cares.
                Some(0) => return Ok(Some(0)),
                Some(_) => {}
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Read for Now<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `None` for what would have to wait.
fn unless_it_waits<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::certificate::{Certificate, Sessions};

    /// More than both sockets' buffers and several TLS records.
    const BYTES: usize = 16 << 20;

    /// Accepts one connection and sends back whatever comes.
    async fn serve(listener: TcpListener, certificate: &Certificate) {
        let chain = vec![CertificateDer::from_pem_file(certificate.certificate_file()).unwrap()];
        let key = PrivateKeyDer::from_pem_file(certificate.key_file()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        // A client that does not believe it hangs up.
        let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(socket).await else { return };
        let (mut reader, mut writer) = tokio::io::split(stream);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn what_goes_out_by_tls_comes_back_in_order_and_a_full_socket_is_waited_for() {
        let certificate = Certificate::make().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connector = certificate.connector(Sessions::Forgotten).unwrap();
        let client = async {
            let line = Line::Tls(Box::new(connect_tls(&connector, address).await.unwrap()));
            let (mut reader, writer) = line.into_halves();
            let sent: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
            let mut unsent = BytesMut::from(&sent[..]);
            assert!(!writer.try_write_all(&mut unsent).unwrap(), "so much is not taken at once");
            let mut received = BytesMut::new();
            let write = async {
                while !writer.try_write_all(&mut unsent).unwrap() {
                    writer.writable().await.unwrap();
                }
            };
            let read = async {
                while received.len() < BYTES {
                    assert!(reader.read(&mut received).await.unwrap() > 0);
                }
            };
            tokio::join!(write, read);
            assert!(received[..] == sent[..], "what came back differs");
        };
        // The server ends when the client has hung up, in whatever way.
        let both = async {
            tokio::select! { () = client => {}, () = serve(listener, &certificate) => {} }
        };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("all of it came back within a minute");
    }

    #[tokio::test]
    async fn another_certificate_is_not_believed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shown = Certificate::make().unwrap();
        let server = tokio::spawn(async move { serve(listener, &shown).await });
        let connector = Certificate::make().unwrap().connector(Sessions::Forgotten).unwrap();
        let refused = connect_tls(&connector, address).await.unwrap_err();
        assert!(format!("{refused:#}").starts_with("TLS handshake: "), "{refused:#}");
        server.abort();
    }
}
