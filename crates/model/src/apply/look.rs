//! Backups that were taken, and what probes find while a state that was put back from one is only looked at.

use crate::{
    State,
    attempt::Liveness,
    caps,
    command::{BackupTaken, RecordBackup, RecordLooks},
    credential::{Version, VersionState},
    ledger::{LastBackup, Look},
    name::CredentialName,
    outcome::{Applied, Outcome},
    refusal::Code,
    time::Time,
};

use super::{check, refuse};

impl State {
    /// Who takes the state away, and why, stands in the audit log before it is handed out.
    pub(super) fn record_backup(&self, command: &RecordBackup) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        Ok(Applied::Unchanged)
    }

    /// Several may be taken at one time; the newest state counts.
    pub(super) fn backup_taken(&mut self, actor: &str, command: &BackupTaken) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        if self.last_backup.get(&0).is_some_and(|last| last.at >= command.at) {
            return Ok(Applied::Unchanged);
        }
        let taken = LastBackup {
            at: command.at,
            by: actor.to_owned(),
            reason: command.reason.clone(),
            applied: command.applied,
            revision: command.revision,
            ledger: command.ledger,
        };
        self.last_backup.put(0, taken);
        Ok(Applied::Changed)
    }

    pub(super) fn record_looks(&mut self, command: &RecordLooks) -> Outcome {
        check::count("looks", command.looks.len(), caps::LOOKS)?;
        if !self.is_observing() {
            return refuse(
                Code::NotObserving,
                "nothing is looked at: the restore was confirmed, or there was none",
            );
        }
        let now = self.now();
        for looked in &command.looks {
            let key = (looked.credential.clone(), looked.version);
            if !self.versions.contains(&key) {
                continue;
            }
            let cut = looked.note.floor_char_boundary(caps::LOOK_NOTE_BYTES);
            let note = looked.note.get(..cut).unwrap_or_default().to_owned();
            let (credential, version) = key.clone();
            self.looks.put(key, Look { credential, version, at: now, found: looked.found, note });
        }
        Ok(Applied::Changed)
    }

    /// The versions behind `after` that a restored cluster has to look at: those whose secret is held and that the target
    /// honours, or may honour, by its own account. Each is looked at once; what could not be asked about is asked about
    /// again after [`caps::LOOK_AGAIN_AFTER`].
    pub fn to_look_at(
        &self,
        after: Option<&(CredentialName, u32)>,
        now: Time,
    ) -> impl Iterator<Item = &Version> {
        let range = match after {
            Some(key) => (std::ops::Bound::Excluded(key.clone()), std::ops::Bound::Unbounded),
            None => (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded),
        };
        let versions = self.is_observing().then(|| self.versions.range(range));
        versions.into_iter().flatten().map(|(_, row)| row).filter(move |row| self.is_to_look_at(row, now))
    }

    fn is_to_look_at(&self, row: &Version, now: Time) -> bool {
        is_looked_at(row)
            && match self.looks.get(&(row.credential.clone(), row.number)) {
                None => true,
                Some(look) => look.found == Liveness::Unknown && look.at.plus(caps::LOOK_AGAIN_AFTER) <= now,
            }
    }

    /// How many versions a restored cluster looks at, those that it has looked at included.
    #[must_use]
    pub fn looked_at(&self) -> usize {
        self.versions.values().filter(|row| is_looked_at(row)).count()
    }

    pub(super) fn forget_looks(&mut self) {
        let keys: Vec<_> = self.looks.iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.looks.remove(&key);
        }
    }
}

/// A candidate that no target was made to honour is left alone.
fn is_looked_at(row: &Version) -> bool {
    let state = matches!(row.state, VersionState::Active | VersionState::Tainted | VersionState::Revoked);
    state && row.sealed.is_some()
}
