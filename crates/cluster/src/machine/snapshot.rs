//! Snapshot files: the whole state as a stream of checksummed frames, written to a temporary file, made durable and
//! renamed into place.
//!
//! A file is the magic bytes, then frames: 32-bit little-endian length, SHA-256 of the body, body. The first body is
//! the [`Head`], every other one a list of records of about a mebibyte, packed; audit records stand in it in groups, as in
//! the store. The head says how many records follow and what their digest is, so a file that was cut at a frame is noticed.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use model::{
    State,
    planted::{Bug, is_planted},
    table::Record,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Position, RestoreError,
    incoming::{self, Incoming, Intake, Part, Transfers},
    loader::{Batch, Loader},
};
use crate::{
    disk::{make_folder, sync_folder},
    packing,
    raft::{SnapshotMeta, damaged},
    space::Space,
    store::groups::Groups,
};

pub(super) const MAGIC: &[u8; 8] = b"RVSNAP\0\x01";
/// A frame is closed when its records have reached this many bytes.
const FRAME_BYTES: usize = 900 * 1024;
/// What packed records begin with: a list of records is never empty, hence never begins with a zero.
pub(super) const PACKED: u8 = 0;
/// A frame longer than this is damage: one record may pass [`FRAME_BYTES`], but records are small.
pub(crate) const FRAME_BYTES_MAX: usize = 3 * 1024 * 1024;
const FRAME_HEAD_BYTES: usize = 4 + CHECKSUM_BYTES;
const CHECKSUM_BYTES: usize = 32;
const ENDING: &str = ".snapshot";
pub(super) const TEMPORARY: &str = ".tmp";

/// What a snapshot holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Where in the log it stands, and the digest of its state.
    pub(crate) position: Position,
    /// How many records follow.
    records: u64,
}

/// A part of a snapshot, as it is kept and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) body: Bytes,
    pub(crate) checksum: [u8; CHECKSUM_BYTES],
}

impl Frame {
    pub(super) fn new(body: Bytes) -> Self {
        Self { checksum: Sha256::digest(&body).into(), body }
    }

    fn of(records: &[Record]) -> io::Result<Self> {
        Ok(Self::new(packing::pack(PACKED, &encode(&records))?.into()))
    }

    /// A frame that came from elsewhere.
    ///
    /// # Errors
    /// The body does not have the checksum, or is too long.
    pub(crate) fn check(body: Bytes, checksum: &[u8]) -> io::Result<Self> {
        let expected: [u8; CHECKSUM_BYTES] = Sha256::digest(&body).into();
        let differs = checksum != expected && !is_planted(Bug::FrameUnchecked);
        if differs || body.len() > FRAME_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of the snapshot is damaged"));
        }
        Ok(Self { body, checksum: expected })
    }

    pub(super) fn write(&self, writer: &mut impl io::Write) -> io::Result<()> {
        let length = u32::try_from(self.body.len()).map_err(io::Error::other)?;
        writer.write_all(&length.to_le_bytes())?;
        writer.write_all(&self.checksum)?;
        writer.write_all(&self.body)
    }
}

/// A complete snapshot file, held open: it can be read even after a newer one has replaced it.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    file: Arc<File>,
    path: PathBuf,
    head: Head,
    /// The state in it, while it is held because it is about to be installed.
    loaded: Option<Loaded>,
}

/// Apart, for Raft moves a snapshot through its messages by value, and a state is thousands of bytes without what it holds.
#[derive(Clone)]
struct Loaded(Arc<State>);

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({})", self.0.digest())
    }
}

