//! TLS between nodes: what this node shows, whom it believes, and both ends' TLS handshake. Called by `dial` and
//! `serve`; made and reloaded by the gateway's wiring. May import `stream`.
//!
//! TLS 1.3 only, and both sides show a certificate. Verified are the chain to the *cluster's own* authority, the time
//! and the usage (both of server and of client, where a certificate says what it is for). Names are not: peers are
//! reached at addresses that gossip tells, which no certificate knows ahead, and a name would have to come from the
//! same hint that it is to confirm. A certificate so says "a node of this cluster"; *which* one, the challenge of
//! `handshake` proves, and it is bound to this very TLS session by keying material that both ends export. Without the
//! cluster secret a certificate alone lets nobody in.
//!
//! Sessions are not resumed. Links are few and long, and each new one is verified against what is trusted now.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, Resumption};
use rustls::crypto::{aws_lc_rs, verify_tls12_signature, verify_tls13_signature, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Demanded by the protocol's client, sent to nobody and compared with nothing.
const NO_NAME: &str = "node.invalid";
/// Encrypted and not yet taken by the socket, at most: one flush of the writer with the heads of its records.
const UNSENT_BYTES_MAX: usize = 96 << 10;

/// Whether links without TLS are still taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerTlsMode {
    /// While TLS is being introduced: accepts both, dials with TLS, and without when the peer does not speak it.
    Optional,
    /// Nothing else is accepted or dialled.
    Required,
}

/// What one node needs, as PEM texts.
#[derive(Clone)]
pub struct PeerTlsPem {
    /// This node's certificate, then those of its issuers, without the authority's own.
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// The cluster's own authority; while it is replaced, both.
    pub ca: Vec<u8>,
}

impl PeerTlsPem {
    pub fn read(certificate: &Path, key: &Path, ca: &Path) -> Result<PeerTlsPem, PeerTlsError> {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|error| PeerTlsError::File { file: file.to_owned(), reason: error.to_string() })
        };
        Ok(PeerTlsPem { certificate: read(certificate)?, key: read(key)?, ca: read(ca)? })
    }
}

impl fmt::Debug for PeerTlsPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerTlsPem(secret)")
    }
}

/// The operator's to mend; whatever was in force before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerTlsError {
    #[error("{}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    #[error("the node's certificate: {0}")]
    Certificate(String),
    #[error("the node's key: {0}")]
    Key(String),
    #[error("the cluster's authority: {0}")]
    Authority(String),
}

/// TLS of this node's links. Links that are open keep what they were opened with; new ones have what is new.
pub struct PeerTls {
    mode: PeerTlsMode,
    current: ArcSwap<Material>,
}

/// Made of one state of the files.
struct Material {
    dials: TlsConnector,
    accepts: TlsAcceptor,
    not_after: i64,
}

impl PeerTls {
    /// Fails on what other nodes would refuse, except for the time: a node whose certificate has run out is refused by
    /// the others, and still serves its clients. That is logged.
    pub fn new(mode: PeerTlsMode, pem: &PeerTlsPem) -> Result<PeerTls, PeerTlsError> {
        Ok(PeerTls { mode, current: ArcSwap::from_pointee(Material::new(pem)?) })
    }

    /// For links from now on. On an error nothing has changed.
    pub fn reload(&self, pem: &PeerTlsPem) -> Result<(), PeerTlsError> {
        self.current.store(Arc::new(Material::new(pem)?));
        Ok(())
    }

    pub fn mode(&self) -> PeerTlsMode {
        self.mode
    }

    /// Unix seconds at which the node's certificate ends.
    pub fn not_after(&self) -> i64 {
        self.current.load().not_after
    }

    pub(super) async fn connect(&self, io: TcpStream) -> io::Result<DialledTls> {
        let dials = self.current.load().dials.clone();
        let name = ServerName::try_from(NO_NAME).map_err(io::Error::other)?;
        dials.connect_with(name, io, |session| session.set_buffer_limit(Some(UNSENT_BYTES_MAX))).await
    }

