//! Audit records as the store and snapshots keep them: many in one value. They are only ever appended, and there is one for
//! every command: a value each would be most of what sled has to do. What of a group follows from the rest is left out
//! ([`chain`]), and in the store a group is packed.

use std::{collections::BTreeMap, io, iter};

use model::{
    Part,
    audit::AuditRecord,
    table::{Record, RecordRef, Row as _},
};

use super::chain;
use crate::{machine::RestoreError, packing, raft::damaged};

/// The table under which groups are stored, which no table of the model is numbered with. Never reused.
pub(crate) const TABLE: u8 = u8::MAX;
/// What a packed group of format 3 begins with; format 2 had none. The numbers of records do not come so far that their
/// first byte would be one of these.
const PACKED: u8 = 255;
/// What an abridged group begins with, packed or not.
const ABRIDGED_PACKED: u8 = 254;
const ABRIDGED: u8 = 253;
/// Records in a group: those with the sequences from a multiple of this one up to the next.
const RECORDS: u64 = 64;

/// Takes in a row, or the rows of a group.
pub(crate) fn add(part: &mut Part, record: RecordRef<'_>) -> Result<(), RestoreError> {
    if record.table == TABLE {
        Group::open(record)?.each(|record| Ok(part.add(record)?))
    } else {
        Ok(part.add(record)?)
    }
}

/// The group that is still being filled. It is written again whenever it grows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    number: u64,
    /// Encoded records by their sequence.
    records: BTreeMap<u64, Vec<u8>>,
}

impl Groups {
    /// Replaces the audit records among `records` by the groups that they belong to.
    ///
    /// # Errors
    /// An audit record of a group that is behind the newest one, or one that is removed: the log is only appended to.
    pub(crate) fn fold(&mut self, records: Vec<Record>) -> io::Result<Vec<Record>> {
        let (audit, mut others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.table == AuditRecord::TAG);
        // By their numbers: encoded, 300 comes before 2.
        let mut appended = BTreeMap::new();
        for record in audit {
            let (sequence, value) = appended_record(record)?;
            appended.insert(sequence, value);
        }
        for (sequence, value) in appended {
            if let Some(closed) = self.append(sequence, value)? {
                others.push(packed(closed)?);
            }
        }
        if let Some(open) = self.record() {
            others.push(packed(open)?);
        }
        Ok(others)
    }

    /// All of these records, which come in order, with the audit records among them in groups. They are not packed: what
    /// they become a part of is.
    pub(crate) fn each(records: impl Iterator<Item = Record>) -> impl Iterator<Item = io::Result<Record>> {
        let mut groups = Self::default();
        let mut records = records;
        let mut has_ended = false;
        iter::from_fn(move || {
            while !has_ended {
                let Some(record) = records.next() else {
                    has_ended = true;
                    return groups.record().map(Ok);
                };
                if record.table != AuditRecord::TAG {
                    return Some(Ok(record));
                }
                let closed =
                    appended_record(record).and_then(|(sequence, value)| groups.append(sequence, value));
                if let Some(closed) = closed.transpose() {
                    return Some(closed);
                }
            }
            None
        })
    }

    /// Appends a record, and gives the group that was closed by that.
    fn append(&mut self, sequence: u64, value: Vec<u8>) -> io::Result<Option<Record>> {
        let number = sequence / RECORDS;
        if number < self.number {
            return Err(not_appended());
        }
        let mut closed = None;
        if number > self.number {
            closed = self.record();
            self.records.clear();
            self.number = number;
        }
        self.records.insert(sequence, value);
        Ok(closed)
    }

    /// Goes on filling a stored group.
    pub(crate) fn resume(stored: RecordRef<'_>) -> Result<Self, RestoreError> {
        let group = Group::open(stored)?;
        Ok(Self { number: group.number, records: group.records.into_iter().collect() })
    }

    /// The group as far as it is filled, abridged.
    fn record(&self) -> Option<Record> {
        let value =
            (!self.records.is_empty()).then(|| [&[ABRIDGED][..], &chain::abridge(&self.records)].concat())?;
        Some(Record { table: TABLE, key: self.number.to_be_bytes().into(), value: Some(value) })
    }
}

