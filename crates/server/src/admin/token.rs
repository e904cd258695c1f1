//! Tokens.

use api::{Malformed, v1};
use model::{
    command::{IssueToken, RevokeToken},
    time::Span,
    token::Role,
};
use secrecy::ExposeSecret as _;

use super::page;
use crate::{denied::Denied, edge::Call, gate, join, token::Bearer};

/// Longest name of a principal, in bytes.
const PRINCIPAL_BYTES: usize = 2 * model::caps::NAME_BYTES;

pub(super) async fn issue(
    call: &Call,
    request: v1::IssueTokenRequest,
) -> Result<v1::IssueTokenResponse, Denied> {
    call.about("token", &request.name);
    let bearer = Bearer::generate(api::parse("name", &request.name)?);
    let principal = if request.principal.is_empty() { request.name } else { request.principal };
    check_principal(&principal)?;
    let consumer = match request.consumer.as_str() {
        "" => None,
        name => Some(api::parse("consumer", name)?),
    };
    let expires = (request.ttl_ms != 0).then(|| call.now().plus(Span(request.ttl_ms)));
    let command = IssueToken {
        name: bearer.name().clone(),
        principal,
        role: api::parse::<Role>("role", &request.role)?,
        consumer,
        hash: bearer.hash(),
        expires,
    };
    call.propose(command).await?;
    let token = bearer.to_text().expose_secret().to_owned();
    Ok(v1::IssueTokenResponse { token, expires_ms: expires.map_or(0, |at| at.0) })
}

pub(super) async fn list(call: &Call, _: v1::ListTokensRequest) -> Result<v1::ListTokensResponse, Denied> {
    let state = call.read().await?;
    let rows = state.tokens().values().map(v1::Token::from);
    Ok(v1::ListTokensResponse { tokens: page::first(rows, u32::MAX) })
}

pub(super) async fn revoke(
    call: &Call,
    request: v1::RevokeTokenRequest,
) -> Result<v1::RevokeTokenResponse, Denied> {
    call.about("token", &request.name);
    let name = api::parse("name", &request.name)?;
    call.propose(RevokeToken { name, reason: request.reason }).await?;
    Ok(v1::RevokeTokenResponse {})
}

/// A principal is what the audit log names: printable, and never to be taken for a node or for nobody.
fn check_principal(principal: &str) -> Result<(), Malformed> {
    let printable = principal.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if !printable || principal.is_empty() || principal.len() > PRINCIPAL_BYTES {
        let problem = format!("use 1 to {PRINCIPAL_BYTES} printable characters without spaces");
        return Err(Malformed::new("principal", problem));
    }
    let reserved = ["system", gate::ANONYMOUS, "several", join::BY_ROOT_KEY].contains(&principal)
        || ["node-", "join-token/"].iter().any(|prefix| principal.starts_with(prefix));
    if reserved {
        return Err(Malformed::new("principal", format!("`{principal}` is a name of the cluster itself")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_acts_in_the_name_of_the_cluster_or_of_nobody() {
        for bad in [
            "system",
            "node-1",
            "join-token/a",
            "root-key",
            "anonymous",
            "several",
            "",
            "a b",
            "a\nb",
            &"x".repeat(127),
        ] {
            assert!(check_principal(bad).is_err(), "{bad}");
        }
        for good in ["alice@example.org", "ci/deploy", "systematic"] {
            assert!(check_principal(good).is_ok(), "{good}");
        }
    }
}
