//! Snapshots on their way in. What has arrived of a peer's stays in a part file: a transfer that was cut short, by the
//! network or by the end of this process, goes on where it ended. The file is named after its head, so what arrived of
//! one snapshot is never taken for another; whoever loads it checks the digest of the whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    Batch, Loader, RestoreError,
    snapshot::{Frame, Frames, MAGIC, SnapshotFile, TEMPORARY},
};
use crate::space::Space;

/// Frames that have arrived and wait to be written.
const FRAMES_WAITING: usize = 4;
/// A file is made durable whenever so much was written to it: all of it at the end would hold up the log, which shares
/// the disk.
const UNSYNCED_BYTES: usize = 32 * 1024 * 1024;

/// How the file ends that holds what has arrived of a snapshot.
const ENDING: &str = ".part";

/// What has arrived of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// The body of its first frame; empty when nothing has arrived.
    pub(crate) head: Bytes,
    /// The frames behind it.
    pub(crate) frames: u64,
    /// Where the last of them ends.
    end: u64,
}

/// The transfers into one folder: only the last one that was begun writes.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    last: Mutex<u64>,
    frames: AtomicU64,
}

impl Transfers {
    /// Frames that have arrived since the start.
    pub(super) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    fn begin(&self) -> u64 {
        let mut last = self.last();
        *last += 1;
        *last
    }

    /// Keeps others from beginning while this one writes.
    fn turn(&self, number: u64) -> io::Result<MutexGuard<'_, u64>> {
        let last = self.last();
        if *last == number {
            Ok(last)
        } else {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another transfer of a snapshot has begun"))
        }
    }

    fn last(&self) -> MutexGuard<'_, u64> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A snapshot that is being written. Dropped unfinished, what came from a peer stays, and nothing else.
///
/// What comes from a peer is decoded while more arrives: when the last frame is there, so is the state.
#[derive(Debug)]
pub(super) struct Incoming {
    file: Option<File>,
    path: PathBuf,
    space: Option<Arc<Space>>,
    transfer: Option<(Arc<Transfers>, u64)>,
    loader: Option<Loader>,
    /// Bytes written since they were last made durable.
    unsynced: usize,
}

impl Incoming {
    /// Begins a file of this node's own.
    pub(super) fn create(path: PathBuf, head: Bytes, space: Option<Arc<Space>>) -> io::Result<Self> {
        let mut file = File::create_new(&path)?;
        file.write_all(MAGIC)?;
        let mut incoming = Self { file: Some(file), path, space, transfer: None, loader: None, unsynced: 0 };
        incoming.push(&Frame::new(head))?;
        Ok(incoming)
    }

