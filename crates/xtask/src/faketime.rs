//! libfaketime, which the tests put before a node to make its wall clock jump.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::apt;

/// The environment variable under which the tests find the library, and under which a person may choose one.
pub const VARIABLE: &str = "REVOLVE_TEST_FAKETIME";
/// The variant for programs with several threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library, installed first when it is missing and may be.
pub fn library() -> Result<PathBuf> {
    let chosen = std::env::var_os(VARIABLE).map(PathBuf::from);
    let found = chosen.or_else(find);
    found.or_else(|| apt::install(&["libfaketime"]).then(find).flatten()).with_context(|| {
        format!(
            "the tests need `{LIBRARY}`, and it was not found.\n\
             Install libfaketime (Debian: apt-get install libfaketime), or set `{VARIABLE}` to the library."
        )
    })
}

/// Debian keeps libraries in a folder per architecture.
fn find() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let places = folders.chain(["/usr/lib".into(), "/usr/local/lib".into()]);
    places.map(|folder| folder.join(LIBRARY)).find(|path| path.is_file())
}
