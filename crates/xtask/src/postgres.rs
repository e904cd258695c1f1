//! The PostgreSQL server programs that the tests start.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::apt;

/// The environment variable under which the tests find the folder, and under which a person may choose one.
pub const BIN_VARIABLE: &str = "REVOLVE_TEST_PG_BIN";

/// Where Debian keeps one folder per major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";
/// The version that the tests are written against; another one is taken when this one is not there.
const PREFERRED_VERSION: &str = "15";

/// The folder with `initdb` and `postgres`, installed first when it is missing and may be.
pub fn bin_dir() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os(BIN_VARIABLE).map(PathBuf::from) {
        if !is_server(&chosen) {
            bail!("`{BIN_VARIABLE}` is `{}`, which lacks `initdb` or `postgres`", chosen.display());
        }
        return Ok(chosen);
    }
    if let Some(found) = find() {
        return Ok(found);
    }
    for package in ["postgresql-15", "postgresql"] {
        if apt::install(&[package])
            && let Some(found) = find()
        {
            return Ok(found);
        }
    }
    bail!(
        "the tests need the PostgreSQL server programs `initdb` and `postgres`, and none were found.\n\
         Install PostgreSQL 15 (Debian: apt-get install postgresql-15), or set `{BIN_VARIABLE}` to their folder."
    )
}

fn find() -> Option<PathBuf> {
    let mut places = vec![Path::new(DEBIAN_ROOT).join(PREFERRED_VERSION).join("bin")];
    places.extend(other_versions());
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    places.into_iter().find(|dir| is_server(dir))
}

/// Debian's other version folders, newest first.
fn other_versions() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(DEBIAN_ROOT) else { return Vec::new() };
    let mut versions: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    versions.into_iter().map(|version| Path::new(DEBIAN_ROOT).join(version.to_string()).join("bin")).collect()
}

fn is_server(dir: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| dir.join(program).is_file())
}
