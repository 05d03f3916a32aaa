//! Why links did not come about: a count for each reason, and a line in the log now and then that says what to do.
//! Written by `dial` and `serve`, read by whoever renders metrics. Imports `spacing`.

use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustls::{AlertDescription, CertificateError, Error};

use super::tls::is_about_time;
use crate::spacing::Spacing;

/// Why a connection was not made a link, by either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRefusal {
    /// No peer at all, or one that went away within the handshake.
    Foreign,
    /// A peer with another secret, of another cluster, or not the one that was expected.
    Handshake,
    /// No TLS, where it is required.
    Plaintext,
    /// TLS, where none is configured.
    Tls,
    /// No TLS, between two nodes that both speak it.
    Stripped,
    /// It shows no certificate.
    NoCertificate,
    /// Its certificate is of another authority.
    Authority,
    /// Its certificate has expired, or is not valid yet.
    Expired,
    /// Its certificate is of no use for another reason.
    Certificate,
    /// The other side does not take this node's certificate.
    OwnCertificate,
    /// It speaks no TLS that this node does.
    TlsVersion,
}

impl LinkRefusal {
    pub const ALL: [LinkRefusal; 11] = [
        LinkRefusal::Foreign,
        LinkRefusal::Handshake,
        LinkRefusal::Plaintext,
        LinkRefusal::Tls,
        LinkRefusal::Stripped,
        LinkRefusal::NoCertificate,
        LinkRefusal::Authority,
        LinkRefusal::Expired,
        LinkRefusal::Certificate,
        LinkRefusal::OwnCertificate,
        LinkRefusal::TlsVersion,
    ];

    /// The label of the metric. Words are for keeps: dashboards name them.
    pub fn as_str(self) -> &'static str {
        match self {
            LinkRefusal::Foreign => "foreign",
            LinkRefusal::Handshake => "handshake",
            LinkRefusal::Plaintext => "plaintext",
            LinkRefusal::Tls => "tls",
            LinkRefusal::Stripped => "stripped",
            LinkRefusal::NoCertificate => "no_certificate",
            LinkRefusal::Authority => "authority",
            LinkRefusal::Expired => "expired",
            LinkRefusal::Certificate => "certificate",
            LinkRefusal::OwnCertificate => "own_certificate",
            LinkRefusal::TlsVersion => "tls_version",
        }
    }

    /// For the log: what to do about it, when it is a node of the own cluster.
    fn remedy(self) -> &'static str {
        match self {
            LinkRefusal::Foreign => "if that is a node, see its log",
            LinkRefusal::Handshake => "compare cluster.secrets, cluster.seeds and the data folders of the two",
            LinkRefusal::Plaintext => "set cluster.tls on the other node, or mode = \"optional\" here till all have it",
            LinkRefusal::Tls => "set cluster.tls here, or mode = \"optional\" on the other node until all have it",
            LinkRefusal::Stripped => {
                "if this node has not just started, and is not short of places for connections, something between them \
                 cuts TLS off"
            }
            LinkRefusal::NoCertificate => "set certificate_file and key_file of cluster.tls on the other node",
            LinkRefusal::Authority => {
                "issue the other node's certificate from an authority in cluster.tls.ca_file of this one, or add its \
                 authority there"
            }
            LinkRefusal::Expired => "renew the other node's certificate, and compare the clocks of the two",
            LinkRefusal::Certificate => {
                "issue the other node a certificate that is no authority, for both serverAuth and clientAuth"
            }
            LinkRefusal::OwnCertificate => {
                "see the other node's log for the reason: this one's certificate must be of its authority and in date"
            }
            LinkRefusal::TlsVersion => "links speak TLS 1.3 only: see what listens or asks there",
        }
    }

    /// For the log and for who calls, with what TLS says itself.
    pub(super) fn explained(self, error: &io::Error) -> String {
        let said = match self {
            LinkRefusal::NoCertificate => "it shows no certificate",
            LinkRefusal::Authority => "its certificate is of no authority that is trusted here",
            LinkRefusal::Expired => "its certificate has expired, or is not valid yet",
            LinkRefusal::Certificate => "its certificate will not do",
            LinkRefusal::OwnCertificate => "it does not take this node's certificate",
            LinkRefusal::TlsVersion => "it speaks no TLS that this node does",
            _ => "its TLS failed",
        };
        format!("{said}: {error}")
    }

    /// Of a TLS handshake that failed, or of the first read behind it: the other side's verdict comes only then. `None`
    /// when the connection broke.
    pub(super) fn of_tls(error: &io::Error) -> Option<LinkRefusal> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        Some(match error {
            Error::NoCertificatesPresented => LinkRefusal::NoCertificate,
            Error::InvalidCertificate(why) if is_about_time(why) => LinkRefusal::Expired,
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                LinkRefusal::Authority
            }
            Error::InvalidCertificate(_) => LinkRefusal::Certificate,
            Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError,
            ) => LinkRefusal::OwnCertificate,
            Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure)
            | Error::PeerIncompatible(_) => LinkRefusal::TlsVersion,
            _ => LinkRefusal::Foreign,
        })
    }
}

/// Counts since the start, by reason.
#[derive(Debug, Default)]
pub struct LinkRefusals {
    counts: [AtomicU64; LinkRefusal::ALL.len()],
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    refused: [Spacing; LinkRefusal::ALL.len()],
    in_the_clear: Spacing,
}

impl LinkRefusals {
    pub fn count(&self, refusal: LinkRefusal) -> u64 {
        self.counts[refusal as usize].load(Ordering::Relaxed)
    }

    /// Every reason with its count, those that never occurred included.
    pub fn counts(&self) -> impl Iterator<Item = (LinkRefusal, u64)> + '_ {
        LinkRefusal::ALL.into_iter().map(|refusal| (refusal, self.count(refusal)))
    }

    /// `whom` begins the line: "a connection from …", "the peer at …".
    pub(super) fn note(&self, refusal: LinkRefusal, whom: impl Display, detail: &str) {
        self.counts[refusal as usize].fetch_add(1, Ordering::Relaxed);
        let Some(unsaid) = self.due(|lines| &mut lines.refused[refusal as usize]) else { return };
        let (reason, remedy) = (refusal.as_str(), refusal.remedy());
        tracing::warn!(reason, unsaid, "{whom} is refused: {detail} ({remedy})");
    }

    /// A link without TLS where TLS is optional: expected while it is being introduced, and worth knowing.
    pub(super) fn note_in_the_clear(&self, whom: impl Display) {
        let Some(unsaid) = self.due(|lines| &mut lines.in_the_clear) else { return };
        tracing::info!(unsaid, "{whom} is linked without TLS: its node has no cluster.tls yet");
    }

    fn due(&self, which: impl FnOnce(&mut Lines) -> &mut Spacing) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        which(&mut lines).due(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count_and_word() {
        let refusals = LinkRefusals::default();
        for (times, refusal) in LinkRefusal::ALL.into_iter().enumerate() {
            assert_eq!(LinkRefusal::ALL[refusal as usize], refusal);
            for _ in 0..times {
                refusals.note(refusal, "a connection from 192.0.2.1:7000", "a test");
            }
        }
        let counted: Vec<u64> = refusals.counts().map(|(_, count)| count).collect();
        assert_eq!(counted, (0..LinkRefusal::ALL.len() as u64).collect::<Vec<_>>());
        let words: std::collections::HashSet<_> = LinkRefusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
        assert_eq!(words.len(), LinkRefusal::ALL.len());
    }
}