impl SnapshotFile {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let mut frames = Frames::new(Arc::new(file))?;
        let head = frames.next().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))??;
        let head = postcard::from_bytes(&head.body).map_err(damaged)?;
        Ok(Self { file: frames.file, path, head, loaded: None })
    }

    /// What it holds.
    pub(crate) const fn head(&self) -> &Head {
        &self.head
    }

    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        // A file that is held open can always be asked.
        self.file.metadata().map_or(0, |found| found.len())
    }

    /// The same, as openraft names it.
    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.head.position.applied(),
            last_membership: self.head.position.membership.clone(),
        }
    }

    /// Removes a file that was not adopted.
    pub(crate) fn remove(&self) {
        // When it was adopted it has another name; what else stays is removed when the folder is opened next.
        drop(fs::remove_file(&self.path));
    }

    /// The body of the first frame, as it stands in the file.
    pub(crate) fn head_bytes(&self) -> io::Result<Bytes> {
        let head = self.frames()?.next().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(head?.body)
    }

    /// All frames, the head first; each is checked as it is read.
    pub(crate) fn frames(&self) -> io::Result<Frames> {
        Frames::new(Arc::clone(&self.file))
    }

    /// Whether all of it can be read as it was written.
    pub(crate) fn check(&self) -> Result<(), RestoreError> {
        Ok(self.frames()?.try_for_each(|frame| frame.map(drop))?)
    }

    /// The state in it, checked against the digest.
    pub(crate) fn load(&self) -> Result<State, RestoreError> {
        if let Some(Loaded(state)) = &self.loaded {
            return Ok(State::clone(state));
        }
        let mut loader = Loader::start()?;
        for frame in self.frames()?.skip(1) {
            if !loader.push(Batch::Frame(frame?.body)) {
                break;
            }
        }
        let (state, records) = loader.finish()?;
        self.checked(state, records)
    }

    /// The same file, holding its state, so that whoever installs it need not read it again.
    pub(crate) fn with(self, (state, records): (State, u64)) -> Result<Self, RestoreError> {
        let state = self.checked(state, records)?;
        Ok(Self { loaded: Some(Loaded(Arc::new(state))), ..self })
    }

    /// The same file, not holding its state.
    pub(super) fn without_state(self) -> Self {
        Self { loaded: None, ..self }
    }

    fn checked(&self, state: State, records: u64) -> Result<State, RestoreError> {
        if records == self.head.records && state.digest() == self.head.position.digest {
            Ok(state)
        } else {
            Err(RestoreError::Digest)
        }
    }
}

/// Reads the frames of a file.
#[derive(Debug)]
pub(crate) struct Frames {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl Frames {
    pub(super) fn new(file: Arc<File>) -> io::Result<Self> {
        let end = file.metadata()?.len();
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0)?;
        if &magic != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a snapshot of a known format"));
        }
        Ok(Self { file, offset: MAGIC.len() as u64, end })
    }

    /// Where the next frame begins.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Passes over so many frames without looking into them, or to the end.
    pub(crate) fn pass(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            if self.offset >= self.end {
                break;
            }
            let (length, _) = self.read_head()?;
            self.offset += (FRAME_HEAD_BYTES + length) as u64;
        }
        Ok(())
    }

    fn read_head(&self) -> io::Result<(usize, [u8; CHECKSUM_BYTES])> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.file.read_exact_at(&mut head, self.offset)?;
        let (length, checksum) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().map_err(damaged)?) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of the snapshot is too long"));
        }
        Ok((length, checksum.try_into().map_err(damaged)?))
    }

    fn read(&mut self) -> io::Result<Frame> {
        let (length, checksum) = self.read_head()?;
        let mut body = vec![0; length];
        self.file.read_exact_at(&mut body, self.offset + FRAME_HEAD_BYTES as u64)?;
        self.offset += (FRAME_HEAD_BYTES + length) as u64;
        Frame::check(body.into(), &checksum)
    }
}

impl Iterator for Frames {
    type Item = io::Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.end {
            return None;
        }
        let frame = self.read();
        if frame.is_err() {
            self.offset = self.end;
        }
        Some(frame)
    }
}

/// The folder of snapshot files; it keeps the newest alone.
#[derive(Debug)]
pub(crate) struct SnapshotFolder {
    folder: PathBuf,
    current: Mutex<Option<SnapshotFile>>,
    space: Option<Arc<Space>>,
    transfers: Arc<Transfers>,
}

