//! The files: each begins with the magic bytes and holds entries, a 32-bit little-endian length before each. An entry
//! carries its own hash, so what is torn, damaged or out of its place is noticed. A file is named after its first entry.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
};

use model::ledger::{BrokenLedger, LedgerEntry, LedgerHead};

use crate::{
    disk::{make_folder, sync_folder},
    raft::damaged,
};

const MAGIC: &[u8; 8] = b"RVLEDG\0\x01";
const ENDING: &str = ".ledger";
/// A file is closed when it has reached this many bytes.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// An entry longer than this is damage: the rows in it are bounded far below.
const ENTRY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The files of a ledger that is written to.
pub(super) struct Files {
    head: LedgerHead,
    last: Option<Last>,
    /// Whether something was written that is not durable yet.
    dirty: bool,
}

/// The file that is appended to.
struct Last {
    file: File,
    length: u64,
}

impl Files {
    pub(super) fn open(folder: &Path, aside: &Path) -> io::Result<Self> {
        let mut head = LedgerHead::default();
        let mut last = None;
        let mut paths = paths(folder)?.into_iter();
        while let Some((_, path)) = paths.next() {
            let (end, length, whole) = scan(&path, head)?;
            head = end;
            last = Some((path.clone(), length));
            if !whole {
                tracing::error!(path = %path.display(), entry = head.sequence, "the ledger is torn or damaged behind this entry");
                keep_aside(&path, aside)?;
                for (_, later) in paths.by_ref() {
                    keep_aside(&later, aside)?;
                    fs::remove_file(later)?;
                }
            }
        }
        let last = match last {
            Some((path, length)) if length > MAGIC.len() as u64 => {
                let file = OpenOptions::new().append(true).open(&path)?;
                file.set_len(length)?;
                file.sync_all()?;
                Some(Last { file, length })
            }
            Some((path, _)) => {
                fs::remove_file(path)?;
                None
            }
            None => None,
        };
        sync_folder(folder)?;
        Ok(Self { head, last, dirty: false })
    }

    /// Moves all of it away, and begins with nothing.
    pub(super) fn set_aside(folder: &Path, aside: &Path) -> io::Result<Self> {
        for (_, path) in paths(folder)? {
            keep_aside(&path, aside)?;
            fs::remove_file(path)?;
        }
        sync_folder(folder)?;
        Ok(Self { head: LedgerHead::default(), last: None, dirty: false })
    }

    pub(super) const fn head(&self) -> LedgerHead {
        self.head
    }

    /// Makes everything that was appended durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(last) = self.last.as_ref().filter(|_| self.dirty) {
            last.file.sync_data()?;
        }
        self.dirty = false;
        Ok(())
    }

    /// Appends entries. When that fails, nothing of the last file's stays.
    pub(super) fn append(&mut self, folder: &Path, entries: &[LedgerEntry]) -> io::Result<()> {
        let mut entries = entries;
        while let Some(first) = entries.first() {
            let follows = first.sequence == self.head.sequence + 1;
            let open = self.last.as_ref().is_some_and(|last| follows && last.length < FILE_BYTES);
            if !open {
                self.sync()?;
                self.last = Some(Last::create(folder, first.sequence)?);
            }
            let Some(last) = self.last.as_mut() else { return Ok(()) };
            let mut bytes = Vec::new();
            let mut count = 0;
            while let Some(entry) = entries.get(count)
                && last.length + (bytes.len() as u64) < FILE_BYTES
            {
                let body = postcard::to_stdvec(entry).map_err(damaged)?;
                bytes.extend_from_slice(&u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes());
                bytes.extend_from_slice(&body);
                count += 1;
            }
            self.dirty = true;
            if let Err(error) = last.file.write_all(&bytes) {
                // It is written again as a whole when there is room.
                last.file.set_len(last.length)?;
                return Err(error);
            }
            last.length += bytes.len() as u64;
            self.head = entries[count - 1].head();
            entries = &entries[count..];
        }
        Ok(())
    }
}

impl Last {
    fn create(folder: &Path, first: u64) -> io::Result<Self> {
        let path = folder.join(format!("{first:020}{ENDING}"));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        file.write_all(MAGIC)?;
        sync_folder(folder)?;
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Self { file, length: MAGIC.len() as u64 })
    }
}

