//! Carries out the orders of a test: calls to files in the folder fail, stall, or find no room.

use std::ffi::{CString, OsStr, c_char, c_int};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use libc::off64_t;
use volatile::orders::{Call, Fate, Orders};

use crate::real;
use crate::watch::{absolute, give_up, path_of, status};

/// How often a stalled call looks whether it may go on.
const LOOK_EVERY_NS: i64 = 5_000_000;

/// The disk under the folder. None when the program was not told of any orders.
pub(crate) struct Disk {
    folder: PathBuf,
    orders: CString,
    room: Mutex<Left>,
}

/// What is left of the room that was ordered last.
#[derive(Default)]
struct Left {
    number: Option<u64>,
    bytes: u64,
}

impl Disk {
    pub(crate) fn get() -> Option<&'static Self> {
        static DISK: OnceLock<Option<Disk>> = OnceLock::new();
        DISK.get_or_init(|| {
            let folder = std::env::var_os(volatile::FOLDER_VARIABLE)?;
            let orders = CString::new(std::env::var_os(volatile::ORDERS_VARIABLE)?.into_vec()).ok()?;
            Some(Self { folder: folder.into(), orders, room: Mutex::default() })
        })
        .as_ref()
    }

    /// Whether something open is a file or folder of this disk.
    pub(crate) fn has(&self, fd: c_int) -> bool {
        self.path(fd).is_some()
    }

    /// Waits as long as the call is to stall, and gives the error that it is to fail with.
    pub(crate) fn hinders(&self, fd: c_int, call: Call) -> Option<c_int> {
        let path = self.path(fd)?;
        loop {
            match self.orders().fate(call, &path) {
                None => return None,
                Some(Fate::Fails) => return Some(libc::EIO),
                Some(Fate::Stalls) => {
                    let pause = libc::timespec { tv_sec: 0, tv_nsec: LOOK_EVERY_NS };
                    // SAFETY: the time is ours for so long, and how much of it was left is not asked for.
                    unsafe { libc::nanosleep(&pause, std::ptr::null_mut()) };
                }
            }
        }
    }

    /// How many of `length` bytes there is room for, at `offset` or where the file's own position is. They are taken.
    pub(crate) fn room_to_write(&self, fd: c_int, offset: Option<off64_t>, length: usize) -> Option<usize> {
        if !self.has(fd) {
            return Some(length);
        }
        let size = size_of(fd);
        // SAFETY: they ask for a number alone.
        let offset = offset.unwrap_or_else(|| unsafe {
            let appends = libc::fcntl(fd, libc::F_GETFL) & libc::O_APPEND != 0;
            if appends { size } else { libc::lseek64(fd, 0, libc::SEEK_CUR) }
        });
        let end = offset.saturating_add_unsigned(length as u64);
        let grows = u64::try_from(end.saturating_sub(size)).unwrap_or(0);
        let lacking = grows - self.take(grows);
        let room = length.saturating_sub(usize::try_from(lacking).unwrap_or(usize::MAX));
        (room > 0 || length == 0).then_some(room)
    }

    /// Whether a file may have this length; the room is taken, or given back.
    pub(crate) fn room_to_resize(&self, fd: c_int, length: off64_t) -> bool {
        if !self.has(fd) {
            return true;
        }
        let size = size_of(fd);
        let grows = u64::try_from(length.saturating_sub(size)).unwrap_or(0);
        let taken = self.take(grows);
        if taken < grows {
            self.give_back(taken);
            return false;
        }
        self.give_back(u64::try_from(size.saturating_sub(length)).unwrap_or(0));
        true
    }

    /// Whether a file may have its bytes up to `end` allocated.
    pub(crate) fn room_to_allocate(&self, fd: c_int, end: off64_t) -> bool {
        self.room_to_resize(fd, end.max(size_of(fd)))
    }

    /// The bytes that become free when what has this path goes.
    pub(crate) fn freed_by(&self, folder: c_int, path: *const c_char) -> u64 {
        let Some(path) = absolute(folder, path).filter(|path| path.starts_with(&self.folder)) else {
            return 0;
        };
        std::fs::symlink_metadata(path).map_or(0, |found| if found.is_file() { found.len() } else { 0 })
    }

    /// There is more room again.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.left().bytes += bytes;
    }

    /// The bytes that a file system with this folder has left, when they are bounded.
    pub(crate) fn bytes_left(&self) -> Option<u64> {
        let left = self.left();
        left.number.map(|_| left.bytes)
    }

    /// Whether a path lies on this disk.
    pub(crate) fn holds(&self, path: *const c_char) -> bool {
        absolute(libc::AT_FDCWD, path).is_some_and(|path| path.starts_with(&self.folder))
    }

    /// Takes up to `bytes` of the room.
    fn take(&self, bytes: u64) -> u64 {
        let mut left = self.left();
        if left.number.is_none() {
            return bytes;
        }
        let taken = bytes.min(left.bytes);
        left.bytes -= taken;
        taken
    }

    /// What is left, as of the orders that stand now.
    fn left(&self) -> std::sync::MutexGuard<'_, Left> {
        let mut left = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        match self.orders().room {
            Some(room) if left.number == Some(room.number) => {}
            Some(room) => *left = Left { number: Some(room.number), bytes: room.bytes },
            None => *left = Left::default(),
        }
        left
    }

    fn path(&self, fd: c_int) -> Option<String> {
        let (kind, _, _) = status(fd)?;
        if kind != libc::S_IFREG && kind != libc::S_IFDIR {
            return None;
        }
        let path = path_of(fd)?;
        Some(path.strip_prefix(&self.folder).ok()?.to_string_lossy().into_owned())
    }

    fn orders(&self) -> Orders {
        // SAFETY: the path ends with a zero.
        let fd = unsafe { real::open64(self.orders.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0) };
        if fd < 0 {
            return Orders::default();
        }
        let mut text = vec![0_u8; 4_096];
        // SAFETY: there is room for as many bytes as are said, and the file is ours to close.
        let length = unsafe {
            let length = libc::read(fd, text.as_mut_ptr().cast(), text.len());
            libc::close(fd);
            length
        };
        text.truncate(usize::try_from(length).unwrap_or(0));
        match Orders::parse(&String::from_utf8_lossy(&text)) {
            Ok(orders) => orders,
            Err(_) => give_up(c"the orders are not understood"),
        }
    }
}

pub(crate) fn size_of(fd: c_int) -> off64_t {
    let path = format!("/proc/self/fd/{fd}");
    let found = std::fs::metadata(Path::new(OsStr::from_bytes(path.as_bytes())));
    found.map_or(0, |found| off64_t::try_from(found.len()).unwrap_or(off64_t::MAX))
}

/// Refuses a call.
pub(crate) fn refuse(error: c_int) {
    // SAFETY: it is this thread's.
    unsafe { *libc::__errno_location() = error };
}
