//! The materialised state on disk: the newest snapshot, and in sled what has changed since. Sled is a cache of what log
//! and snapshot say and is never trusted: the digest of the whole is recomputed when it is opened, and a store that does
//! not lead to it is set aside.
//!
//! One tree. Keys and values:
//! - `m` / format, [`Position`] and, since format 5, [`Base`], postcard / written with every batch;
//! - `r`, table, 16-bit big-endian part, key / a piece of the row / as long as the row. Part 0 begins with the number
//!   of parts: sled leaks long values and never syncs them, so no value is longer than [`PART_BYTES`]. A row of no parts
//!   is one of the base that is gone. Audit records are rows in [`groups`], packed since format 3, and without what
//!   follows from the rest since format 4; format 1 had a row for each.

mod chain;
pub(crate) mod groups;
mod next;
mod rows;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use model::{
    State,
    table::{Digest, Record},
};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use groups::Groups;
pub(crate) use next::Next;
use rows::Rows;
pub(crate) use rows::{Shadow, Stored};

use crate::{
    disk::{is_full, make_folder, sync_folder},
    machine::{Batch, Loader, Position, RestoreError, SnapshotFile},
    raft::damaged,
};

/// What is written.
const FORMAT: u16 = 5;
/// What is read.
const FORMATS: std::ops::RangeInclusive<u16> = 1..=FORMAT;
/// Longest value handed to sled.
const PART_BYTES: usize = 60 * 1024;
/// Sled's page cache; the state itself is in memory already.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// How long a store that is held is waited for, and how often it is looked at.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(10);
const IN_USE_POLL: Duration = Duration::from_millis(10);

const META_KEY: &[u8] = b"m";
const ROW: u8 = b'r';
/// `r`, table, part.
const ROW_HEAD_BYTES: usize = 4;

/// The first format that says what a store is built upon.
const FORMAT_OF_BASES: u16 = 5;

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u16,
    position: Position,
}

/// The snapshot whose rows are not repeated in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    /// Term and index of the last entry in it.
    applied: Option<(u64, u64)>,
    digest: Digest,
}

impl Base {
    /// A snapshot of the state at this position.
    pub(crate) const fn at(position: &Position) -> Self {
        Self { applied: position.applied, digest: position.digest }
    }
}

/// The store. It lives in a folder of numbered generations, of which one is valid: for each snapshot there is a new one,
/// and then the old one is removed.
pub(crate) struct Store {
    folder: PathBuf,
    generation: u64,
    db: sled::Db,
    /// Without one, all rows are here.
    base: Option<Base>,
    /// Rows of more than one part.
    long_rows: BTreeMap<(u8, Vec<u8>), u16>,
    groups: Groups,
}

impl Store {
    /// Opens the store under `folder`, or makes an empty one, and gives what it holds together with the newest snapshot.
    pub(crate) fn open(
        folder: PathBuf,
        newest: Option<&SnapshotFile>,
    ) -> io::Result<(Self, State, Position)> {
        make_folder(&folder)?;
        let mut generations = generations(&folder)?;
        generations.sort_unstable();
        let last = generations.last().copied().unwrap_or(0);
        let mut found = None;
        while let Some(generation) = generations.pop() {
            match Self::open_when_free(&folder, generation, newest) {
                Ok(opened) => {
                    found = Some(opened);
                    break;
                }
                Err(RestoreError::Unfinished) => fs::remove_dir_all(path(&folder, generation))?,
                // The snapshot is the newer one, or a peer's, or will be found to be damaged: on with that and the log.
                Err(error @ (RestoreError::Baseless | RestoreError::Base)) => {
                    tracing::warn!(%error, "the stored changes are given up: on with the snapshot and the log");
                    fs::remove_dir_all(path(&folder, generation))?;
                }
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
            None => Ok((Self::create(&folder, last + 1)?, State::default(), Position::default())),
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
            let meta = (Meta { format: FORMAT, position: position.clone() }, self.base);
            batch.insert(META_KEY, postcard::to_stdvec(&meta).map_err(damaged)?);
        }
        self.db.apply_batch(batch).map_err(io_error)
    }

    /// Makes everything written durable. `flush` of sled 0.34 does not reach the disk on Linux, hence the second half.
    pub(crate) fn checkpoint(&self) -> io::Result<()> {
        self.db.flush().map_err(io_error)?;
        File::open(path(&self.folder, self.generation).join("db"))?.sync_data()
    }

    /// How many bytes its files take.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        self.db.size_on_disk().map_err(io_error)
    }

    /// Whether it was read together with a snapshot.
    pub(crate) const fn is_based(&self) -> bool {
        self.base.is_some()
    }

