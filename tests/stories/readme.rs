//! The README tells today's truth: what it shows of `revolve dev` happens in that order, and its console blocks run
//! as written, against a cluster and a real PostgreSQL.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harness::{
    Child, Postgres,
    cluster::revolve,
    console::{Typed, blocks, commands},
    eventually, port, surroundings,
};
use nix::sys::signal::Signal;
use snapbox::IntoData;
use tempfile::TempDir;

const README: &str = include_str!("../../README.md");
const QUICKSTART: &str = include_str!("../../examples/quickstart.yaml");
/// The last line of the opening; after it the demo goes on by itself.
const OPENING_ENDS: &str = "Try, in another terminal:";
const WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn dev_does_what_the_readme_shows_and_ends_cleanly_upon_ctrl_c() {
    let mut dev = Dev::start(&[]).await;
    let output = dev.process.stdout();
    let seen: Vec<&str> = output.lines().collect();
    let mut rest = seen.as_slice();
    for block in blocks(README, "dev") {
        for shown in block.lines() {
            let place = rest.iter().position(|line| pattern(line) == pattern(shown));
            let place =
                place.unwrap_or_else(|| panic!("`{shown}` does not come, or not in that order:\n{output}"));
            rest = &rest[place + 1..];
        }
    }
    let token_file = dev.variable("REVOLVE_TOKEN_FILE");
    assert!(Path::new(&token_file).exists());
    dev.process.signal(Signal::SIGINT);
    let status = dev.process.wait(WITHIN).await;
    assert_eq!(status.code(), Some(0), "{}", dev.process.tail());
    assert!(!Path::new(&token_file).exists(), "the temporary folder is gone");
    assert_eq!(dev.process.stderr(), "", "nothing but the story is printed");
}

#[tokio::test]
async fn dev_with_three_nodes_survives_the_death_of_its_leader() {
    let mut dev = Dev::start(&["--nodes", "3"]).await;
    let output = dev.process.stdout();
    let kill = output.lines().find_map(|line| line.split("kill -9 ").nth(1)).expect("it says whom to kill");
    let leader = nix::unistd::Pid::from_raw(kill.trim().parse().unwrap());
    nix::sys::signal::kill(leader, Signal::SIGKILL).unwrap();
    eventually("a new leader to be told", WITHIN, async || {
        let output = dev.process.stdout();
        if output.contains("new leader") { Ok(()) } else { Err(output) }
    })
    .await;
    let run = |arguments: &[&str]| {
        let output = revolve(arguments.iter().copied())
            .env("REVOLVE_ADDR", dev.variable("REVOLVE_ADDR"))
            .env("REVOLVE_TOKEN_FILE", dev.variable("REVOLVE_TOKEN_FILE"))
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    // The demo rotates by itself as well: while it does so, nothing can be triggered.
    eventually("a rotation without the old leader", WITHIN, async || {
        let (code, _, stderr) = run(&["schedule", "trigger", "demo", "--wait"]);
        if code == Some(0) { Ok(()) } else { Err(stderr) }
    })
    .await;
    dev.process.signal(Signal::SIGINT);
    assert_eq!(dev.process.wait(WITHIN).await.code(), Some(0), "{}", dev.process.tail());
}

#[tokio::test]
async fn the_quickstart_runs_as_written() {
    let postgres = Postgres::start().await;
    let dev = Dev::start(&[]).await;
    let place = workplace(&postgres);
    for typed in blocks(README, "quickstart").into_iter().flat_map(commands) {
        let Typed { command, code, output: expected, .. } = typed;
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(place.path())
            .env(
                "PATH",
                format!(
                    "{}:{}",
                    place.path().join("bin").display(),
                    std::env::var("PATH").unwrap_or_default()
                ),
            )
            .env("REVOLVE_ADDR", dev.variable("REVOLVE_ADDR"))
            .env("REVOLVE_TOKEN_FILE", dev.variable("REVOLVE_TOKEN_FILE"))
            .env("PGHOST", postgres.host())
            .env("PGPORT", postgres.port().to_string())
            .env("PGUSER", postgres.superuser())
            .env("PGPASSWORD", postgres.password())
            .env("PGDATABASE", "postgres")
            .output()
            .unwrap();
        let (stdout, stderr) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "`{command}`\n{stdout}\n{stderr}");
        // Where a block shows an error it is stderr that is shown.
        let shown = if code > 2 { stderr } else { stdout };
        let same = snapbox::Assert::new().try_eq(Some(&command), shown.into_data(), expected.into_data());
        same.unwrap_or_else(|difference| panic!("`{command}`\n{difference}"));
    }
}

/// `revolve dev`, once it has told its opening.
struct Dev {
    process: Child,
    _folder: TempDir,
}

impl Dev {
    async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("revolve-story-").tempdir().unwrap();
        let port = port::free_range(6).to_string();
        let mut command = revolve(["dev", "--port", &port]);
        command.args(arguments).env("TMPDIR", folder.path());
        let mut process = Child::spawn("dev", folder.path(), command);
        eventually("the opening of `revolve dev`", WITHIN, async || {
            assert!(process.ended().is_none(), "it ended\n{}", process.tail());
            process.stdout().contains(OPENING_ENDS).then_some(()).ok_or_else(|| process.stdout())
        })
        .await;
        // The rest of the opening comes in the same breath; the line with the variables stands in it.
        eventually("the variables to be told", WITHIN, async || process.stdout().contains("--wait=acked"))
            .await;
        Self { process, _folder: folder }
    }

    /// The value that it says a variable should have.
    fn variable(&self, name: &str) -> String {
        let output = self.process.stdout();
        let given = output.split_whitespace().find_map(|word| word.strip_prefix(&format!("{name}=")));
        given.unwrap_or_else(|| panic!("`{name}` is not told:\n{output}")).to_owned()
    }
}

/// A folder as a reader of the README has it: the examples, for this PostgreSQL, and `revolve` on the path.
fn workplace(postgres: &Postgres) -> TempDir {
    let folder = tempfile::Builder::new().prefix("revolve-reader-").tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    fs::create_dir(path("examples")).unwrap();
    fs::create_dir(path("bin")).unwrap();
    let quickstart = QUICKSTART.replace("port: 5432", &format!("port: {}", postgres.port()));
    fs::write(path("examples/quickstart.yaml"), quickstart).unwrap();
    std::os::unix::fs::symlink(fs::canonicalize(surroundings::revolve_bin()).unwrap(), path("bin/revolve"))
        .unwrap();
    folder
}

/// A line without the time at its start, which differs from run to run.
fn pattern(line: &str) -> &str {
    match line.split_once("  ") {
        Some((time, rest)) if time.split(':').count() == 3 => rest,
        Some(_) | None => line,
    }
}
