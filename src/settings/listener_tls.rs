//! The settings of TLS on a listener: which files there are, and that no half of a pair is missing. The listener reads
//! them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{wrong, SettingsError};

/// What a listener proves itself with; without a certificate it is in the clear. The files are PEM, and read again when
/// they change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate, then those of its issuers.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Authorities whose clients' certificates are accepted; with it, clients are asked for one.
    pub client_ca_file: Option<PathBuf>,
    /// Certificates that are accepted no more.
    pub client_crl_file: Option<PathBuf>,
}

impl TlsSettings {
    pub(super) fn check(&self, keys: &TlsKeys) -> Result<(), SettingsError> {
        let missing = |other: &str| format!("is missing: {other} is set");
        match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => return wrong(keys.key_file, missing(keys.certificate_file)),
            (None, Some(_)) => return wrong(keys.certificate_file, missing(keys.key_file)),
            (None, None) if self.client_ca_file.is_some() => {
                return wrong(keys.certificate_file, missing(keys.client_ca_file));
            }
            _ => {}
        }
        match self.client_crl_file.is_some() && self.client_ca_file.is_none() {
            true => wrong(keys.client_ca_file, missing(keys.client_crl_file)),
            false => Ok(()),
        }
    }
}

/// The names of one listener's settings of TLS.
pub(super) struct TlsKeys {
    certificate_file: &'static str,
    key_file: &'static str,
    client_ca_file: &'static str,
    client_crl_file: &'static str,
}

pub(super) const CLIENT: TlsKeys = TlsKeys {
    certificate_file: "client.tls.certificate_file",
    key_file: "client.tls.key_file",
    client_ca_file: "client.tls.client_ca_file",
    client_crl_file: "client.tls.client_crl_file",
};

pub(super) const ADMIN: TlsKeys = TlsKeys {
    certificate_file: "admin.tls.certificate_file",
    key_file: "admin.tls.key_file",
    client_ca_file: "admin.tls.client_ca_file",
    client_crl_file: "admin.tls.client_crl_file",
};
