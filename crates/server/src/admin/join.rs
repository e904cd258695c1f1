//! Join tokens: what lets new nodes in.

use api::{Malformed, v1};
use model::{
    command::{CreateJoinToken, RevokeJoinToken},
    name::JoinTokenName,
    time::Span,
};
use secrecy::ExposeSecret as _;

use super::page;
use crate::{denied::Denied, edge::Call, join::JoinToken};

/// How long a join token works when nothing else is asked for.
const TTL: Span = Span::hours(1);

pub(super) async fn create(
    call: &Call,
    request: v1::CreateJoinTokenRequest,
) -> Result<v1::CreateJoinTokenResponse, Denied> {
    let name = if request.name.is_empty() { made_up()? } else { api::parse("name", &request.name)? };
    call.about("join-token", name.as_str());
    let token = JoinToken::generate(name.clone(), call.edge.port.authority_fingerprint());
    let ttl = if request.ttl_ms == 0 { TTL } else { Span(request.ttl_ms) };
    let command = CreateJoinToken { name: name.clone(), hash: token.hash(), ttl, reason: request.reason };
    call.propose(command).await?;
    let expires = call.known().join_tokens().get(&name).map_or(0, |row| row.expires.0);
    Ok(v1::CreateJoinTokenResponse {
        name: name.to_string(),
        token: token.to_text().expose_secret().to_owned(),
        expires_ms: expires,
    })
}

/// A name for a token that nobody named.
fn made_up() -> Result<JoinTokenName, Malformed> {
    let number: u64 = rand::random();
    api::parse("name", &format!("join-{number:016x}"))
}

pub(super) async fn list(
    call: &Call,
    _: v1::ListJoinTokensRequest,
) -> Result<v1::ListJoinTokensResponse, Denied> {
    let state = call.read().await?;
    let rows = state.join_tokens().values().map(v1::JoinToken::from);
    Ok(v1::ListJoinTokensResponse { tokens: page::first(rows, u32::MAX) })
}

pub(super) async fn revoke(
    call: &Call,
    request: v1::RevokeJoinTokenRequest,
) -> Result<v1::RevokeJoinTokenResponse, Denied> {
    call.about("join-token", &request.name);
    let name = api::parse("name", &request.name)?;
    call.propose(RevokeJoinToken { name, reason: request.reason }).await?;
    Ok(v1::RevokeJoinTokenResponse {})
}
