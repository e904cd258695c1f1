//! The audit log: every command and every refusal is one record, each bound to the one before it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{table::Row, time::Time};

/// One record of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its number: 1, 2, 3 … without gaps.
    pub sequence: u64,
    /// When.
    pub at: Time,
    /// Who: a principal, a node or the system.
    pub actor: String,
    /// What was asked, such as `revocation.create`.
    pub action: String,
    /// Of what, such as `credential/orders-db`.
    pub object: String,
    /// Why and with what effect, for people.
    pub detail: String,
    /// The code of the refusal, if it was refused.
    pub refused: Option<String>,
    /// The state digest before.
    pub before: [u8; 32],
    /// The state digest after.
    pub after: [u8; 32],
    /// The hash of the record before this one; zeros for the first.
    pub previous: [u8; 32],
    /// The hash of all of the above.
    pub hash: [u8; 32],
}

impl Row for AuditRecord {
    type Key = u64;
    const TAG: u8 = 14;
}

impl AuditRecord {
    /// The hash this record should carry: SHA-256 over its fields, texts preceded by their length.
    #[must_use]
    pub fn expected_hash(&self) -> [u8; 32] {
        let text = Text {
            sequence: self.sequence,
            at: self.at,
            actor: &self.actor,
            action: &self.action,
            object: &self.object,
            detail: &self.detail,
            refused: self.refused.as_deref(),
        };
        text.hash([&self.before, &self.after, &self.previous])
    }
}

/// What an encoded record begins with: all of it but the hashes.
#[derive(Deserialize)]
struct Text<'a> {
    sequence: u64,
    at: Time,
    actor: &'a str,
    action: &'a str,
    object: &'a str,
    detail: &'a str,
    refused: Option<&'a str>,
}

impl Text<'_> {
    fn hash(&self, hashes: [&[u8; 32]; 3]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"revolve audit 1");
        hash.update(self.sequence.to_be_bytes());
        hash.update(self.at.0.to_be_bytes());
        for text in [self.actor, self.action, self.object, self.detail, self.refused.unwrap_or_default()] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        for other in hashes {
            hash.update(other);
        }
        hash.finalize().into()
    }
}

/// The hash that a record should carry which is encoded with postcard and cut before its four hashes; `None` when that is
/// no record. `hashes` are the first three: the state before, the state after, the record before.
#[must_use]
pub fn hash_of_encoded(text: &[u8], hashes: [&[u8; 32]; 3]) -> Option<[u8; 32]> {
    let (text, rest) = postcard::take_from_bytes::<Text<'_>>(text).ok()?;
    rest.is_empty().then(|| text.hash(hashes))
}

/// What is wrong with a chain of audit records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// A record is missing or out of order.
    #[error("record {expected} is missing or out of order: found record {found} in its place")]
    Gap {
        /// The number that had to come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A record was changed.
    #[error("record {sequence} was changed: its content does not match its hash")]
    Changed {
        /// Its number.
        sequence: u64,
    },
    /// A record does not follow the one before it.
    #[error("record {sequence} does not follow record {}: the hash of the one before differs", sequence - 1)]
    Unlinked {
        /// Its number.
        sequence: u64,
    },
    /// Records are missing at the end.
    #[error("the log ends at record {found}, but the head is record {head}")]
    Truncated {
        /// The last record found.
        found: u64,
        /// The record the head names.
        head: u64,
    },
    /// The last record is not the one the head names.
    #[error("record {sequence} is not the one that the head of the log names")]
    WrongHead {
        /// Its number.
        sequence: u64,
    },
}

/// The end of the chain, kept beside the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The number of the last record.
    pub sequence: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// Checks a whole chain, from the first record to `head`.
///
/// # Errors
/// The first thing found wrong.
pub fn verify<'a>(
    records: impl Iterator<Item = &'a AuditRecord>,
    head: AuditHead,
) -> Result<u64, BrokenChain> {
    let mut last = AuditHead::default();
    for record in records {
        let sequence = record.sequence;
        if sequence != last.sequence + 1 {
            return Err(BrokenChain::Gap { expected: last.sequence + 1, found: sequence });
        }
        if record.expected_hash() != record.hash {
            return Err(BrokenChain::Changed { sequence });
        }
        if record.previous != last.hash {
            return Err(BrokenChain::Unlinked { sequence });
        }
        last = AuditHead { sequence, hash: record.hash };
    }
    if last.sequence != head.sequence {
        return Err(BrokenChain::Truncated { found: last.sequence, head: head.sequence });
    }
    if last.hash != head.hash {
        return Err(BrokenChain::WrongHead { sequence: head.sequence });
    }
    Ok(last.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u64) -> (Vec<AuditRecord>, AuditHead) {
        let mut head = AuditHead::default();
        let records = (1..=length)
            .map(|sequence| {
                let mut record = AuditRecord {
                    sequence,
                    at: Time(sequence * 1_000),
                    actor: "alice".into(),
                    action: "identity.put".into(),
                    object: format!("identity/{sequence}"),
                    detail: String::new(),
                    refused: None,
                    before: [0; 32],
                    after: [1; 32],
                    previous: head.hash,
                    hash: [0; 32],
                };
                record.hash = record.expected_hash();
                head = AuditHead { sequence, hash: record.hash };
                record
            })
            .collect();
        (records, head)
    }

    #[test]
    fn an_untouched_chain_verifies() {
        let (records, head) = chain(5);
        assert_eq!(verify(records.iter(), head), Ok(5));
    }

    #[test]
    fn the_hash_follows_from_an_encoded_record_too() {
        let (mut records, _) = chain(2);
        records[1].refused = Some("policy".into());
        for record in records {
            let encoded = postcard::to_stdvec(&record).unwrap();
            let text = &encoded[..encoded.len() - 4 * 32];
            let hashes = [&record.before, &record.after, &record.previous];
            assert_eq!(hash_of_encoded(text, hashes), Some(record.expected_hash()));
            assert_eq!(
                hash_of_encoded(&text[1..], hashes).filter(|hash| *hash == record.expected_hash()),
                None
            );
            assert_eq!(hash_of_encoded(&text[..text.len() - 1], hashes), None);
            assert_eq!(hash_of_encoded(&encoded, hashes), None);
        }
    }

    #[test]
    fn a_changed_removed_or_reordered_record_is_found() {
        let (good, head) = chain(5);

        let mut changed = good.clone();
        changed[2].actor = "mallory".into();
        assert_eq!(verify(changed.iter(), head), Err(BrokenChain::Changed { sequence: 3 }));
        changed[2].hash = changed[2].expected_hash();
        assert_eq!(verify(changed.iter(), head), Err(BrokenChain::Unlinked { sequence: 4 }));

        let mut removed = good.clone();
        removed.remove(2);
        assert_eq!(verify(removed.iter(), head), Err(BrokenChain::Gap { expected: 3, found: 4 }));
        removed.truncate(2);
        assert_eq!(verify(removed.iter(), head), Err(BrokenChain::Truncated { found: 2, head: 5 }));

        let mut reordered = good;
        reordered.swap(1, 3);
        assert_eq!(verify(reordered.iter(), head), Err(BrokenChain::Gap { expected: 2, found: 4 }));
    }
}