    /// Takes up the transfer of the snapshot with this head, behind the frame with this number.
    pub(super) fn resume(
        folder: &Path,
        head: Bytes,
        after: u64,
        space: Option<Arc<Space>>,
        transfers: &Arc<Transfers>,
    ) -> io::Result<Self> {
        let path = folder.join(format!("{}{ENDING}", name(&head)));
        // Before its turn: it may take long, and the one before it must not wait for that on the network's threads.
        let part = read(&path, after)?.filter(|part| part.head == head);
        let number = transfers.begin();
        let turn = transfers.turn(number)?;
        for other in parts(folder)?.filter(|other| *other != path) {
            fs::remove_file(other)?;
        }
        let held = part.as_ref().map_or(0, |part| part.frames);
        if held < after {
            let message = format!("{held} frames of the snapshot are held, and not {after}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        let is_new = part.is_none();
        file.set_len(part.map_or(0, |part| part.end))?;
        file.seek(SeekFrom::End(0))?;
        drop(turn);
        let transfer = Some((Arc::clone(transfers), number));
        let loader = Some(Loader::start()?);
        let mut incoming = Self { file: Some(file), path, space, transfer, loader, unsynced: 0 };
        if is_new {
            incoming.write(|file| file.write_all(MAGIC).and_then(|()| Frame::new(head).write(file)))?;
        } else {
            let held = Frames::new(Arc::new(File::open(&incoming.path)?))?;
            for frame in held.skip(1) {
                incoming.load(&frame?);
            }
        }
        Ok(incoming)
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// Also when there is no room for more, since what is left is the log's. Nothing stays of a file that could not be
    /// written: it might read well and not be durable.
    pub(super) fn push(&mut self, frame: &Frame) -> io::Result<()> {
        self.write(|file| frame.write(file))?;
        self.unsynced += frame.body.len();
        if self.unsynced >= UNSYNCED_BYTES {
            self.write(|file| file.sync_data())?;
            self.unsynced = 0;
        }
        if let Some((transfers, _)) = &self.transfer {
            transfers.frames.fetch_add(1, Ordering::Relaxed);
        }
        self.load(frame);
        Ok(())
    }

    fn load(&mut self, frame: &Frame) {
        if let Some(loader) = &mut self.loader {
            // When it wants no more, it says why at the end.
            loader.push(Batch::Frame(frame.body.clone()));
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let turn = self.transfer.as_ref().map(|(transfers, number)| transfers.turn(*number)).transpose()?;
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the snapshot is finished already"))?;
        let claimed = self.space.as_ref().map_or(Ok(()), |space| space.claim());
        let written = claimed.and_then(|()| write(file));
        if written.is_err() {
            abandon(&mut self.file, &self.path);
        }
        drop(turn);
        written
    }

    /// Makes the file durable, under a name that no other transfer takes, and checks what came from a peer as a whole. It
    /// is still to be adopted.
    pub(super) fn finish(mut self) -> Result<SnapshotFile, RestoreError> {
        self.write(|file| file.sync_all())?;
        let turn = self.transfer.as_ref().map(|(transfers, number)| transfers.turn(*number)).transpose()?;
        let path = self.path.with_file_name(format!("{}{TEMPORARY}", uuid::Uuid::new_v4()));
        fs::rename(&self.path, &path)?;
        drop(turn);
        self.file = None;
        let file = SnapshotFile::open(path)?;
        match self.loader.take() {
            Some(loader) => {
                loader.finish().and_then(|loaded| file.clone().with(loaded)).inspect_err(|_| file.remove())
            }
            None => Ok(file),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.file.is_some() && self.transfer.is_none() {
            abandon(&mut self.file, &self.path);
        }
    }
}

/// Takes in a peer's snapshot on a thread of its own. Dropped, or left, before all of it has come, what has come stays for
/// the next transfer.
#[derive(Debug)]
pub(crate) struct Intake {
    /// The end of the channel alone does not say that all of it has come.
    frames: mpsc::Sender<Option<Frame>>,
    taking: JoinHandle<Result<Option<SnapshotFile>, RestoreError>>,
}

impl Intake {
    /// `begin` takes up the transfer; it may take long.
    pub(super) fn start(
        begin: impl FnOnce() -> io::Result<Incoming> + Send + 'static,
        on_error: impl FnOnce(&RestoreError) + Send + 'static,
    ) -> Self {
        let (frames, arrived) = mpsc::channel(FRAMES_WAITING);
        let taking = tokio::task::spawn_blocking(move || take(begin, arrived).inspect_err(on_error));
        Self { frames, taking }
    }

    /// Hands a frame over, and says whether more is wanted. [`Self::finish`] says why not.
    pub(crate) async fn push(&self, frame: Frame) -> bool {
        self.frames.send(Some(frame)).await.is_ok()
    }

    /// All has come: gives it when it is durable, and its state was looked at in full. It is still to be adopted.
    pub(crate) async fn finish(self) -> io::Result<SnapshotFile> {
        // When it is not taken, the thread has ended with an error.
        drop(self.frames.send(None).await);
        self.leave().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// No more comes, as it seems: waits until the thread has let go of the file, and gives what went wrong with that.
    pub(crate) async fn leave(self) -> io::Result<Option<SnapshotFile>> {
        drop(self.frames);
        Ok(self.taking.await.map_err(io::Error::other)??)
    }
}

/// Writes what arrives until all of it has, which `None` says, or nothing more does.
fn take(
    begin: impl FnOnce() -> io::Result<Incoming>,
    mut arrived: mpsc::Receiver<Option<Frame>>,
) -> Result<Option<SnapshotFile>, RestoreError> {
    let mut incoming = begin()?;
    while let Some(next) = arrived.blocking_recv() {
        match next {
            Some(frame) => incoming.push(&frame)?,
            None => return incoming.finish().map(Some),
        }
    }
    Ok(None)
}

fn abandon(file: &mut Option<File>, path: &Path) {
    *file = None;
    // A part that stays is looked at frame by frame, and what is not adopted is removed with the next one.
    drop(fs::remove_file(path));
}

/// What has arrived, and is sound, of the snapshot that was begun last.
pub(super) fn part(folder: &Path) -> io::Result<Part> {
    let path = parts(folder)?.next();
    Ok(path.map(|path| read(&path, u64::MAX)).transpose()?.flatten().unwrap_or_default())
}

fn parts(folder: &Path) -> io::Result<impl Iterator<Item = PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.to_string_lossy().ends_with(ENDING)))
}

/// The sound frames at the beginning of a file, at most so many; `None` when it has no head, or there is no file.
fn read(path: &Path, most: u64) -> io::Result<Option<Part>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(mut frames) = sound(Frames::new(Arc::new(file)))? else { return Ok(None) };
    let Some(head) = frames.next().map(sound).transpose()?.flatten() else { return Ok(None) };
    let mut part = Part { head: head.body, frames: 0, end: frames.offset() };
    while part.frames < most
        && let Some(frame) = frames.next()
        && sound(frame)?.is_some()
    {
        part.frames += 1;
        part.end = frames.offset();
    }
    Ok(Some(part))
}

/// What was read, unless it is torn or damaged; a disk that cannot be read is another matter.
fn sound<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Removes what has arrived of snapshots that are not ahead of the newest one here.
pub(super) fn remove_parts(folder: &Path, is_ahead: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    for path in parts(folder)? {
        if !read(&path, 0)?.is_some_and(|part| is_ahead(&part.head)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

fn name(head: &[u8]) -> String {
    Sha256::digest(head).iter().map(|byte| format!("{byte:02x}")).collect()
}
