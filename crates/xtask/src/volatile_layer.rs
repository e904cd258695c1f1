//! The library that the tests of power loss put before the nodes.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo::{cargo, shown};

/// Builds the library and returns its path.
pub fn build() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "-p", "volatile-layer", "--message-format=json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start `cargo`")?;
    ensure!(output.status.success(), "`{}` ended with {}", shown(&command), output.status);
    library(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("`{}` named no library", shown(&command)))
}

/// The path of the last shared library in cargo's JSON messages.
fn library(messages: &str) -> Option<PathBuf> {
    let parsed = messages.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let names = parsed.filter_map(|message| message.get("filenames")?.as_array().cloned()).flatten();
    let mut paths = names.filter_map(|name| name.as_str().map(PathBuf::from));
    paths.find(|path| path.extension().is_some_and(|extension| extension == "so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_read_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","filenames":["/t/debug/libvolatile.rlib"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","filenames":["/t/debug/libvolatile_layer.so"]}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(library(messages), Some(PathBuf::from("/t/debug/libvolatile_layer.so")));
        assert_eq!(library("{}"), None);
    }
}
