//! The materialised state on disk, in sled. Sled is a cache of what log and snapshot say and is never trusted: the
//! digest is recomputed when it is opened, and a store that does not have it is set aside.
//!
//! One tree. Keys and values:
//! - `m` / format and [`Position`], postcard / written with every batch;
//! - `r`, table, 16-bit big-endian part, key / a piece of the row / as long as the row. Part 0 begins with the number
//!   of parts: sled leaks long values and never syncs them, so no value is longer than [`PART_BYTES`]. Audit records
//!   are rows in [`groups`], packed since format 3, and without what follows from the rest since format 4; format 1 had
//!   a row for each.

mod chain;
mod fill;
pub(crate) mod groups;
mod rows;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use model::{State, table::Record};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub(crate) use fill::Fill;
use groups::Groups;
use rows::Rows;
pub(crate) use rows::Stored;

use crate::{
    disk::{is_full, make_folder, sync_folder},
    machine::{Batch, Loader, Position, RestoreError},
    raft::damaged,
};

/// What is written.
const FORMAT: u16 = 4;
/// What is read.
const FORMATS: std::ops::RangeInclusive<u16> = 1..=FORMAT;
/// Longest value handed to sled.
const PART_BYTES: usize = 60 * 1024;
/// Sled's page cache; the state itself is in memory already.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Records written in one batch when the whole state is written.
pub(crate) const FILL_RECORDS: usize = 2_000;

/// Files that are smaller are never written anew.
const BLOATED_BYTES: u64 = 24 * 1024 * 1024;
/// Files are written anew when they take so many hundredths of what they took when they were new; of these two the second
/// where nothing else is to be done.
const BLOATED_SHARE: u64 = 200;
const BLOATED_SHARE_IDLE: u64 = 125;
/// New files take about as many times what is in them: sled writes a leaf again and again while it is filled.
const FRESH_SHARE: u64 = 2;

/// How long a store that is held is waited for, and how often it is looked at.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(10);
const IN_USE_POLL: Duration = Duration::from_millis(10);

const META_KEY: &[u8] = b"m";
const ROW: u8 = b'r';
/// `r`, table, part.
const ROW_HEAD_BYTES: usize = 4;

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u16,
    position: Position,
}

/// The store. It lives in a folder of numbered generations, of which one is valid: replacing the whole state writes
/// a new generation and then removes the old one.
pub(crate) struct Store {
    folder: PathBuf,
    generation: u64,
    db: sled::Db,
    /// Rows of more than one part.
    long_rows: BTreeMap<(u8, Vec<u8>), u16>,
    groups: Groups,
    /// Bytes of its files when all rows had just been written into them.
    fresh_bytes: u64,
    /// See [`BLOATED_BYTES`].
    bloated_bytes: u64,
}

