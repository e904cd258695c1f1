//! The promises that every world is held against, by name.

use std::fmt;

macro_rules! invariants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)*) => {
        /// A promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Invariant { $($(#[doc = $doc])+ $variant,)* }

        impl Invariant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

invariants! {
    /// A write that was acknowledged is in the history of every node, for ever.
    AcknowledgedSurvive = "acknowledged-writes-survive";
    /// A write that was said not to have been proposed is never committed.
    RefusedStayOut = "unproposed-writes-stay-out";
    /// A linearizable read shows every write that was acknowledged before it began.
    ReadsAreFresh = "reads-are-fresh";
    /// No term has two leaders.
    OneLeaderPerTerm = "one-leader-per-term";
    /// A number that a node was given is never given to another.
    NumbersNeverReused = "numbers-never-reused";
    /// A node that was turned out is no member again, never leads, and its vote helps nobody to lead.
    RemovedStayOut = "removed-stay-out";
    /// A node's term never goes back, not even over a crash.
    TermsNeverBack = "terms-never-back";
    /// Two logs with the same term at an index have the same entry there, after the same term.
    LogsMatch = "logs-match";
    /// All nodes apply the same entry at the same index.
    SameEntries = "same-entries";
    /// All nodes have the same digest at the same index.
    SameDigests = "same-digests";
    /// What a node has applied never goes back while it lives.
    AppliedNeverBack = "applied-never-back";
    /// No node stops by itself, and every node starts from what its disk holds.
    NodesGoOn = "nodes-go-on";
    /// Model time never goes back.
    TimeNeverBack = "time-never-back";
    /// Revisions are 1, 2, 3 … without a gap.
    DenseRevisions = "dense-revisions";
    /// What a consumer was handed and has answered never goes back, and never passes what there is.
    CursorsNeverBack = "cursors-never-back";
    /// A consumer is handed every event, once, in order.
    FeedIsWhole = "feed-is-whole";
    /// A job has at most one attempt.
    OneAttempt = "one-attempt";
    /// Every attempt has a higher fence than all before it.
    FencesGrow = "fences-grow";
    /// An outcome is taken under the fence of the attempt in flight, or of one that was called off, and no other.
    StaleOutcomesRefused = "stale-outcomes-are-refused";
    /// A credential has at most one rotation under way.
    OneRotation = "one-rotation";
    /// A due instant starts at most one rotation.
    OneEffectPerInstant = "one-effect-per-instant";
    /// A rotation has one candidate: another one only after the first was revoked.
    OneCandidate = "one-candidate";
    /// After a tick nothing is due any more.
    TicksLeaveNothing = "ticks-leave-nothing";
    /// What has ended stays as it is.
    EndsAreFinal = "ends-are-final";
    /// A version that was revoked never lives again.
    RevokedStayDead = "revoked-stay-dead";
    /// Unless it is revoked, a version dies only when its successor was verified, or as a candidate taken back.
    RetiredAfterVerified = "retired-after-verified";
    /// No grant is live at or after its end, or comes back.
    GrantsEnd = "grants-end";
    /// The audit chain verifies.
    AuditVerifies = "audit-verifies";
    /// Nothing is done at the target but under a fence whose intent was committed, for that job and step.
    IntentBeforeEffect = "intent-before-effect";
    /// While a credential has a version that holders should use, a version that lives logs in at the target.
    SomethingLogsIn = "something-logs-in";
    /// What consumers read was verified at the target before.
    PublishedWasVerified = "published-was-verified";
    /// What was proven refused is never honoured again.
    DestroyedIsRefused = "destroyed-is-refused";
    /// No session goes on that was opened with a version that was proven refused.
    SessionsAreCut = "sessions-are-cut";
    /// When faults have ended, everything that is owed comes to its end, and all nodes agree.
    Settles = "settles";
    /// In the end the target honours what the model says, and nothing else.
    TargetAgrees = "target-agrees";
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
