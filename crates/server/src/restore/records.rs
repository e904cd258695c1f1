//! What consumers saw, held against the ledger and the backup: where both speak of a revision, they must say the same.

use std::path::{Path, PathBuf};

use model::{
    State,
    event::Event,
    ledger::{LedgerHead, Seen, Unbelievable, What},
    name::ConsumerName,
};

use super::{RestoreError, Source};
use crate::consumer_file;

/// A consumer's own record of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is, where that is known: what it was handed then stays handed to it.
    pub consumer: Option<ConsumerName>,
    /// The file.
    pub path: PathBuf,
}

/// What the records say together, and each by itself.
pub(super) struct Records<'a> {
    each: Vec<(&'a Path, Seen)>,
    pub(super) all: Seen,
}

impl<'a> Records<'a> {
    /// Reads all of them.
    pub(super) fn read(kept: &'a [Kept]) -> Result<Self, RestoreError> {
        let mut records = Self { each: Vec::new(), all: Seen::default() };
        for Kept { consumer, path } in kept {
            let unusable = |source| RestoreError::Record { file: path.clone(), source };
            let mut seen = consumer_file::read(path).map_err(unusable)?;
            if let Some(consumer) = consumer {
                seen.handed_to(consumer.clone());
            }
            records.add(path, seen)?;
        }
        Ok(records)
    }

    fn add(&mut self, path: &'a Path, seen: Seen) -> Result<(), RestoreError> {
        self.all.join(seen.clone()).map_err(|source| match source {
            Unbelievable::Contradiction(revision) => {
                let told = |held: &Seen| held.events().find(|event| event.revision == revision).cloned();
                let said = told(&seen);
                let other = said.and_then(|said| self.whose(&said)).unwrap_or(path);
                RestoreError::Contradicted { revision, file: path.to_owned(), other: named(other) }
            }
            Unbelievable::Number { .. } | Unbelievable::Subject(_) | Unbelievable::TooMany => {
                RestoreError::Together(source)
            }
        })?;
        self.each.push((path, seen));
        Ok(())
    }

    /// Holds everything that is known of the feed against what the records say of it.
    ///
    /// # Errors
    /// [`RestoreError::Contradicted`], which names both.
    pub(super) fn check(&self, state: &State, newest: Option<&Source>) -> Result<(), RestoreError> {
        if self.each.is_empty() {
            return Ok(());
        }
        for event in state.events().values() {
            self.check_event(event, || "the backup".to_owned())?;
        }
        let Some(newest) = newest else { return Ok(()) };
        for entry in newest.entries_behind(LedgerHead::default())? {
            if let What::Event(event) = entry?.statement()?.what {
                self.check_event(&event, || named(&newest.path))?;
            }
        }
        Ok(())
    }

    fn check_event(&self, event: &Event, other: impl FnOnce() -> String) -> Result<(), RestoreError> {
        match self.whose(event) {
            Some(path) => {
                let (revision, file) = (event.revision, path.to_owned());
                Err(RestoreError::Contradicted { revision, file, other: other() })
            }
            None => Ok(()),
        }
    }

    /// The record that says something else of the event's revision.
    fn whose(&self, event: &Event) -> Option<&'a Path> {
        self.each.iter().find(|(_, seen)| seen.contradicts(event)).map(|(path, _)| *path)
    }
}

fn named(path: &Path) -> String {
    format!("`{}`", path.display())
}
