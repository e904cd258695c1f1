//! What is going on, on standard error: standard output is for the tables.

use std::time::Instant;

/// Tells what is going on, and since when.
#[derive(Debug)]
pub struct Progress(Instant);

impl Progress {
    /// Begins to count.
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// One line.
    #[expect(clippy::print_stderr, reason = "this is the place that talks to the terminal")]
    pub fn tell(&self, what: &str) {
        eprintln!("[{:4} s] {what}", self.0.elapsed().as_secs());
    }
}
