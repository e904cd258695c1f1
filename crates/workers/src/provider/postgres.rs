//! PostgreSQL, tested with version 15. Passwords reach the server as SCRAM-SHA-256 verifiers computed here, so none
//! travels in SQL text; a login is proven by logging in; sessions are cut with `pg_terminate_backend`.
//!
//! What the administrative user needs is in docs/guides/postgres.md; [`Provider::preflight`] names what is missing.

mod answer;
mod preflight;
mod roles;
mod session;
mod settings;

use async_trait::async_trait;
use model::credential::Strategy;

pub use settings::{Settings, Tls};

use crate::{
    fault::Fault,
    provider::{Capabilities, Ending, Overlap, Probe, Provider, Temporary},
    secret::{Login, Password},
};

use session::Connector;

/// The name of this kind of target.
pub const KIND: &str = "postgres";

/// What it can do.
pub const CAPABILITIES: Capabilities =
    Capabilities { overlap: Overlap::AlternateUser, sever: true, self_rotate: false, inventory: false };

/// Longest name of a role, in bytes (`NAMEDATALEN - 1`); PostgreSQL would cut a longer one short in silence.
const ROLE_BYTES: usize = 63;

/// Checks that the strategy can be run here.
///
/// # Errors
/// Says what can.
pub fn supports(strategy: &Strategy) -> Result<(), String> {
    if let Strategy::Overlapping { .. } = strategy {
        let message =
            "a PostgreSQL role has one password: use single-user, or alternating-users for an overlap";
        return Err(message.into());
    }
    if let Strategy::AlternatingUsers { usernames: [first, second] } = strategy
        && first == second
    {
        return Err(format!("alternating-users needs two roles, not `{first}` twice"));
    }
    for username in strategy.usernames() {
        check_role(username)?;
    }
    Ok(())
}

/// Checks that a text can be the name of a role.
fn check_role(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("the name of a role is empty".into()),
        1..=ROLE_BYTES if !name.contains('\0') => Ok(()),
        _ => Err(format!("`{name}` cannot be a role: at most {ROLE_BYTES} bytes and no NUL")),
    }
}

/// One PostgreSQL server, or what stands in front of it.
#[derive(Debug)]
pub struct Postgres {
    connector: Connector,
    admin: Login,
}

impl Postgres {
    /// A provider for the server that `settings` describe. Nothing is connected yet.
    ///
    /// # Errors
    /// When the certificates of authorities cannot be read.
    pub fn new(settings: Settings, admin: Password) -> Result<Self, Fault> {
        let admin = Login::new(settings.admin_user.clone(), admin);
        Ok(Self { connector: Connector::new(settings)?, admin })
    }

    /// A session of the administrative user.
    async fn administer(&self) -> Result<tokio_postgres::Client, Fault> {
        self.connector.administer(&self.admin, None).await
    }
}

#[async_trait]
impl Provider for Postgres {
    async fn preflight(&self, strategy: &Strategy) -> Result<(), Fault> {
        supports(strategy).map_err(Fault::permanent)?;
        let names = strategy.usernames();
        if names.contains(&self.admin.username.as_str()) {
            let message =
                format!("`{}` is the administrative user and cannot end itself", self.admin.username);
            return Err(Fault::permanent(message));
        }
        let client = self.administer().await?;
        let admin = preflight::admin(&client).await?;
        let roles = preflight::roles(&client, &names).await?;
        preflight::may_change(&admin, &roles)?;
        if let [first, second] = &roles[..] {
            preflight::alike(&client, first, second).await?;
        }
        for role in roles.iter().filter(|role| role.can_login) {
            super::refuses_any_password(self, &role.name).await?;
        }
        Ok(())
    }

    async fn probe(&self, login: &Login) -> Probe {
        self.connector.probe(login).await
    }

    async fn install(&self, login: &Login) -> Result<String, Fault> {
        roles::install(&self.administer().await?, login).await
    }

    async fn retire(&self, ending: &Ending<'_>) -> Result<String, Fault> {
        let username = &ending.login.username;
        if ending.survivor.is_some_and(|survivor| survivor.username == *username) {
            return Ok(format!("`{username}` has one password, and it is a newer one"));
        }
        roles::retire(&self.administer().await?, username).await
    }

    async fn sever(&self, ending: &Ending<'_>) -> Result<u64, Fault> {
        let shared = ending.survivor.is_some_and(|survivor| survivor.username == ending.login.username);
        // Only a survivor's sessions are worth telling apart; a role without one keeps none.
        let opened_before = ending.opened_before.filter(|_| shared);
        roles::sever(&self.administer().await?, &ending.login.username, opened_before).await
    }

    async fn install_temporary(&self, temporary: &Temporary) -> Result<String, Fault> {
        roles::install_temporary(&self.administer().await?, temporary).await
    }

    async fn remove(&self, username: &str, role: &str) -> Result<String, Fault> {
        roles::remove(&self.connector, &self.admin, username, role).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_that_a_role_cannot_serve_are_refused_with_another() {
        let overlapping = supports(&Strategy::Overlapping { username: "app".into() });
        assert!(overlapping.unwrap_err().contains("alternating-users"));
        let twice = Strategy::AlternatingUsers { usernames: ["app".into(), "app".into()] };
        assert!(supports(&twice).is_err());
        for bad in ["", "a\0b", &"x".repeat(64)] {
            assert!(supports(&Strategy::SingleUser { username: bad.into() }).is_err(), "{bad}");
        }
        let two = Strategy::AlternatingUsers { usernames: ["app_a".into(), "app\"; b".into()] };
        assert_eq!(supports(&two), Ok(()));
    }
}
