//! The replicated state: every table, what is derived from them, and `apply`.

use imbl::OrdSet;
use serde::{Deserialize, Serialize};

use crate::{
    attempt::Job,
    audit::{AuditHead, AuditRecord},
    certificate::{Certificate, RevokedNode},
    command::Stamped,
    consumer::Consumer,
    credential::{Credential, Version},
    event::{Event, Revocation},
    grant::Grant,
    identity::Identity,
    index::Index,
    key::{DataKey, RootKey},
    ledger::{LastBackup, LedgerEntry, LedgerHead, Look, Lost, Restoration},
    membership::{JoinToken, Membership},
    name::ScheduleName,
    node::Node,
    outcome::Outcome,
    rotation::Rotation,
    schedule::Schedule,
    store::Store,
    table::{Digest, LoadError, Record, RecordRef, Row, Table},
    target::Target,
    time::Time,
    token::Token,
};

/// Numbers that only grow, and the few facts that are not rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Model time: the latest stamp seen.
    pub now: Time,
    /// The number of the last rotation.
    pub rotations: u64,
    /// The number of the last revocation.
    pub revocations: u64,
    /// The number of the last grant.
    pub grants: u64,
    /// The last fencing number handed out.
    pub fence: u64,
    /// The revision of the last event.
    pub revision: u64,
    /// The end of the audit chain.
    pub audit: AuditHead,
    /// The data key that a cluster was formed with before there could be several; it moves to the table of data keys
    /// with the first command that is about them.
    pub data_key: Option<FirstDataKey>,
}

impl Row for Meta {
    type Key = u8;
    const TAG: u8 = 0;
}

/// The data key of a cluster that was formed before there could be several, wrapped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstDataKey {
    /// Its id.
    pub id: u32,
    /// The key, wrapped by the root key.
    pub wrapped: Vec<u8>,
}

impl std::fmt::Debug for FirstDataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FirstDataKey({})", self.id)
    }
}

/// Something that happens at an instant by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A schedule falls due.
    Schedule(ScheduleName),
    /// An attempt is lost, or a wait before the next one is over, or an overlap or a grant ends.
    Job(Job),
    /// An event's deadline passes.
    Event(u64),
}

/// The replicated state. A clone shares structure and costs next to nothing.
#[derive(Clone, Default)]
pub struct State {
    pub(crate) meta: Table<Meta>,
    pub(crate) identities: Table<Identity>,
    pub(crate) targets: Table<Target>,
    pub(crate) stores: Table<Store>,
    pub(crate) credentials: Table<Credential>,
    pub(crate) versions: Table<Version>,
    pub(crate) schedules: Table<Schedule>,
    pub(crate) rotations: Table<Rotation>,
    pub(crate) events: Table<Event>,
    pub(crate) revocations: Table<Revocation>,
    pub(crate) consumers: Table<Consumer>,
    pub(crate) grants: Table<Grant>,
    pub(crate) tokens: Table<Token>,
    pub(crate) nodes: Table<Node>,
    pub(crate) audit: Table<AuditRecord>,
    pub(crate) certificates: Table<Certificate>,
    pub(crate) revoked_nodes: Table<RevokedNode>,
    pub(crate) data_keys: Table<DataKey>,
    pub(crate) root_keys: Table<RootKey>,
    pub(crate) ledger: Table<LedgerHead>,
    pub(crate) restoration: Table<Restoration>,
    pub(crate) lost: Table<Lost>,
    pub(crate) last_backup: Table<LastBackup>,
    pub(crate) looks: Table<Look>,
    /// Entries of the ledger that were not handed out yet.
    pub(crate) stated: Vec<LedgerEntry>,
    pub(crate) memberships: Table<Membership>,
    pub(crate) join_tokens: Table<JoinToken>,
    /// Derived: the row of `meta`, written back once per command.
    pub(crate) facts: Meta,
    /// Derived: every timer by its instant.
    pub(crate) timers: OrdSet<(Time, Timer)>,
    /// Derived: jobs that have not reached their end.
    pub(crate) open: OrdSet<Job>,
    /// Derived: rows found by something other than their key.
    pub(crate) index: Index,
}

