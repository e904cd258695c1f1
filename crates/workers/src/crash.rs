//! Named crash points, so that tests can end the process at the worst moments. Compiled only with the feature
//! `failpoints`; an ordinary build contains neither the points nor their names.
//!
//! With `REVOLVE_CRASH_AT=install.after` the process aborts when it comes to that point: `<step>.before` and
//! `<step>.after` for each step of a rotation, `grant.<step>.before` and `grant.<step>.after` for a grant's, and
//! between them `install.staged` and `publish.staged` (the stores hold the candidate), `rollback.target` (the target
//! is back, the stores are not) and `grant.install.done` (the user exists, no login was tried). At `remove.committed` a node
//! is turned out, and not yet out of the membership. With
//! `REVOLVE_CRASH_MARKER=<file>` it does so once: the file is created first, and where it already exists nothing
//! happens. Processes that share the file crash once together.
//!
//! With `REVOLVE_CRASH_FILE=<file>` the point is the one that the file names, if the file is there, so that running
//! processes can be told. The file is removed first: of the processes that share it, one crashes.

/// Ends the process here if the environment names this point.
#[cfg(feature = "failpoints")]
macro_rules! crash_point {
    ($($name:tt)+) => {
        crate::crash::reached(&format!($($name)+))
    };
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "failpoints"))]
macro_rules! crash_point {
    ($($name:tt)+) => {};
}

pub(crate) use crash_point;

/// Aborts, without unwinding or running destructors, when `name` is the point asked for.
#[cfg(feature = "failpoints")]
pub fn reached(name: &str) {
    let here = std::env::var("REVOLVE_CRASH_AT").is_ok_and(|wanted| wanted == name);
    if (here && first_time()) || told(name) {
        std::process::abort();
    }
}

#[cfg(feature = "failpoints")]
fn first_time() -> bool {
    let Some(marker) = std::env::var_os("REVOLVE_CRASH_MARKER") else { return true };
    std::fs::File::create_new(marker).and_then(|file| file.sync_all()).is_ok()
}

#[cfg(feature = "failpoints")]
fn told(name: &str) -> bool {
    let Some(file) = std::env::var_os("REVOLVE_CRASH_FILE") else { return false };
    std::fs::read_to_string(&file).is_ok_and(|wanted| wanted == name) && std::fs::remove_file(&file).is_ok()
}
