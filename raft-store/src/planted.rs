//! Bugs on purpose, for the question whether the chaos suite would find them. Without the feature `planted-bugs` none of
//! this is in the program: [`is_planted`] is `false` for the compiler. With it, the environment variable
//! `WSGATEWAY_PLANTED_BUG` names the one that is on. Asked where the right thing is done; imports nothing.

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A vote is given before it is on disk.
    VoteNotSynced,
    /// Log entries are acknowledged before they are on disk.
    AcknowledgedBeforeSync,
    /// A node with an empty disk makes a cluster of its own without asking the others.
    DoubleInitialise,
    /// A linearizable read does not ask the leader.
    StaleRead,
    /// One in ten pushes for another node's connection is accepted and not sent.
    LostForward,
    /// A node that does not answer is taken for dead: its connections are "gone".
    Wrong410,
    /// A repeated request is carried out again.
    NoDeduplication,
    /// A follower leaves one in fifty committed commands out.
    SkippedCommand,
}

impl Bug {
    pub const ALL: [Bug; 8] = [
        Bug::VoteNotSynced,
        Bug::AcknowledgedBeforeSync,
        Bug::DoubleInitialise,
        Bug::StaleRead,
        Bug::LostForward,
        Bug::Wrong410,
        Bug::NoDeduplication,
        Bug::SkippedCommand,
    ];

    /// As the environment variable has it.
    pub const fn name(self) -> &'static str {
        match self {
            Bug::VoteNotSynced => "vote_not_synced",
            Bug::AcknowledgedBeforeSync => "acknowledged_before_sync",
            Bug::DoubleInitialise => "double_initialise",
            Bug::StaleRead => "stale_read",
            Bug::LostForward => "lost_forward",
            Bug::Wrong410 => "wrong_410",
            Bug::NoDeduplication => "no_deduplication",
            Bug::SkippedCommand => "skipped_command",
        }
    }
}

#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}

/// Whether a bug is on. A name that is none ends the process: a run with nothing planted would prove the wrong thing.
#[cfg(feature = "planted-bugs")]
pub fn is_planted(bug: Bug) -> bool {
    static PLANTED: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("WSGATEWAY_PLANTED_BUG").ok()?;
        let found = Bug::ALL.into_iter().find(|bug| bug.name() == name);
        assert!(found.is_some(), "there is no bug {name:?} to be planted");
        tracing::error!(bug = name, "this program has a bug on purpose");
        found
    });
    *PLANTED == Some(bug)
}

/// One in so many, by chance.
pub fn one_in(many: u32) -> bool {
    rand::random_range(0..many) == 0
}
