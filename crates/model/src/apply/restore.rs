//! A state that is put back from a backup: what the ledger has stated since is carried out on it, nothing dead comes
//! back to life, and nothing fires until somebody has confirmed that it may.

use std::collections::BTreeSet;

use crate::{
    State,
    attempt::Retry,
    caps,
    command::{ConfirmRestore, Restored, Stamped},
    credential::{Version, VersionState},
    event::{Event, ReasonCode},
    grant::{Grant, GrantEnd, GrantStage},
    ledger::{BrokenLedger, Cursor, LedgerEntry, Lost, RemovedKind, Restoration, Seen, Statement, What},
    name::CredentialName,
    outcome::{Applied, Outcome},
    refusal::Code,
    rotation::{Cause, Order, Stage},
    time::Time,
};

use super::{check, refuse};

/// Numbers that are left out, so that none that was given out after the backup is given out again.
const NUMBERS_LEFT_OUT: u64 = 1_000;

/// What is known when a state is put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// What time it is.
    pub at: Time,
    /// Who does it.
    pub by: String,
    /// When the backup was made.
    pub backup_at: Time,
    /// Why it is accepted that what was stated since may be lost.
    pub accepted_loss: Option<String>,
    /// Revisions that are left out, since consumers may have been told them.
    pub gap: u64,
    /// What consumers were told, by their own records.
    pub seen: Seen,
}

/// What a restore has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries of the ledger that were carried out.
    pub entries: u64,
    /// Events beyond the ledger's end that were carried out, since a consumer was told them.
    pub told: u64,
    /// Credentials whose current version has a secret that the backup does not hold.
    pub lost: Vec<(CredentialName, u32)>,
    /// Versions that must be removed at their target, once the restore is confirmed.
    pub to_retire: Vec<(CredentialName, u32)>,
    /// Versions whose secret is not in the backup and whose end was not proven: the target may still honour them.
    pub unproven: Vec<(CredentialName, u32)>,
    /// Temporary users of grants whose secret is not in the backup: they end by themselves at their target.
    pub temporary_users: Vec<String>,
}

impl State {
    /// Carries out on a state from a backup what the ledger has stated since, and what consumers were told beyond its end:
    /// `entries` are those behind the head in the backup. Nothing fires afterwards until [`ConfirmRestore`].
    ///
    /// # Errors
    /// What the entries could not be read for, or what is wrong with them; the state is then to be thrown away.
    pub fn restore<E: From<BrokenLedger>>(
        &mut self,
        entries: impl IntoIterator<Item = Result<LedgerEntry, E>>,
        how: &Restore,
    ) -> Result<Summary, E> {
        let backup = self.ledger_head();
        let mut head = backup;
        let mut touched = Touched::default();
        let mut summary = Summary::default();
        let mut now = self.facts.now.max(how.at);
        let mut tail = Tail::default();
        for entry in entries {
            let entry = entry?;
            entry.check_behind(head)?;
            let statement = entry.statement()?;
            head = entry.head();
            now = now.max(statement.at);
            summary.entries += 1;
            tail.follow(&statement);
            self.carry_out(statement.what, &mut touched);
        }
        self.facts.now = now;
        self.ledger.put(0, head);
        self.index_anew();
        // All of this is in the ledger; what follows is not.
        self.forget_displaced();
        // What the last command has led to may be missing behind the events that tell of it.
        self.take_in_events(&tail.events, &mut touched);
        summary.told = self.take_in(&how.seen, &mut touched);
        self.leave_out(how.gap, summary.entries.saturating_add(summary.told));
        self.index_anew();
        for credential in &touched.credentials {
            self.settle(credential, &mut summary);
        }
        for id in touched.grants {
            self.settle_grant(id, &mut summary);
        }
        self.index_anew();
        let command = Restored {
            backup_at: how.backup_at,
            backup,
            ledger: head,
            accepted_loss: how.accepted_loss.clone(),
        };
        let marked = self.apply(&Stamped { at: now, actor: how.by.clone(), command: command.into() });
        debug_assert!(marked.is_ok(), "a mark is never refused: {marked:?}");
        Ok(summary)
    }

