//! Child processes: output kept in files, ended by process id, never left behind.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;

/// Lines of output that a failure message carries.
const TAIL_LINES: usize = 40;
/// Warnings and errors that are printed beside it when a test panics.
const WARNING_LINES: usize = 60;
/// How often a wait outside of async code looks again.
const REAP_PAUSE: Duration = Duration::from_millis(5);

/// A running process. Dropping it kills it and waits until it is gone; when that happens because the test panics,
/// its last warnings and the end of its output are printed.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    ended: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Child {
    /// Starts `command` with its output appended to `<logs>/<name>.stdout` and `<logs>/<name>.stderr`, so that a
    /// restart under the same name continues them. Of this process's `REVOLVE_*` variables the child sees only
    /// those set on `command` itself.
    ///
    /// # Panics
    ///
    /// When the process or its files cannot be made.
    #[must_use]
    pub fn spawn(name: &str, logs: &Path, mut command: Command) -> Self {
        let stdout = logs.join(format!("{name}.stdout"));
        let stderr = logs.join(format!("{name}.stderr"));
        forget_own_settings(&mut command);
        command.stdin(Stdio::null()).stdout(appended(&stdout)).stderr(appended(&stderr));
        let process = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { name: name.to_string(), process, ended: None, stdout, stderr }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().expect("a child of ours can be waited for");
        }
        self.ended
    }

    /// Sends `signal`; does nothing when the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        // Not yet waited for, the id cannot have been given to another process.
        if self.ended().is_none() {
            let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id is positive"));
            kill(pid, signal)
                .unwrap_or_else(|error| panic!("cannot send {signal} to {}: {error}", self.name));
        }
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended = Some(self.process.wait().expect("a child of ours can be waited for"));
    }

    /// Stops the process where it stands (SIGSTOP), until [`Child::resume`].
    pub fn pause(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    ///
    /// # Panics
    ///
    /// When it is still running after `within`.
    pub async fn stop(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(within).await
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    ///
    /// When it is still running after `within`.
    pub async fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of process {} ({})", self.pid(), self.name);
        eventually(what, within, async || self.ended()).await
    }

    /// Sends `signal` and waits outside of async code, as a `Drop` must; returns whether the process has ended.
    pub fn end_blocking(&mut self, signal: Signal, within: Duration) -> bool {
        self.signal(signal);
        let start = Instant::now();
        while self.ended().is_none() && start.elapsed() < within {
            std::thread::sleep(REAP_PAUSE);
        }
        self.ended.is_some()
    }

    /// Everything written to standard output so far, over all runs under this name.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Everything written to standard error so far, over all runs under this name.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// The end of both outputs, for failure messages.
    #[must_use]
    pub fn tail(&self) -> String {
        [("stdout", self.stdout()), ("stderr", self.stderr())]
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(stream, text)| format!("--- {} {stream}\n{}\n", self.name, last_lines(text)))
            .collect()
    }

    /// The last warnings and errors in its log, which stand far before the end where a node logs in detail.
    fn warnings(&self) -> String {
        let text = self.stderr();
        let is_warning = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        let warnings: Vec<&str> = text.lines().filter(is_warning).collect();
        if warnings.is_empty() {
            return String::new();
        }
        let last = &warnings[warnings.len().saturating_sub(WARNING_LINES)..];
        format!("--- {} warns\n{}\n", self.name, last.join("\n"))
    }
}

impl Drop for Child {
    #[expect(clippy::print_stderr, reason = "the test harness captures it and shows it with the failure")]
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
        if std::thread::panicking() {
            eprint!("{}{}", self.warnings(), self.tail());
        }
    }
}

/// Takes this process's `REVOLVE_*` variables away from the child: it would read them as its settings.
fn forget_own_settings(command: &mut Command) {
    let chosen: Vec<_> = command.get_envs().map(|(name, _)| name.to_os_string()).collect();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REVOLVE_") && !chosen.contains(&name) {
            command.env_remove(name);
        }
    }
}

fn appended(path: &Path) -> File {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("cannot open `{}`: {error}", path.display()))
}

fn read(path: &Path) -> String {
    let bytes =
        std::fs::read(path).unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
