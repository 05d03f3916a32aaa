//! Certificates made for a test run: an authority that the shared nodes trust, one that nobody trusts, and what they
//! sign for services.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rcgen::{date_time_ymd, BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use rustls::ServerConfig;

use crate::sandbox::run_folder;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
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
