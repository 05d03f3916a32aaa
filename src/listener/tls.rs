//! What a listener proves itself with, and whom it believes: PEM files, read at start and again when they change. Open
//! connections keep what they were accepted with; the next handshake has what is new.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_rt::net::TcpStream;
use anyhow::{ensure, Context};
use arc_swap::ArcSwap;
use rustls::crypto::{aws_lc_rs, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::socket::ClientSocket;
use super::tls_socket::TlsSocket;
use crate::settings::TlsSettings;
use crate::telemetry::metrics::{ListenerLabels, ListenerOutcomeLabels, Metrics};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A certificate that ends within this time is worth a warning.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// One listener's side of TLS.
pub struct ListenerTls {
    /// A metric label: `client`, `admin`.
    listener: &'static str,
    files: Files,
    current: ArcSwap<Material>,
}

/// Whether whoever connects needs a certificate, where certificates are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// That is up to what is called.
    Optional,
    Required,
}

/// Made of one state of the files.
struct Material {
    config: Arc<ServerConfig>,
    /// Whom clients' certificates must come from.
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Unix seconds at which the own certificate ends.
    not_after: i64,
    digest: [u8; 32],
}

/// Where it all is.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
    clients: ClientCertificates,
}

/// Their contents at one time.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| file.display().to_string())
}

impl Files {
    fn read(&self) -> anyhow::Result<Contents> {
        Ok(Contents {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
            client_crl: self.client_crl.as_deref().map(read).transpose()?,
        })
    }

    fn material(&self, contents: &Contents) -> anyhow::Result<Material> {
        let name = |file: &Path| file.display().to_string();
        let chain = certificates(&contents.certificate).with_context(|| name(&self.certificate))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .with_context(|| format!("{}: no private key", name(&self.key)))?;
        let (_, own) = X509Certificate::from_der(&chain[0]).with_context(|| name(&self.certificate))?;
        let not_after = own.validity().not_after.timestamp();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = match (&self.client_ca, &contents.client_ca) {
            (Some(file), Some(authorities)) => {
                let authorities = certificates(authorities).with_context(|| name(file))?;
                Some(self.verifier(authorities, contents, &provider)?)
            }
            _ => None,
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?;
        let builder = match &clients {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .with_context(|| format!("{} and {} do not belong together", name(&self.certificate), name(&self.key)))?;
        // Clients that come back after a node's restart or a network's failure spare both sides the signature.
        config.ticketer = aws_lc_rs::Ticketer::new().context("keys for session tickets")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Material { config: Arc::new(config), clients, not_after, digest: contents.digest() })
    }

    fn verifier(
        &self,
        authorities: Vec<CertificateDer<'static>>,
        contents: &Contents,
        provider: &Arc<CryptoProvider>,
    ) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
        let mut roots = RootCertStore::empty();
        for certificate in authorities {
            roots.add(certificate)?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        if self.clients == ClientCertificates::Optional {
            builder = builder.allow_unauthenticated();
        }
        if let (Some(file), Some(crl)) = (&self.client_crl, &contents.client_crl) {
            let shown = file.display();
            let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(crl)
                .collect::<Result<_, _>>()
                .with_context(|| format!("{shown}"))?;
            ensure!(!lists.is_empty(), "{shown} has no certificate revocation list");
            // A certificate of an authority that has no list here is not revoked.
            builder = builder.with_crls(lists).allow_unknown_revocation_status();
        }
        Ok(builder.build()?)
    }
}

impl Contents {
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let none = Vec::new();
        for part in [
            &self.certificate,
            &self.key,
            self.client_ca.as_ref().unwrap_or(&none),
            self.client_crl.as_ref().unwrap_or(&none),
        ] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// The certificates of a PEM text; one at least.
fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().context("is no PEM")?;
    ensure!(!found.is_empty(), "has no certificate");
    Ok(found)
}

impl ListenerTls {
    /// None: the listener is in the clear.
    pub fn load(
        listener: &'static str,
        settings: &TlsSettings,
        clients: ClientCertificates,
    ) -> anyhow::Result<Option<Arc<ListenerTls>>> {
        let (Some(certificate), Some(key)) = (&settings.certificate_file, &settings.key_file) else { return Ok(None) };
        let files = Files {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: settings.client_ca_file.clone(),
            client_crl: settings.client_crl_file.clone(),
            clients,
        };
        let material = files.material(&files.read()?)?;
        let tls = ListenerTls { listener, files, current: ArcSwap::from_pointee(material) };
        tls.warn_if_it_ends_soon();
        Ok(Some(Arc::new(tls)))
    }

