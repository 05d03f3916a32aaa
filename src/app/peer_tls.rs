//! Certificates of links between nodes that have changed on disk. Started by `app`; imports settings and telemetry.

use std::sync::Arc;
use std::time::Duration;

use wsgateway_cluster::tcp::{PeerTls, PeerTlsError, PeerTlsPem, TcpTransport};

use crate::settings::PeerTlsFiles;
use crate::telemetry::metrics::{ListenerLabels, ListenerOutcomeLabels, Metrics};

/// The same as of listeners.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LISTENER: &str = "cluster";

/// What was in the files.
type Contents = (Vec<u8>, Vec<u8>, Vec<u8>);

fn contents(pem: &PeerTlsPem) -> Contents {
    (pem.certificate.clone(), pem.key.clone(), pem.ca.clone())
}

/// Looks at the files for as long as the node lives. What is new is taken when two looks have found the same: files that
/// are being written may well end between two of their parts.
pub(super) async fn follow(transport: Arc<TcpTransport>, files: PeerTlsFiles, metrics: Metrics) {
    let Some(tls) = transport.tls() else { return };
    let ends = metrics.tls_not_after.get_or_create(&ListenerLabels { listener: LISTENER }).clone();
    ends.set(tls.not_after());
    let outcome =
        |outcome| metrics.tls_reloads.get_or_create(&ListenerOutcomeLabels { listener: LISTENER, outcome }).clone();
    let (reloaded, failed) = (outcome("reloaded"), outcome("failed"));
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    // What is in force is what the node has started with; the first look finds that.
    let (mut in_force, mut seen) = (None, None);
    let mut complaint = None;
    loop {
        ticks.tick().await;
        match look(tls, &files, &mut in_force, &mut seen).await {
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

async fn look(
    tls: &PeerTls,
    files: &PeerTlsFiles,
    in_force: &mut Option<Contents>,
    seen: &mut Option<Contents>,
) -> Result<bool, PeerTlsError> {
    let from = files.clone();
    let Ok(read) = tokio::task::spawn_blocking(move || from.read()).await else { return Ok(false) };
    let pem = read?;
    let now = Some(contents(&pem));
    let before = std::mem::replace(seen, now.clone());
    if in_force.is_none() {
        in_force.clone_from(&now);
    }
    if now == *in_force || now != before {
        return Ok(false);
    }
    tls.reload(&pem)?;
    *in_force = now;
    Ok(true)
}
