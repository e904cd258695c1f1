//! One version as a person at the server sees it: a user, a password, and whether they let one in.

use harness::Postgres;
use tokio_postgres::{Client, error::SqlState};

/// User and password of one version.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The version.
    pub version: u32,
    /// The role.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "version {} of `{}`", self.version, self.username)
    }
}

impl Login {
    /// Whether the server lets it in; anything but a yes and a no is a failure of the test.
    pub async fn works(&self, postgres: &Postgres) -> bool {
        match postgres.try_login(&self.username, &self.password).await {
            Ok(()) => true,
            Err(error) => {
                let no = [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION];
                let refused = error.code().is_some_and(|code| no.contains(code));
                assert!(refused, "{self:?} is neither let in nor refused: {error:?}");
                false
            }
        }
    }

    /// A session opened with it.
    pub async fn session(&self, postgres: &Postgres) -> Client {
        let opened = postgres.client(&self.username, &self.password, "postgres").await;
        opened.unwrap_or_else(|error| panic!("{self:?} is not let in: {error:?}"))
    }
}

/// Whether a session still answers.
pub async fn alive(session: &Client) -> bool {
    session.simple_query("SELECT 1").await.is_ok()
}