    /// Whether this state was put back and nobody has confirmed it yet: probes run, and nothing fires.
    #[must_use]
    pub fn is_observing(&self) -> bool {
        self.restoration.get(&0).is_some_and(|row| row.confirmed.is_none())
    }

    fn carry_out(&mut self, what: What, touched: &mut Touched) {
        match what {
            What::Event(event) => self.tell_again(event),
            What::Version(version) => {
                touched.credentials.insert(version.credential.clone());
                let key = (version.credential.clone(), version.number);
                let held = self.versions.get(&key).and_then(|old| old.sealed.clone());
                let sealed = held.filter(|_| version.state != VersionState::Destroyed);
                self.versions.put(key, Version { sealed, ..version });
            }
            What::Current { credential, version } => {
                self.credentials.update(&credential, |row| row.current = version);
                touched.credentials.insert(credential);
            }
            What::Revocation(revocation) => {
                self.facts.revocations = self.facts.revocations.max(revocation.id.0);
                self.revocations.put(revocation.id, revocation);
            }
            What::Grant(grant) => {
                self.facts.grants = self.facts.grants.max(grant.id.0);
                let held = self.grants.get(&grant.id).and_then(|old| old.sealed.clone());
                touched.grants.insert(grant.id);
                let sealed = held.filter(|_| grant.refused.is_none());
                self.grants.put(grant.id, Grant { sealed, ..*grant });
            }
            What::TokenRevoked(name) => {
                let now = self.facts.now;
                self.tokens.update(&name, |token| token.revoked.get_or_insert(now).to_owned());
            }
            What::Removed { kind, name } => self.remove_again(kind, &name, touched),
            What::Cursors(cursors) => cursors.iter().for_each(|cursor| self.move_cursor(cursor)),
            What::Restored { next_revision, .. } => self.go_on_from(next_revision),
        }
    }

    pub(super) fn tell_again(&mut self, event: Event) {
        self.go_on_from(event.revision);
        self.facts.revision = event.revision;
        if let Some(old) = event.revision.checked_sub(caps::FEED_EVENTS) {
            self.events.remove(&old);
        }
        self.events.put(event.revision, event);
    }

    /// The next event has this revision. When some are left out, the history begins behind them.
    pub(super) fn go_on_from(&mut self, revision: u64) {
        if revision > self.facts.revision + 1 {
            let kept: Vec<u64> = self.events.iter().map(|(revision, _)| *revision).collect();
            for old in kept {
                self.events.remove(&old);
            }
            self.facts.revision = revision - 1;
        }
    }

    fn leave_out(&mut self, revisions: u64, entries: u64) {
        let numbers = entries.saturating_add(NUMBERS_LEFT_OUT);
        self.facts.fence = self.facts.fence.saturating_add(numbers);
        self.facts.rotations = self.facts.rotations.saturating_add(numbers);
        self.go_on_from(self.facts.revision.saturating_add(revisions).saturating_add(1));
    }

    fn remove_again(&mut self, kind: RemovedKind, name: &str, touched: &mut Touched) {
        match kind {
            RemovedKind::Identity => remove(&mut self.identities, name),
            RemovedKind::Target => remove(&mut self.targets, name),
            RemovedKind::Store => remove(&mut self.stores, name),
            RemovedKind::Schedule => remove(&mut self.schedules, name),
            RemovedKind::Consumer => remove(&mut self.consumers, name),
            RemovedKind::Credential => {
                touched.credentials.extend(name.parse::<CredentialName>().ok());
                remove(&mut self.credentials, name);
            }
        }
    }

    fn move_cursor(&mut self, cursor: &Cursor) {
        self.consumers.update(&cursor.consumer, |row| {
            row.delivered = row.delivered.max(cursor.delivered);
            row.received.cover(1, cursor.received);
            row.enforced.cover(1, cursor.enforced);
            let settled = row.enforced.cursor();
            row.waived.retain(|revision| *revision > settled);
            row.failed.retain(|revision, _| *revision > settled);
        });
    }