fn packed(group: Record) -> io::Result<Record> {
    let abridged = group.value.unwrap_or_default();
    let value = packing::pack(ABRIDGED_PACKED, abridged.strip_prefix(&[ABRIDGED]).unwrap_or(&abridged))?;
    Ok(Record { value: Some(value), ..group })
}

/// The number of an audit record, and what it says.
fn appended_record(record: Record) -> io::Result<(u64, Vec<u8>)> {
    let sequence = postcard::from_bytes(&record.key).map_err(damaged)?;
    Ok((sequence, record.value.ok_or_else(not_appended)?))
}

/// A stored group.
pub(crate) struct Group {
    number: u64,
    records: Vec<(u64, Vec<u8>)>,
}

impl Group {
    /// Unpacks it, and puts in what was left out.
    pub(crate) fn open(stored: RecordRef<'_>) -> Result<Self, RestoreError> {
        let key = stored.key.try_into().map_err(|_| RestoreError::Unreadable)?;
        let value = stored.value.unwrap_or_default();
        let records = match value.first() {
            Some(&ABRIDGED_PACKED) => chain::complete(&packing::unpack(ABRIDGED_PACKED, value)?)?,
            Some(&ABRIDGED) => chain::complete(&value[1..])?,
            _ => split(&packing::unpack(PACKED, value)?).ok_or(RestoreError::Unreadable)?,
        };
        Ok(Self { number: u64::from_be_bytes(key), records })
    }

    /// Hands over its audit records, as the model has them.
    pub(crate) fn each(
        &self,
        mut take: impl FnMut(RecordRef<'_>) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        for (sequence, value) in &self.records {
            let key = postcard::to_stdvec(sequence).expect("plain data always encodes into memory");
            take(RecordRef { table: AuditRecord::TAG, key: &key, value: Some(value) })?;
        }
        Ok(())
    }
}

/// As groups were until format 3: for each record its sequence, 64 bits, and its length, 32 bits, both big-endian, and then
/// its bytes.
fn split(mut bytes: &[u8]) -> Option<Vec<(u64, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (sequence, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (value, rest) = rest.split_at_checked(length)?;
        records.push((u64::from_be_bytes(*sequence), value.to_vec()));
        bytes = rest;
    }
    Some(records)
}

