//! A library to be put before a program with `LD_PRELOAD`: it keeps a journal of what the program does to one folder,
//! from which the package `volatile` tells what a disk would hold after a power cut. It changes nothing that the
//! program sees, and refuses to go on without its journal. Or it does to the program what a disk may do, as it is
//! ordered to: calls fail, stall, or find no room.
//!
//! Only what Rust's standard library and sled call is watched. Nothing slips through for that: after each cut the
//! folder is compared with what the journal says it must hold. `sync_file_range` is passed on and not recorded, because
//! it makes nothing durable: neither a file's length nor what lies in the cache of the drive.

mod disk;
mod real;
mod room;
mod watch;

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::slice;

use libc::{AT_FDCWD, iovec, mode_t, off64_t, size_t, ssize_t};
use volatile::journal::Record;
use volatile::orders::Call;

use disk::{Disk, refuse};
use watch::{Watch, absolute, exists, give_up};

/// # Safety
/// As `open(2)`. C declares the mode as a variable argument, which is passed in the same place as a fixed one on the
/// platforms that Linux and Rust share; where it is absent what is there is handed on and not looked at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's.
    opened(AT_FDCWD, path, flags, || unsafe { real::open64(path, flags, mode) })
}

/// # Safety
/// As `open(2)`; on 64 bits it is the same as `open64`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { open64(path, flags, mode) }
}

/// # Safety
/// As `openat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's.
    opened(folder, path, flags, || unsafe { real::openat64(folder, path, flags, mode) })
}

/// # Safety
/// As `openat(2)`; on 64 bits it is the same as `openat64`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { openat64(folder, path, flags, mode) }
}

/// # Safety
/// As `write(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t {
    let Some(length) = permitted(fd, None, length) else { return -1 };
    // SAFETY: the caller's.
    let write = || unsafe { real::write(fd, data, length) };
    // SAFETY: at most `length` bytes are asked for.
    written(fd, None, write, |count| unsafe { slice::from_raw_parts(data.cast(), count) }.to_vec())
}

/// # Safety
/// As `writev(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if Disk::get().is_some_and(|disk| disk.has(fd)) {
        // SAFETY: the caller's.
        let data = unsafe { joined(parts, count) };
        // SAFETY: the bytes are ours for so long.
        return unsafe { write(fd, data.as_ptr().cast(), data.len()) };
    }
    // SAFETY: the caller's.
    let write = || unsafe { real::writev(fd, parts, count) };
    written(fd, None, write, |length| {
        // SAFETY: the caller's.
        let mut data = unsafe { joined(parts, count) };
        data.truncate(length);
        data
    })
}

/// # Safety
/// There are `count` parts, each with as many bytes as it says.
unsafe fn joined(parts: *const iovec, count: c_int) -> Vec<u8> {
    let mut data = Vec::new();
    for part in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the caller's.
        let part = unsafe {
            let part = *parts.add(part);
            slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len)
        };
        data.extend_from_slice(part);
    }
    data
}

/// # Safety
/// As `pwrite(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    data: *const c_void,
    length: size_t,
    offset: off64_t,
) -> ssize_t {
    let Some(length) = permitted(fd, Some(offset), length) else { return -1 };
    // SAFETY: the caller's.
    let write = || unsafe { real::pwrite64(fd, data, length, offset) };
    // SAFETY: at most `length` bytes are asked for.
    written(fd, Some(offset), write, |count| unsafe { slice::from_raw_parts(data.cast(), count) }.to_vec())
}

/// # Safety
/// As `copy_file_range(2)`. Into the watched folder it is refused as a kernel would that lacks it: whoever copies then
/// reads and writes, and that is recorded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: the caller's.
    let copy = || unsafe { real::copy_file_range(from, from_offset, to, to_offset, length, flags) };
    unless_watched(to, copy)
}

/// # Safety
/// As `sendfile(2)`; refused as `copy_file_range` is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off64_t, length: size_t) -> ssize_t {
    // SAFETY: the caller's.
    unless_watched(to, || unsafe { real::sendfile64(to, from, offset, length) })
}

/// # Safety
/// As `ftruncate(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off64_t) -> c_int {
    if !Disk::get().is_none_or(|disk| disk.room_to_resize(fd, length)) {
        refuse(libc::ENOSPC);
        return -1;
    }
    // SAFETY: the caller's.
    let resize = || unsafe { real::ftruncate64(fd, length) };
    let Some((watch, inode)) = watched(fd) else { return resize() };
    let mut journal = watch.journal();
    let answer = resize();
    if answer == 0 {
        journal.append(&Record::Resize { inode, length: length.unsigned_abs() });
    }
    answer
}

/// # Safety
/// As `fsync(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    // SAFETY: the caller's.
    synced(fd, || unsafe { real::fsync(fd) })
}

/// # Safety
/// As `fdatasync(2)`. It makes the length of a file durable too, which is needed to read what was written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: the caller's.
    synced(fd, || unsafe { real::fdatasync(fd) })
}

