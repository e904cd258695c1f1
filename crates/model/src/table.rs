//! `Table<K, V>`: an ordered map that shares structure between clones, keeps a digest of its content and
//! remembers what was touched. Persistence, snapshots and the cross-replica digest are built on it once.

use std::{fmt, mem, sync::Arc};

use imbl::OrdMap;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::sealed::Sealed;

/// A row type: names its table by a fixed number that is persisted and never reused.
pub trait Row: Clone + Serialize + DeserializeOwned {
    /// How rows are found.
    type Key: Clone + Ord + Serialize + DeserializeOwned;
    /// The table's persisted number.
    const TAG: u8;
    /// Whether what a command changes here is looked at for the ledger.
    const STATED: bool = false;

    /// The secret that the row holds, if it is of a kind that holds one.
    fn sealed(&self) -> Option<&Sealed> {
        None
    }
}

/// One row as it is persisted, sent in a snapshot or deleted (`value` is `None`).
///
/// Postcard writes bytes as it writes a list of numbers, but takes them at once and not one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The table, see [`Row::TAG`].
    pub table: u8,
    /// The key, encoded with postcard.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
    /// The row, encoded with postcard; `None` says that the row was removed.
    #[serde(with = "serde_bytes")]
    pub value: Option<Vec<u8>>,
}

/// A [`Record`] whose bytes are another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRef<'a> {
    /// See [`Record::table`].
    pub table: u8,
    /// See [`Record::key`].
    #[serde(borrow, with = "serde_bytes")]
    pub key: &'a [u8],
    /// See [`Record::value`].
    #[serde(borrow, with = "serde_bytes")]
    pub value: Option<&'a [u8]>,
}

impl<'a> From<&'a Record> for RecordRef<'a> {
    fn from(record: &'a Record) -> Self {
        Self { table: record.table, key: &record.key, value: record.value.as_deref() }
    }
}

/// A sum over the hashes of all rows: equal content gives equal digests whatever the order of writing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest([u64; 4]);

impl Digest {
    /// The digest as 32 bytes, little-endian words.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn of_row(table: u8, key: &[u8], value: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update([table]);
        hash.update((key.len() as u64).to_le_bytes());
        hash.update(key);
        hash.update(value);
        let out: [u8; 32] = hash.finalize().into();
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(out.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().expect("chunks_exact(8) yields eight bytes"));
        }
        Self(words)
    }

    /// Adds what `other` covers.
    pub fn add(&mut self, other: Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = a.wrapping_add(b);
        }
    }

    fn subtract(&mut self, other: Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = a.wrapping_sub(b);
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A record could not be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The record names a table this build does not know.
    #[error("record of unknown table {0}")]
    UnknownTable(u8),
    /// The bytes are not a row of that table.
    #[error("record of table {table} does not decode")]
    Undecodable {
        /// The table's number.
        table: u8,
    },
}

#[derive(Clone)]
struct Held<V> {
    value: V,
    digest: Digest,
}

/// A key that was written or removed, and what was there before.
type Displaced<V> = (<V as Row>::Key, Option<Arc<Held<V>>>);

/// An ordered table of rows.
#[derive(Clone)]
pub struct Table<V: Row> {
    /// Shared: a write copies the nodes above a row that another clone still has, but never the rows beside it.
    rows: OrdMap<V::Key, Arc<Held<V>>>,
    digest: Digest,
    touched: Vec<Record>,
    /// How many rows hold a secret under each data key.
    sealed: OrdMap<u32, u64>,
    /// Where [`Row::STATED`], what the rows were that the command under way has written or removed.
    displaced: Vec<Displaced<V>>,
}

impl<V: Row> Default for Table<V> {
    fn default() -> Self {
        Self {
            rows: OrdMap::new(),
            digest: Digest::default(),
            touched: Vec::new(),
            sealed: OrdMap::new(),
            displaced: Vec::new(),
        }
    }
}

impl<V: Row> Table<V> {
    /// The row under `key`.
    #[must_use]
    pub fn get(&self, key: &V::Key) -> Option<&V> {
        self.rows.get(key).map(|held| &held.value)
    }

    /// Whether there is a row under `key`.
    #[must_use]
    pub fn contains(&self, key: &V::Key) -> bool {
        self.rows.contains_key(key)
    }

