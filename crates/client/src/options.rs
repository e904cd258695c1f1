//! How a client is set up, and what is refused before anything is sent.

use std::{net::IpAddr, time::Duration};

use http::Uri;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// Default longest wait for the answer to one call.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a connection to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often an idle connection is asked whether it is alive, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How a [`crate::Client`] is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses of the cluster's client ports, such as `https://node-1:7800`; any one answers for all.
    pub addresses: Vec<String>,
    /// The bearer token.
    pub token: Option<SecretString>,
    /// The certificate that the servers' certificates are checked against, PEM. Needed for `https`.
    pub ca: Option<String>,
    /// The certificate that the servers ask for, where they do.
    pub certificate: Option<ClientCertificate>,
    /// The name that the servers' certificates must carry, where the addresses do not say it.
    pub server_name: Option<String>,
    /// Longest wait for the answer to one call.
    pub timeout: Duration,
    /// Longest wait for a connection to one address.
    pub connect_timeout: Duration,
    /// Sends the token over plain HTTP to an address that is not loopback. Anyone on the way can read it.
    pub insecure_plaintext: bool,
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: SecretString,
}

impl Options {
    /// Options with these addresses and defaults for the rest.
    #[must_use]
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            token: None,
            ca: None,
            certificate: None,
            server_name: None,
            timeout: REQUEST_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            insecure_plaintext: false,
        }
    }

    /// With this bearer token.
    #[must_use]
    pub fn token(mut self, token: SecretString) -> Self {
        self.token = Some(token);
        self
    }

    /// With this certificate authority, PEM.
    #[must_use]
    pub fn ca(mut self, pem: impl Into<String>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// With this certificate of one's own, PEM, and its key.
    #[must_use]
    pub fn certificate(mut self, certificate: impl Into<String>, key: SecretString) -> Self {
        self.certificate = Some(ClientCertificate { certificate: certificate.into(), key });
        self
    }

    /// Endpoints for all addresses, in their order.
    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, OptionsError> {
        if self.addresses.is_empty() {
            return Err(OptionsError::NoAddress);
        }
        self.addresses.iter().map(|address| self.endpoint(address)).collect()
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, OptionsError> {
        let invalid = || OptionsError::Address { address: address.to_owned() };
        let uri: Uri = address.parse().map_err(|_| invalid())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(invalid()),
        };
        if !tls && self.token.is_some() && !self.insecure_plaintext && !is_loopback(host) {
            return Err(OptionsError::Plaintext { address: address.to_owned() });
        }
        let endpoint = Endpoint::from(uri)
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if !tls {
            return Ok(endpoint);
        }
        let pem = self.ca.as_ref().ok_or_else(|| OptionsError::NoCa { address: address.to_owned() })?;
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        let config = self.server_name.iter().fold(config, |config, name| config.domain_name(name));
        let checking = endpoint.clone().tls_config(config.clone());
        let checking = checking.map_err(|source| OptionsError::Ca { source })?;
        let Some(own) = &self.certificate else { return Ok(checking) };
        let identity = Identity::from_pem(&own.certificate, own.key.expose_secret());
        endpoint.tls_config(config.identity(identity)).map_err(|source| OptionsError::Certificate { source })
    }
}

/// Why options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The list of addresses is empty.
    #[error("no address is given")]
    NoAddress,
    /// An address is not a URL.
    #[error("`{address}` is not an address such as `https://node-1:7800`")]
    Address {
        /// The address.
        address: String,
    },
    /// A token would be readable on the network.
    #[error("the token would be sent in plain text to `{address}`")]
    Plaintext {
        /// The address.
        address: String,
    },
    /// There is nothing to check a server's certificate against.
    #[error("`{address}` needs a CA certificate to check the server against")]
    NoCa {
        /// The address.
        address: String,
    },
    /// The CA certificate cannot be used.
    #[error("the CA certificate cannot be used")]
    Ca {
        /// Why.
        source: tonic::transport::Error,
    },
    /// The client's own certificate or its key cannot be used.
    #[error("the client certificate or its key cannot be used")]
    Certificate {
        /// Why.
        source: tonic::transport::Error,
    },
    /// The token holds characters that cannot be sent.
    #[error("the token holds characters that cannot be sent in a header")]
    Token,
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_token(address: &str) -> Options {
        Options::new([address]).token("secret".into())
    }

    #[test]
    fn a_token_never_leaves_the_machine_in_plain_text_unasked() {
        for near in ["http://127.0.0.1:7800", "http://localhost:7800", "http://[::1]:7800"] {
            assert!(with_token(near).endpoints().is_ok(), "{near}");
        }
        let mut far = with_token("http://10.0.0.1:7800");
        assert!(matches!(far.endpoints(), Err(OptionsError::Plaintext { .. })));
        far.insecure_plaintext = true;
        assert!(far.endpoints().is_ok());
    }

    #[test]
    fn addresses_that_cannot_be_called_are_refused_by_name() {
        for bad in ["", "node-1:7800", "ftp://node-1", "http://", "not a url"] {
            let error = Options::new([bad]).endpoints().unwrap_err();
            assert!(matches!(error, OptionsError::Address { .. }), "{bad}: {error}");
        }
        assert!(matches!(with_token("https://node-1:7800").endpoints(), Err(OptionsError::NoCa { .. })));
        assert!(matches!(Options::new([""; 0]).endpoints(), Err(OptionsError::NoAddress)));
    }

    #[test]
    fn a_token_is_not_in_debug_output() {
        assert!(!format!("{:?}", with_token("http://127.0.0.1:7800")).contains("secret"));
    }
}
