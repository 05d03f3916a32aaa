//! Says things now and then: who reaches a port could fill the disk with lines about it otherwise. Used by `gossip` and
//! `tcp` for whatever strangers bring about. Imports nothing.

use std::time::{Duration, Instant};

/// At most one line in this time.
pub(crate) const LINE_SPACING: Duration = Duration::from_secs(10);

/// When something was last said, and how often it was not said since.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spacing {
    said: Option<Instant>,
    unsaid: u64,
}

impl Spacing {
    /// Whether to say it now; then, how often it was kept back since the last time.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < LINE_SPACING) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_now_and_then_says_how_many_were_kept_back() {
        let (mut spacing, start) = (Spacing::default(), Instant::now());
        assert_eq!(spacing.due(start), Some(0));
        assert_eq!(spacing.due(start + LINE_SPACING / 2), None);
        assert_eq!(spacing.due(start + LINE_SPACING - Duration::from_millis(1)), None);
        assert_eq!(spacing.due(start + LINE_SPACING), Some(2));
        assert_eq!(spacing.due(start + LINE_SPACING), None);
        assert_eq!(spacing.due(start + LINE_SPACING * 3), Some(1));
    }
}
