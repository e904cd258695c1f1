//! Revocations and what consumers owe them.

use api::v1;
use model::{
    State,
    command::{LiftRevocation, Revoke, WaiveReceipt},
    event::Revocation,
    name::RevocationId,
    outcome::Applied,
    refusal::Code,
};

use super::page;
use crate::{denied::Denied, edge::Call};

pub(super) async fn create(
    call: &Call,
    request: v1::CreateRevocationRequest,
) -> Result<v1::CreateRevocationResponse, Denied> {
    let applied = call.propose(Revoke::try_from(request)?).await?;
    let Applied::Revoked { id, revisions } = applied else { return Err(Denied::unexpected(&applied)) };
    Ok(v1::CreateRevocationResponse { id: id.to_string(), revisions })
}

pub(super) async fn list(
    call: &Call,
    request: v1::ListRevocationsRequest,
) -> Result<v1::ListRevocationsResponse, Denied> {
    let state = call.read().await?;
    let rows = state.revocations().values().rev().map(|row| api::revocation::shown(&state, row));
    Ok(v1::ListRevocationsResponse { revocations: page::first(rows, request.limit) })
}

pub(super) async fn get(
    call: &Call,
    request: v1::GetRevocationRequest,
) -> Result<v1::GetRevocationResponse, Denied> {
    call.about("revocation", &request.id);
    let id: RevocationId = api::parse("id", &request.id)?;
    let state = call.read().await?;
    let row = find(&state, id)?;
    Ok(v1::GetRevocationResponse {
        revocation: Some(api::revocation::shown(&state, row)),
        receipts: api::revocation::receipts(&state, row, call.now()),
        evidence: api::revocation::evidence(&state, row),
    })
}

pub(super) async fn lift(
    call: &Call,
    request: v1::LiftRevocationRequest,
) -> Result<v1::LiftRevocationResponse, Denied> {
    call.about("revocation", &request.id);
    let id: RevocationId = api::parse("id", &request.id)?;
    match call.propose(LiftRevocation { id, reason: request.reason }).await? {
        Applied::Revoked { revisions, .. } => Ok(v1::LiftRevocationResponse { revisions }),
        Applied::Changed | Applied::Unchanged => Ok(v1::LiftRevocationResponse { revisions: Vec::new() }),
        other @ (Applied::Started(_)
        | Applied::Begun { .. }
        | Applied::Requested(_)
        | Applied::Admitted(_)
        | Applied::Answered { .. }) => Err(Denied::unexpected(&other)),
    }
}

pub(super) async fn waive(
    call: &Call,
    request: v1::WaiveReceiptRequest,
) -> Result<v1::WaiveReceiptResponse, Denied> {
    call.about("consumer", &request.consumer);
    let consumer = api::parse("consumer", &request.consumer)?;
    call.propose(WaiveReceipt { consumer, revision: request.revision, reason: request.reason }).await?;
    Ok(v1::WaiveReceiptResponse {})
}

fn find(state: &State, id: RevocationId) -> Result<&Revocation, Denied> {
    let unknown = || Denied::edge(Code::UnknownRevocation, format!("there is no revocation `{id}`"));
    state.revocations().get(&id).ok_or_else(unknown)
}
