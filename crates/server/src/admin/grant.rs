//! Break-glass.

use api::v1;
use model::{
    State,
    command::{ApproveGrant, DenyGrant, EndGrant, RequestGrant, RevealGrant, ReviewGrant},
    grant::Grant,
    name::GrantId,
    outcome::Applied,
    refusal::Code,
    sealed::associated,
};
use secrecy::ExposeSecret as _;

use super::{page, secret::connection};
use crate::{denied::Denied, edge::Call};

pub(super) async fn request(
    call: &Call,
    request: v1::RequestGrantRequest,
) -> Result<v1::RequestGrantResponse, Denied> {
    call.about("target", &request.target);
    let applied = call.propose(RequestGrant::try_from(request)?).await?;
    let Applied::Requested(id) = applied else { return Err(Denied::unexpected(&applied)) };
    Ok(v1::RequestGrantResponse { id: id.to_string() })
}

pub(super) async fn approve(
    call: &Call,
    request: v1::ApproveGrantRequest,
) -> Result<v1::ApproveGrantResponse, Denied> {
    call.propose(ApproveGrant { id: id(call, &request.id)? }).await?;
    Ok(v1::ApproveGrantResponse {})
}

pub(super) async fn deny(
    call: &Call,
    request: v1::DenyGrantRequest,
) -> Result<v1::DenyGrantResponse, Denied> {
    call.propose(DenyGrant { id: id(call, &request.id)?, reason: request.reason }).await?;
    Ok(v1::DenyGrantResponse {})
}

pub(super) async fn end(call: &Call, request: v1::EndGrantRequest) -> Result<v1::EndGrantResponse, Denied> {
    call.propose(EndGrant { id: id(call, &request.id)?, reason: request.reason }).await?;
    Ok(v1::EndGrantResponse {})
}

pub(super) async fn review(
    call: &Call,
    request: v1::ReviewGrantRequest,
) -> Result<v1::ReviewGrantResponse, Denied> {
    call.propose(ReviewGrant { id: id(call, &request.id)?, note: request.note }).await?;
    Ok(v1::ReviewGrantResponse {})
}

/// Shows the secret. It is opened first, so that one that cannot be opened is not used up; whether it may be shown
/// is decided by the model, once, and nothing leaves before that is committed.
pub(super) async fn reveal(
    call: &Call,
    request: v1::RevealGrantRequest,
) -> Result<v1::RevealGrantResponse, Denied> {
    let id = id(call, &request.id)?;
    let state = call.read().await?;
    let grant = find(&state, id)?;
    let opened = match &grant.sealed {
        Some(sealed) if grant.requester == call.caller.principal => {
            let opened = call.edge.keys.open(&state, sealed, &associated::grant(id));
            Some(opened?)
        }
        Some(_) | None => None,
    };
    call.propose(RevealGrant { id }).await?;
    let password = opened.ok_or_else(|| Denied::Internal(format!("grant `{id}` has no secret to show")))?;
    Ok(v1::RevealGrantResponse {
        username: grant.username.clone().unwrap_or_default(),
        password: password.expose_secret().to_owned(),
        expires_ms: grant.expires.map_or(0, |at| at.0),
        connection: connection(&state, &grant.target),
    })
}

pub(super) async fn get(call: &Call, request: v1::GetGrantRequest) -> Result<v1::GetGrantResponse, Denied> {
    let id = id(call, &request.id)?;
    let state = call.read().await?;
    Ok(v1::GetGrantResponse { grant: Some(find(&state, id)?.into()) })
}

pub(super) async fn list(
    call: &Call,
    request: v1::ListGrantsRequest,
) -> Result<v1::ListGrantsResponse, Denied> {
    let state = call.read().await?;
    let rows = state
        .grants()
        .values()
        .rev()
        .filter(|row| !request.open_only || !row.stage.is_terminal())
        .map(v1::Grant::from);
    Ok(v1::ListGrantsResponse { grants: page::first(rows, request.limit) })
}

fn id(call: &Call, text: &str) -> Result<GrantId, Denied> {
    call.about("grant", text);
    Ok(api::parse("id", text)?)
}

fn find(state: &State, id: GrantId) -> Result<&Grant, Denied> {
    let unknown = || Denied::edge(Code::UnknownGrant, format!("there is no grant `{id}`"));
    state.grants().get(&id).ok_or_else(unknown)
}
