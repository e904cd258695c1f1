//! What a certificate says, as far as anyone here asks.

use std::{fmt::Write as _, time::Duration};

use rustls::pki_types::CertificateDer;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use crate::TlsError;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its serial in hexadecimal.
    pub serial: String,
    /// Its common name.
    pub name: String,
    /// The host names that it is good for; addresses are left out.
    pub hosts: Vec<String>,
    /// From when it is good, since the Unix epoch.
    pub not_before: Duration,
    /// Until when.
    pub not_after: Duration,
}

/// Reads a certificate. Whether it is to be believed is another matter.
///
/// # Errors
/// [`TlsError::Unreadable`].
pub fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, TlsError> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|_| TlsError::Unreadable)?;
    let mut hosts = Vec::new();
    let alternatives = read.subject_alternative_name().map_err(|_| TlsError::Unreadable)?;
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::DNSName(host) = name {
            hosts.push((*host).to_owned());
        }
    }
    let name =
        read.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
    let seconds = |at: i64| Duration::from_secs(u64::try_from(at).unwrap_or_default());
    Ok(Facts {
        serial: hex(read.raw_serial()),
        name: name.to_owned(),
        hosts,
        not_before: seconds(read.validity().not_before.timestamp()),
        not_after: seconds(read.validity().not_after.timestamp()),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a text cannot fail");
        text
    })
}
