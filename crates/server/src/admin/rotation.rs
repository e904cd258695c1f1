//! Rotations.

use api::v1;
use model::{
    command::{AbortRotation, RetryRotation},
    name::{CredentialName, RotationId},
    refusal::Code,
};

use super::page;
use crate::{denied::Denied, edge::Call};

pub(super) async fn list(
    call: &Call,
    request: v1::ListRotationsRequest,
) -> Result<v1::ListRotationsResponse, Denied> {
    let credential: Option<CredentialName> = match request.credential.as_str() {
        "" => None,
        name => Some(api::parse("credential", name)?),
    };
    let state = call.read().await?;
    let rows = state
        .rotations()
        .values()
        .rev()
        .filter(|row| credential.as_ref().is_none_or(|name| row.credential == *name))
        .filter(|row| !request.open_only || !row.stage.is_terminal())
        .map(|row| api::rotation::shown(&state, row));
    Ok(v1::ListRotationsResponse { rotations: page::first(rows, request.limit) })
}

pub(super) async fn get(
    call: &Call,
    request: v1::GetRotationRequest,
) -> Result<v1::GetRotationResponse, Denied> {
    call.about("rotation", &request.id);
    let id: RotationId = api::parse("id", &request.id)?;
    let state = call.read().await?;
    let row = state
        .rotations()
        .get(&id)
        .ok_or_else(|| Denied::edge(Code::UnknownRotation, format!("there is no rotation `{id}`")))?;
    Ok(v1::GetRotationResponse { rotation: Some(api::rotation::shown(&state, row)) })
}

pub(super) async fn abort(
    call: &Call,
    request: v1::AbortRotationRequest,
) -> Result<v1::AbortRotationResponse, Denied> {
    call.about("rotation", &request.id);
    call.propose(AbortRotation { id: api::parse("id", &request.id)?, reason: request.reason }).await?;
    Ok(v1::AbortRotationResponse {})
}

pub(super) async fn retry(
    call: &Call,
    request: v1::RetryRotationRequest,
) -> Result<v1::RetryRotationResponse, Denied> {
    call.about("rotation", &request.id);
    call.propose(RetryRotation { id: api::parse("id", &request.id)? }).await?;
    Ok(v1::RetryRotationResponse {})
}
