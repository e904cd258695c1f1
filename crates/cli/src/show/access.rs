//! Tokens and the audit log.

use api::v1;
use model::time::Time;
use serde::Serialize;

use super::{hex, some};
use crate::output::{Cell, Show, Tone, when, when::When};

/// A token, without its secret.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    name: String,
    principal: String,
    role: String,
    consumer: Option<String>,
    issued: When,
    expires: When,
    revoked: When,
}

impl From<&v1::Token> for Token {
    fn from(it: &v1::Token) -> Self {
        Self {
            name: it.name.clone(),
            principal: it.principal.clone(),
            role: it.role.clone(),
            consumer: some(&it.consumer),
            issued: When(it.issued_ms),
            expires: When(it.expires_ms),
            revoked: When(it.revoked_ms),
        }
    }
}

impl Show for Token {
    const HEADS: &'static [&'static str] = &["name", "principal", "role", "consumer", "state", "expires"];
    const WIDE: &'static [&'static str] = &["issued", "revoked"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        let state = match (self.revoked.0, self.expires.0) {
            (0, end) if end > 0 && end <= now.0 => Cell::toned("expired", Tone::Warn),
            (0, _) => Cell::toned("live", Tone::Good),
            (_, _) => Cell::toned("revoked", Tone::Plain),
        };
        vec![
            self.name.clone().into(),
            self.principal.clone().into(),
            self.role.clone().into(),
            self.consumer.clone().unwrap_or_default().into(),
            state,
            when::cell(self.expires.0, now).into(),
        ]
    }

    fn wide(&self, now: Time) -> Vec<Cell> {
        vec![when::cell(self.issued.0, now).into(), when::cell(self.revoked.0, now).into()]
    }
}

/// A join token, without its secret.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    name: String,
    issued_by: String,
    issued: When,
    expires: When,
    revoked: When,
    used_by: Option<String>,
}

impl From<&v1::JoinToken> for Invitation {
    fn from(it: &v1::JoinToken) -> Self {
        Self {
            name: it.name.clone(),
            issued_by: it.issued_by.clone(),
            issued: When(it.issued_ms),
            expires: When(it.expires_ms),
            revoked: When(it.revoked_ms),
            used_by: (it.used_by > 0).then(|| format!("node-{}", it.used_by)),
        }
    }
}

impl Show for Invitation {
    const HEADS: &'static [&'static str] = &["name", "by", "state", "expires", "let in"];
    const WIDE: &'static [&'static str] = &["issued", "revoked"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Time) -> Vec<Cell> {
        let state = if self.used_by.is_some() {
            Cell::toned("used", Tone::Plain)
        } else if self.revoked.0 > 0 {
            Cell::toned("revoked", Tone::Plain)
        } else if self.expires.0 <= now.0 {
            Cell::toned("expired", Tone::Warn)
        } else {
            Cell::toned("open", Tone::Good)
        };
        vec![
            self.name.clone().into(),
            self.issued_by.clone().into(),
            state,
            when::cell(self.expires.0, now).into(),
            self.used_by.clone().unwrap_or_default().into(),
        ]
    }

    fn wide(&self, now: Time) -> Vec<Cell> {
        vec![when::cell(self.issued.0, now).into(), when::cell(self.revoked.0, now).into()]
    }
}

/// A record of the audit log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    sequence: u64,
    at: When,
    actor: String,
    action: String,
    object: String,
    detail: String,
    refused: Option<String>,
    before: String,
    after: String,
    previous: String,
    hash: String,
}

impl From<&v1::AuditRecord> for Audit {
    fn from(it: &v1::AuditRecord) -> Self {
        Self {
            sequence: it.sequence,
            at: When(it.at_ms),
            actor: it.actor.clone(),
            action: it.action.clone(),
            object: it.object.clone(),
            detail: it.detail.clone(),
            refused: some(&it.refused),
            before: hex(&it.before),
            after: hex(&it.after),
            previous: hex(&it.previous),
            hash: hex(&it.hash),
        }
    }
}

impl Show for Audit {
    const HEADS: &'static [&'static str] =
        &["sequence", "at", "actor", "action", "object", "outcome", "detail"];
    const WIDE: &'static [&'static str] = &["previous", "hash"];

    fn name(&self) -> String {
        self.sequence.to_string()
    }

    fn cells(&self, _now: Time) -> Vec<Cell> {
        vec![
            self.sequence.to_string().into(),
            when::seconds(Time(self.at.0)).into(),
            self.actor.clone().into(),
            self.action.clone().into(),
            self.object.clone().into(),
            match &self.refused {
                Some(code) => Cell::toned(format!("refused: {code}"), Tone::Bad),
                None => Cell::toned("done", Tone::Good),
            },
            self.detail.clone().into(),
        ]
    }

    fn wide(&self, _now: Time) -> Vec<Cell> {
        vec![self.previous.clone().into(), self.hash.clone().into()]
    }
}

/// Whether the chain of audit records holds.
#[derive(Debug, Serialize)]
pub struct Chain {
    intact: bool,
    records: u64,
    problem: Option<String>,
    head: String,
}

impl From<&v1::VerifyAuditResponse> for Chain {
    fn from(it: &v1::VerifyAuditResponse) -> Self {
        Self { intact: it.intact, records: it.records, problem: some(&it.problem), head: hex(&it.head) }
    }
}

impl Chain {
    /// In a line.
    pub fn line(&self) -> String {
        match (&self.problem, self.intact) {
            (None, true) => format!("intact: {} records, head {}\n", self.records, self.head),
            (problem, _) => {
                let problem = problem.as_deref().unwrap_or("the chain does not hold");
                format!("BROKEN after {} records: {problem}\n", self.records)
            }
        }
    }
}
