//! Certificates of links between nodes that have changed on disk. Started by `app`; imports settings and telemetry.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wsgateway_cluster::tcp::{PeerTls, PeerTlsError, PeerTlsPem, TcpTransport};

use crate::settings::PeerTlsFiles;
use crate::telemetry::metrics::{ListenerLabels, ListenerOutcomeLabels, Metrics};

/// The same as of listeners.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LISTENER: &str = "cluster";

/// The files, and what is in force of them.
pub(super) struct Followed {
    files: PeerTlsFiles,
    in_force: Digest,
    /// At the look before.
    seen: Option<Digest>,
}

type Digest = [u8; 32];

fn digest(pem: &PeerTlsPem) -> Digest {
    let mut hash = Sha256::new();
    for part in [&pem.certificate, &pem.key, &pem.ca] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Followed {
    /// `loaded` is what the node starts with.
    pub(super) fn new(files: PeerTlsFiles, loaded: &PeerTlsPem) -> Followed {
        Followed { files, in_force: digest(loaded), seen: None }
    }

    /// Looks at the files for as long as the node lives. What is new is taken when two looks have found the same: files
    /// that are being written may well end between two of their parts.
    pub(super) async fn follow(mut self, transport: Arc<TcpTransport>, metrics: Metrics) {
        let Some(tls) = transport.tls() else { return };
        let ends = metrics.tls_not_after.get_or_create(&ListenerLabels { listener: LISTENER }).clone();
        ends.set(tls.not_after());
        let outcome =
            |outcome| metrics.tls_reloads.get_or_create(&ListenerOutcomeLabels { listener: LISTENER, outcome }).clone();
        let (reloaded, failed) = (outcome("reloaded"), outcome("failed"));
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let mut complaint = None;
        loop {
            ticks.tick().await;
            match self.look(tls).await {
                Ok(changed) => {
                    complaint = None;
                    if changed {
                        reloaded.inc();
                        ends.set(tls.not_after());
                        tracing::info!(listener = LISTENER, "certificates reloaded");
                    }
                }
                Err(err) => {
                    let err = Some(err.to_string());
                    if let (false, Some(err)) = (complaint == err, &err) {
                        failed.inc();
                        tracing::error!(listener = LISTENER, "certificates not reloaded, the ones before stay: {err}");
                    }
                    complaint = err;
                }
            }
        }
    }

    async fn look(&mut self, tls: &PeerTls) -> Result<bool, PeerTlsError> {
        let files = self.files.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || files.read()).await else { return Ok(false) };
        let pem = read?;
        let now = digest(&pem);
        let before = self.seen.replace(now);
        if now == self.in_force || before != Some(now) {
            return Ok(false);
        }
        tls.reload(&pem)?;
        self.in_force = now;
        Ok(true)
    }
}
