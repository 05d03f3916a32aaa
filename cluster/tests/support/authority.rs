//! Authorities and what they issue: good certificates and bad ones.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wsgateway_cluster::tcp::{PeerTls, PeerTlsMode, PeerTlsPem};

/// In every certificate of these tests.
pub const NAME: &str = "node.test";

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        Authority::named("nodes of a test")
    }

    pub fn named(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// One that most tests share.
    pub fn shared() -> &'static Authority {
        static SHARED: OnceLock<Authority> = OnceLock::new();
        SHARED.get_or_init(Authority::new)
    }

    pub fn issues(&self) -> PeerTlsPem {
        self.issues_with(|_| {})
    }

    pub fn issues_with(&self, change: impl FnOnce(&mut CertificateParams)) -> PeerTlsPem {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        PeerTlsPem {
            certificate: certificate.into_bytes(),
            key: key.serialize_pem().into_bytes(),
            ca: self.pem.clone().into_bytes(),
        }
    }

    pub fn tls(&self, mode: PeerTlsMode) -> PeerTls {
        PeerTls::new(mode, &self.issues()).unwrap()
    }
}

fn parts(pem: &PeerTlsPem) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Arc<RootCertStore>) {
    let chain = CertificateDer::pem_slice_iter(&pem.certificate).map(Result::unwrap).collect();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem.ca).unwrap()).unwrap();
    (chain, PrivateKeyDer::from_pem_slice(&pem.key).unwrap(), Arc::new(roots))
}

/// Somebody who dials a node and is not this program; without a certificate, if not told to `show` it.
pub fn stranger(pem: &PeerTlsPem, show: bool, version: &'static SupportedProtocolVersion) -> TlsConnector {
    let (chain, key, roots) = parts(pem);
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = if show { builder.with_client_auth_cert(chain, key).unwrap() } else { builder.with_no_client_auth() };
    Arc::new(config).into()
}

/// Somebody whom nodes dial, and who asks them for nothing.
pub fn impostor(pem: &PeerTlsPem) -> TlsAcceptor {
    let (chain, key, _) = parts(pem);
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config).into()
}
