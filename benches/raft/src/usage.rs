//! What processes and folders use, read from /proc and the file system.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// Bytes in one block of `st_blocks`.
const BLOCK: u64 = 512;

/// Processor time that a process has used so far, in seconds.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    // The name in parentheses may hold spaces: fields are counted after it, where the third is the first.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let mut ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let (Some(user), Some(system)) = (ticks.next(), ticks.next()) else {
        anyhow::bail!("`{path}` is too short");
    };
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel does not tell its clock tick")?;
    Ok(crate::stats::amount(user? + system?) / crate::stats::amount(per_second.try_into()?))
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is not a number")?;
    Ok(kib * 1_024)
}

/// Bytes that a folder takes on disk, with everything below it. Files that vanish meanwhile are not counted.
pub fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
        let entry = entry?;
        match entry.metadata() {
            Ok(found) if found.is_dir() => total += disk_bytes(&entry.path())?,
            Ok(found) => total += found.blocks() * BLOCK,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_time_and_memory() {
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn a_folder_takes_what_its_files_take() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), vec![1; 8_192]).unwrap();
        assert!(disk_bytes(folder.path()).unwrap() >= 8_192);
    }
}
