//! Both ends of TLS as rustls is told them.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig, SupportedProtocolVersion, client::Resumption,
    crypto::aws_lc_rs::default_provider, server::NoServerSessionStorage,
};

use crate::{Clock, Own, TlsError, Trust};

/// For a port that shows `own`, and asks for certificates when it is told whom to trust.
///
/// # Errors
/// [`TlsError::Use`] when the versions cannot be spoken.
pub fn server_config(
    own: Own,
    clients: Option<Trust>,
    clock: &Clock,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_details(Arc::new(default_provider()), Arc::new(clock.clone()))
        .with_protocol_versions(versions)?;
    let builder = match clients {
        Some(trust) => builder.with_client_cert_verifier(Arc::new(trust)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(own));
    config.alpn_protocols = names(protocols);
    // A resumed session is not asked for its certificate again: one that was revoked or is over would get in.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For connections to servers that `trust` believes, with `own` as the certificate.
///
/// # Errors
/// [`TlsError::Use`] when the versions cannot be spoken.
pub fn client_config(
    own: Own,
    trust: Trust,
    clock: &Clock,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> Result<ClientConfig, TlsError> {
    let mut config =
        ClientConfig::builder_with_details(Arc::new(default_provider()), Arc::new(clock.clone()))
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(trust))
            .with_client_cert_resolver(Arc::new(own));
    config.alpn_protocols = names(protocols);
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn names(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|name| name.as_bytes().to_vec()).collect()
}
