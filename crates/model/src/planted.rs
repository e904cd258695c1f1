//! Bugs that tests plant, one at a time, to see that the other tests catch them. Each is a single line elsewhere that
//! asks [`is_planted`], which says no in every build without the feature `planted`.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)*) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($(#[doc = $doc])+ $variant,)* }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name, by which [`VARIABLE`] chooses it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

bugs! {
    /// An append is acknowledged before it is flushed.
    AckBeforeFlush = "ack-before-flush";
    /// A vote is given before it is flushed.
    VoteUnflushed = "vote-unflushed";
    /// A wiped node is let in at once.
    WipedVotes = "wiped-votes";
    /// A storage that holds less than it promised is let in.
    PromiseForgotten = "promise-forgotten";
    /// A leader answers a read without asking whether it still leads.
    StaleRead = "stale-read";
    /// A command that this build does not know is skipped.
    UnknownSkipped = "unknown-skipped";
    /// A frame of a snapshot is taken without its checksum.
    FrameUnchecked = "frame-unchecked";
    /// An outcome is taken whatever its fence.
    StaleFence = "stale-fence";
    /// An event takes two revisions.
    RevisionSkipped = "revision-skipped";
    /// A consumer that could not enforce an event has what it enforced before taken from it.
    CursorBack = "cursor-back";
    /// The old version dies before the new one was verified.
    RetiredUnverified = "retired-unverified";
    /// Sessions of the old version are not cut.
    SessionsKept = "sessions-kept";
    /// A revocation does not stop the rotation under way, which goes on with a candidate that was revoked.
    RevokedPromoted = "revoked-promoted";
    /// A grant's time being up changes nothing.
    GrantOutlives = "grant-outlives";
    /// A worker acts before its intent is committed.
    EffectBeforeIntent = "effect-before-intent";
}

/// The environment variable with the name of the bug that a process has from its start.
pub const VARIABLE: &str = "REVOLVE_PLANTED";

/// Whether `bug` is planted: never, in this build.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use planting::{is_planted, plant};

#[cfg(feature = "planted")]
mod planting {
    use std::sync::{LazyLock, Mutex, PoisonError};

    use super::{Bug, VARIABLE};

    static PLANTED: LazyLock<Mutex<Option<Bug>>> = LazyLock::new(|| {
        let name = std::env::var(VARIABLE).unwrap_or_default();
        Mutex::new(Bug::ALL.iter().copied().find(|bug| bug.name() == name))
    });

    /// Plants a bug in this process, in the place of any other, or none.
    pub fn plant(bug: Option<Bug>) {
        *PLANTED.lock().unwrap_or_else(PoisonError::into_inner) = bug;
    }

    /// Whether `bug` is planted.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        *PLANTED.lock().unwrap_or_else(PoisonError::into_inner) == Some(bug)
    }
}