    /// A credential of which the ledger speaks: what is neither current nor dead was superseded, what is current and
    /// has no secret is lost, and what must still be removed at the target is given to a rotation.
    fn settle(&mut self, credential: &CredentialName, summary: &mut Summary) {
        self.end_open_rotations(credential);
        let now = self.now();
        let current = self.credentials.get(credential).and_then(|row| row.current);
        let mut retiring = Vec::new();
        let versions: Vec<Version> = self.versions_of(credential).cloned().collect();
        for version in versions {
            let (number, live) = (version.number, version.state.is_live());
            let is_current = current == Some(number) && version.state == VersionState::Active;
            let state = match (version.state, &version.sealed) {
                (VersionState::Destroyed, _) => continue,
                (_, Some(_)) if is_current => continue,
                (_, Some(_)) => {
                    retiring.push(number);
                    VersionState::Revoked
                }
                (_, None) => {
                    let list = if is_current { &mut summary.lost } else { &mut summary.unproven };
                    list.push((credential.clone(), number));
                    VersionState::Destroyed
                }
            };
            self.versions.update(&(credential.clone(), number), |row| {
                row.state = state;
                row.revoked.get_or_insert(now);
            });
            if is_current && live {
                self.credentials.update(credential, |row| row.current = None);
                let lost = Lost { credential: credential.clone(), version: number, since: now };
                self.lost.put(credential.clone(), lost);
            }
        }
        let is_active = |number: u32| {
            let row = self.versions.get(&(credential.clone(), number));
            row.is_some_and(|row| row.state == VersionState::Active)
        };
        if current.is_some_and(|number| !is_active(number)) {
            self.credentials.update(credential, |row| row.current = None);
        }
        summary.to_retire.extend(retiring.iter().map(|number| (credential.clone(), *number)));
        self.retire_again(credential, retiring);
    }

    /// Rotations that were under way in the backup have gone on, or have been turned around, since then.
    fn end_open_rotations(&mut self, credential: &CredentialName) {
        let open: Vec<_> = self
            .rotations
            .values()
            .filter(|row| row.credential == *credential && !row.stage.is_terminal())
            .cloned()
            .collect();
        for mut rotation in open {
            self.note(&mut rotation, "ended by a restore: the ledger tells what has become of it".to_owned());
            (rotation.stage, rotation.ended) = (Stage::Aborted, Some(self.now()));
            (rotation.attempt, rotation.retry) = (None, Retry::default());
            self.rotations.put(rotation.id, rotation);
        }
        self.credentials.update(credential, |row| row.rotation = None);
    }

    fn retire_again(&mut self, credential: &CredentialName, retiring: Vec<u32>) {
        let Some(row) = self.credentials.get(credential).filter(|_| !retiring.is_empty()) else { return };
        let wanted = |number: &u32| self.reason_of(credential, *number).asks_for_repair();
        let repair = row.current.is_none() && (self.lost.contains(credential) || retiring.iter().any(wanted));
        let order = if repair { Order::RevokeFirst } else { Order::RevokeOnly };
        let policy = self.policy_of(credential);
        let id = self.start_rotation(credential, Cause::Revoked, order, policy);
        self.rotations.update(&id, |rotation| rotation.retiring = retiring);
    }

    /// Why a version died, as the feed has told it.
    fn reason_of(&self, credential: &CredentialName, version: u32) -> ReasonCode {
        let told = self.versions.get(&(credential.clone(), version)).and_then(|row| row.revoked_revision);
        told.and_then(|revision| self.events.get(&revision))
            .map_or(ReasonCode::Superseded, |event| event.reason)
    }

