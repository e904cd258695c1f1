use std::fs;

use model::{
    ledger::{Statement, What},
    time::Time,
};
use tempfile::TempDir;

use super::*;

fn chain(length: u64) -> Vec<LedgerEntry> {
    let mut head = LedgerHead::default();
    (1..=length)
        .map(|number| {
            let what = What::TokenRevoked(format!("token-{number}").parse().unwrap());
            let (actor, action) = ("alice".to_owned(), "token.revoke".to_owned());
            let statement = Statement { at: Time(number), actor, action, why: String::new(), what };
            let entry = LedgerEntry::behind(head, &statement);
            head = entry.head();
            entry
        })
        .collect()
}

fn open(folder: &TempDir, state: LedgerHead) -> Ledger {
    Ledger::open(folder.path().join("ledger"), &folder.path().join("damaged"), state).unwrap()
}

#[test]
fn what_was_flushed_is_there_again_and_what_the_log_makes_again_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(300);
    let ledger = open(&folder, LedgerHead::default());
    ledger.push(chain[..200].to_vec());
    ledger.flush().unwrap();
    ledger.push(chain[200..250].to_vec());
    assert_eq!(ledger.read(0, usize::MAX).unwrap(), chain[..200], "first what lies in the files");
    assert_eq!(ledger.read(220, usize::MAX).unwrap(), chain[220..250], "then what waits for the disk");
    drop(ledger);

    let ledger = open(&folder, chain[149].head());
    assert_eq!(ledger.head(), chain[199].head(), "what was not flushed is not there");
    ledger.push(chain[150..].to_vec());
    ledger.flush().unwrap();
    assert_eq!(ledger.read(0, usize::MAX).unwrap(), chain);
    assert_eq!(ledger.read(0, 1).unwrap(), chain[..1], "about so many bytes");
}

#[test]
fn every_damage_to_a_file_is_found_and_the_entries_before_it_stay() {
    let chain = chain(40);
    let made = tempfile::tempdir().unwrap();
    write_new(&made.path().join("ledger"), chain.iter().cloned().map(Ok)).unwrap();
    let name = "ledger/00000000000000000001.ledger";
    let good = fs::read(made.path().join(name)).unwrap();
    for place in (0..good.len()).step_by(61) {
        for cut in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("ledger")).unwrap();
            let mut bytes = good.clone();
            if cut {
                bytes.truncate(place)
            } else {
                bytes[place] ^= 1 << (place % 8)
            }
            fs::write(folder.path().join(name), &bytes).unwrap();
            let ledger = open(&folder, LedgerHead::default());
            let held = usize::try_from(ledger.head().sequence).unwrap();
            assert!(held < chain.len(), "damage at {place} was not found");
            assert_eq!(ledger.read(0, usize::MAX).unwrap(), chain[..held]);
            // From a peer, or from the log.
            ledger.fill(chain[held..].to_vec(), false).unwrap();
            drop(ledger);
            assert_eq!(open(&folder, chain[39].head()).read(0, usize::MAX).unwrap(), chain);
        }
    }
}

#[test]
fn a_ledger_that_is_not_that_of_the_state_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(5);
    write_new(&folder.path().join("ledger"), chain.iter().cloned().map(Ok)).unwrap();
    let other = LedgerHead { sequence: 3, hash: [9; 32] };
    assert_eq!(open(&folder, other).head(), LedgerHead::default());
    assert!(folder.path().join("damaged").read_dir().unwrap().next().is_some());
}

#[test]
fn entries_that_do_not_follow_are_left_to_be_fetched_and_a_forged_one_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let chain = chain(20);
    let ledger = open(&folder, LedgerHead::default());
    ledger.push(chain[..5].to_vec());
    ledger.push(chain[10..].to_vec());
    assert_eq!(ledger.head(), chain[4].head());
    let mut forged = chain[5..].to_vec();
    forged[3].body[0] ^= 1;
    ledger.fill(forged, false).unwrap();
    assert_eq!(ledger.head(), chain[7].head());
    ledger.fill(chain[12..].to_vec(), false).unwrap();
    assert_eq!(ledger.head(), chain[7].head());
    ledger.fill(chain[12..].to_vec(), true).unwrap();
    assert_eq!(ledger.head(), chain[19].head());
    drop(ledger);
    let held: Vec<u64> =
        open(&folder, chain[19].head()).read(0, usize::MAX).unwrap().iter().map(|it| it.sequence).collect();
    assert_eq!(held, (1..=8).chain(13..=20).collect::<Vec<_>>(), "what no node has is left out");
}
