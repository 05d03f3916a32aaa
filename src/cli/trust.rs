//! Whom a command believes over TLS, and how it proves itself.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rustls::ClientConfig;

use crate::settings::{client_tls, CallerFiles};

#[derive(Args)]
pub struct Trust {
    /// PEM file of certificate authorities that are trusted beside the system's
    #[arg(long, value_name = "FILE", env = "WSGATEWAY_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file of the certificate to show, for servers that ask for one
    #[arg(long, value_name = "FILE", requires = "key_file", env = "WSGATEWAY_CERT_FILE")]
    cert_file: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, value_name = "FILE", requires = "cert_file", env = "WSGATEWAY_KEY_FILE")]
    key_file: Option<PathBuf>,
}

impl Trust {
    pub fn config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let files = self.cert_file.as_deref().zip(self.key_file.as_deref());
        client_tls(self.ca_file.as_deref(), files.map(|(certificate, key)| CallerFiles { certificate, key }))
    }
}