/// Runs an expression on every table, in the order of their tags.
macro_rules! each_table {
    (read $state:ident, $table:ident => $do:expr) => {
        each_table!(@list each (&) $state, $table, $do)
    };
    (write $state:ident, $table:ident => $do:expr) => {
        each_table!(@list each (&mut) $state, $table, $do)
    };
    (merge $state:ident, $part:ident, $table:ident, $other:ident => $do:expr) => {
        each_table!(@list pairs $state, $part, $table, $other, $do)
    };
    (@list $rule:ident $($args:tt)*) => {
        each_table!(@$rule [meta identities targets stores credentials versions schedules rotations events revocations
            consumers grants tokens nodes audit certificates revoked_nodes memberships join_tokens ledger restoration
            lost data_keys root_keys last_backup looks] $($args)*)
    };
    (@pairs [$($name:ident)*] $state:ident, $part:ident, $table:ident, $other:ident, $do:expr) => {
        $({
            let ($table, $other) = (&mut $state.$name, $part.$name);
            $do
        })*
    };
    (@each [$($name:ident)*] $access:tt $state:ident, $table:ident, $do:expr) => {
        $(each_table!(@one $access $state, $table, $do, $name);)*
    };
    (@one ($($access:tt)+) $state:ident, $table:ident, $do:expr, $name:ident) => {{
        let $table = $($access)+ $state.$name;
        $do
    }};
}

impl State {
    /// Applies one command. Deterministic and total: it refuses by value and never panics on content.
    pub fn apply(&mut self, stamped: &Stamped) -> Outcome {
        crate::apply::apply(self, stamped)
    }

    /// Takes the records written or removed since the last call, to be persisted in order.
    pub fn drain_changes(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        each_table!(write self, table => table.drain_touched(&mut records));
        records
    }

    /// The whole state as records; what [`State::load`] takes.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.meta
            .records()
            .chain(self.identities.records())
            .chain(self.targets.records())
            .chain(self.stores.records())
            .chain(self.credentials.records())
            .chain(self.versions.records())
            .chain(self.schedules.records())
            .chain(self.rotations.records())
            .chain(self.events.records())
            .chain(self.revocations.records())
            .chain(self.consumers.records())
            .chain(self.grants.records())
            .chain(self.tokens.records())
            .chain(self.nodes.records())
            .chain(self.audit.records())
            .chain(self.certificates.records())
            .chain(self.revoked_nodes.records())
            .chain(self.memberships.records())
            .chain(self.join_tokens.records())
            .chain(self.ledger.records())
            .chain(self.restoration.records())
            .chain(self.lost.records())
            .chain(self.data_keys.records())
            .chain(self.root_keys.records())
            .chain(self.last_backup.records())
            .chain(self.looks.records())
    }

    /// Builds a state from records.
    ///
    /// # Errors
    /// A record of an unknown table, or one that does not decode.
    pub fn load<E: From<LoadError>>(records: impl IntoIterator<Item = Result<Record, E>>) -> Result<Self, E> {
        let mut state = Self::default();
        for record in records {
            state.load_record((&record?).into())?;
        }
        state.derive();
        Ok(state)
    }

    /// How many records there are.
    #[must_use]
    pub fn count_records(&self) -> u64 {
        let mut count = 0;
        each_table!(read self, table => count += table.len() as u64);
        count
    }

    /// The digest over all tables: equal content gives equal digests on every replica.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        each_table!(read self, table => digest.add(table.digest()));
        digest
    }

    /// Moves the rows of `part` here, but nothing that is derived; says whether all of them were new.
    pub(crate) fn absorb(&mut self, part: Self) -> bool {
        let mut are_new = true;
        each_table!(merge self, part, table, other => are_new &= table.absorb(other));
        are_new
    }

    /// The digest of what commands are about: everything but the audit log, the ledger's head and the counters.
    pub(crate) fn content_digest(&self) -> [u8; 32] {
        let mut digest = Digest::default();
        let beside = [Meta::TAG, AuditRecord::TAG, LedgerHead::TAG];
        each_table!(read self, table => if !beside.iter().any(|tag| table.has_tag(*tag)) {
            digest.add(table.digest());
        });
        digest.to_bytes()
    }

    pub(crate) fn load_record(&mut self, record: RecordRef<'_>) -> Result<(), LoadError> {
        each_table!(write self, table => if table.has_tag(record.table) {
            return table.load(record);
        });
        Err(LoadError::UnknownTable(record.table))
    }
}
