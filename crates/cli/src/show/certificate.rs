//! Certificates.

use api::v1;
use model::{name::NodeId, time::Time};
use serde::Serialize;

use super::some;
use crate::output::{Cell, Show, Tone, when, when::When};

/// A certificate of a client, or a node that is revoked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    serial: Option<String>,
    node: Option<u64>,
    name: Option<String>,
    recorded: When,
    expires: When,
    revoked: When,
    reason_code: Option<String>,
    reason: Option<String>,
}

impl From<&v1::Certificate> for Certificate {
    fn from(it: &v1::Certificate) -> Self {
        Self {
            serial: some(&it.serial),
            node: (it.node > 0).then_some(it.node),
            name: some(&it.name),
            recorded: When(it.recorded_ms),
            expires: When(it.expires_ms),
            revoked: When(it.revoked_ms),
            reason_code: some(&it.reason_code),
            reason: some(&it.reason),
        }
    }
}

impl Show for Certificate {
    const HEADS: &'static [&'static str] = &["certificate", "for", "state", "expires", "reason"];
    const WIDE: &'static [&'static str] = &["recorded", "revoked"];

    fn name(&self) -> String {
        let node = || self.node.map(|node| NodeId(node).to_string());
        self.serial.clone().or_else(node).unwrap_or_default()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        let state = match (self.revoked.0, self.expires.0) {
            (0, end) if end > 0 && end <= now.0 => Cell::toned("expired", Tone::Warn),
            (0, _) => Cell::toned("good", Tone::Good),
            (_, _) => Cell::toned("revoked", Tone::Plain),
        };
        let reason = self.reason_code.iter().chain(&self.reason).cloned().collect::<Vec<_>>().join(": ");
        vec![
            Show::name(self).into(),
            self.name.clone().unwrap_or_default().into(),
            state,
            when::cell(self.expires.0, now).into(),
            reason.into(),
        ]
    }

    fn wide(&self, now: Time) -> Vec<Cell> {
        vec![when::cell(self.recorded.0, now).into(), when::cell(self.revoked.0, now).into()]
    }
}

/// A certificate that was just issued, and where it lies.
#[derive(Debug, Serialize)]
pub struct IssuedCertificate {
    pub serial: String,
    pub expires: When,
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl IssuedCertificate {
    /// As the environment takes them.
    pub fn lines(&self) -> String {
        format!(
            "REVOLVE_CACERT={}\nREVOLVE_CLIENT_CERT={}\nREVOLVE_CLIENT_KEY={}\n",
            self.ca, self.certificate, self.key
        )
    }
}
