//! The `revolve` binary with named crash points, which only the story tests use.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo::{cargo, shown, test_env};

/// Builds the binary with crash points, puts it apart from the ordinary one and returns its path. It shares the
/// target folder and the choice of packages with the tests: chosen alone, the package would have most of its
/// dependencies compiled once more with other features. So only the crates above the crash points are built twice.
pub fn build() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--workspace", "--bin", "revolve", "--features", "cli/failpoints"]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().context("cannot start `cargo`")?;
    ensure!(output.status.success(), "`{}` ended with {}", shown(&command), output.status);
    let built = executable(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("`{}` named no executable", shown(&command)))?;

    let apart = test_env().join("revolve");
    let fresh = apart.with_extension("new");
    std::fs::create_dir_all(test_env())?;
    std::fs::copy(&built, &fresh).with_context(|| format!("cannot copy `{}`", built.display()))?;
    // A rename, so that a server still running from the old file keeps it.
    std::fs::rename(&fresh, &apart)?;
    Ok(apart)
}

/// The path of the last executable in cargo's JSON messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let mut parsed = messages.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","executable":"/t/debug/revolve"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages), Some(PathBuf::from("/t/debug/revolve")));
        assert_eq!(executable("{}"), None);
    }
}
