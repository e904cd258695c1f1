//! What is watched, and the journal that it is written to.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use volatile::journal::Record;

use crate::real;

/// The folder that is watched. None when the program was not told to: then every call is passed on as it is.
pub(crate) struct Watch {
    folder: PathBuf,
    journal: Mutex<Journal>,
}

/// The journal. While it is held no other watched call changes the folder, so that the records have the kernel's order.
pub(crate) struct Journal {
    fd: c_int,
    records: u64,
    /// Device and inode of everything in the folder that was opened.
    known: BTreeSet<(u64, u64)>,
}

impl Watch {
    pub(crate) fn get() -> Option<&'static Self> {
        static WATCH: OnceLock<Option<Watch>> = OnceLock::new();
        WATCH.get_or_init(Self::begin).as_ref()
    }

    fn begin() -> Option<Self> {
        let folder = std::env::var_os(volatile::FOLDER_VARIABLE)?;
        let journal = std::env::var_os(volatile::JOURNAL_VARIABLE)?;
        let journal = CString::new(journal.into_vec()).ok()?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
        // SAFETY: the path ends with a zero.
        let fd = unsafe { real::open64(journal.as_ptr(), flags, 0o600) };
        if fd < 0 {
            give_up(c"the journal cannot be opened");
        }
        let journal = Journal { fd, records: 0, known: BTreeSet::new() };
        Some(Self { folder: folder.into(), journal: Mutex::new(journal) })
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a path lies in the folder.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.folder)
    }

    /// The inode of an open file or folder that is watched.
    pub(crate) fn inode(&self, fd: c_int) -> Option<u64> {
        let (kind, device, inode) = status(fd)?;
        // Looked at before the lock: most of what a server writes goes to sockets and pipes.
        let file = kind == libc::S_IFREG || kind == libc::S_IFDIR;
        (file && self.journal().known.contains(&(device, inode))).then_some(inode)
    }
}

impl Journal {
    /// How many records were written.
    pub(crate) const fn records(&self) -> u64 {
        self.records
    }

    /// Appends a record. A journal with a gap would show a disk that never was, hence the abort.
    pub(crate) fn append(&mut self, record: &Record<'_>) {
        let bytes = record.encode();
        // SAFETY: the bytes are ours for so long.
        let written = unsafe { real::write(self.fd, bytes.as_ptr().cast(), bytes.len()) };
        if usize::try_from(written) != Ok(bytes.len()) {
            give_up(c"the journal cannot be written");
        }
        self.records += 1;
    }

    /// Takes note of a file or folder that was opened.
    pub(crate) fn opened(&mut self, watch: &Watch, fd: c_int, created: bool, truncated: bool) {
        let (Some((_, device, inode)), Some(path)) = (status(fd), path_of(fd)) else { return };
        if !watch.holds(&path) {
            // An inode that was given up is used again, elsewhere.
            self.known.remove(&(device, inode));
            return;
        }
        self.known.insert((device, inode));
        self.append(&Record::Open { inode, created, path: &path });
        if truncated && !created {
            self.append(&Record::Resize { inode, length: 0 });
        }
    }
}

/// Kind, device and inode of what is open.
pub(crate) fn status(fd: c_int) -> Option<(libc::mode_t, u64, u64)> {
    let mut status = MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: there is room for the answer.
    if unsafe { libc::fstat64(fd, status.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: success says that it was filled in.
    let status = unsafe { status.assume_init() };
    Some((status.st_mode & libc::S_IFMT, status.st_dev, status.st_ino))
}

/// Whether there is something with this path.
pub(crate) fn exists(folder: c_int, path: *const c_char) -> bool {
    let mut status = MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: the path is the caller's, and there is room for the answer.
    unsafe { libc::fstatat64(folder, path, status.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) == 0 }
}

/// Where something that is open lies.
pub(crate) fn path_of(fd: c_int) -> Option<PathBuf> {
    let link = CString::new(format!("/proc/self/fd/{fd}")).ok()?;
    let mut path = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: there is room for as many bytes as are said.
    let length = unsafe { libc::readlink(link.as_ptr(), path.as_mut_ptr().cast(), path.len()) };
    path.truncate(usize::try_from(length).ok()?);
    Some(OsString::from_vec(path).into())
}

/// A path, relative to an open folder, as an absolute one without symbolic links; what it names need not exist.
pub(crate) fn absolute(folder: c_int, path: *const c_char) -> Option<PathBuf> {
    // SAFETY: the caller of libc's function gives a path that ends with a zero.
    let path = unsafe { CStr::from_ptr(path) };
    let path = Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
    let base = if path.is_absolute() || folder == libc::AT_FDCWD { PathBuf::new() } else { path_of(folder)? };
    let path = base.join(path);
    let parent = match path.parent()? {
        empty if empty.as_os_str().is_empty() => Path::new("."),
        parent => parent,
    };
    let parent = CString::new(parent.as_os_str().as_bytes()).ok()?;
    let mut resolved = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the path ends with a zero, and there is room for the longest answer.
    if unsafe { libc::realpath(parent.as_ptr(), resolved.as_mut_ptr().cast()) }.is_null() {
        return None;
    }
    let resolved = CStr::from_bytes_until_nul(&resolved).ok()?;
    Some(Path::new(std::ffi::OsStr::from_bytes(resolved.to_bytes())).join(path.file_name()?))
}

/// Ends the program with a word on standard error: nothing that it does from here on would be known.
pub(crate) fn give_up(why: &CStr) -> ! {
    let message = [b"volatile-layer: ", why.to_bytes(), b"\n"].concat();
    // SAFETY: the bytes are ours for so long.
    unsafe { libc::syscall(libc::SYS_write, libc::STDERR_FILENO, message.as_ptr(), message.len()) };
    std::process::abort()
}
