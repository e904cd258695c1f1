//! What a data folder holds, looked at while no node uses it. Opening mends and makes what is missing, so a copy is opened,
//! and the folder stays as it is.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use uuid::Uuid;

use crate::{disk::Layout, log::DiskLog, machine::SnapshotFolder, raft::LogId, store::Store};

/// What damaged files are called when they are set aside.
const ASIDE: &str = "damaged";

/// A part of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which: `folder`, `identity`, `quarantine`, `log`, `state` or `snapshot`.
    pub name: &'static str,
    /// What it holds, or what is wrong with it.
    pub found: Result<String, String>,
}

/// Looks at every part of the data folder of a node that does not run. It needs room for a copy beside the temporary files
/// of the machine.
///
/// # Errors
/// The folder cannot be read or copied, or a node uses it ([`io::ErrorKind::WouldBlock`]).
pub fn examine(data: &Path) -> io::Result<Vec<Part>> {
    let mode = fs::metadata(data)?.permissions().mode();
    let layout = Layout::make(data.to_owned())?;
    // Held to the end; a folder that never had a lock is used by nobody.
    let _lock = if data.join("lock").exists() { Some(layout.lock()?) } else { None };
    let copied = tempfile::tempdir()?;
    copy(data, copied.path())?;
    let copy = Layout::make(copied.path().to_owned())?;
    let writable = mode & 0o022 != 0;
    let folder = if writable {
        Err(format!("others may write to it (mode {:04o})", mode & 0o7777))
    } else {
        Ok(String::new())
    };
    let quarantine = layout.quarantine_reason()?.map_or(Ok("none".to_owned()), Err);
    Ok(vec![
        Part { name: "folder", found: folder.map(|_: String| format!("mode {:04o}", mode & 0o7777)) },
        Part { name: "identity", found: identity(data) },
        Part { name: "quarantine", found: quarantine },
        Part { name: "log", found: log(&copy.log()) },
        Part { name: "state", found: state(&copy) },
        Part { name: "snapshot", found: snapshot(&copy.snapshots()) },
    ])
}

fn identity(data: &Path) -> Result<String, String> {
    let text = fs::read_to_string(data.join("identity")).map_err(told)?;
    text.trim().parse::<Uuid>().map(|id| id.to_string()).map_err(told)
}

fn log(folder: &Path) -> Result<String, String> {
    if !folder.exists() {
        return Err("there is none".to_owned());
    }
    let stand = DiskLog::open(folder).map_err(told)?.durable();
    let last = stand.last.map_or_else(|| "empty".to_owned(), |(_, index)| format!("up to entry {index}"));
    Ok(format!("{last}, term {}", stand.term))
}

fn state(copy: &Layout) -> Result<String, String> {
    let folder = copy.state();
    let newest = SnapshotFolder::open(copy.snapshots()).map_err(told)?.current();
    let (store, state, position) = Store::open(folder.clone(), newest.as_ref()).map_err(told)?;
    drop(store);
    if folder.join(ASIDE).exists() {
        return Err("it is damaged, and will be built again from the log or another node".to_owned());
    }
    Ok(format!("{}, digest {}", up_to(position.applied()), state.digest()))
}

fn snapshot(folder: &Path) -> Result<String, String> {
    let snapshots = SnapshotFolder::open(folder.to_owned()).map_err(told)?;
    let mut files = fs::read_dir(folder).map_err(told)?.flatten();
    if files.any(|file| file.path().extension().is_some_and(|ending| ending == ASIDE)) {
        return Err("one cannot be read, and will be made again".to_owned());
    }
    let Some(newest) = snapshots.current() else { return Ok("none yet".to_owned()) };
    newest.check().map_err(|error| format!("it is damaged, and will be made again: {error}"))?;
    Ok(up_to(newest.head().position.applied()))
}

fn up_to(applied: Option<LogId>) -> String {
    applied.map_or_else(|| "empty".to_owned(), |id| format!("up to entry {}", id.index))
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Copies a folder, without what was set aside before.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.ends_with(ASIDE) || path.extension().is_some_and(|ending| ending == ASIDE) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&path, &target)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