/// # Safety
/// As `rename(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller's.
    let rename = || freeing(AT_FDCWD, to, || unsafe { real::rename(from, to) });
    let Some(watch) = Watch::get() else { return rename() };
    let mut journal = watch.journal();
    let paths = absolute(AT_FDCWD, from).zip(absolute(AT_FDCWD, to));
    let answer = rename();
    if let (0, Some((from, to))) = (answer, paths) {
        match (watch.holds(&from), watch.holds(&to)) {
            (true, true) => journal.append(&Record::Rename { from: &from, to: &to }),
            (false, false) => {}
            (true, false) | (false, true) => give_up(c"a rename into or out of the watched folder"),
        }
    }
    answer
}

/// # Safety
/// As `mkdir(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's.
    let make = || unsafe { real::mkdir(path, mode) };
    named(AT_FDCWD, path, make, |path| Record::MakeFolder { path })
}

/// # Safety
/// As `rmdir(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: the caller's.
    let remove = || unsafe { real::rmdir(path) };
    named(AT_FDCWD, path, remove, |path| Record::Unlink { path })
}

/// # Safety
/// As `unlink(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's.
    let remove = || freeing(AT_FDCWD, path, || unsafe { real::unlink(path) });
    named(AT_FDCWD, path, remove, |path| Record::Unlink { path })
}

/// # Safety
/// As `unlinkat(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's.
    let remove = || freeing(folder, path, || unsafe { real::unlinkat(folder, path, flags) });
    named(folder, path, remove, |path| Record::Unlink { path })
}

fn watched(fd: c_int) -> Option<(&'static Watch, u64)> {
    let watch = Watch::get()?;
    watch.inode(fd).map(|inode| (watch, inode))
}

fn unless_watched(fd: c_int, copy: impl FnOnce() -> ssize_t) -> ssize_t {
    if watched(fd).is_none() && !Disk::get().is_some_and(|disk| disk.has(fd)) {
        return copy();
    }
    refuse(libc::ENOSYS);
    -1
}

/// How many of `length` bytes may be written. None when the call is to fail; the error is set.
fn permitted(fd: c_int, offset: Option<off64_t>, length: size_t) -> Option<size_t> {
    let Some(disk) = Disk::get() else { return Some(length) };
    if let Some(error) = disk.hinders(fd, Call::Write) {
        refuse(error);
        return None;
    }
    let permitted = disk.room_to_write(fd, offset, length);
    if permitted.is_none() {
        refuse(libc::ENOSPC);
    }
    permitted
}

/// Does what makes the file with this path go.
fn freeing(folder: c_int, path: *const c_char, change: impl FnOnce() -> c_int) -> c_int {
    let Some(disk) = Disk::get() else { return change() };
    let freed = disk.freed_by(folder, path);
    let answer = change();
    if answer == 0 {
        disk.give_back(freed);
    }
    answer
}

fn opened(folder: c_int, path: *const c_char, flags: c_int, open: impl FnOnce() -> c_int) -> c_int {
    let truncates = flags & libc::O_TRUNC != 0;
    let freed = Disk::get().filter(|_| truncates).map_or(0, |disk| disk.freed_by(folder, path));
    let open = || {
        let fd = open();
        if let (0.., Some(disk), 1..) = (fd, Disk::get(), freed) {
            disk.give_back(freed);
        }
        fd
    };
    let Some(watch) = Watch::get() else { return open() };
    let mut journal = watch.journal();
    let new = flags & libc::O_CREAT != 0 && !exists(folder, path);
    let fd = open();
    if fd >= 0 {
        journal.opened(watch, fd, new, flags & libc::O_TRUNC != 0);
    }
    fd
}

/// Writes, and records where: at `offset`, or where the file's own position was.
fn written(
    fd: c_int,
    offset: Option<off64_t>,
    write: impl FnOnce() -> ssize_t,
    data: impl FnOnce(usize) -> Vec<u8>,
) -> ssize_t {
    let Some((watch, inode)) = watched(fd) else { return write() };
    let mut journal = watch.journal();
    let count = write();
    if let Ok(length @ 1..) = usize::try_from(count) {
        // SAFETY: it asks for a number alone. After an append the position is the end of what was appended.
        let offset =
            offset.unwrap_or_else(|| unsafe { libc::lseek64(fd, 0, libc::SEEK_CUR) } - count as off64_t);
        journal.append(&Record::Write { inode, offset: offset.unsigned_abs(), data: &data(length) });
    }
    count
}

/// Makes durable. What other threads write meanwhile may be covered or not, and counts as not covered; as long as the
/// call has not come back, nothing is.
fn synced(fd: c_int, sync: impl FnOnce() -> c_int) -> c_int {
    if let Some(error) = Disk::get().and_then(|disk| disk.hinders(fd, Call::Sync)) {
        refuse(error);
        return -1;
    }
    let Some((watch, inode)) = watched(fd) else { return sync() };
    let covered = watch.journal().records();
    let answer = sync();
    if answer == 0 {
        watch.journal().append(&Record::Sync { inode, covered });
    }
    answer
}

fn named(
    folder: c_int,
    path: *const c_char,
    change: impl FnOnce() -> c_int,
    record: impl FnOnce(&std::path::Path) -> Record<'_>,
) -> c_int {
    let Some(watch) = Watch::get() else { return change() };
    let mut journal = watch.journal();
    let path = absolute(folder, path).filter(|path| watch.holds(path));
    let answer = change();
    if let (0, Some(path)) = (answer, path) {
        journal.append(&record(&path));
    }
    answer
}