    /// The handshake. The caller sets the deadline.
    pub async fn accept(&self, io: TcpStream) -> io::Result<ClientSocket> {
        let config = self.current.load().config.clone();
        let (io, session) = TlsAcceptor::from(config).accept(io).await?.into_inner();
        let io = ClientSocket::from(TlsSocket::new(io, session));
        if self.files.client_ca.is_some() && self.files.clients == ClientCertificates::Required {
            // A session that is resumed brings the certificate of the first one as it was then.
            self.accepts(&io.peer_certificates()).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        }
        Ok(io)
    }

    /// Whether clients are asked for certificates.
    pub fn asks_for_certificates(&self) -> bool {
        self.current.load().clients.is_some()
    }

    /// Whether a client's certificate, with those of its issuers behind it, is accepted as of now. The proof that the
    /// client has its key was its handshake.
    pub fn accepts(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        let material = self.current.load();
        let verifier = material.clients.as_ref().ok_or("client certificates are not accepted here")?;
        let (own, issuers) = chain.split_first().ok_or("there is no certificate")?;
        verifier.verify_client_cert(own, issuers, UnixTime::now()).map_err(|err| err.to_string())?;
        Ok(())
    }

    fn warn_if_it_ends_soon(&self) {
        let left = self.current.load().not_after.saturating_sub(UnixTime::now().as_secs() as i64);
        let file = self.files.certificate.display();
        if left <= 0 {
            tracing::error!(listener = self.listener, "the certificate in {file} has expired");
        } else if left < ENDS_SOON.as_secs() as i64 {
            tracing::warn!(listener = self.listener, "the certificate in {file} expires in {} hours", left / 3600);
        }
    }

    /// Looks at the files for as long as the node lives.
    pub async fn follow(self: Arc<Self>, metrics: Metrics) {
        let listener = self.listener;
        let ends = metrics.tls_not_after.get_or_create(&ListenerLabels { listener }).clone();
        ends.set(self.current.load().not_after);
        let outcome = |outcome| metrics.tls_reloads.get_or_create(&ListenerOutcomeLabels { listener, outcome }).clone();
        let (reloaded, failed) = (outcome("reloaded"), outcome("failed"));
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let seen: Arc<Mutex<Option<[u8; 32]>>> = Arc::default();
        let mut complaint = None;
        loop {
            ticks.tick().await;
            let (looking, of_before) = (self.clone(), seen.clone());
            let looked = tokio::task::spawn_blocking(move || looking.look(&of_before)).await;
            match looked.map_err(anyhow::Error::from).and_then(|looked| looked) {
                Ok(changed) => {
                    complaint = None;
                    if changed {
                        reloaded.inc();
                        ends.set(self.current.load().not_after);
                        tracing::info!(listener, "certificates reloaded");
                        self.warn_if_it_ends_soon();
                    }
                }
                Err(err) => {
                    let err = Some(format!("{err:#}"));
                    if let (false, Some(err)) = (complaint == err, &err) {
                        failed.inc();
                        tracing::error!(listener, "certificates not reloaded, the ones before stay: {err}");
                    }
                    complaint = err;
                }
            }
        }
    }

    /// Takes what is new and was the same at the look before, which `seen` remembers: a list that is being written may well
    /// end between two of its parts. `false`: nothing is.
    fn look(&self, seen: &Mutex<Option<[u8; 32]>>) -> anyhow::Result<bool> {
        let contents = self.files.read()?;
        let digest = contents.digest();
        let before = seen.lock().unwrap_or_else(PoisonError::into_inner).replace(digest);
        if digest == self.current.load().digest || before != Some(digest) {
            return Ok(false);
        }
        self.current.store(Arc::new(self.files.material(&contents)?));
        Ok(true)
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
