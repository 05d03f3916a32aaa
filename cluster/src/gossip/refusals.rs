//! What became of datagrams that are not let in: a count for each reason, and a line in the log now and then. Written
//! by `socket`, read by whoever renders metrics. Imports `spacing` only.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::spacing::Spacing;

/// Why a datagram was not let in. In the order in which they are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Gossip as it is spoken without a secret: a node that has none, or one of an older version.
    Plaintext,
    /// Not of this protocol at all.
    Foreign,
    /// Of a format that this version does not know.
    Version,
    /// Of nodes with another label.
    Label,
    /// It opens under none of the secrets of this node: another secret, or somebody altered it.
    Key,
    /// This node's own, come back.
    Own,
    /// It was let in before, or is too old to tell.
    Replay,
    /// It opens, but is no message that this version knows.
    Content,
}

impl Refusal {
    pub const ALL: [Refusal; 8] = [
        Refusal::Plaintext,
        Refusal::Foreign,
        Refusal::Version,
        Refusal::Label,
        Refusal::Key,
        Refusal::Own,
        Refusal::Replay,
        Refusal::Content,
    ];

    /// The label of the metric. Words are for keeps: dashboards name them.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Plaintext => "plaintext",
            Refusal::Foreign => "foreign",
            Refusal::Version => "version",
            Refusal::Label => "label",
            Refusal::Key => "key",
            Refusal::Own => "own",
            Refusal::Replay => "replay",
            Refusal::Content => "content",
        }
    }

    /// For the log.
    fn explained(self) -> &'static str {
        match self {
            Refusal::Plaintext => "it is not sealed: its sender has no cluster secret, or is of an older version",
            Refusal::Foreign => "it is not gossip of this gateway",
            Refusal::Version => "it is in a format that this version does not know",
            Refusal::Label => "it is gossip of another product or cluster label",
            Refusal::Key => "it opens under none of this node's cluster secrets, or was altered on the way",
            Refusal::Own => "this node has sent it itself",
            Refusal::Replay => "it was received before, or is too old to tell",
            Refusal::Content => "it opens, but is no message that this version understands",
        }
    }
}

/// Counts since the start, by reason.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; Refusal::ALL.len()],
    lines: Mutex<[Spacing; Refusal::ALL.len()]>,
}

impl Refusals {
    pub fn count(&self, refusal: Refusal) -> u64 {
        self.counts[refusal as usize].load(Ordering::Relaxed)
    }

    /// Every reason with its count, those that never occurred included.
    pub fn counts(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().map(|refusal| (refusal, self.count(refusal)))
    }

    pub(super) fn note(&self, refusal: Refusal, from: SocketAddr) {
        self.counts[refusal as usize].fetch_add(1, Ordering::Relaxed);
        let due = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines[refusal as usize].due(Instant::now())
        };
        let (Some(unsaid), reason, why) = (due, refusal.as_str(), refusal.explained()) else { return };
        // A seed's name can lead a node to itself, always: that is no trouble.
        if refusal == Refusal::Own {
            tracing::debug!(%from, reason, unsaid, "a gossip datagram from {from} is refused: {why}");
        } else {
            tracing::warn!(%from, reason, unsaid, "a gossip datagram from {from} is refused: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count_and_word() {
        let refusals = Refusals::default();
        for (times, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(Refusal::ALL[refusal as usize], refusal);
            for _ in 0..times {
                refusals.note(refusal, "192.0.2.1:7000".parse().unwrap());
            }
        }
        let counted: Vec<u64> = refusals.counts().map(|(_, count)| count).collect();
        assert_eq!(counted, [0, 1, 2, 3, 4, 5, 6, 7]);
        let words: std::collections::HashSet<_> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
        assert_eq!(words.len(), Refusal::ALL.len());
    }
}