    /// Where it lies.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn create(folder: &Path, generation: u64) -> io::Result<Self> {
        let db = open_db(&path(folder, generation)).map_err(io_error)?;
        sync_folder(&path(folder, generation))?;
        sync_folder(folder)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            generation,
            db,
            base: None,
            long_rows: BTreeMap::new(),
            groups: Groups::default(),
        })
    }

    /// Sled gives a store back some time after its last handle is gone; one that is held is not a damaged one.
    fn open_when_free(
        folder: &Path,
        generation: u64,
        newest: Option<&SnapshotFile>,
    ) -> Result<(Self, State, Position), RestoreError> {
        let begun = Instant::now();
        loop {
            match Self::open_generation(folder, generation, newest) {
                Err(RestoreError::InUse) if begun.elapsed() < IN_USE_TIMEOUT => thread::sleep(IN_USE_POLL),
                opened => return opened,
            }
        }
    }

    fn open_generation(
        folder: &Path,
        generation: u64,
        newest: Option<&SnapshotFile>,
    ) -> Result<(Self, State, Position), RestoreError> {
        // Some damage makes sled panic instead of returning an error.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| -> Result<_, RestoreError> {
            let db = open_db(&path(folder, generation)).map_err(|error| {
                if is_held(&error) { RestoreError::InUse } else { RestoreError::Io(io_error(error)) }
            })?;
            // An empty one is unfinished as well: beside an older one, it was just begun when the process ended.
            let (position, base) = read_meta(&db)?.ok_or(RestoreError::Unfinished)?;
            let below = newest.filter(|newest| Some(Base::at(&newest.head().position)) == base);
            if base.is_some() && below.is_none() {
                return Err(RestoreError::Baseless);
            }
            let Loaded { state, long_rows, groups } = load(&db, below)?;
            if state.digest() != position.digest {
                return Err(RestoreError::Digest);
            }
            let folder = folder.to_path_buf();
            Ok((Self { folder, generation, db, base, long_rows, groups }, state, position))
        }));
        opened.unwrap_or(Err(RestoreError::Panicked))
    }

    fn add(&mut self, batch: &mut sled::Batch, record: Record) -> io::Result<()> {
        let Record { table, key, value } = record;
        let parts = match &value {
            Some(value) => u16::try_from(value.len().div_ceil(PART_BYTES).max(1)).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidInput, "a row is bounded far below 65535 parts")
            })?,
            None => 0,
        };
        if parts == 0 && self.base.is_some() {
            batch.insert(row_key(table, 0, &key), &0_u16.to_be_bytes());
        }
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
        // What says of a row that it is gone stays.
        let first = if self.base.is_some() { parts.max(1) } else { parts };
        for part in first..before {
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

/// What the rows of a store say.
struct Loaded {
    state: State,
    long_rows: BTreeMap<(u8, Vec<u8>), u16>,
    /// With the audit records that were written last.
    groups: Groups,
}

/// Loads the rows of a store, over those of the snapshot `below`.
fn load(db: &sled::Db, below: Option<&SnapshotFile>) -> Result<Loaded, RestoreError> {
    let mut rows = Rows::of(db);
    let state = match below {
        None => load_alone(&mut rows)?,
        Some(below) => load_over(&mut rows, below)?,
    };
    let groups = rows.newest_group()?;
    Ok(Loaded { state, long_rows: rows.long_rows, groups })
}

fn load_alone(rows: &mut Rows) -> Result<State, RestoreError> {
    let mut loader = Loader::start()?;
    while let Some(batch) = rows.next_batch()? {
        if !loader.push(Batch::Rows(batch)) {
            break;
        }
    }
    Ok(loader.finish()?.0)
}

fn load_over(rows: &mut Rows, below: &SnapshotFile) -> Result<State, RestoreError> {
    let mut changed = Vec::new();
    while let Some(batch) = rows.next_batch()? {
        changed.push(batch);
    }
    let mut loader = Loader::start_below(rows.shadow(&changed)?)?;
    for frame in below.frames()?.skip(1) {
        let frame = frame.map_err(|error| {
            if is_of_the_disk(&error) { RestoreError::Io(error) } else { RestoreError::Base }
        })?;
        if !loader.push(Batch::Frame(frame.body)) {
            break;
        }
    }
    for batch in changed {
        if !loader.push(Batch::Rows(batch)) {
            break;
        }
    }
    Ok(loader.finish()?.0)
}

fn read_meta(db: &sled::Db) -> Result<Option<(Position, Option<Base>)>, RestoreError> {
    let undecodable = |error| RestoreError::Io(damaged(error));
    let Some(bytes) = db.get(META_KEY).map_err(io_error)? else { return Ok(None) };
    let (Meta { format, position }, rest) = postcard::take_from_bytes(&bytes).map_err(undecodable)?;
    if !FORMATS.contains(&format) {
        return Err(RestoreError::Format(format));
    }
    let base =
        if format < FORMAT_OF_BASES { None } else { postcard::from_bytes(rest).map_err(undecodable)? };
    Ok(Some((position, base)))
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
