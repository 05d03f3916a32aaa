//! The settings of TLS between nodes: all of them or none. `app` reads the files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wsgateway_cluster::tcp::{PeerTlsError, PeerTlsMode, PeerTlsPem};

use super::{wrong, SettingsError};

/// What a node proves itself with to other nodes. PEM files, read again when they change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerTlsSettings {
    /// The certificate, then those of its issuers.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The cluster's own authority; two while it is replaced.
    pub ca_file: Option<PathBuf>,
    /// `optional` while TLS is introduced, then `required`.
    pub mode: Option<PeerTlsMode>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct PeerTlsFiles {
    pub mode: PeerTlsMode,
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

impl PeerTlsFiles {
    pub fn read(&self) -> Result<PeerTlsPem, PeerTlsError> {
        PeerTlsPem::read(&self.certificate, &self.key, &self.ca)
    }
}

impl PeerTlsSettings {
    pub fn files(&self) -> Option<PeerTlsFiles> {
        let (certificate, key) = (self.certificate_file.clone()?, self.key_file.clone()?);
        Some(PeerTlsFiles { mode: self.mode?, certificate, key, ca: self.ca_file.clone()? })
    }

    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let all = [
            ("cluster.tls.certificate_file", self.certificate_file.is_some()),
            ("cluster.tls.key_file", self.key_file.is_some()),
            ("cluster.tls.ca_file", self.ca_file.is_some()),
            ("cluster.tls.mode", self.mode.is_some()),
        ];
        let set = all.iter().find(|(_, is_set)| *is_set);
        match (set, all.iter().find(|(_, is_set)| !is_set)) {
            (Some((set, _)), Some((key, _))) => wrong(key, format!("is missing: {set} is set")),
            _ => Ok(()),
        }
    }
}
