//! Audit records as the store keeps them: many in one value. They are only ever appended, and there is one for every
//! command: a value each would be most of what sled has to do. A group is packed.

use std::{borrow::Cow, collections::BTreeMap, io};

use model::{
    audit::AuditRecord,
    table::{Record, RecordRef, Row as _},
};

use crate::{machine::RestoreError, packing, raft::damaged};

/// The table under which groups are stored, which no table of the model is numbered with. Never reused.
pub(crate) const TABLE: u8 = u8::MAX;
/// What a packed group begins with; format 2 had none. The numbers of records do not come so far that their first byte
/// would be this one.
const PACKED: u8 = 255;
/// Records in a group: those with the sequences from a multiple of this one up to the next.
const RECORDS: u64 = 64;

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
            let sequence = postcard::from_bytes(&record.key).map_err(damaged)?;
            appended.insert(sequence, record.value.ok_or_else(not_appended)?);
        }
        for (sequence, value) in appended {
            let number = sequence / RECORDS;
            if number < self.number {
                return Err(not_appended());
            }
            if number > self.number {
                others.extend(self.close());
                self.number = number;
            }
            self.records.insert(sequence, value);
        }
        others.extend(self.record());
        Ok(others)
    }

    /// Goes on filling a stored group.
    pub(crate) fn resume(stored: RecordRef<'_>) -> Result<Self, RestoreError> {
        let group = Group::open(stored)?;
        let records = group.records()?.into_iter().map(|(sequence, value)| (sequence, value.to_vec()));
        Ok(Self { number: group.number, records: records.collect() })
    }

    fn close(&mut self) -> Option<Record> {
        let record = self.record();
        self.records.clear();
        record
    }

    fn record(&self) -> Option<Record> {
        let value = (!self.records.is_empty()).then(|| packing::pack(PACKED, &join(&self.records)))?;
        Some(Record { table: TABLE, key: self.number.to_be_bytes().into(), value: Some(value) })
    }
}

/// A stored group.
pub(crate) struct Group<'a> {
    number: u64,
    joined: Cow<'a, [u8]>,
}

impl<'a> Group<'a> {
    /// Unpacks it.
    pub(crate) fn open(stored: RecordRef<'a>) -> Result<Self, RestoreError> {
        let key = stored.key.try_into().map_err(|_| RestoreError::Unreadable)?;
        let joined = packing::unpack(PACKED, stored.value.unwrap_or_default())?;
        Ok(Self { number: u64::from_be_bytes(key), joined })
    }

    /// Hands over its audit records, as the model has them.
    pub(crate) fn each(
        &self,
        mut take: impl FnMut(RecordRef<'_>) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        for (sequence, value) in self.records()? {
            let key = postcard::to_stdvec(&sequence).expect("plain data always encodes into memory");
            take(RecordRef { table: AuditRecord::TAG, key: &key, value: Some(value) })?;
        }
        Ok(())
    }

    fn records(&self) -> Result<Vec<(u64, &[u8])>, RestoreError> {
        split(&self.joined).ok_or(RestoreError::Unreadable)
    }
}

/// For each record its sequence, 64 bits, and its length, 32 bits, both big-endian, and then its bytes.
fn join(records: &BTreeMap<u64, Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(records.values().map(|value| 12 + value.len()).sum());
    for (sequence, value) in records {
        bytes.extend_from_slice(&sequence.to_be_bytes());
        let length = u32::try_from(value.len()).expect("an audit record is far smaller than 4 GiB");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

fn split(mut bytes: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (sequence, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (value, rest) = rest.split_at_checked(length)?;
        records.push((u64::from_be_bytes(*sequence), value));
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
    fn a_group_that_is_not_packed_is_read_too() {
        let records: BTreeMap<_, _> =
            (1..=3).map(|sequence| (sequence, audit(sequence).value.unwrap())).collect();
        let stored = Record { table: TABLE, key: vec![0; 8], value: Some(join(&records)) };
        assert_eq!(unfold(&stored).unwrap(), (1..=3).map(audit).collect::<Vec<_>>());
        assert_eq!(Groups::resume((&stored).into()).unwrap(), Groups { number: 0, records });
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
