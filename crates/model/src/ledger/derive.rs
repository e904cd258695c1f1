//! What a command has made so, found by holding the rows it wrote against what they were before.

use super::{Cursor, LedgerEntry, LedgerHead, RemovedKind, Statement, What};
use crate::{
    State,
    attempt::Retry,
    caps,
    command::Stamped,
    consumer::Consumer,
    credential::Version,
    grant::Grant,
    table::{Row, Table},
};

impl State {
    /// Takes the entries made since the last call, in order.
    pub fn drain_ledger(&mut self) -> Vec<LedgerEntry> {
        std::mem::take(&mut self.stated)
    }

    /// The end of the ledger.
    #[must_use]
    pub fn ledger_head(&self) -> LedgerHead {
        self.ledger.get(&0).copied().unwrap_or_default()
    }

    /// States what the command that was just run has led to.
    pub(crate) fn state_in_ledger(&mut self, stamped: &Stamped, why: &str) {
        let whats = self.statements();
        if whats.is_empty() {
            return;
        }
        let why = why.get(..why.floor_char_boundary(caps::LEDGER_TEXT_BYTES)).unwrap_or_default();
        let actor = &stamped.actor;
        let actor = actor.get(..actor.floor_char_boundary(caps::LEDGER_TEXT_BYTES)).unwrap_or_default();
        let mut head = self.ledger_head();
        for what in whats {
            let statement = Statement {
                at: self.now(),
                actor: actor.to_owned(),
                action: stamped.command.action().to_owned(),
                why: why.to_owned(),
                what,
            };
            let entry = LedgerEntry::behind(head, &statement);
            head = entry.head();
            self.stated.push(entry);
        }
        self.ledger.put(0, head);
    }

    /// Forgets what was written so far: it is in the ledger already.
    pub(crate) fn forget_displaced(&mut self) {
        drop(self.statements());
    }

    fn statements(&mut self) -> Vec<What> {
        let mut whats = Vec::new();
        for (revision, old) in self.events.take_displaced() {
            if old.is_none() {
                whats.extend(self.events.get(&revision).cloned().map(What::Event));
            }
        }
        for (key, old) in self.versions.take_displaced() {
            let new = self.versions.get(&key).filter(|new| old.is_none_or(|old| old.state != new.state));
            whats.extend(new.map(|new| What::Version(Version { sealed: None, ..new.clone() })));
        }
        self.currents(&mut whats);
        for (id, _) in self.revocations.take_displaced() {
            whats.extend(self.revocations.get(&id).cloned().map(What::Revocation));
        }
        for (id, old) in self.grants.take_displaced() {
            let new = self.grants.get(&id).filter(|new| old.is_none_or(|old| old.stage != new.stage));
            whats.extend(new.map(|new| What::Grant(Box::new(without_secret(new)))));
        }
        for (name, old) in self.tokens.take_displaced() {
            let was_revoked = old.is_some_and(|old| old.revoked.is_some());
            if !was_revoked && self.tokens.get(&name).is_some_and(|new| new.revoked.is_some()) {
                whats.push(What::TokenRevoked(name));
            }
        }
        removals(&mut self.identities, RemovedKind::Identity, &mut whats);
        removals(&mut self.targets, RemovedKind::Target, &mut whats);
        removals(&mut self.stores, RemovedKind::Store, &mut whats);
        removals(&mut self.schedules, RemovedKind::Schedule, &mut whats);
        self.cursors(&mut whats);
        for (key, old) in self.restoration.take_displaced() {
            if let Some(row) = self.restoration.get(&key).filter(|row| old.is_none_or(|old| old.at != row.at))
            {
                whats.push(What::Restored { backup: row.backup, next_revision: self.revision() + 1 });
            }
        }
        whats
    }

    fn currents(&mut self, whats: &mut Vec<What>) {
        for (credential, old) in self.credentials.take_displaced() {
            match self.credentials.get(&credential) {
                None if old.is_some() => {
                    whats.push(What::Removed { kind: RemovedKind::Credential, name: credential.to_string() })
                }
                Some(new) if old.as_ref().and_then(|old| old.current) != new.current => {
                    whats.push(What::Current { credential, version: new.current });
                }
                None | Some(_) => {}
            }
        }
    }

    /// Many consumers are handed something, and answer, in one command: that is one statement.
    fn cursors(&mut self, whats: &mut Vec<What>) {
        let mut moved = Vec::new();
        for (name, old) in self.consumers.take_displaced() {
            match self.consumers.get(&name) {
                None if old.is_some() => {
                    whats.push(What::Removed { kind: RemovedKind::Consumer, name: name.to_string() });
                }
                Some(new) if old.as_ref().map(cursor) != Some(cursor(new)) => moved.push(cursor(new)),
                None | Some(_) => {}
            }
        }
        if !moved.is_empty() {
            whats.push(What::Cursors(moved));
        }
    }
}

fn cursor(consumer: &Consumer) -> Cursor {
    Cursor {
        consumer: consumer.name.clone(),
        delivered: consumer.delivered,
        received: consumer.received.cursor(),
        enforced: consumer.enforced.cursor(),
    }
}

fn without_secret(grant: &Grant) -> Grant {
    Grant { sealed: None, attempt: None, retry: Retry::default(), ..grant.clone() }
}

fn removals<V: Row<Key: ToString>>(table: &mut Table<V>, kind: RemovedKind, whats: &mut Vec<What>) {
    for (name, old) in table.take_displaced() {
        if old.is_some() && !table.contains(&name) {
            whats.push(What::Removed { kind, name: name.to_string() });
        }
    }
}
