//! What is done to roles and their sessions.

use std::{collections::BTreeSet, time::Duration};

use model::time::Time;
use postgres_protocol::{
    escape::{escape_identifier, escape_literal},
    password::scram_sha_256,
};
use tokio_postgres::Client;

use super::{answer, check_role, session::Connector};
use crate::{
    fault::Fault,
    provider::{TEMPORARY_PREFIX, Temporary},
    secret::Login,
};

/// Sessions a temporary user may have at once.
const TEMPORARY_CONNECTIONS: u8 = 8;
/// Between two looks at the sessions being cut.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Looks in a row that must find no session: one that was let in just before the role was closed shows a moment
/// later than it is let in.
const EMPTY_LOOKS: u32 = 3;

/// Gives a role its password, and lets it log in.
pub async fn install(client: &Client, login: &Login) -> Result<String, Fault> {
    let role = role(&login.username)?;
    let verifier = verifier(login);
    client.batch_execute(&format!("ALTER ROLE {role} LOGIN PASSWORD {verifier}")).await.map_err(|error| {
        if answer::is_unknown_role(&error) {
            let name = &login.username;
            return Fault::rejected(format!("role `{name}` does not exist: create it with its grants first"));
        }
        answer::sent(&error)
    })?;
    Ok(format!("`{}` has a new password", login.username))
}

/// Takes a role's password and its right to log in.
pub async fn retire(client: &Client, username: &str) -> Result<String, Fault> {
    let role = role(username)?;
    match client.batch_execute(&format!("ALTER ROLE {role} NOLOGIN PASSWORD NULL")).await {
        Ok(()) => Ok(format!("`{username}` has no password and may not log in")),
        Err(error) if answer::is_unknown_role(&error) => Ok(format!("there is no role `{username}`")),
        Err(error) => Err(answer::sent(&error)),
    }
}

/// Cuts the sessions of a role that were opened before this moment, or before an earlier one by the server's clock,
/// and returns once none is left.
///
/// A session opened with an old password began before the password changed, so before this call: none is missed.
/// The moment also keeps sessions that come back with a new password from being cut again and again.
pub async fn sever(client: &Client, username: &str, opened_before: Option<Time>) -> Result<u64, Fault> {
    const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    // Where a session's start is hidden from us it may be an old one.
    const CUT: &str = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE usename = $1 AND pid <> pg_backend_pid() AND (backend_start IS NULL \
            OR backend_start < timestamptz 'epoch' + $2::bigint * interval '1 microsecond')";

    let now = client.query_one(NOW, &[]).await.map_err(|error| answer::unsent(&error))?;
    let mut before: i64 = now.get(0);
    if let Some(earlier) = opened_before {
        before = before.min(i64::try_from(earlier.0.saturating_mul(1_000)).unwrap_or(i64::MAX));
    }
    let cut = client.prepare(CUT).await.map_err(|error| answer::unsent(&error))?;
    let mut seen = BTreeSet::<i32>::new();
    let mut empty_looks = 0;
    while empty_looks < EMPTY_LOOKS {
        let rows = client.query(&cut, &[&username, &before]).await.map_err(|error| answer::sent(&error))?;
        empty_looks = if rows.is_empty() { empty_looks + 1 } else { 0 };
        seen.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        if empty_looks < EMPTY_LOOKS {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Ok(u64::try_from(seen.len()).unwrap_or(u64::MAX))
}

/// Makes a temporary role, or brings one that exists to the same state.
pub async fn install_temporary(client: &Client, temporary: &Temporary) -> Result<String, Fault> {
    let username = &temporary.login.username;
    let user = temporary_role(username)?;
    let role = role(&temporary.role)?;
    let verb = if exists(client, username).await? { "ALTER" } else { "CREATE" };
    // Several statements in one query are one transaction.
    let statement = format!(
        "{verb} ROLE {user} LOGIN PASSWORD {verifier} VALID UNTIL {until} CONNECTION LIMIT {TEMPORARY_CONNECTIONS}; \
         GRANT {role} TO {user}",
        verifier = verifier(&temporary.login),
        until = escape_literal(&temporary.valid_until.to_string()),
    );
    client.batch_execute(&statement).await.map_err(|error| {
        if answer::is_unknown_role(&error) {
            return Fault::rejected(format!("role `{}` does not exist", temporary.role));
        }
        answer::sent(&error)
    })?;
    Ok(format!("`{username}` is a member of `{}` until {}", temporary.role, temporary.valid_until))
}

/// Removes a temporary role. What it owns in any database goes to `heir`, or to the administrative user where that
/// may not give it to `heir`.
pub async fn remove(
    connector: &Connector,
    admin: &Login,
    username: &str,
    heir: &str,
) -> Result<String, Fault> {
    let user = temporary_role(username)?;
    let client = connector.administer(admin, None).await?;
    if !exists(&client, username).await? {
        return Ok(format!("there is no role `{username}`"));
    }
    let (superuser, may_give) = standing(&client, heir).await?;
    if !superuser {
        // Giving away what it owns takes membership; it goes with the role.
        send(&client, &format!("GRANT {user} TO CURRENT_USER")).await?;
    }
    let heir_name = if may_give { role(heir)? } else { "CURRENT_USER".to_owned() };
    let databases = databases_with_traces(&client, username).await?;
    for database in &databases {
        let there = connector.administer(admin, Some(database)).await?;
        let statement = format!("REASSIGN OWNED BY {user} TO {heir_name}; DROP OWNED BY {user}");
        send(&there, &statement).await.map_err(|fault| fault.within(&format!("database `{database}`")))?;
    }
    send(&client, &format!("DROP ROLE IF EXISTS {user}")).await?;
    Ok(match (databases.is_empty(), may_give) {
        (true, _) => format!("`{username}` is removed; it owned nothing"),
        (false, true) => format!("`{username}` is removed; what it owned went to `{heir}`"),
        (false, false) => format!("`{username}` is removed; what it owned went to the administrative user"),
    })
}

async fn send(client: &Client, statement: &str) -> Result<(), Fault> {
    client.batch_execute(statement).await.map_err(|error| answer::sent(&error))
}

async fn exists(client: &Client, username: &str) -> Result<bool, Fault> {
    let row = client.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&username]).await;
    row.map(|row| row.is_some()).map_err(|error| answer::unsent(&error))
}

