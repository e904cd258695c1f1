//! Reads the rows of a store back. Whoever decodes them, on another thread, has them from sled as they are: nothing is
//! copied on the way.

use std::collections::{BTreeMap, HashSet};

use model::{
    Part,
    table::{Record, RecordRef},
};
use sled::IVec;

use super::{
    META_KEY, ROW, ROW_HEAD_BYTES,
    groups::{self, Groups},
    io_error,
};
use crate::machine::RestoreError;

/// Bytes of rows that are decoded together.
const BATCH_BYTES: usize = 512 * 1024;
/// The number of parts, before the first of them.
const PARTS_BYTES: usize = 2;

/// A row, or a group of them, as it is stored.
pub(crate) enum Stored {
    /// Of one part: key and value with what the store puts before them.
    Short(IVec, IVec),
    /// Of more, put together.
    Long(Record),
}

impl Stored {
    /// Decodes rows.
    pub(crate) fn decode(rows: &[Self]) -> Result<Part, RestoreError> {
        let mut part = Part::default();
        for row in rows {
            groups::add(&mut part, row.record()?)?;
        }
        Ok(part)
    }

    fn record(&self) -> Result<RecordRef<'_>, RestoreError> {
        match self {
            Self::Short(key, value) => {
                let (head, key) =
                    key.split_first_chunk::<ROW_HEAD_BYTES>().ok_or(RestoreError::Unreadable)?;
                let value = value.get(PARTS_BYTES..).ok_or(RestoreError::Unreadable)?;
                Ok(RecordRef { table: head[1], key, value: Some(value) })
            }
            Self::Long(record) => Ok(record.into()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Short(key, value) => key.len() + value.len(),
            Self::Long(record) => record.value.as_ref().map_or(0, Vec::len),
        }
    }
}

/// Rows of a snapshot that do not count, since they have changed or are gone: by table, their keys.
#[derive(Debug, Default)]
pub(crate) struct Shadow(BTreeMap<u8, HashSet<Vec<u8>>>);

impl Shadow {
    /// Whether this row does not count.
    pub(crate) fn covers(&self, table: u8, key: &[u8]) -> bool {
        self.0.get(&table).is_some_and(|keys| keys.contains(key))
    }

    fn add(&mut self, table: u8, key: &[u8]) {
        // A group of audit records may be in the snapshot in part, and in the store from there on.
        if table != groups::TABLE {
            self.0.entry(table).or_default().insert(key.to_vec());
        }
    }
}

/// A row of more than one part as far as it was read.
struct LongRow {
    parts: u16,
    read: u16,
    value: Vec<u8>,
}

/// All rows of a store; those of more than one part come last.
pub(super) struct Rows {
    iter: sled::Iter,
    /// Rows of more than one part that are not complete yet.
    long: BTreeMap<(u8, Vec<u8>), LongRow>,
    ended: bool,
    /// Rows of more than one part, with their number.
    pub(super) long_rows: BTreeMap<(u8, Vec<u8>), u16>,
    newest_group: Option<Record>,
    /// Rows of the base that are gone.
    gone: Shadow,
}

impl Rows {
    pub(super) fn of(db: &sled::Db) -> Self {
        Self {
            iter: db.iter(),
            long: BTreeMap::new(),
            ended: false,
            long_rows: BTreeMap::new(),
            newest_group: None,
            gone: Shadow::default(),
        }
    }

    /// The next rows; `None` behind the last.
    pub(super) fn next_batch(&mut self) -> Result<Option<Vec<Stored>>, RestoreError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(row) = self.next_row()?
        {
            bytes += row.len();
            let record = row.record()?;
            let newest = self.newest_group.as_ref().map(|group| group.key.as_slice());
            if record.table == groups::TABLE && newest.is_none_or(|newest| newest < record.key) {
                let value = record.value.map(<[u8]>::to_vec);
                self.newest_group = Some(Record { table: record.table, key: record.key.to_vec(), value });
            }
            batch.push(row);
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// The group that is still being filled, as far as rows were read.
    pub(super) fn newest_group(&self) -> Result<Groups, RestoreError> {
        self.newest_group.as_ref().map_or(Ok(Groups::default()), |group| Groups::resume(group.into()))
    }

    /// The rows of the base that do not count: those that are gone, and these, which have changed. For when all rows were
    /// read.
    pub(super) fn shadow(&mut self, changed: &[Vec<Stored>]) -> Result<Shadow, RestoreError> {
        let mut shadow = std::mem::take(&mut self.gone);
        for row in changed.iter().flatten() {
            let record = row.record()?;
            shadow.add(record.table, record.key);
        }
        Ok(shadow)
    }

    fn next_row(&mut self) -> Result<Option<Stored>, RestoreError> {
        while !self.ended {
            match self.iter.next() {
                None => self.ended = true,
                Some(Err(error)) => return Err(io_error(error).into()),
                Some(Ok((key, value))) => {
                    if self.is_short(&key, &value)? {
                        return Ok(Some(Stored::Short(key, value)));
                    }
                }
            }
        }
        self.take_long()
    }

    /// Whether this is a row of one part. Other parts are put together, and what is no row is passed over.
    fn is_short(&mut self, key: &[u8], value: &[u8]) -> Result<bool, RestoreError> {
        let Some(([ROW, table, high, low], key)) = key.split_first_chunk::<ROW_HEAD_BYTES>() else {
            return if key == META_KEY { Ok(false) } else { Err(RestoreError::Unreadable) };
        };
        let part = u16::from_be_bytes([*high, *low]);
        if part > 0 {
            let row = self.long.get_mut(&(*table, key.to_vec())).ok_or(RestoreError::Unreadable)?;
            if row.read != part {
                return Err(RestoreError::Unreadable);
            }
            row.read += 1;
            row.value.extend_from_slice(value);
            return Ok(false);
        }
        let (parts, value) = value.split_first_chunk::<PARTS_BYTES>().ok_or(RestoreError::Unreadable)?;
        let parts = u16::from_be_bytes(*parts);
        if parts == 0 {
            self.gone.add(*table, key);
        }
        if parts > 1 {
            self.long_rows.insert((*table, key.to_vec()), parts);
            self.long.insert((*table, key.to_vec()), LongRow { parts, read: 1, value: value.to_vec() });
        }
        Ok(parts == 1)
    }

    fn take_long(&mut self) -> Result<Option<Stored>, RestoreError> {
        match self.long.pop_first() {
            None => Ok(None),
            Some(((table, key), LongRow { parts, read, value })) if parts == read => {
                Ok(Some(Stored::Long(Record { table, key, value: Some(value) })))
            }
            Some(_) => Err(RestoreError::Unreadable),
        }
    }
}