    /// A grant of which the ledger speaks: one whose secret is not in the backup is over.
    fn settle_grant(&mut self, id: crate::name::GrantId, summary: &mut Summary) {
        let now = self.now();
        let Some(grant) = self.grants.get(&id).filter(|row| row.refused.is_none()).cloned() else { return };
        let may_be_out = match grant.stage {
            GrantStage::Install
            | GrantStage::Uncertain
            | GrantStage::Active
            | GrantStage::Retire
            | GrantStage::Sever
            | GrantStage::ProveRefused => grant.sealed.is_none(),
            GrantStage::Requested
            | GrantStage::Prepare
            | GrantStage::Remove
            | GrantStage::AwaitingReview
            | GrantStage::Reviewed
            | GrantStage::Denied
            | GrantStage::Lapsed => false,
        };
        if !may_be_out {
            return;
        }
        summary.temporary_users.extend(grant.username.clone());
        self.grants.update(&id, |row| {
            row.stage = GrantStage::Retire;
            row.ended.get_or_insert((GrantEnd::Ended { by: "restore".into() }, now));
        });
    }

    /// What is derived from the tables, also from the row that is written back once per command.
    fn index_anew(&mut self) {
        self.write_facts();
        self.derive();
    }

    pub(super) fn mark_restored(&mut self, actor: &str, command: &Restored) -> Outcome {
        if self.is_observing() {
            return refuse(Code::Observing, "the state was put back already, and is not confirmed yet");
        }
        let restoration = Restoration {
            at: self.now(),
            by: actor.to_owned(),
            backup_at: command.backup_at,
            backup: command.backup,
            ledger: command.ledger,
            accepted_loss: command.accepted_loss.clone(),
            confirmed: None,
        };
        self.restoration.put(0, restoration);
        self.forget_looks();
        self.index_anew();
        Ok(Applied::Changed)
    }

    /// Everything may fire from now on. Instants that have passed meanwhile are not owed.
    pub(super) fn confirm_restore(&mut self, actor: &str, command: &ConfirmRestore) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        if !self.is_observing() {
            return refuse(Code::NotObserving, "nothing waits to be confirmed: everything fires");
        }
        let now = self.now();
        let confirmed = Some((now, actor.to_owned(), command.reason.clone()));
        self.restoration.update(&0, |row| row.confirmed = confirmed);
        self.forget_looks();
        let passed: Vec<_> = self
            .schedules
            .values()
            .filter(|row| row.fires_at().is_some_and(|at| at <= now))
            .cloned()
            .collect();
        for mut schedule in passed {
            schedule.next = schedule.next_after(now);
            self.schedules.put(schedule.name.clone(), schedule);
        }
        self.index_anew();
        Ok(Applied::Changed)
    }

    /// Refuses what would fire while nobody has confirmed that it may.
    pub(super) fn check_confirmed(&self, what: &str) -> Outcome {
        if self.is_observing() {
            return refuse(
                Code::Observing,
                format!("{what}: the state was put back from a backup, and nobody has confirmed it yet"),
            );
        }
        Ok(Applied::Unchanged)
    }
}

/// The events of the last command that a ledger holds: a ledger may end in the midst of what one command has stated.
#[derive(Default)]
struct Tail {
    command: Option<(Time, String, String)>,
    events: Vec<Event>,
}

impl Tail {
    fn follow(&mut self, statement: &Statement) {
        let command = (statement.at, statement.actor.clone(), statement.action.clone());
        if self.command.as_ref() != Some(&command) {
            (self.command, self.events) = (Some(command), Vec::new());
        }
        if let What::Event(event) = &statement.what {
            self.events.push(event.clone());
        }
    }
}

/// Of what the ledger speaks.
#[derive(Default)]
pub(super) struct Touched {
    pub(super) credentials: BTreeSet<CredentialName>,
    pub(super) grants: BTreeSet<crate::name::GrantId>,
}

fn remove<V>(table: &mut crate::table::Table<V>, name: &str)
where
    V: crate::table::Row<Key: std::str::FromStr>,
{
    if let Ok(name) = name.parse() {
        table.remove(&name);
    }
}
