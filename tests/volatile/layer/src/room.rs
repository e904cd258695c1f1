//! The calls that ask how much room there is, or for some of it.

use std::ffi::{c_char, c_int};

use libc::off64_t;
use volatile::journal::Record;

use crate::disk::{Disk, refuse, size_of};
use crate::watch::give_up;
use crate::{real, watched};

/// # Safety
/// As `fallocate(2)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, offset: off64_t, length: off64_t) -> c_int {
    let end = offset.saturating_add(length);
    if mode == 0 && !Disk::get().is_none_or(|disk| disk.room_to_allocate(fd, end)) {
        refuse(libc::ENOSPC);
        return -1;
    }
    // SAFETY: the caller's.
    let allocate = || unsafe { real::fallocate64(fd, mode, offset, length) };
    let Some((watch, inode)) = watched(fd) else { return allocate() };
    if mode != 0 {
        give_up(c"an allocation that does more than to make a file longer");
    }
    let mut journal = watch.journal();
    let answer = allocate();
    if answer == 0 {
        journal.append(&Record::Resize { inode, length: size_of(fd).unsigned_abs() });
    }
    answer
}

/// # Safety
/// As `fallocate(2)`; on 64 bits it is the same as `fallocate64`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, offset: off64_t, length: off64_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { fallocate64(fd, mode, offset, length) }
}

/// # Safety
/// As `statvfs(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statvfs64(path: *const c_char, found: *mut libc::statvfs64) -> c_int {
    // SAFETY: the caller's.
    let answer = unsafe { real::statvfs64(path, found) };
    if let Some(disk) = Disk::get().filter(|disk| answer == 0 && disk.holds(path)) {
        // SAFETY: the call has filled it in.
        bound(disk, unsafe { &mut *found });
    }
    answer
}

/// # Safety
/// As `statvfs(3)`; on 64 bits it is the same as `statvfs64`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statvfs(path: *const c_char, found: *mut libc::statvfs64) -> c_int {
    // SAFETY: the caller's.
    unsafe { self::statvfs64(path, found) }
}

/// # Safety
/// As `fstatvfs(3)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fstatvfs64(fd: c_int, found: *mut libc::statvfs64) -> c_int {
    // SAFETY: the caller's.
    let answer = unsafe { real::fstatvfs64(fd, found) };
    if let Some(disk) = Disk::get().filter(|disk| answer == 0 && disk.has(fd)) {
        // SAFETY: the call has filled it in.
        bound(disk, unsafe { &mut *found });
    }
    answer
}

/// # Safety
/// As `fstatvfs(3)`; on 64 bits it is the same as `fstatvfs64`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fstatvfs(fd: c_int, found: *mut libc::statvfs64) -> c_int {
    // SAFETY: the caller's.
    unsafe { fstatvfs64(fd, found) }
}

fn bound(disk: &Disk, found: &mut libc::statvfs64) {
    if let Some(left) = disk.bytes_left() {
        let blocks = left / found.f_frsize.max(1);
        found.f_bavail = blocks;
        found.f_bfree = blocks;
    }
}
