//! Certificates; their keys never come here.

use model::certificate::{Certificate, RevokedAs, RevokedNode};

use crate::{or_zero, v1};

impl From<&Certificate> for v1::Certificate {
    fn from(row: &Certificate) -> Self {
        Self {
            serial: row.serial.to_string(),
            name: row.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            recorded_ms: row.recorded.0,
            expires_ms: or_zero(row.expires),
            ..revoked(row.revoked.as_ref())
        }
    }
}

impl From<&RevokedNode> for v1::Certificate {
    fn from(row: &RevokedNode) -> Self {
        Self { node: row.node.0, name: row.node.to_string(), ..revoked(Some(&row.revoked)) }
    }
}

fn revoked(revoked: Option<&RevokedAs>) -> v1::Certificate {
    let Some(RevokedAs { at, code, reason }) = revoked else { return v1::Certificate::default() };
    v1::Certificate {
        revoked_ms: at.0,
        reason_code: code.as_str().to_owned(),
        reason: reason.clone(),
        ..v1::Certificate::default()
    }
}
