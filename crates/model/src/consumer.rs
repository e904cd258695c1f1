//! Consumers and their receipts. Memory is consumers + events, never their product.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    caps,
    event::{About, Event},
    name::{ConsumerName, CredentialName, TargetName},
    table::Row,
    time::Time,
};

/// A registered party that must act on events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name.
    pub name: ConsumerName,
    /// Who answers for it.
    pub owner: String,
    /// Which events are for it.
    pub subscription: Subscription,
    /// Whether rotations wait for it and its silence is escalated.
    pub required: bool,
    /// The revision after which it was registered; earlier events are not owed to it.
    pub since: u64,
    /// The highest revision handed to it.
    pub delivered: u64,
    /// What it has received.
    pub received: Receipts,
    /// What it says it has enforced: a claim, not evidence.
    pub enforced: Receipts,
    /// What it says it failed to enforce, with its words; bounded.
    pub failed: BTreeMap<u64, String>,
    /// What it was excused from.
    pub waived: BTreeSet<u64>,
    /// When it last answered.
    pub last_answer: Option<Time>,
}

impl Row for Consumer {
    type Key = ConsumerName;
    const TAG: u8 = 10;
    const STATED: bool = true;
}

impl Consumer {
    /// Whether `event` is for this consumer.
    #[must_use]
    pub fn is_owed(&self, event: &Event) -> bool {
        event.revision > self.since && self.subscription.covers(event)
    }

    /// Whether nothing about `revision` is outstanding: enforced or waived.
    #[must_use]
    pub fn has_settled(&self, revision: u64) -> bool {
        self.enforced.contains(revision) || self.waived.contains(&revision)
    }

    /// Notes a failed receipt, forgetting the oldest beyond the limit.
    pub(crate) fn note_failure(&mut self, revision: u64, detail: String) {
        self.failed.insert(revision, detail);
        while self.failed.len() > caps::FAILED_RECEIPTS {
            self.failed.pop_first();
        }
    }
}

/// Which events are for a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Everything.
    pub all: bool,
    /// Events about these credentials.
    pub credentials: BTreeSet<CredentialName>,
    /// Events about credentials and grants at these targets.
    pub targets: BTreeSet<TargetName>,
}

impl Subscription {
    /// Whether `event` falls under it.
    #[must_use]
    pub fn covers(&self, event: &Event) -> bool {
        self.all
            || self.targets.contains(&event.target)
            || match &event.about {
                About::Version { credential, .. } => self.credentials.contains(credential),
                About::Grant(_) => false,
            }
    }

    /// Whether events about `credential` at `target` fall under it.
    #[must_use]
    pub fn covers_credential(&self, credential: &CredentialName, target: &TargetName) -> bool {
        self.all || self.credentials.contains(credential) || self.targets.contains(target)
    }

    /// Whether no event can fall under it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.credentials.is_empty() && self.targets.is_empty()
    }
}

/// Revisions answered for: all up to `upto`, and ranges above it, sorted, apart and inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    upto: u64,
    above: Vec<(u64, u64)>,
}

impl Receipts {
    /// Receipts that cover everything up to `upto`.
    #[must_use]
    pub const fn up_to(upto: u64) -> Self {
        Self { upto, above: Vec::new() }
    }

    /// The revision up to which there is no hole.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.upto
    }

    /// The ranges above the cursor, inclusive.
    #[must_use]
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.above
    }

    /// Whether `revision` is covered.
    #[must_use]
    pub fn contains(&self, revision: u64) -> bool {
        revision <= self.upto || self.above.iter().any(|&(from, to)| (from..=to).contains(&revision))
    }

    /// Covers `from..=to` as well. Says whether anything was new.
    pub fn cover(&mut self, from: u64, to: u64) -> bool {
        let from = from.max(self.upto + 1);
        if from > to || self.above.iter().any(|&(a, b)| a <= from && to <= b) {
            return false;
        }
        let at = self.above.partition_point(|&(_, end)| end.saturating_add(1) < from);
        let mut merged = (from, to);
        let mut end = at;
        while let Some(&(a, b)) = self.above.get(end).filter(|(a, _)| *a <= merged.1.saturating_add(1)) {
            merged = (merged.0.min(a), merged.1.max(b));
            end += 1;
        }
        self.above.splice(at..end, [merged]);
        self.close_up(|next, _| Some(next));
        true
    }

    /// Moves the cursor over covered revisions and over those between them that are not owed: `first_owed` finds
    /// the first revision that is, from one up to, not including, another.
    pub fn close_up(&mut self, first_owed: impl Fn(u64, u64) -> Option<u64>) {
        while let Some(&(from, to)) = self.above.first() {
            let next = self.upto + 1;
            if from <= next {
                self.upto = self.upto.max(to);
                self.above.remove(0);
                continue;
            }
            match first_owed(next, from) {
                None => self.upto = from - 1,
                Some(owed) => {
                    self.upto = self.upto.max(owed - 1);
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_the_cursor_moves_over_them() {
        let mut receipts = Receipts::up_to(2);
        assert!(receipts.cover(5, 6));
        assert!(receipts.cover(8, 9));
        assert!(!receipts.cover(5, 6), "a repeat is nothing new");
        assert!(!receipts.cover(1, 2), "nor is what lies below the cursor");
        assert!(receipts.cover(7, 7));
        assert_eq!(receipts.ranges(), [(5, 9)]);
        assert!(receipts.contains(6) && !receipts.contains(3));
        assert!(receipts.cover(3, 4));
        assert_eq!((receipts.cursor(), receipts.ranges().len()), (9, 0));
    }

    #[test]
    fn revisions_that_are_not_owed_do_not_hold_the_cursor_back() {
        let mut receipts = Receipts::up_to(0);
        receipts.cover(4, 4);
        receipts.close_up(|_, _| Some(2));
        assert_eq!(receipts.cursor(), 1, "2 is owed and open");
        receipts.cover(2, 2);
        receipts.close_up(|_, _| None);
        assert_eq!(receipts.cursor(), 4);
    }
}
