//! `--wait`: looks again until it is done, says each change once, and survives a leader change.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use crate::{
    app,
    exit::{Exit, Failure},
    output::Output,
    resource::scalar,
};

/// Wait between two looks: short at first, since most things are quick.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Default of `--timeout`.
pub const DEFAULT_LIMIT: &str = "5m";

/// What one look found.
pub enum Look<T> {
    /// It is done.
    Done(T),
    /// Not yet; how it stands, in a line.
    Pending(String),
}

/// Looks until it is done or `limit` has passed. `resume` is the command that goes on watching.
///
/// # Errors
/// Exit 124 when the limit passes; otherwise what `look` fails with, unless another look may go well.
pub async fn until<T>(
    output: &Output,
    limit: scalar::Span,
    resume: &str,
    mut look: impl AsyncFnMut() -> Result<Look<T>, Failure>,
) -> Result<T, Failure> {
    app::on_interrupt_say(Some(format!("it goes on; watch it with `{resume}`")));
    let deadline = Instant::now() + Duration::from_millis(limit.0);
    let mut reporter = Reporter::new(output);
    let mut pause = FIRST_PAUSE;
    loop {
        let standing = match look().await {
            Ok(Look::Done(found)) => {
                reporter.finish();
                app::on_interrupt_say(None);
                return Ok(found);
            }
            Ok(Look::Pending(standing)) => standing,
            Err(Failure::Client(error)) if error.is_transient() => format!("no answer: {error}"),
            Err(failure) => return Err(failure),
        };
        reporter.say(&standing);
        if Instant::now() + pause > deadline {
            reporter.finish();
            return Err(Failure::Said {
                exit: Exit::TimedOut,
                message: format!("still running after {limit}: {standing}"),
                next: resume.to_owned(),
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Says how it stands: a spinner for people, a line per change for logs.
struct Reporter<'a> {
    output: &'a Output,
    spinner: Option<ProgressBar>,
    last: String,
}

impl<'a> Reporter<'a> {
    fn new(output: &'a Output) -> Self {
        let spinner = output.is_live().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            let spinner = ProgressBar::new_spinner();
            spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.enable_steady_tick(TICK);
            spinner
        });
        Self { output, spinner, last: String::new() }
    }

    fn say(&mut self, standing: &str) {
        if self.last == standing {
            return;
        }
        standing.clone_into(&mut self.last);
        match &self.spinner {
            Some(spinner) => spinner.set_message(self.last.clone()),
            None => self.output.note(standing),
        }
    }

    fn finish(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
