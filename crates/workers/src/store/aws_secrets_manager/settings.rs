//! The parameters and the access of a Secrets Manager store.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use aws_config::BehaviorVersion;
use aws_sdk_secretsmanager::{
    Config,
    config::{Builder, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{
    fault::Fault,
    params::{ParamError, Params},
};

const KNOWN: [&str; 4] = ["region", "endpoint_url", "connect_timeout", "operation_timeout"];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);

/// What a Secrets Manager store needs to be told.
#[derive(Clone, Debug)]
pub struct Settings {
    region: String,
    endpoint_url: Option<String>,
    connect_timeout: Duration,
    operation_timeout: Duration,
}

impl Settings {
    /// Reads and checks the parameters.
    ///
    /// # Errors
    /// Names the parameter and what is wrong with it.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self, ParamError> {
        let params = Params::among(given, &KNOWN)?;
        let endpoint_url = params.text("endpoint_url")?;
        if let Some(url) = endpoint_url {
            check_endpoint(url).map_err(|reason| ParamError::invalid("endpoint_url", reason))?;
        }
        let region = params.required("region")?;
        if !region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return Err(ParamError::invalid(
                "region",
                format!("`{region}` is not a region such as `eu-west-1`"),
            ));
        }
        Ok(Self {
            region: region.to_owned(),
            endpoint_url: endpoint_url.map(str::to_owned),
            connect_timeout: params.duration("connect_timeout", CONNECT_TIMEOUT)?,
            operation_timeout: params.duration("operation_timeout", OPERATION_TIMEOUT)?,
        })
    }

    /// The client's configuration. Its own retries are off: attempts are counted in the model, not hidden here.
    pub(super) async fn client_config(self, access: Option<Access>) -> Config {
        let region = Region::new(self.region);
        let builder = match access {
            Some(access) => Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .region(region)
                .credentials_provider(access.into_credentials()),
            None => {
                Builder::from(&aws_config::defaults(BehaviorVersion::latest()).region(region).load().await)
            }
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.connect_timeout)
            .operation_timeout(self.operation_timeout)
            .build();
        let mut builder = builder.retry_config(RetryConfig::disabled()).timeout_config(timeouts);
        if let Some(url) = self.endpoint_url {
            builder.set_endpoint_url(Some(url));
        }
        builder.build()
    }
}

/// In the clear only to this very machine, and never with a name and password in the address.
fn check_endpoint(url: &str) -> Result<(), String> {
    let (scheme, rest) = url.split_once("://").ok_or("it is not a URL such as `https://host`")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("it carries a user: access is given apart from parameters and kept sealed".into());
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        _ if host.is_empty() => Err("it names no host".into()),
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err("`http` is for a loopback host alone: secrets would travel in the clear".into()),
        _ => Err("it is neither `https` nor `http`".into()),
    }
}

/// The key that opens a store.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    access_key_id: String,
    secret_access_key: SecretString,
    session_token: Option<SecretString>,
}

impl Access {
    /// Reads `{"access_key_id": …, "secret_access_key": …, "session_token": …}`; the last may be left out.
    ///
    /// # Errors
    /// Says what form it must have; tells nothing of the content.
    pub fn parse(json: &SecretString) -> Result<Self, Fault> {
        // The parser's own message could repeat a part of the content.
        serde_json::from_str(json.expose_secret()).map_err(|_| {
            Fault::permanent(
                "the access of the store is not JSON with `access_key_id`, `secret_access_key` and, if there is \
                 one, `session_token`",
            )
        })
    }

    fn into_credentials(self) -> Credentials {
        let token = self.session_token.map(|token| token.expose_secret().to_owned());
        Credentials::new(self.access_key_id, self.secret_access_key.expose_secret(), token, None, "revolve")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, ParamError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::parse(&pairs.collect())
    }

    #[test]
    fn an_endpoint_is_spoken_to_in_the_clear_on_this_machine_alone() {
        for good in
            ["https://sm.example.com", "http://127.0.0.1:5000", "http://localhost", "http://[::1]:5000/"]
        {
            assert!(parse(&[("region", "eu-west-1"), ("endpoint_url", good)]).is_ok(), "{good}");
        }
        for bad in [
            "http://sm.example.com",
            "http://127.0.0.1.example.com",
            "http://127.0.0.1@example.com",
            "https://key:secret@sm.example.com",
            "ftp://localhost",
            "localhost:5000",
            "https://",
        ] {
            assert!(parse(&[("region", "eu-west-1"), ("endpoint_url", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_region_is_required_and_access_keys_are_no_parameters() {
        assert_eq!(parse(&[]).unwrap_err(), ParamError::Missing("region"));
        let key = parse(&[("region", "eu-west-1"), ("secret_access_key", "x")]).unwrap_err();
        assert_eq!(key, ParamError::Secret("secret_access_key".into()));
    }

    #[test]
    fn access_is_read_whole_or_refused_without_being_shown() {
        let good = r#"{"access_key_id":"AKIA","secret_access_key":"hunter2"}"#;
        let access = Access::parse(&SecretString::from(good)).unwrap();
        assert!(!format!("{access:?}").contains("hunter2"));
        for bad in
            [r#"{"access_key_id":"hunter2"}"#, r#"{"access_key_id":"a","secret":"hunter2"}"#, "hunter2"]
        {
            let error = Access::parse(&SecretString::from(bad)).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
