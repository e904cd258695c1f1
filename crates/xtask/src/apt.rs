//! Debian's packages: installed when this process may, otherwise named.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;

use crate::cargo::succeed;

static LISTS_UPDATED: Once = Once::new();

/// Installs `packages` when running as root with apt-get at hand. Returns whether it could; a refusal by
/// apt-get has by then been printed by apt-get itself.
pub fn install(packages: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() || on_path("apt-get").is_none() {
        return false;
    }
    LISTS_UPDATED.call_once(|| {
        // One unreachable mirror fails the update though the rest is there: the install decides.
        if let Err(error) = succeed(apt_get().arg("update").arg("-qq")) {
            eprintln!("{error:#}");
        }
    });
    println!("installing {}", packages.join(", "));
    let outcome = succeed(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages));
    if let Err(error) = &outcome {
        eprintln!("{error:#}");
    }
    outcome.is_ok()
}

/// The first program called `name` on `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
