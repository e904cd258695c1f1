//! The parameters of a PostgreSQL target.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use crate::{
    params::{ParamError, Params},
    provider::{Address, postgres::KIND},
};

const KNOWN: [&str; 8] =
    ["host", "port", "database", "admin_user", "tls", "ca_file", "connect_timeout", "statement_timeout"];
const PORT: u16 = 5432;
const DATABASE: &str = "postgres";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Disable,
    /// Encrypted, the certificate unread; channel binding (RFC 5929) must show that who decrypts also knows the
    /// password's verifier, so only SCRAM logins are possible.
    Require,
    /// Encrypted, with a certificate of a trusted authority for this very host.
    Verify,
}

/// What a PostgreSQL target needs to be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Host name or address.
    pub host: String,
    /// TCP port; 5432 unless given.
    pub port: u16,
    /// The database to connect to; `postgres` unless given.
    pub database: String,
    /// The user that changes other users.
    pub admin_user: String,
    /// How the connection is protected: `disable` for a loopback host, `verify` for any other, unless given.
    pub tls: Tls,
    /// Certificates of the authorities to trust (PEM); the system's unless given.
    pub ca_file: Option<PathBuf>,
    /// Longest time to connect and log in; 5 s unless given.
    pub connect_timeout: Duration,
    /// Longest time for one statement; 15 s unless given.
    pub statement_timeout: Duration,
}

impl Settings {
    /// Reads and checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and what is wrong with it.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self, ParamError> {
        let params = Params::among(given, &KNOWN)?;
        let host = params.required("host")?;
        if host.starts_with('/') {
            return Err(ParamError::invalid(
                "host",
                "a socket in the file system proves no password: use TCP",
            ));
        }
        if host.contains([',', ' ', '@']) {
            return Err(ParamError::invalid("host", "it must be one host name or address"));
        }
        let admin_user = params.required("admin_user")?;
        super::check_role(admin_user).map_err(|reason| ParamError::invalid("admin_user", reason))?;
        let ca_file = params.text("ca_file")?.map(PathBuf::from);
        let tls = match params.text("tls")? {
            Some("disable") => Tls::Disable,
            Some("require") => Tls::Require,
            Some("verify") => Tls::Verify,
            Some(other) => {
                let reason = format!("`{other}` is not one of disable, require, verify");
                return Err(ParamError::invalid("tls", reason));
            }
            None if ca_file.is_none() && is_loopback(host) => Tls::Disable,
            None => Tls::Verify,
        };
        if ca_file.is_some() && tls != Tls::Verify {
            return Err(ParamError::invalid("ca_file", "it is read with `tls` = `verify` alone"));
        }
        Ok(Self {
            host: host.to_owned(),
            port: params.port("port", PORT)?,
            database: params.text("database")?.unwrap_or(DATABASE).to_owned(),
            admin_user: admin_user.to_owned(),
            tls,
            ca_file,
            connect_timeout: params.duration("connect_timeout", CONNECT_TIMEOUT)?,
            statement_timeout: params.duration("statement_timeout", STATEMENT_TIMEOUT)?,
        })
    }

    /// Where consumers find the server.
    #[must_use]
    pub fn address(&self) -> Address {
        Address {
            engine: KIND,
            host: self.host.clone(),
            port: self.port,
            database: Some(self.database.clone()),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, ParamError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::parse(&pairs.collect())
    }

    #[test]
    fn only_a_loopback_host_is_spoken_to_in_the_clear_unasked() {
        for (host, tls) in [
            ("localhost", Tls::Disable),
            ("127.0.0.1", Tls::Disable),
            ("::1", Tls::Disable),
            ("10.0.0.5", Tls::Verify),
            ("db.example.com", Tls::Verify),
            ("localhost.example.com", Tls::Verify),
        ] {
            assert_eq!(parse(&[("host", host), ("admin_user", "r")]).unwrap().tls, tls, "{host}");
        }
        let asked = parse(&[("host", "db"), ("admin_user", "r"), ("tls", "disable")]).unwrap();
        assert_eq!(asked.tls, Tls::Disable);
        let own = parse(&[("host", "localhost"), ("admin_user", "r"), ("ca_file", "/ca.pem")]).unwrap();
        assert_eq!(own.tls, Tls::Verify);
    }

    #[test]
    fn what_cannot_be_used_is_refused_when_it_is_declared() {
        for (name, value) in [
            ("host", "/run/postgresql"),
            ("host", "a,b"),
            ("port", "70000"),
            ("tls", "prefer"),
            ("connect_timeout", "soon"),
            ("password", "hunter2"),
            ("sslmode", "require"),
            ("admin_user", ""),
        ] {
            let mut pairs = vec![("host", "localhost"), ("admin_user", "revolve")];
            pairs.retain(|(known, _)| *known != name);
            pairs.push((name, value));
            assert!(parse(&pairs).is_err(), "{name}={value}");
        }
        assert!(
            parse(&[("host", "localhost"), ("admin_user", "r"), ("tls", "require"), ("ca_file", "/ca")])
                .is_err()
        );
        assert_eq!(parse(&[("host", "localhost")]).unwrap_err(), ParamError::Missing("admin_user"));
    }
}