/// The files with the numbers of their first entries, in order.
fn paths(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(first) = name.strip_suffix(ENDING).and_then(|name| name.parse().ok()) {
            paths.push((first, path));
        }
    }
    paths.sort();
    Ok(paths)
}

/// The last sound entry behind `head`, where it ends, and whether that is the end of the file.
fn scan(path: &Path, mut head: LedgerHead) -> io::Result<(LedgerHead, u64, bool)> {
    let size = fs::metadata(path)?.len();
    let mut entries = match Entries::open(path) {
        Ok(entries) => entries,
        Err(error) if is_damage(&error) => return Ok((head, 0, false)),
        Err(error) => return Err(error),
    };
    let mut length = MAGIC.len() as u64;
    let mut first = true;
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) if follows(&entry, head, first) => {
                head = entry.head();
                length = entries.offset;
                first = false;
            }
            Ok(_) => return Ok((head, length, false)),
            Err(error) if is_damage(&error) => return Ok((head, length, false)),
            Err(error) => return Err(error),
        }
    }
    Ok((head, length, length == size))
}

/// Only the first entry of a file may leave some out that no node had.
fn follows(entry: &LedgerEntry, head: LedgerHead, first: bool) -> bool {
    match entry.check_behind(head) {
        Ok(()) => true,
        Err(BrokenLedger::Gap { expected, found }) => first && found > expected && entry.check().is_ok(),
        Err(BrokenLedger::Changed(_) | BrokenLedger::Unlinked(_) | BrokenLedger::Undecodable(_)) => false,
    }
}

fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn keep_aside(path: &Path, aside: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    make_folder(aside)?;
    fs::copy(path, aside.join(name).with_extension("ledger-damaged")).map(drop)
}

/// The entry with this number, when it is held.
pub(super) fn entry(folder: &Path, sequence: u64) -> io::Result<Option<LedgerEntry>> {
    let Some(before) = sequence.checked_sub(1) else { return Ok(None) };
    Ok(read(folder, before, 1)?.into_iter().next().filter(|entry| entry.sequence == sequence))
}

/// Entries above `after`, about so many bytes of them.
pub(super) fn read(folder: &Path, after: u64, bytes: usize) -> io::Result<Vec<LedgerEntry>> {
    let paths = paths(folder)?;
    let begins = paths.partition_point(|(first, _)| *first <= after + 1).saturating_sub(1);
    let (mut found, mut size) = (Vec::new(), 0);
    for (_, path) in &paths[begins..] {
        for entry in Entries::open(path)? {
            let entry = match entry {
                Ok(entry) => entry,
                // It is being written.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(found),
                Err(error) => return Err(error),
            };
            if entry.sequence <= after {
                continue;
            }
            entry.check().map_err(damaged)?;
            size += entry.body.len() + 80;
            found.push(entry);
            if size >= bytes {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// All entries under a folder, in order.
pub(super) fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<LedgerEntry>> + use<>> {
    let paths = paths(folder)?;
    Ok(paths.into_iter().flat_map(|(_, path)| -> Box<dyn Iterator<Item = io::Result<LedgerEntry>>> {
        match Entries::open(&path) {
            Ok(entries) => Box::new(entries),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }))
}

/// Reads one file.
struct Entries {
    reader: BufReader<File>,
    offset: u64,
    ended: bool,
}

impl Entries {
    fn open(path: &Path) -> io::Result<Self> {
        let mut reader = BufReader::new(File::open(path)?);
        let mut magic = [0; MAGIC.len()];
        reader.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a ledger of a known format"));
        }
        Ok(Self { reader, offset: MAGIC.len() as u64, ended: false })
    }

    fn entry(&mut self) -> io::Result<Option<LedgerEntry>> {
        let mut length = [0; 4];
        match self.reader.read(&mut length)? {
            0 => return Ok(None),
            read => self.reader.read_exact(&mut length[read..])?,
        }
        let size = u32::from_le_bytes(length) as usize;
        if size > ENTRY_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry of the ledger is too long"));
        }
        let mut body = vec![0; size];
        self.reader.read_exact(&mut body)?;
        match postcard::take_from_bytes::<LedgerEntry>(&body) {
            Ok((entry, [])) => {
                self.offset += 4 + size as u64;
                Ok(Some(entry))
            }
            Ok(_) | Err(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "an entry of the ledger does not decode"))
            }
        }
    }
}

impl Iterator for Entries {
    type Item = io::Result<LedgerEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entry().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}
