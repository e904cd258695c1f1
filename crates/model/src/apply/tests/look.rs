//! Backups that were taken, and what probes find while a restored state is only looked at.

use super::{Machine, name};
use crate::{
    attempt::Liveness,
    caps,
    command::{BackupTaken, ConfirmRestore, Looked, RecordLooks, Restored},
    ledger::LedgerHead,
    outcome::Applied,
    refusal::Code,
    time::{Span, Time},
};

fn taken(at: u64) -> BackupTaken {
    BackupTaken { at: Time(at), applied: 7, revision: 3, ledger: 2, reason: "nightly".into() }
}

fn looks(found: Liveness, note: &str) -> RecordLooks {
    let looked = |version| Looked { credential: name("orders-db"), version, found, note: note.into() };
    RecordLooks { looks: vec![looked(1), looked(9)] }
}

fn observing() -> Machine {
    let mut machine = Machine::alternating();
    let (backup, ledger) = (LedgerHead::default(), LedgerHead::default());
    machine.ok(Restored { backup_at: Time(2), backup, ledger, accepted_loss: None });
    machine
}

#[test]
fn the_newest_backup_is_remembered_and_an_older_one_that_comes_later_is_not() {
    let mut machine = Machine::alternating();
    assert!(machine.state.last_backup().is_none() && machine.state.founded() > Time(0));
    machine.ok_by("alice", taken(20));
    assert_eq!(machine.ok_by("bob", taken(10)), Applied::Unchanged);
    let last = machine.state.last_backup().unwrap();
    assert_eq!((last.at, last.by.as_str(), last.applied), (Time(20), "alice", 7));
    machine.refused(Code::TextRequired, BackupTaken { reason: String::new(), ..taken(30) });
    assert_eq!(machine.audited("cluster.snapshot.taken"), 3);
}

#[test]
fn what_was_found_is_kept_of_versions_there_are_until_it_is_confirmed() {
    let mut machine = observing();
    machine.ok(looks(Liveness::Refused, &"é".repeat(caps::LOOK_NOTE_BYTES)));
    assert_eq!(machine.state.looks().len(), 1, "there is no version 9");
    let look = machine.state.looks().get(&(name("orders-db"), 1)).unwrap().clone();
    assert_eq!((look.found, look.note.len()), (Liveness::Refused, caps::LOOK_NOTE_BYTES));
    let many = RecordLooks { looks: vec![looks(Liveness::Live, "").looks[0].clone(); caps::LOOKS + 1] };
    machine.refused(Code::TooLong, many);
    machine.ok(ConfirmRestore { reason: "seen".into() });
    assert!(machine.state.looks().is_empty());
    machine.refused(Code::NotObserving, looks(Liveness::Live, ""));
}

#[test]
fn a_version_is_looked_at_once_and_again_only_when_it_could_not_be_asked() {
    let mut machine = observing();
    let due = |machine: &Machine| machine.state.to_look_at(None, machine.now).count();
    assert_eq!((due(&machine), machine.state.looked_at()), (1, 1));
    machine.ok(looks(Liveness::Unknown, "away"));
    assert_eq!(due(&machine), 0);
    machine.wait(caps::LOOK_AGAIN_AFTER);
    assert_eq!(due(&machine), 1);
    machine.ok(looks(Liveness::Live, ""));
    machine.wait(Span::days(1));
    assert_eq!((due(&machine), machine.state.looked_at()), (0, 1));
    assert_eq!(machine.state.to_look_at(Some(&(name("orders-db"), 1)), machine.now).count(), 0);
    assert_eq!(Machine::alternating().state.to_look_at(None, machine.now).count(), 0, "nothing is observed");
}