impl SnapshotFolder {
    /// Opens the folder, or makes one. Unfinished files of this node's own are removed; one that cannot be read is set
    /// aside.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        make_folder(&folder)?;
        let mut newest: Option<SnapshotFile> = None;
        for path in files(&folder)? {
            if path.to_string_lossy().ends_with(TEMPORARY) {
                fs::remove_file(&path)?;
            } else if path.to_string_lossy().ends_with(ENDING) {
                match SnapshotFile::open(path.clone()) {
                    Ok(file)
                        if newest
                            .as_ref()
                            .is_none_or(|newest| newest.meta().last_log_id < file.meta().last_log_id) =>
                    {
                        newest = Some(file);
                    }
                    Ok(_) => {}
                    Err(error) => set_aside(&path, &error)?,
                }
            }
        }
        incoming::remove_parts(&folder, |head| newest.as_ref().is_none_or(|newest| is_ahead(head, newest)))?;
        Ok(Self { folder, current: Mutex::new(newest), space: None, transfers: Arc::default() })
    }

    /// The same; but nothing is written into it that the disk has no room for.
    pub(crate) fn within(self, space: Arc<Space>) -> Self {
        Self { space: Some(space), ..self }
    }

    /// The newest snapshot.
    pub(crate) fn current(&self) -> Option<SnapshotFile> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest snapshot turned out to be damaged: sets it aside.
    pub(crate) fn discard_current(&self, error: &RestoreError) -> io::Result<()> {
        let file = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        file.map_or(Ok(()), |file| set_aside(&file.path, error))
    }

    /// Writes `state` as the newest snapshot.
    pub(crate) fn write(&self, state: &State, position: Position) -> io::Result<SnapshotFile> {
        let head = Head { position, records: state.count_records() };
        let path = self.folder.join(format!("{}{TEMPORARY}", uuid::Uuid::new_v4()));
        let mut incoming = Incoming::create(path, encode(&head).into(), self.space.clone())?;
        let mut records = Vec::new();
        let mut bytes = 0;
        for record in Groups::each(state.records()) {
            let record = record?;
            bytes += record.key.len() + record.value.as_ref().map_or(0, Vec::len);
            records.push(record);
            if bytes >= FRAME_BYTES {
                incoming.push(&Frame::of(&records)?)?;
                records.clear();
                bytes = 0;
            }
        }
        if !records.is_empty() {
            incoming.push(&Frame::of(&records)?)?;
        }
        self.adopt(incoming.finish()?)
    }

    /// What has arrived of a peer's snapshot whose transfer was cut short.
    pub(crate) fn part(&self) -> io::Result<Part> {
        incoming::part(&self.folder)
    }

    /// Takes up the transfer of a peer's snapshot with this head, behind the frame with this number. A transfer that is
    /// still under way is displaced. An error is told to `on_error` also when nobody waits for the end any more.
    pub(crate) fn take_in(
        self: &Arc<Self>,
        head: Bytes,
        after: u64,
        on_error: impl FnOnce(&RestoreError) + Send + 'static,
    ) -> Intake {
        let folder = Arc::clone(self);
        let begin =
            move || Incoming::resume(&folder.folder, head, after, folder.space.clone(), &folder.transfers);
        Intake::start(begin, on_error)
    }

    /// Loads the newest snapshot, and holds its state until it is installed.
    pub(crate) fn load_current(&self) -> Result<(), RestoreError> {
        let Some(file) = self.current() else { return Ok(()) };
        let state = file.load()?;
        let loaded = SnapshotFile { loaded: Some(Loaded(Arc::new(state))), ..file };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok(())
    }

    /// Frames of peers' snapshots that have arrived since the start.
    pub(crate) fn frames_taken(&self) -> u64 {
        self.transfers.frames()
    }

    /// Makes a finished file the newest snapshot and removes all others, unless one that reaches further has come meanwhile.
    pub(crate) fn adopt(&self, mut file: SnapshotFile) -> io::Result<SnapshotFile> {
        if self.current().is_some_and(|newest| newest.meta().last_log_id > file.meta().last_log_id) {
            file.remove();
            return Ok(file);
        }
        let (term, index) = file.head.position.applied.unwrap_or_default();
        let path = self.folder.join(format!("{index:020}-{term:020}{ENDING}"));
        if file.path != path {
            fs::rename(&file.path, &path)?;
            sync_folder(&self.folder)?;
            file.path = path;
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.clone());
        for other in files(&self.folder)? {
            if other != file.path && other.to_string_lossy().ends_with(ENDING) {
                fs::remove_file(&other)?;
            }
        }
        incoming::remove_parts(&self.folder, |head| is_ahead(head, &file))?;
        Ok(file)
    }
}

/// Whether the snapshot with this head reaches further.
fn is_ahead(head: &[u8], file: &SnapshotFile) -> bool {
    postcard::from_bytes::<Head>(head)
        .is_ok_and(|head| head.position.applied() > file.head.position.applied())
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data always encodes into memory")
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

fn set_aside(path: &Path, error: &(dyn std::error::Error + 'static)) -> io::Result<()> {
    let aside = path.with_extension("damaged");
    tracing::error!(error, path = %path.display(), aside = %aside.display(), "a snapshot is damaged and was set aside");
    fs::rename(path, aside)
}
