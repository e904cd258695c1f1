//! What of a chain of audit records must be kept. Each ends with four hashes: the state before and after it, the record
//! before it, and its own. Of neighbours, two of these are the other's, and the own one follows from the rest: all but the
//! state after are left out, and computed again when the records are read.
//!
//! The own hash of the last record is kept, so that what is computed is checked without the records that follow.

use std::collections::BTreeMap;

use model::audit;
use serde::{Deserialize, Serialize};

use crate::machine::RestoreError;

const HASH_BYTES: usize = 32;
/// The state before and after, the record before, and its own: so an encoded record ends.
const HASHES: usize = 4;

/// The state before stands in the record: it is not the state after the one before.
const BEFORE: u8 = 1;
/// The hash of the record before stands in it.
const PREVIOUS: u8 = 2;
/// Its own hash stands in it.
const OWN: u8 = 4;
/// It is kept as it is.
const WHOLE: u8 = 8;

/// Records, without what follows.
#[derive(Default, Serialize, Deserialize)]
struct Abridged<'a> {
    /// Hashes that are kept, those of all records.
    #[serde(borrow, with = "serde_bytes")]
    hashes: &'a [u8],
    #[serde(borrow)]
    lines: Vec<Line<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    /// How many numbers come between the record before and this one.
    skipped: u64,
    /// Which hashes are kept; the state after is one of them unless the record is whole.
    kept: u8,
    #[serde(borrow, with = "serde_bytes")]
    text: &'a [u8],
}

/// The four hashes at the end of a record.
#[derive(Clone, Copy)]
struct Hashes {
    before: [u8; HASH_BYTES],
    after: [u8; HASH_BYTES],
    previous: [u8; HASH_BYTES],
    own: [u8; HASH_BYTES],
}

impl Hashes {
    /// Parts an encoded record; `None` when it is not one whose hash follows from the rest.
    fn of(record: &[u8]) -> Option<(&[u8], Self)> {
        let (text, hashes) = record.split_at_checked(record.len().checked_sub(HASHES * HASH_BYTES)?)?;
        let mut hashes = hashes.as_chunks::<HASH_BYTES>().0.iter().copied();
        let mut next = || hashes.next();
        let hashes = Self { before: next()?, after: next()?, previous: next()?, own: next()? };
        (hashes.follows(text)? == hashes.own).then_some((text, hashes))
    }

    /// The hash that follows from the rest; `None` when that is no record.
    fn follows(&self, text: &[u8]) -> Option<[u8; HASH_BYTES]> {
        audit::hash_of_encoded(text, [&self.before, &self.after, &self.previous])
    }

    fn join(&self, text: &[u8]) -> Vec<u8> {
        [text, &self.before, &self.after, &self.previous, &self.own].concat()
    }
}

/// Leaves out what follows.
pub(super) fn abridge(records: &BTreeMap<u64, Vec<u8>>) -> Vec<u8> {
    let (mut kept_hashes, mut lines) = (Vec::new(), Vec::new());
    let mut last: Option<Hashes> = None;
    let mut expected = 0;
    let newest = records.keys().next_back();
    for (sequence, record) in records {
        let skipped = sequence.saturating_sub(expected);
        expected = sequence.saturating_add(1);
        let Some((text, hashes)) = Hashes::of(record) else {
            lines.push(Line { skipped, kept: WHOLE, text: record });
            last = None;
            continue;
        };
        let mut kept = 0;
        let keep = [
            (BEFORE, hashes.before, last.is_none_or(|last| last.after != hashes.before)),
            (0, hashes.after, true),
            (PREVIOUS, hashes.previous, last.is_none_or(|last| last.own != hashes.previous)),
            (OWN, hashes.own, Some(sequence) == newest),
        ];
        for (bit, hash, _) in keep.into_iter().filter(|(_, _, keep)| *keep) {
            kept |= bit;
            kept_hashes.extend_from_slice(&hash);
        }
        lines.push(Line { skipped, kept, text });
        last = Some(hashes);
    }
    postcard::to_stdvec(&Abridged { hashes: &kept_hashes, lines })
        .expect("plain data always encodes into memory")
}

