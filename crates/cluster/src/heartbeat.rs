//! When a leader was last heard. Raft goes on to name the last one while nobody can take its place: a node that asks the
//! others before it stands for election (pre-vote) stays in the old term as long as they do not answer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// When a leader was last heard.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    since: Instant,
    /// Milliseconds after `since`; [`NEVER`] before the first time.
    last: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Default for Heartbeat {
    fn default() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(NEVER) }
    }
}

impl Heartbeat {
    /// A leader is heard now.
    pub(crate) fn note(&self) {
        self.last.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Whether a leader was heard no longer ago than this.
    pub(crate) fn is_within(&self, patience: Duration) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last != NEVER && u128::from(self.elapsed_ms().saturating_sub(last)) <= patience.as_millis()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_heard_for_a_while_after_its_last_message_and_not_before_the_first() {
        let hour = Duration::from_secs(3_600);
        let heartbeat = Heartbeat::default();
        assert!(!heartbeat.is_within(hour));
        heartbeat.note();
        assert!(heartbeat.is_within(hour));
        let long_ago =
            Heartbeat { since: Instant::now().checked_sub(hour).unwrap(), last: AtomicU64::new(0) };
        assert!(!long_ago.is_within(hour / 2));
        assert!(long_ago.is_within(hour * 2));
    }
}
