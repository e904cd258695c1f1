//! A real PostgreSQL server of its own for one test.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::User;
use rand::distr::{Alphanumeric, SampleString};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::process::Child;
use crate::{eventually, port, surroundings};

const SUPERUSER: &str = "postgres";
const START_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(60);

/// A PostgreSQL server on a loopback port: password logins only (SCRAM), every statement in its log. Dropping it
/// ends the server and all its sessions, and removes its data.
#[derive(Debug)]
pub struct Postgres {
    // Dropped first: the server ends before its folder goes.
    server: Option<Child>,
    folder: TempDir,
    port: u16,
    password: String,
    account: Option<User>,
}

impl Postgres {
    /// Makes a new database cluster and starts it; returns once the superuser can log in.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is missing or does not start.
    pub async fn start() -> Self {
        let account = server_account();
        let folder =
            tempfile::Builder::new().prefix("revolve-postgres-").tempdir().expect("a temporary folder");
        let password = Alphanumeric.sample_string(&mut rand::rng(), 24);
        let mut postgres = Self { server: None, folder, port: port::free(), password, account };
        postgres.make_data();
        postgres.start_again().await;
        postgres
    }

    /// Starts the server after [`Postgres::stop`], on the same port and data.
    ///
    /// # Panics
    ///
    /// When the server runs already or does not start.
    pub async fn start_again(&mut self) {
        assert!(self.server.is_none(), "PostgreSQL runs already");
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "log_connections=on",
            "log_disconnections=on",
            "log_statement=all",
        ] {
            command.args(["-c", setting]);
        }
        let mut server = Child::spawn("postgres", self.folder.path(), command);
        eventually("a login at PostgreSQL", START_WITHIN, async || {
            if let Some(status) = server.ended() {
                panic!("PostgreSQL ended with {status}\n{}", server.tail());
            }
            self.try_login(SUPERUSER, &self.password).await
        })
        .await;
        self.server = Some(server);
    }

    /// Stops the server, cutting all sessions: connections are refused until [`Postgres::start_again`].
    ///
    /// # Panics
    ///
    /// When it is not running or does not stop.
    pub async fn stop(&mut self) {
        let mut server = self.server.take().expect("PostgreSQL runs");
        // SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for the sessions.
        server.signal(Signal::SIGINT);
        server.wait(STOP_WITHIN).await;
    }

    /// The loopback address, as a host name for connection strings.
    #[must_use]
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port, the same for the server's whole life.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        port::loopback(self.port)
    }

    /// The superuser's name.
    #[must_use]
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The superuser's password, random for each server.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The main process's id, when the server runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::pid)
    }

    /// The folder that holds the data and the log, for a search of leaked secrets.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A session; its connection is served in the background and ends with the client.
    ///
    /// # Errors
    ///
    /// What PostgreSQL or the network answered.
    pub async fn client(&self, user: &str, password: &str, database: &str) -> Result<Client, Error> {
        connect(self.address(), user, password, database).await
    }

    /// Logs in to the database `postgres` and out again.
    ///
    /// # Errors
    ///
    /// What PostgreSQL or the network answered.
    pub async fn try_login(&self, user: &str, password: &str) -> Result<(), Error> {
        let client = self.client(user, password, "postgres").await?;
        client.batch_execute("SELECT 1").await
    }

    /// A session of the superuser in the database `postgres`.
    ///
    /// # Panics
    ///
    /// When the server is down.
    pub async fn admin(&self) -> Client {
        let client = self.client(SUPERUSER, &self.password, "postgres").await;
        client.unwrap_or_else(|error| panic!("the superuser cannot log in: {error:?}"))
    }

    /// The names of all roles but PostgreSQL's own (`pg_…`) and the superuser, in order.
    ///
    /// # Panics
    ///
    /// When the server is down.
    pub async fn roles(&self) -> Vec<String> {
        let query = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> $1 ORDER BY rolname";
        let rows = self.admin().await.query(query, &[&SUPERUSER]).await;
        rows.expect("the roles can be listed").iter().map(|row| row.get(0)).collect()
    }

    /// How many sessions `user` has open.
    ///
    /// # Panics
    ///
    /// When the server is down.
    pub async fn sessions(&self, user: &str) -> usize {
        let query = "SELECT pid FROM pg_stat_activity WHERE usename = $1";
        self.admin().await.query(query, &[&user]).await.expect("the sessions can be listed").len()
    }

    /// How often `text` is in the server's log, which holds every statement.
    ///
    /// # Panics
    ///
    /// When the server has never run.
    #[must_use]
    pub fn logged(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("postgres.stderr"));
        log.expect("the server has a log").matches(text).count()
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// Runs initdb. The password travels in a file, gone before the server starts.
    fn make_data(&self) {
        let secret = self.folder.path().join("password");
        std::fs::write(&secret, &self.password).expect("the temporary folder is writable");
        self.give_away(self.folder.path());
        self.give_away(&secret);
        let mut command = self.program("initdb");
        command.arg("-D").arg(self.data()).arg("--pwfile").arg(&secret);
        command.args(["--username", SUPERUSER, "--encoding=UTF8", "--locale=C", "--no-sync"]);
        command.args(["--auth-host=scram-sha-256", "--auth-local=reject"]).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "initdb ended with {}\n{said}", output.status);
        std::fs::remove_file(secret).expect("the password file is ours");
    }

    /// A server program, run in the server's folder and under its account.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(surroundings::postgres_bin().join(name));
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command
    }

    fn give_away(&self, path: &Path) {
        if let Some(account) = &self.account {
            chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw()))
                .expect("root may give a file away");
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // PostgreSQL's immediate shutdown: it ends its own children first, which `kill -9` would leave behind.
            server.end_blocking(Signal::SIGQUIT, STOP_WITHIN);
        }
    }
}

/// A session at `address`, which may be that of a [`crate::Proxy`] before the server.
///
/// # Errors
///
/// What PostgreSQL or the network answered.
pub async fn connect(
    address: SocketAddr,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, Error> {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user(user).password(password).dbname(database);
    config.connect_timeout(CONNECT_WITHIN);
    let (client, connection) = config.connect(NoTls).await?;
    // Its error reaches the client's pending call as well.
    tokio::spawn(async { drop(connection.await) });
    Ok(client)
}

/// PostgreSQL refuses to run as root: then it runs as the account its package made, or as nobody.
fn server_account() -> Option<User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let found = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    Some(found.expect("this system has an account `postgres` or `nobody`"))
}
