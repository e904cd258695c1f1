//! Whether the administrative user may do what a rotation needs, and the roles are fit for it.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::answer;
use crate::fault::Fault;

/// From this version on, changing a role takes ADMIN OPTION on it beside CREATEROLE.
const ADMIN_OPTION_SINCE: i32 = 160_000;

/// What the administrative user may do everywhere.
pub struct Admin {
    name: String,
    superuser: bool,
    create_role: bool,
    signal: bool,
    stats: bool,
    server: i32,
}

/// A role that is to be rotated.
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether it may log in at present.
    pub can_login: bool,
    superuser: bool,
    expired: bool,
    attributes: String,
    administered: bool,
    usable: bool,
}

/// Asks what the administrative user may do.
pub async fn admin(client: &Client) -> Result<Admin, Fault> {
    const QUERY: &str = "SELECT rolname::text, rolsuper, rolcreaterole, \
        pg_has_role(current_user, 'pg_signal_backend', 'USAGE'), \
        pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), \
        current_setting('server_version_num')::int FROM pg_roles WHERE rolname = current_user";
    let row = client.query_one(QUERY, &[]).await.map_err(|error| answer::unsent(&error))?;
    Ok(Admin {
        name: row.get(0),
        superuser: row.get(1),
        create_role: row.get(2),
        signal: row.get(3),
        stats: row.get(4),
        server: row.get(5),
    })
}

/// Looks the roles up, in the order given.
pub async fn roles(client: &Client, names: &[&str]) -> Result<Vec<Role>, Fault> {
    const QUERY: &str = "SELECT rolname::text, rolcanlogin, rolsuper, coalesce(rolvaliduntil < now(), false), \
        concat_ws(' ', CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolinherit THEN 'INHERIT' END, \
            CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END, \
            CASE WHEN rolreplication THEN 'REPLICATION' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END), \
        pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION'), pg_has_role(current_user, oid, 'USAGE') \
        FROM pg_roles WHERE rolname = $1";
    let mut roles = Vec::with_capacity(names.len());
    for name in names {
        let row = client.query_opt(QUERY, &[name]).await.map_err(|error| answer::unsent(&error))?;
        let Some(row) = row else {
            return Err(Fault::rejected(format!(
                "role `{name}` does not exist: create it with its grants first"
            )));
        };
        let role = Role {
            name: row.get(0),
            can_login: row.get(1),
            superuser: row.get(2),
            expired: row.get(3),
            attributes: row.get(4),
            administered: row.get(5),
            usable: row.get(6),
        };
        if role.expired {
            return Err(Fault::rejected(format!("role `{name}` is past its VALID UNTIL and cannot log in")));
        }
        roles.push(role);
    }
    Ok(roles)
}

/// Whether the administrative user may change the roles and cut their sessions; names the grant that is missing.
pub fn may_change(admin: &Admin, roles: &[Role]) -> Result<(), Fault> {
    if admin.superuser {
        return Ok(());
    }
    let lacks = |what: String| Err(Fault::rejected(format!("`{}` lacks a right: {what}", admin.name)));
    let name = quoted(&admin.name);
    for role in roles {
        if role.superuser {
            return lacks(format!("only a superuser may change the superuser `{}`", role.name));
        }
        if !admin.create_role {
            return lacks(format!("ALTER ROLE {name} CREATEROLE"));
        }
        if admin.server >= ADMIN_OPTION_SINCE && !role.administered {
            return lacks(format!("GRANT {} TO {name} WITH ADMIN OPTION", quoted(&role.name)));
        }
        if !admin.signal && !role.usable {
            return lacks(format!("GRANT pg_signal_backend TO {name}"));
        }
        if !admin.stats && !role.usable {
            return lacks(format!("GRANT pg_read_all_stats TO {name}"));
        }
    }
    Ok(())
}

/// Whether two roles that take turns are members of the same roles and have the same attributes.
pub async fn alike(client: &Client, first: &Role, second: &Role) -> Result<(), Fault> {
    if first.attributes != second.attributes {
        return Err(Fault::rejected(format!(
            "roles that take turns must be alike: `{}` has ({}), `{}` has ({})",
            first.name, first.attributes, second.name, second.attributes
        )));
    }
    let (of_first, of_second) = (memberships(client, first).await?, memberships(client, second).await?);
    for (has, lacks, more, fewer) in
        [(first, second, &of_first, &of_second), (second, first, &of_second, &of_first)]
    {
        if let Some(missing) = more.difference(fewer).find(|role| **role != lacks.name) {
            return Err(Fault::rejected(format!(
                "roles that take turns must be members of the same roles: `{}` is in `{missing}`, `{}` is not; \
                 run: GRANT {} TO {}",
                has.name,
                lacks.name,
                quoted(missing),
                quoted(&lacks.name)
            )));
        }
    }
    Ok(())
}

async fn memberships(client: &Client, role: &Role) -> Result<BTreeSet<String>, Fault> {
    const QUERY: &str = "SELECT granted.rolname::text FROM pg_auth_members AS held \
        JOIN pg_roles AS granted ON granted.oid = held.roleid JOIN pg_roles AS member ON member.oid = held.member \
        WHERE member.rolname = $1";
    let rows = client.query(QUERY, &[&role.name]).await.map_err(|error| answer::unsent(&error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn quoted(name: &str) -> String {
    postgres_protocol::escape::escape_identifier(name)
}