/// The records with all of their hashes, and their numbers.
///
/// # Errors
/// They are damaged, or the hash that is kept of the last one is not the one that follows from the rest.
pub(super) fn complete(abridged: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, RestoreError> {
    let Abridged { hashes, lines } = postcard::from_bytes(abridged).map_err(|_| RestoreError::Unreadable)?;
    let (hashes, []) = hashes.as_chunks::<HASH_BYTES>() else { return Err(RestoreError::Unreadable) };
    let mut kept_hashes = hashes.iter().copied();
    let mut records = Vec::with_capacity(lines.len());
    let mut last: Option<Hashes> = None;
    let mut expected = 0_u64;
    for Line { skipped, kept, text } in lines {
        let sequence = expected.checked_add(skipped).ok_or(RestoreError::Unreadable)?;
        expected = sequence.checked_add(1).ok_or(RestoreError::Unreadable)?;
        if kept == WHOLE {
            records.push((sequence, text.to_vec()));
            last = None;
            continue;
        }
        let mut hash = |bit: u8, following: Option<[u8; HASH_BYTES]>| {
            let hash = if bit == 0 || kept & bit != 0 { kept_hashes.next() } else { following };
            hash.ok_or(RestoreError::Unreadable)
        };
        let before = hash(BEFORE, last.map(|last| last.after))?;
        let after = hash(0, None)?;
        let previous = hash(PREVIOUS, last.map(|last| last.own))?;
        let mut hashes = Hashes { before, after, previous, own: [0; HASH_BYTES] };
        hashes.own = hashes.follows(text).ok_or(RestoreError::Unreadable)?;
        if hash(OWN, Some(hashes.own))? != hashes.own {
            return Err(RestoreError::Digest);
        }
        records.push((sequence, hashes.join(text)));
        last = Some(hashes);
    }
    Ok(records)
}

#[cfg(test)]
pub(super) mod tests {
    use model::{audit::AuditRecord, time::Time};

    use super::*;

    /// A chain of so many records.
    pub(in crate::store) fn chain(length: u64) -> BTreeMap<u64, Vec<u8>> {
        let mut previous = [0; HASH_BYTES];
        let states = |sequence: u64| [u8::try_from(sequence % 251).unwrap(); HASH_BYTES];
        let mut encoded = BTreeMap::new();
        for sequence in 1..=length {
            let mut record = AuditRecord {
                sequence,
                at: Time(1_700_000_000_000 + sequence),
                actor: "alice".into(),
                action: "identity.put".into(),
                object: format!("identity/{sequence}"),
                detail: String::new(),
                refused: (sequence % 9 == 0).then(|| "policy".into()),
                before: states(sequence),
                after: states(sequence + 1),
                previous,
                hash: [0; HASH_BYTES],
            };
            record.hash = record.expected_hash();
            previous = record.hash;
            encoded.insert(sequence, postcard::to_stdvec(&record).unwrap());
        }
        encoded
    }

    #[test]
    fn a_chain_comes_back_as_it_was_and_takes_a_hash_for_each_record() {
        let records = chain(200);
        let abridged = abridge(&records);
        assert_eq!(complete(&abridged).unwrap(), records.clone().into_iter().collect::<Vec<_>>());
        let whole: usize = records.values().map(Vec::len).sum();
        // Beside three of the four hashes of each, there are numbers to say so.
        assert!(abridged.len() < whole - 200 * 3 * HASH_BYTES + 200 * 4, "{} of {whole}", abridged.len());
    }

    #[test]
    fn what_does_not_follow_is_kept() {
        let mut records = chain(10);
        // Gaps, another state in between, a foreign record in the chain, one with a wrong hash, and none at all.
        records.remove(&3);
        records.insert(5, chain(20)[&15].clone());
        records.get_mut(&7).unwrap()[20] ^= 1;
        *records.get_mut(&9).unwrap() = b"no record".to_vec();
        let abridged = abridge(&records);
        assert_eq!(complete(&abridged).unwrap(), records.into_iter().collect::<Vec<_>>());
        assert!(complete(&abridge(&BTreeMap::new())).unwrap().is_empty());
    }

    #[test]
    fn a_changed_byte_is_noticed_without_the_records_that_follow() {
        let records = chain(5);
        let abridged = abridge(&records);
        let sound: Vec<_> = records.into_iter().collect();
        for byte in 0..abridged.len() {
            let mut changed = abridged.clone();
            changed[byte] ^= 1;
            match complete(&changed) {
                Err(RestoreError::Digest | RestoreError::Unreadable) => {}
                // The number of the first stands apart; it is a key, which the digest of the state covers.
                Ok(records) => assert!(
                    records.iter().zip(&sound).all(|(a, b)| a.1 == b.1) && records != sound,
                    "byte {byte}"
                ),
                Err(other) => panic!("{other}"),
            }
        }
        for length in 0..abridged.len() {
            assert!(complete(&abridged[..length]).is_err(), "{length}");
        }
    }
}
