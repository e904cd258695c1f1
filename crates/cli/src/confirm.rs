//! A clear yes before something is taken away.

use std::io::{self, BufRead, IsTerminal};

use crate::{exit::Failure, output::Output};

/// Asks to type `name`, unless `yes` was given. `what` says what will happen, such as "this removes target `pg`".
///
/// # Errors
/// When nobody can be asked, or something else was typed.
pub fn confirm(output: &Output, yes: bool, what: &str, name: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || output.is_for_machines() {
        return Err(Failure::usage(format!("{what}; nobody can be asked here"), "add --yes if you mean it"));
    }
    output.prompt(&format!("{what}. Type `{name}` to go on: "));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if line.trim() == name {
        return Ok(());
    }
    Err(Failure::failed("nothing was done: the name does not match", ""))
}