/// Whether the administrative user is a superuser, and whether it may give things to `heir`.
async fn standing(client: &Client, heir: &str) -> Result<(bool, bool), Fault> {
    const QUERY: &str = "SELECT own.rolsuper, coalesce((SELECT pg_has_role(current_user, oid, 'USAGE') \
        FROM pg_roles WHERE rolname = $1), false) FROM pg_roles AS own WHERE own.rolname = current_user";
    let row = client.query_one(QUERY, &[&heir]).await.map_err(|error| answer::unsent(&error))?;
    Ok((row.get(0), row.get(1)))
}

/// The databases in which a role owns something or was granted something.
async fn databases_with_traces(client: &Client, username: &str) -> Result<Vec<String>, Fault> {
    const QUERY: &str = "SELECT DISTINCT coalesce(place.datname, current_database())::text FROM pg_shdepend AS trace \
        LEFT JOIN pg_database AS place ON place.oid = trace.dbid \
        WHERE trace.refclassid = 'pg_authid'::regclass \
            AND trace.refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1) ORDER BY 1";
    let rows = client.query(QUERY, &[&username]).await.map_err(|error| answer::unsent(&error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The name of a role, quoted.
fn role(name: &str) -> Result<String, Fault> {
    check_role(name).map_err(Fault::permanent)?;
    Ok(escape_identifier(name))
}

/// The name of a temporary role, quoted; any other is left alone whatever was asked.
fn temporary_role(name: &str) -> Result<String, Fault> {
    if !name.starts_with(TEMPORARY_PREFIX) {
        return Err(Fault::permanent(format!("`{name}` is not a temporary user")));
    }
    role(name)
}

/// The SCRAM verifier of a password (RFC 5803) as a literal: from it one cannot log in.
fn verifier(login: &Login) -> String {
    escape_literal(&scram_sha_256(login.password.expose().as_bytes()))
}
