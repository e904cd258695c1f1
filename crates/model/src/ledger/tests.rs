use super::*;

fn chain(length: u64) -> Vec<LedgerEntry> {
    let mut head = LedgerHead::default();
    (1..=length)
        .map(|number| {
            let what = What::TokenRevoked(format!("token-{number}").parse().unwrap());
            let (actor, action) = ("alice".to_owned(), "token.revoke".to_owned());
            let statement = Statement { at: Time(number), actor, action, why: "left".into(), what };
            let entry = LedgerEntry::behind(head, &statement);
            head = entry.head();
            entry
        })
        .collect()
}

fn verify(entries: &[LedgerEntry]) -> Result<LedgerHead, BrokenLedger> {
    entries
        .iter()
        .try_fold(LedgerHead::default(), |head, entry| entry.check_behind(head).map(|()| entry.head()))
}

#[test]
fn an_untouched_ledger_verifies_and_what_was_changed_removed_or_swapped_is_found() {
    let good = chain(5);
    assert_eq!(verify(&good).unwrap().sequence, 5);
    let mut removed = good.clone();
    removed.remove(2);
    assert_eq!(verify(&removed), Err(BrokenLedger::Gap { expected: 3, found: 4 }));
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    assert!(verify(&swapped).is_err());
    let mut forged = good.clone();
    forged[2] = LedgerEntry::behind(forged[1].head(), &good[3].statement().unwrap());
    assert_eq!(verify(&forged), Err(BrokenLedger::Unlinked(4)));
}

#[test]
fn every_flipped_bit_of_an_entry_is_found() {
    let entry = chain(1).remove(0);
    let bytes = postcard::to_stdvec(&entry).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let read =
            postcard::take_from_bytes::<LedgerEntry>(&flipped).ok().filter(|(_, rest)| rest.is_empty());
        let sound = read.is_some_and(|(read, _)| read.check_behind(LedgerHead::default()).is_ok());
        assert!(!sound, "bit {bit}");
    }
}

#[test]
fn the_persisted_form_is_fixed() {
    let entry = chain(1).remove(0);
    assert_eq!(entry.body, b"\x01\x05alice\x0ctoken.revoke\x04left\x05\x07token-1");
    let hash: String = entry.hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    insta::assert_snapshot!(hash, @"e8274e83f5c583f6");
}
