//! Named steps that all run, each timed, with one summary at the end.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

/// How a step ended that did not fail.
pub enum Checked {
    /// Everything the step stands for was checked.
    Whole,
    /// Something outside this machine was missing; the words say what was not checked.
    Partly(String),
}

/// What has run so far.
#[derive(Default)]
pub struct Steps {
    failed: Vec<&'static str>,
    unchecked: Vec<String>,
}

impl Steps {
    /// Runs one step under a heading and says how long it took. A failure does not stop the later ones.
    pub fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<Checked>) {
        println!("\n== {name}");
        let start = Instant::now();
        let verdict = match step() {
            Ok(Checked::Whole) => "ok",
            Ok(Checked::Partly(what)) => {
                println!("NOT CHECKED: {what}");
                self.unchecked.push(what);
                "not checked"
            }
            Err(error) => {
                println!("error: {error:#}");
                self.failed.push(name);
                "FAILED"
            }
        };
        println!("== {name}: {verdict}, {:.1} s", start.elapsed().as_secs_f64());
    }

    /// Prints the summary; the exit code is a failure when any step failed.
    pub fn close(self, task: &str) -> ExitCode {
        println!();
        for what in &self.unchecked {
            println!("{task}: not checked: {what}");
        }
        if self.failed.is_empty() {
            println!("{task}: passed");
            return ExitCode::SUCCESS;
        }
        println!("{task}: failed: {}", self.failed.join(", "));
        ExitCode::FAILURE
    }
}