    /// On an error, the connection comes with it: an alert may still be on its way to the other side.
    pub(super) async fn accept(&self, io: TcpStream) -> Result<AcceptedTls, (io::Error, TcpStream)> {
        let accepts = self.current.load().accepts.clone();
        accepts.accept_with(io, |session| session.set_buffer_limit(Some(UNSENT_BYTES_MAX))).into_fallible().await
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Material {
    fn new(pem: &PeerTlsPem) -> Result<Material, PeerTlsError> {
        let chain = certificates(&pem.certificate).map_err(PeerTlsError::Certificate)?;
        let key = || PrivateKeyDer::from_pem_slice(&pem.key).map_err(|error| PeerTlsError::Key(error.to_string()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let members = Members::new(&pem.ca, &provider)?;
        members.check_own(&chain)?;
        let not_after = X509Certificate::from_der(&chain[0])
            .map_err(|error| PeerTlsError::Certificate(error.to_string()))?
            .1
            .validity()
            .not_after
            .timestamp();

        let versions = &[&rustls::version::TLS13];
        let unusable = |error: rustls::Error| PeerTlsError::Key(error.to_string());
        let mut accepts = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .with_client_cert_verifier(members.clients.clone())
            .with_single_cert(chain.clone(), key()?)
            .map_err(unusable)?;
        accepts.session_storage = Arc::new(NoServerSessionStorage {});
        accepts.send_tls13_tickets = 0;

        let mut dials = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(members))
            .with_client_auth_cert(chain, key()?)
            .map_err(unusable)?;
        dials.resumption = Resumption::disabled();
        dials.enable_sni = false;
        Ok(Material { dials: Arc::new(dials).into(), accepts: Arc::new(accepts).into(), not_after })
    }
}

/// The certificates of a PEM text; one at least.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| format!("no PEM: {error}"))?;
    if found.is_empty() {
        return Err("there is none in the PEM text".to_owned());
    }
    Ok(found)
}

/// Whose certificates are those of nodes. Verifies whom this node dials; `clients` does so for whom it accepts.
#[derive(Debug)]
struct Members {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Members {
    fn new(ca: &[u8], provider: &Arc<CryptoProvider>) -> Result<Members, PeerTlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca).map_err(PeerTlsError::Authority)? {
            roots.add(certificate).map_err(|error| PeerTlsError::Authority(error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| PeerTlsError::Authority(error.to_string()))?;
        Ok(Members { roots, clients, provider: provider.clone() })
    }

    fn verify(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let own = ParsedCertificate::try_from(own)?;
        verify_server_cert_signed_by_trust_anchor(&own, &self.roots, issuers, now, algorithms)
    }

    /// As the other nodes will, when they have the same authorities.
    fn check_own(&self, chain: &[CertificateDer<'_>]) -> Result<(), PeerTlsError> {
        let (own, issuers) = (&chain[0], &chain[1..]);
        let now = UnixTime::now();
        let as_server = self.verify(own, issuers, now);
        let as_client = self.clients.verify_client_cert(own, issuers, now).map(|_| ());
        match as_server.and(as_client) {
            Ok(()) => Ok(()),
            Err(rustls::Error::InvalidCertificate(why)) if is_about_time(&why) => {
                tracing::error!("the node's certificate of cluster.tls is of no use to other nodes: {why}");
                Ok(())
            }
            Err(error) => Err(PeerTlsError::Certificate(format!(
                "{error}: it must come from an authority in the CA file, be no authority itself, and serve for both \
                 server and client"
            ))),
        }
    }
}

pub(super) fn is_about_time(why: &CertificateError) -> bool {
    matches!(
        why,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        _no_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(own, issuers, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
use crate::stream::{AcceptedTls, DialledTls};
