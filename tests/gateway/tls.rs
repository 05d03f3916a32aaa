//! Certificates made for a test run: an authority that the shared nodes trust, one that nobody trusts, and what they
//! sign for services.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rcgen::{
    date_time_ymd, BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsConnector;

use crate::sandbox::run_folder;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pub pem: String,
}

/// A certificate and its key.
pub struct Issued {
    pub certificate: CertificateDer<'static>,
    pub pem: String,
    pub key_pem: String,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let (pem, certificate) = (certificate.pem(), certificate.der().clone());
        Authority { issuer: Issuer::new(params, key), certificate, pem }
    }

    /// A certificate as `shape` wants it, valid for long.
    pub fn issues(&self, shape: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2500, 1, 1);
        shape(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key_pem: key.serialize_pem(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        }
    }

    /// A certificate of a server at loopback.
    pub fn issues_to_server(&self) -> Issued {
        self.issues(|params| {
            params.subject_alt_names = vec![
                SanType::IpAddress("127.0.0.1".parse().unwrap()),
                SanType::DnsName("localhost".try_into().unwrap()),
            ];
        })
    }

    /// The list of what is accepted no more.
    pub fn revokes(&self, serials: &[SerialNumber]) -> String {
        let revoked = |serial: &SerialNumber| RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2500, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("a list").pem().expect("a list")
    }

    /// A client that trusts it, and shows a certificate if it has one.
    pub fn trusted_by_client(&self, own: Option<&Issued>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key())
                .expect("a key that fits"),
        };
        TlsConnector::from(Arc::new(config))
    }

    /// What a service for these names (or addresses) serves.
    pub fn serves(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.serves_until(names, 2500)
    }

    /// The same with the year in which the certificate ends.
    pub fn serves_until(&self, names: &[&str], year: i32) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a key that fits");
        Arc::new(config)
    }
}

/// Trusted by the nodes of [`crate::sandbox::shared`].
pub fn trusted() -> &'static Authority {
    static TRUSTED: OnceLock<Authority> = OnceLock::new();
    TRUSTED.get_or_init(|| Authority::new("trusted by the tests"))
}

pub fn unknown() -> &'static Authority {
    static UNKNOWN: OnceLock<Authority> = OnceLock::new();
    UNKNOWN.get_or_init(|| Authority::new("trusted by nobody"))
}

/// For the setting `outbound.ca_file`.
pub fn ca_file() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let write = || {
        let file = run_folder().join("ca.pem");
        std::fs::write(&file, &trusted().pem).expect("the authority is written");
        file
    };
    FILE.get_or_init(write).clone()
}
