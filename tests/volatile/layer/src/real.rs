//! The functions of libc itself, which those of this library stand in front of.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libc::{iovec, mode_t, off64_t, size_t, ssize_t};

macro_rules! real {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        /// The function of libc with this name.
        pub(crate) unsafe fn $name($($argument: $type),*) -> $answer {
            static ADDRESS: OnceLock<usize> = OnceLock::new();
            let name = concat!(stringify!($name), "\0");
            let address = *ADDRESS.get_or_init(|| next(name));
            // SAFETY: libc defines the name with this signature.
            let function: unsafe extern "C" fn($($type),*) -> $answer = unsafe { std::mem::transmute(address) };
            // SAFETY: the caller of the function that stands in front has to keep to the same conditions.
            unsafe { function($($argument),*) }
        }
    )*};
}

real! {
    copy_file_range(from: c_int, from_offset: *mut off64_t, to: c_int, to_offset: *mut off64_t, length: size_t, flags: c_uint) -> ssize_t;
    fallocate64(fd: c_int, mode: c_int, offset: off64_t, length: off64_t) -> c_int;
    fdatasync(fd: c_int) -> c_int;
    fstatvfs64(fd: c_int, found: *mut libc::statvfs64) -> c_int;
    fsync(fd: c_int) -> c_int;
    ftruncate64(fd: c_int, length: off64_t) -> c_int;
    mkdir(path: *const c_char, mode: mode_t) -> c_int;
    open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int;
    pwrite64(fd: c_int, data: *const c_void, length: size_t, offset: off64_t) -> ssize_t;
    rename(from: *const c_char, to: *const c_char) -> c_int;
    rmdir(path: *const c_char) -> c_int;
    sendfile64(to: c_int, from: c_int, offset: *mut off64_t, length: size_t) -> ssize_t;
    statvfs64(path: *const c_char, found: *mut libc::statvfs64) -> c_int;
    unlink(path: *const c_char) -> c_int;
    unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int;
    write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t;
    writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t;
}

/// The address that `name` has in the libraries after this one.
fn next(name: &str) -> usize {
    let name = CStr::from_bytes_with_nul(name.as_bytes()).expect("the macro ends the name with a zero");
    // SAFETY: the name ends with a zero.
    let address = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if address.is_null() {
        crate::watch::give_up(c"the C library lacks a function that is watched");
    }
    address as usize
}
