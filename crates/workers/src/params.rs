//! Parameters of targets and stores, checked when they are declared: an unknown one is refused, and so is a secret.

use std::{collections::BTreeMap, time::Duration};

/// Parts of names under which people put secrets.
const SECRETIVE: [&str; 6] = ["password", "passwd", "secret", "token", "credential", "access_key"];

/// Why parameters are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// No such kind of target or store.
    #[error("`{given}` is not a known kind: use one of {known}")]
    UnknownKind {
        /// What was given.
        given: String,
        /// What there is.
        known: String,
    },
    /// The kind has no such parameter.
    #[error("unknown parameter `{name}`: use {known}")]
    Unknown {
        /// The parameter.
        name: String,
        /// What there is.
        known: String,
    },
    /// Parameters are readable to everyone who may see the declaration.
    #[error("parameter `{0}` looks like a secret: secrets are given apart from parameters and kept sealed")]
    Secret(String),
    /// A parameter must be there.
    #[error("parameter `{0}` is missing")]
    Missing(&'static str),
    /// A parameter cannot be used.
    #[error("parameter `{name}` is refused: {reason}")]
    Invalid {
        /// The parameter.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl ParamError {
    /// A parameter that cannot be used, and why.
    pub fn invalid(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { name, reason: reason.into() }
    }
}

/// The parameters of one target or store, read by name.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a>(&'a BTreeMap<String, String>);

impl<'a> Params<'a> {
    /// Parameters of which every name is among `known`.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn among(given: &'a BTreeMap<String, String>, known: &[&str]) -> Result<Self, ParamError> {
        match given.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self(given)),
            Some(name) if SECRETIVE.iter().any(|part| name.to_lowercase().contains(part)) => {
                Err(ParamError::Secret(name.clone()))
            }
            Some(name) => Err(ParamError::Unknown { name: name.clone(), known: known.join(", ") }),
        }
    }

    /// The text of a parameter, if it is given; an empty one is refused.
    ///
    /// # Errors
    /// When it is empty or contains a NUL.
    pub fn text(self, name: &'static str) -> Result<Option<&'a str>, ParamError> {
        match self.0.get(name).map(|value| value.trim()) {
            Some("") => Err(ParamError::invalid(name, "it is empty")),
            Some(value) if value.contains('\0') => Err(ParamError::invalid(name, "it contains a NUL")),
            value => Ok(value),
        }
    }

    /// The text of a parameter that must be there.
    ///
    /// # Errors
    /// When it is missing or empty.
    pub fn required(self, name: &'static str) -> Result<&'a str, ParamError> {
        self.text(name)?.ok_or(ParamError::Missing(name))
    }

    /// A port number, or `default`.
    ///
    /// # Errors
    /// When it is not one of 1 to 65535.
    pub fn port(self, name: &'static str, default: u16) -> Result<u16, ParamError> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        match text.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(ParamError::invalid(name, format!("`{text}` is not a port, 1 to 65535"))),
        }
    }

    /// A length of time such as `5s` or `500ms`, or `default`.
    ///
    /// # Errors
    /// When it is not one, or not from 1 ms to 10 minutes.
    pub fn duration(self, name: &'static str, default: Duration) -> Result<Duration, ParamError> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        let longest = Duration::from_millis(model::caps::ATTEMPT_MAX.0);
        match humantime::parse_duration(text) {
            Ok(span) if (Duration::from_millis(1)..=longest).contains(&span) => Ok(span),
            Ok(_) => Err(ParamError::invalid(name, format!("`{text}` is not within 1ms to 10m"))),
            Err(_) => Err(ParamError::invalid(name, format!("`{text}` is not a duration such as `5s`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_unknown_parameter_is_refused_and_a_secret_one_says_where_it_belongs() {
        let unknown = given(&[("hots", "db")]);
        assert!(matches!(Params::among(&unknown, &["host"]), Err(ParamError::Unknown { .. })));
        for name in ["password", "Admin_Password", "api_token", "secret_key"] {
            let secret = given(&[(name, "hunter2")]);
            let error = Params::among(&secret, &["host"]).unwrap_err();
            assert_eq!(error, ParamError::Secret(name.to_owned()));
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn values_are_read_by_type_or_refused_by_name() {
        let all = given(&[
            ("host", " db "),
            ("port", "0"),
            ("wait", "3 fortnights"),
            ("long", "1h"),
            ("empty", ""),
        ]);
        let params = Params::among(&all, &["host", "port", "wait", "long", "empty"]).unwrap();
        assert_eq!(params.required("host"), Ok("db"));
        assert_eq!(params.required("other"), Err(ParamError::Missing("other")));
        assert!(params.port("port", 1).is_err());
        assert_eq!(params.port("other", 5432), Ok(5432));
        assert!(params.duration("wait", Duration::ZERO).is_err());
        assert!(params.duration("long", Duration::ZERO).is_err());
        assert!(params.text("empty").is_err());
    }
}
