//! The way in, before anything of HTTP: options of the socket, what a load balancer says, limits of an address, TLS.
//! Called by inbound for each socket that is accepted; connections hold what comes of it. Imports model, settings and
//! telemetry.

mod addresses;
mod proxy_protocol;
mod socket;
mod tls;
mod tls_socket;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::TcpStream;
use rustls::pki_types::CertificateDer;

pub use addresses::{Addresses, Excess};
pub use socket::ClientSocket;
pub use tls::{ClientCertificates, ListenerTls};

use crate::model::proxies::TrustedProxies;
use crate::settings::ClientSettings;

/// Bytes that the kernel takes for a client beyond what is under way to it. What a client does not read then waits in its
/// outbox, where it is counted and bounded, and not in megabytes of the kernel's.
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

/// Certificates of a client that are kept and passed on; a chain takes two or three thousand bytes.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// What is done with each socket of the client listener. One for all workers.
pub struct ClientListener {
    tls: Option<Arc<ListenerTls>>,
    proxy_protocol: bool,
    trusted: TrustedProxies,
    addresses: Arc<Addresses>,
    user_timeout: Duration,
}

/// A socket on which the client's handshake is next.
pub struct Arrived {
    pub io: ClientSocket,
    /// The other end, or whom a trusted balancer names.
    pub ip: IpAddr,
    /// A balancer has sent a header that names nobody. What comes behind it is not the balancer's word: it passes on bytes.
    pub unnamed: bool,
    /// The client's bytes were encrypted, here or as far as the balancer.
    pub https: bool,
    /// Its own certificate and those of its issuers; verified.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Why nothing more is read from a socket.
pub enum Unwelcome {
    /// It has ended.
    Lost,
    /// The balancer's header is missing or wrong.
    ProxyHeader(String),
    /// Its address has its share. The socket, where an answer can be given without a handshake.
    Excess {
        excess: Excess,
        ip: IpAddr,
        io: Option<ClientSocket>,
    },
    Tls(String),
}

impl ClientListener {
    pub fn new(settings: &ClientSettings, tls: Option<Arc<ListenerTls>>) -> Arc<ClientListener> {
        Arc::new(ClientListener {
            tls,
            proxy_protocol: settings.proxy_protocol,
            trusted: settings.trusted_proxies.clone(),
            addresses: Addresses::new(settings.max_connections_per_address, settings.handshakes_per_address_per_second),
            user_timeout: settings.tcp_user_timeout(),
        })
    }

    /// Whether clients speak TLS.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Brings a socket to where its client's handshake begins. The caller sets the deadline.
    pub async fn receive(&self, mut io: TcpStream) -> Result<Arrived, Unwelcome> {
        let Ok(peer) = io.peer_addr() else { return Err(Unwelcome::Lost) };
        set_options(&io, self.user_timeout);
        let mut ip = peer.ip().to_canonical();
        let (mut https, mut unnamed) = (false, false);
        // Who is no balancer speaks for itself, and what looks like a header is none.
        if self.proxy_protocol && self.trusted.contains(ip) {
            match proxy_protocol::read(&mut io).await {
                Ok(said) => {
                    unnamed = said.client.is_none();
                    ip = said.client.unwrap_or(ip);
                    https = said.https;
                }
                Err(proxy_protocol::Fault::Lost(_)) => return Err(Unwelcome::Lost),
                Err(fault) => return Err(Unwelcome::ProxyHeader(fault.to_string())),
            }
        }
        // A proxy has the sockets of many; its clients are counted when their handshakes have said who they are.
        let place = match self.trusted.contains(ip) {
            true => None,
            false => match self.addresses.enter(ip) {
                Ok(place) => place,
                Err(excess) => {
                    let io = self.tls.is_none().then(|| io.into());
                    return Err(Unwelcome::Excess { excess, ip, io });
                }
            },
        };
        let (mut io, certificates) = match &self.tls {
            None => (ClientSocket::from(io), Vec::new()),
            Some(tls) => {
                let io = tls.accept(io).await.map_err(|err| Unwelcome::Tls(err.to_string()))?;
                https = true;
                let certificates = io.peer_certificates();
                let bytes: usize = certificates.iter().map(|certificate| certificate.len()).sum();
                if bytes > CERTIFICATE_BYTES_MAX {
                    return Err(Unwelcome::Tls(format!("{bytes} bytes of certificates")));
                }
                (io, certificates)
            }
        };
        io.occupy(place);
        Ok(Arrived { io, ip, unnamed, https, certificates })
    }

    /// Takes a place for a client that a trusted proxy speaks for, now that it is known who it is.
    pub fn admit_behind_proxy(&self, peer: IpAddr, client: IpAddr, io: &mut ClientSocket) -> Result<(), Excess> {
        if self.trusted.contains(peer) {
            io.occupy(self.addresses.enter(client)?);
        }
        Ok(())
    }
}

fn set_options(io: &TcpStream, user_timeout: Duration) {
    let socket = socket2::SockRef::from(io);
    let set = [
        ("TCP_NODELAY", socket.set_tcp_nodelay(true)),
        ("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(user_timeout))),
        ("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)),
    ];
    for (option, set) in set {
        if let Err(err) = set {
            tracing::debug!("{option}: {err}");
        }
    }
}
