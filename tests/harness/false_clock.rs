//! Wall clocks that are wrong by as much as a test says, from one moment to the next. The clocks that do not jump are
//! left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Cluster, surroundings};

/// Sets a node's wall clock, of a cluster that was set up with false clocks. `offset` is as libfaketime writes it, such
/// as `+10m`, `-1h` or `+0`.
///
/// # Panics
///
/// When it cannot be written.
pub fn set(cluster: &Cluster, id: u64, offset: &str) {
    write(&offset_of(cluster.folder(), id), offset);
}

/// Puts a node's command before a clock that is ahead by so much until it is set.
pub(crate) fn command(command: &mut Command, cluster: &Path, id: u64, ahead: Duration) {
    let file = offset_of(cluster, id);
    write(&file, &format!("+{}", ahead.as_secs()));
    command
        .env("LD_PRELOAD", surroundings::faketime())
        .env("FAKETIME_TIMESTAMP_FILE", file)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

fn write(file: &Path, offset: &str) {
    let draft = file.with_extension("draft");
    // Whole or not at all: the node may read it at any moment.
    fs::write(&draft, format!("{offset}\n")).expect("a folder of ours");
    fs::rename(draft, file).expect("a folder of ours");
}

fn offset_of(cluster: &Path, id: u64) -> PathBuf {
    cluster.join(format!("node-{id}.clock"))
}