fn not_appended() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "an audit record was changed: they are only appended")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(sequence: u64) -> Record {
        Record {
            table: AuditRecord::TAG,
            key: postcard::to_stdvec(&sequence).unwrap(),
            value: Some(format!("record {sequence}").into_bytes()),
        }
    }

    fn read_all(stored: &BTreeMap<Vec<u8>, Record>) -> (Groups, Vec<Record>) {
        let groups = Groups::resume(stored.values().next_back().unwrap().into()).unwrap();
        (groups, stored.values().flat_map(|stored| unfold(stored).unwrap()).collect())
    }

    fn unfold(stored: &Record) -> Result<Vec<Record>, RestoreError> {
        let mut records = Vec::new();
        Group::open(stored.into())?.each(|RecordRef { table, key, value }| {
            records.push(Record { table, key: key.to_vec(), value: value.map(<[u8]>::to_vec) });
            Ok(())
        })?;
        Ok(records)
    }

    #[test]
    fn records_come_back_in_order_however_they_were_handed_over() {
        let mut groups = Groups::default();
        let mut stored = BTreeMap::new();
        let sequences: Vec<u64> = (1..1_000).collect();
        for some in sequences.chunks(37) {
            let mut records: Vec<_> = some.iter().map(|sequence| audit(*sequence)).collect();
            // As the bytes of their keys are ordered.
            records.sort_by(|a, b| a.key.cmp(&b.key));
            let other = Record { table: 3, key: vec![1], value: None };
            records.push(other.clone());
            let folded = groups.fold(records).unwrap();
            assert!(folded.contains(&other));
            let kept = folded.into_iter().filter(|record| record.table == TABLE);
            stored.extend(kept.map(|record| (record.key.clone(), record)));
            let (read, records) = read_all(&stored);
            assert_eq!(read, groups, "whoever reopens the store goes on with the same group");
            assert_eq!(records, (1..=*some.last().unwrap()).map(audit).collect::<Vec<_>>());
        }
        assert_eq!(stored.len(), 1_000 / 64 + 1);
    }

    #[test]
    fn an_audit_record_that_is_not_appended_is_an_error() {
        let mut groups = Groups::default();
        groups.fold((1..200).map(audit).collect()).unwrap();
        assert!(groups.fold(vec![audit(3)]).is_err());
        assert!(groups.fold(vec![Record { value: None, ..audit(200) }]).is_err());
    }

    #[test]
    fn groups_of_earlier_formats_are_read_and_filled() {
        let records: BTreeMap<_, _> =
            (1..=3).map(|sequence| (sequence, audit(sequence).value.unwrap())).collect();
        let joined: Vec<u8> = records
            .iter()
            .flat_map(|(sequence, value)| {
                let length = u32::try_from(value.len()).unwrap().to_be_bytes();
                [&sequence.to_be_bytes()[..], &length, value].concat()
            })
            .collect();
        let packed = [&[PACKED][..], &lz4_flex::block::compress_prepend_size(&joined)].concat();
        for value in [joined, packed] {
            let stored = Record { table: TABLE, key: vec![0; 8], value: Some(value) };
            assert_eq!(unfold(&stored).unwrap(), (1..=3).map(audit).collect::<Vec<_>>());
            let mut groups = Groups::resume((&stored).into()).unwrap();
            assert_eq!(groups, Groups { number: 0, records: records.clone() });
            let grown = groups.fold(vec![audit(4)]).unwrap().remove(0);
            assert_eq!(unfold(&grown).unwrap(), (1..=4).map(audit).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_chain_is_stored_in_far_less_than_it_takes() {
        let chain = chain::tests::chain(64 * 4 - 1);
        let records = chain.iter().map(|(sequence, value)| Record {
            table: AuditRecord::TAG,
            key: postcard::to_stdvec(sequence).unwrap(),
            value: Some(value.clone()),
        });
        let given: Vec<_> = records.collect();
        let stored = Groups::default().fold(given.clone()).unwrap();
        let bytes = |records: &[Record]| -> usize {
            records.iter().filter_map(|record| record.value.as_ref()).map(Vec::len).sum()
        };
        assert!(bytes(&stored) * 4 < bytes(&given), "{} of {}", bytes(&stored), bytes(&given));
        let mut read: Vec<_> = stored.iter().flat_map(|group| unfold(group).unwrap()).collect();
        read.sort_by_key(|record| postcard::from_bytes::<u64>(&record.key).unwrap());
        assert_eq!(read, given);
    }

    #[test]
    fn records_in_order_become_groups_among_the_others() {
        let other = |key| Record { table: 3, key: vec![key], value: Some(vec![key]) };
        let given: Vec<_> = iter::once(other(1)).chain((1..150).map(audit)).chain([other(2)]).collect();
        let grouped: Vec<_> = Groups::each(given.clone().into_iter()).collect::<io::Result<_>>().unwrap();
        assert_eq!(grouped.len(), 2 + 3);
        let (groups, others): (Vec<_>, Vec<_>) =
            grouped.into_iter().partition(|record| record.table == TABLE);
        assert_eq!(others, [other(1), other(2)]);
        let records: Vec<_> = groups.iter().flat_map(|group| unfold(group).unwrap()).collect();
        assert_eq!(records, given[1..150]);
    }

    #[test]
    fn a_cut_group_is_unreadable() {
        let whole = Groups::default().fold(vec![audit(1), audit(2)]).unwrap().remove(0);
        for length in 1..whole.value.as_ref().unwrap().len() {
            let value = whole.value.as_ref().map(|value| value[..length].to_vec());
            let cut = Record { value, ..whole.clone() };
            assert!(unfold(&cut).is_err() && Groups::resume((&cut).into()).is_err(), "{length}");
        }
    }
}
