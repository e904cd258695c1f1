//! The `revolve` binary with named crash points, which only the story tests use.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cargo::{cargo, shown, test_env};

/// What tests are built with: crash points in the product, and bugs to plant in it. Both do nothing until a test asks.
pub const FEATURES: &str = "cli/failpoints,sim/planted";

/// Builds the binary with crash points, puts it apart from the ordinary one and returns its path. It is the one that the
/// tests of the command line are built with, so that the tests need nothing of it compiled once more: a build of the
/// binary alone would have other features in what it shares with them.
pub fn build() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--features", FEATURES, "--no-run", "--test", "golden"]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().context("cannot start `cargo`")?;
    ensure!(output.status.success(), "`{}` ended with {}", shown(&command), output.status);
    let built = program(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("`{}` named no program", shown(&command)))?;

    let apart = test_env().join("revolve");
    let fresh = apart.with_extension("new");
    std::fs::create_dir_all(test_env())?;
    std::fs::copy(&built, &fresh).with_context(|| format!("cannot copy `{}`", built.display()))?;
    // A rename, so that a server still running from the old file keeps it.
    std::fs::rename(&fresh, &apart)?;
    Ok(apart)
}

/// The path of the program among cargo's messages, beside that of its tests.
fn program(messages: &str) -> Option<PathBuf> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = parsed.filter(|message| {
        message["target"]["kind"] == json!(["bin"]) && message["target"]["name"] == "revolve"
    });
    programs.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_read_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"]},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"revolve"},"executable":"/t/debug/revolve"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"]},"executable":"/t/debug/deps/golden-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(program(messages), Some(PathBuf::from("/t/debug/revolve")));
        assert_eq!(program("{}"), None);
    }
}
