//! Tokens; their secrets are never converted.

use model::{membership::JoinToken, token::Token};

use crate::{or_zero, v1};

impl From<&Token> for v1::Token {
    fn from(row: &Token) -> Self {
        Self {
            name: row.name.to_string(),
            principal: row.principal.clone(),
            role: row.role.as_str().to_owned(),
            consumer: row.consumer.as_ref().map(ToString::to_string).unwrap_or_default(),
            issued_ms: row.issued.0,
            expires_ms: or_zero(row.expires),
            revoked_ms: or_zero(row.revoked),
        }
    }
}

impl From<&JoinToken> for v1::JoinToken {
    fn from(row: &JoinToken) -> Self {
        Self {
            name: row.name.to_string(),
            issued_by: row.issued_by.clone(),
            issued_ms: row.issued.0,
            expires_ms: row.expires.0,
            revoked_ms: or_zero(row.revoked),
            used_by: row.used_by.map_or(0, |node| node.0),
        }
    }
}