impl Store {
    /// Opens the store under `folder`, or makes an empty one, and gives what it holds.
    pub(crate) fn open(folder: PathBuf) -> io::Result<(Self, State, Position)> {
        make_folder(&folder)?;
        let mut generations = generations(&folder)?;
        generations.sort_unstable();
        let newest = generations.last().copied().unwrap_or(0);
        let mut found = None;
        while let Some(generation) = generations.pop() {
            match Self::open_when_free(&folder, generation) {
                Ok(opened) => {
                    found = Some(opened);
                    break;
                }
                Err(RestoreError::Unfinished) => fs::remove_dir_all(path(&folder, generation))?,
                Err(error @ RestoreError::InUse) => {
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, error));
                }
                Err(RestoreError::Io(error)) if is_of_the_disk(&error) => return Err(error),
                Err(error) => set_aside(&folder, generation, &error)?,
            }
        }
        for older in generations {
            fs::remove_dir_all(path(&folder, older))?;
        }
        match found {
            Some(found) => Ok(found),
            None => Ok((Self::create(&folder, newest + 1)?, State::default(), Position::default())),
        }
    }

    /// Writes what was touched, and where in the log that stands, as one batch. It is not yet durable.
    pub(crate) fn write(&mut self, records: Vec<Record>, position: &Position) -> io::Result<()> {
        self.write_rows(records, Some(position))
    }

    fn write_rows(&mut self, records: Vec<Record>, position: Option<&Position>) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for record in self.groups.fold(records)? {
            self.add(&mut batch, record)?;
        }
        if let Some(position) = position {
            let meta = Meta { format: FORMAT, position: position.clone() };
            batch.insert(META_KEY, postcard::to_stdvec(&meta).map_err(damaged)?);
        }
        self.db.apply_batch(batch).map_err(io_error)
    }

    /// Makes everything written durable. `flush` of sled 0.34 does not reach the disk on Linux, hence the second half.
    pub(crate) fn checkpoint(&self) -> io::Result<()> {
        self.db.flush().map_err(io_error)?;
        File::open(path(&self.folder, self.generation).join("db"))?.sync_data()
    }

    /// How many bytes its files take, when that is far more than what is in them: sled gives nothing back. When it is
    /// idle, less counts as far more.
    pub(crate) fn bloated(&self, idle: bool) -> io::Result<Option<u64>> {
        let bytes = self.db.size_on_disk().map_err(io_error)?;
        let share = if idle { BLOATED_SHARE_IDLE } else { BLOATED_SHARE };
        Ok((bytes > self.bloated_bytes.max(self.fresh_bytes * share / 100)).then_some(bytes))
    }

    /// The same; but files of this length are not small.
    #[cfg(test)]
    pub(crate) fn bloated_from(self, bytes: u64) -> Self {
        Self { bloated_bytes: bytes, ..self }
    }

    /// Removes whatever is under `folder`, and writes `state`, durably. Before each batch, `permit` is asked.
    pub(crate) fn begin_anew(
        folder: &Path,
        state: &State,
        position: &Position,
        permit: impl Fn() -> io::Result<()>,
    ) -> io::Result<Self> {
        let generations = generations(folder)?;
        for generation in &generations {
            fs::remove_dir_all(path(folder, *generation))?;
        }
        let next = generations.into_iter().max().unwrap_or(0) + 1;
        Self::fill(folder, next, state, position, permit)
    }

    /// Where it lies.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn fill(
        folder: &Path,
        generation: u64,
        state: &State,
        position: &Position,
        permit: impl Fn() -> io::Result<()>,
    ) -> io::Result<Self> {
        permit()?;
        let mut fill = Fill::begin(folder, generation)?;
        let mut records = state.records().peekable();
        while records.peek().is_some() {
            permit()?;
            fill.add(records.by_ref().take(FILL_RECORDS).collect())?;
        }
        fill.finish(position)
    }

    fn create(folder: &Path, generation: u64) -> io::Result<Self> {
        let db = open_db(&path(folder, generation)).map_err(io_error)?;
        sync_folder(&path(folder, generation))?;
        sync_folder(folder)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            generation,
            db,
            long_rows: BTreeMap::new(),
            groups: Groups::default(),
            fresh_bytes: 0,
            bloated_bytes: BLOATED_BYTES,
        })
    }

    /// Sled gives a store back some time after its last handle is gone; one that is held is not a damaged one.
    fn open_when_free(folder: &Path, generation: u64) -> Result<(Self, State, Position), RestoreError> {
        let begun = Instant::now();
        loop {
            match Self::open_generation(folder, generation) {
                Err(RestoreError::InUse) if begun.elapsed() < IN_USE_TIMEOUT => thread::sleep(IN_USE_POLL),
                opened => return opened,
            }
        }
    }

    fn open_generation(folder: &Path, generation: u64) -> Result<(Self, State, Position), RestoreError> {
        // Some damage makes sled panic instead of returning an error.
        let opened = std::panic::catch_unwind(|| -> Result<_, RestoreError> {
            let db = open_db(&path(folder, generation)).map_err(|error| {
                if is_held(&error) { RestoreError::InUse } else { RestoreError::Io(io_error(error)) }
            })?;
            let position = read_position(&db)?;
            let mut rows = Rows::of(&db);
            let mut loader = Loader::start()?;
            while let Some(batch) = rows.next_batch()? {
                if !loader.push(Batch::Rows(batch)) {
                    break;
                }
            }
            let (state, _) = loader.finish()?;
            let groups = rows.newest_group()?;
            Ok((db, (rows.long_rows, groups, rows.bytes), state, position))
        });
        let (db, (long_rows, groups, bytes), state, position) =
            opened.unwrap_or(Err(RestoreError::Panicked))?;
        // An empty one is unfinished as well: beside an older one, it was just begun when the process ended.
        let position = position.ok_or(RestoreError::Unfinished)?;
        if state.digest() != position.digest {
            return Err(RestoreError::Digest);
        }
        let folder = folder.to_path_buf();
        let (fresh_bytes, bloated_bytes) = (bytes * FRESH_SHARE, BLOATED_BYTES);
        let store = Self { folder, generation, db, long_rows, groups, fresh_bytes, bloated_bytes };
        Ok((store, state, position))
    }

    fn add(&mut self, batch: &mut sled::Batch, record: Record) -> io::Result<()> {
        let Record { table, key, value } = record;
        let parts = match &value {
            Some(value) => u16::try_from(value.len().div_ceil(PART_BYTES).max(1)).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidInput, "a row is bounded far below 65535 parts")
            })?,
            None => 0,
        };
        for (part, piece) in (0..parts).zip(pieces(value.as_deref().unwrap_or_default())) {
            let mut bytes = Vec::with_capacity(piece.len() + 2);
            if part == 0 {
                bytes.extend_from_slice(&parts.to_be_bytes());
            }
            bytes.extend_from_slice(piece);
            batch.insert(row_key(table, part, &key), bytes);
        }
        let row = (table, key);
        let before = self.long_rows.remove(&row).unwrap_or(1);
        for part in parts..before {
            batch.remove(row_key(table, part, &row.1));
        }
        if parts > 1 {
            self.long_rows.insert(row, parts);
        }
        Ok(())
    }
}

fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    // An empty value still has one piece.
    value.chunks(PART_BYTES).chain(value.is_empty().then_some(value))
}

fn row_key(table: u8, part: u16, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROW_HEAD_BYTES + key.len());
    bytes.extend_from_slice(&[ROW, table]);
    bytes.extend_from_slice(&part.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

fn read_position(db: &sled::Db) -> Result<Option<Position>, RestoreError> {
    let Some(bytes) = db.get(META_KEY).map_err(io_error)? else { return Ok(None) };
    let meta: Meta = postcard::from_bytes(&bytes).map_err(|error| RestoreError::Io(damaged(error)))?;
    if FORMATS.contains(&meta.format) {
        Ok(Some(meta.position))
    } else {
        Err(RestoreError::Format(meta.format))
    }
}

fn open_db(path: &Path) -> sled::Result<sled::Db> {
    // No flush thread: the log can replay what is not durable here, and the disk is the log's.
    sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()
}

/// Sled tells a store that is held from a damaged one by its words alone.
fn is_held(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// An error of the disk or the system, which says nothing of what is stored. A damaged store makes sled ask for what
/// cannot be, which has other errors.
fn is_of_the_disk(error: &io::Error) -> bool {
    let errors = [Errno::EIO, Errno::EROFS, Errno::EACCES, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
    is_full(error) || errors.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn io_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other @ (sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. }) => io::Error::other(other),
    }
}

fn path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("{generation:010}"))
}

fn generations(folder: &Path) -> io::Result<Vec<u64>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// Keeps the last damaged store alone, for whoever wants to look at it.
fn set_aside(folder: &Path, generation: u64, error: &RestoreError) -> io::Result<()> {
    let aside = folder.join("damaged");
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    tracing::error!(
        error = error as &dyn std::error::Error,
        aside = %aside.display(),
        "the stored state is damaged: it was set aside and will be built again",
    );
    fs::rename(path(folder, generation), aside)
}