    /// All rows in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&V::Key, &V)> {
        self.rows.iter().map(|(key, held)| (key, &held.value))
    }

    /// The rows whose keys lie in `range`, in order.
    pub fn range<R: std::ops::RangeBounds<V::Key>>(
        &self,
        range: R,
    ) -> impl DoubleEndedIterator<Item = (&V::Key, &V)> {
        self.rows.range(range).map(|(key, held)| (key, &held.value))
    }

    /// The rows without their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.rows.values().map(|held| &held.value)
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The digest of the content.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How many rows hold a secret that is sealed under this data key.
    #[must_use]
    pub fn sealed_under(&self, key: u32) -> u64 {
        self.sealed.get(&key).copied().unwrap_or_default()
    }

    /// Writes a row, replacing what was under the key.
    pub(crate) fn put(&mut self, key: V::Key, value: V) {
        let key_bytes = encode(&key);
        let value_bytes = encode(&value);
        let displaced = V::STATED.then(|| key.clone());
        let old = self.hold(key, value, &key_bytes, &value_bytes);
        self.displaced.extend(displaced.map(|key| (key, old)));
        self.touched.push(Record { table: V::TAG, key: key_bytes, value: Some(value_bytes) });
    }

    /// Changes the row under `key` in place; `None` when there is none.
    pub(crate) fn update<T>(&mut self, key: &V::Key, change: impl FnOnce(&mut V) -> T) -> Option<T> {
        let mut value = self.get(key)?.clone();
        let result = change(&mut value);
        self.put(key.clone(), value);
        Some(result)
    }

    /// Removes the row under `key` and returns it.
    pub(crate) fn remove(&mut self, key: &V::Key) -> Option<V> {
        let held = self.rows.remove(key)?;
        self.let_go(&held);
        self.touched.push(Record { table: V::TAG, key: encode(key), value: None });
        if V::STATED {
            self.displaced.push((key.clone(), Some(Arc::clone(&held))));
        }
        Some(Arc::unwrap_or_clone(held).value)
    }

    /// Takes what was written or removed since the last call, in order.
    pub(crate) fn drain_touched(&mut self, into: &mut Vec<Record>) {
        into.append(&mut mem::take(&mut self.touched));
    }

    /// Takes the keys that were written or removed since the last call, each once, with what was there before.
    pub(crate) fn take_displaced(&mut self) -> Vec<(V::Key, Option<V>)> {
        let mut seen = std::collections::BTreeSet::new();
        mem::take(&mut self.displaced)
            .into_iter()
            .filter(|(key, _)| seen.insert(key.clone()))
            .map(|(key, old)| (key, old.map(|held| Arc::unwrap_or_clone(held).value)))
            .collect()
    }

    /// All rows as records, in the order of their keys.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        self.rows.iter().map(|(key, held)| Record {
            table: V::TAG,
            key: encode(key),
            value: Some(encode(&held.value)),
        })
    }

    /// Moves all rows of `other` here; says whether there was none with any of their keys.
    pub(crate) fn absorb(&mut self, other: Self) -> bool {
        let mut are_new = true;
        for (key, rows) in other.sealed {
            *self.sealed.entry(key).or_default() += rows;
        }
        for (key, held) in other.rows {
            self.digest.add(held.digest);
            if let Some(old) = self.rows.insert(key, held) {
                self.let_go(&old);
                are_new = false;
            }
        }
        are_new
    }

    /// Whether records of `tag` belong here.
    pub(crate) const fn has_tag(&self, tag: u8) -> bool {
        V::TAG == tag
    }

    /// Takes in a record written by [`Table::records`] or [`Table::drain_touched`], without touching it again.
    pub(crate) fn load(&mut self, record: RecordRef<'_>) -> Result<(), LoadError> {
        let undecodable = |_| LoadError::Undecodable { table: V::TAG };
        let key: V::Key = postcard::from_bytes(record.key).map_err(undecodable)?;
        match record.value {
            Some(bytes) => {
                let value = postcard::from_bytes(bytes).map_err(undecodable)?;
                self.hold(key, value, record.key, bytes);
            }
            None => {
                if let Some(held) = self.rows.remove(&key) {
                    self.let_go(&held);
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self, key: V::Key, value: V, key_bytes: &[u8], value_bytes: &[u8]) -> Option<Arc<Held<V>>> {
        let digest = Digest::of_row(V::TAG, key_bytes, value_bytes);
        self.digest.add(digest);
        if let Some(key) = value.sealed().and_then(Sealed::key) {
            *self.sealed.entry(key).or_default() += 1;
        }
        let old = self.rows.insert(key, Arc::new(Held { value, digest }));
        if let Some(old) = &old {
            self.let_go(old);
        }
        old
    }

    /// Takes out of the sums what counts no more.
    fn let_go(&mut self, old: &Held<V>) {
        self.digest.subtract(old.digest);
        let Some(key) = old.value.sealed().and_then(Sealed::key) else { return };
        let left = self.sealed_under(key).saturating_sub(1);
        if left > 0 {
            self.sealed.insert(key, left);
        } else {
            self.sealed.remove(&key);
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("rows are plain data, which postcard always encodes into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Note(String);

    impl Row for Note {
        type Key = u64;
        const TAG: u8 = 250;
    }

    #[test]
    fn the_digest_depends_on_content_alone() {
        let (mut a, mut b) = (Table::<Note>::default(), Table::default());
        a.put(1, Note("x".into()));
        a.put(2, Note("y".into()));
        b.put(2, Note("z".into()));
        b.put(2, Note("y".into()));
        b.put(3, Note("gone".into()));
        b.remove(&3);
        b.put(1, Note("x".into()));
        assert_eq!(a.digest(), b.digest());
        b.put(1, Note("w".into()));
        assert_ne!(a.digest(), b.digest());
    }

    #[test]
    fn bytes_are_written_as_lists_of_numbers_are() {
        #[derive(Serialize)]
        struct Numbers {
            table: u8,
            key: Vec<u8>,
            value: Option<Vec<u8>>,
        }

        for value in [None, Some(Vec::new()), Some(vec![200; 300])] {
            let record = Record { table: 3, key: vec![0, 255, 1], value: value.clone() };
            let written = encode(&record);
            assert_eq!(written, encode(&Numbers { table: 3, key: vec![0, 255, 1], value }));
            assert_eq!(postcard::from_bytes::<RecordRef<'_>>(&written), Ok(RecordRef::from(&record)));
            assert_eq!(postcard::from_bytes::<Record>(&written), Ok(record));
        }
    }

    #[test]
    fn touched_records_rebuild_the_table() {
        let mut a = Table::<Note>::default();
        a.put(1, Note("x".into()));
        a.put(2, Note("y".into()));
        a.remove(&1);
        let mut records = Vec::new();
        a.drain_touched(&mut records);
        let mut b = Table::<Note>::default();
        for record in &records {
            b.load(record.into()).unwrap();
        }
        assert_eq!(a.digest(), b.digest());
        assert_eq!(b.get(&2), Some(&Note("y".into())));
        let mut none = Vec::new();
        b.drain_touched(&mut none);
        assert!(none.is_empty(), "loading is not touching");
    }
}
