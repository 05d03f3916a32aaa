//! A certificate for a node on loopback, made for one run of this program, and clients that trust nothing else.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{generate_simple_self_signed, CertifiedKey};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

/// Its PEM files are gone when it is dropped: after the nodes that read them.
pub struct Certificate {
    files: TempDir,
    trusted: Arc<RootCertStore>,
}

/// What a client does about sessions that it had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Each handshake is a full one.
    Forgotten,
    /// A handshake resumes what an earlier one left a ticket for.
    Resumed,
}

impl Certificate {
    /// An ECDSA key on P-256, rcgen's default, for the loopback address.
    pub fn make() -> anyhow::Result<Self> {
        let name = IpAddr::V4(Ipv4Addr::LOCALHOST).to_string();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name]).context("making a certificate")?;
        let mut trusted = RootCertStore::empty();
        trusted.add(cert.der().clone())?;
        let files = tempfile::Builder::new().prefix("wsgateway-bench-tls-").tempdir()?;
        let made = Self { files, trusted: Arc::new(trusted) };
        std::fs::write(made.certificate_file(), cert.pem())?;
        std::fs::write(made.key_file(), signing_key.serialize_pem())?;
        Ok(made)
    }

    pub fn certificate_file(&self) -> PathBuf {
        self.files.path().join("tls.crt")
    }

    pub fn key_file(&self) -> PathBuf {
        self.files.path().join("tls.key")
    }

    /// Clients that share their sessions, if they keep any.
    pub fn connector(&self, sessions: Sessions) -> anyhow::Result<TlsConnector> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.trusted.clone())
            .with_no_client_auth();
        config.resumption = match sessions {
            Sessions::Forgotten => Resumption::disabled(),
            Sessions::Resumed => Resumption::default(),
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
