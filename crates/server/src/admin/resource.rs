//! Resources: reading and removing them.

use api::{resource::Kind, v1};
use model::{
    State,
    command::{
        Command, RemoveConsumer, RemoveCredential, RemoveIdentity, RemoveSchedule, RemoveStore, RemoveTarget,
    },
    refusal::Code,
    time::Time,
};

use super::page;
use crate::{denied::Denied, edge::Call};

pub(super) async fn get(
    call: &Call,
    request: v1::GetResourceRequest,
) -> Result<v1::GetResourceResponse, Denied> {
    let kind = Kind::named(request.kind)?;
    call.about(kind.as_str(), &request.name);
    let state = call.read().await?;
    let resource =
        shown(&state, kind, &request.name, call.now())?.ok_or_else(|| unknown(kind, &request.name))?;
    Ok(v1::GetResourceResponse { resource: Some(resource) })
}

pub(super) async fn list(
    call: &Call,
    request: v1::ListResourcesRequest,
) -> Result<v1::ListResourcesResponse, Denied> {
    let kind = Kind::named(request.kind)?;
    let (state, now) = (call.read().await?, call.now());
    let (size, token) = (request.page_size, request.page_token.as_str());
    let page = match kind {
        Kind::Identity => page::page(state.identities(), size, token, |row| v1::Identity::from(row).into()),
        Kind::Target => page::page(state.targets(), size, token, |row| v1::Target::from(row).into()),
        Kind::Store => page::page(state.stores(), size, token, |row| v1::Store::from(row).into()),
        Kind::Credential => {
            page::page(state.credentials(), size, token, |row| api::credential::shown(&state, row).into())
        }
        Kind::Consumer => {
            page::page(state.consumers(), size, token, |row| api::consumer::shown(&state, row, now).into())
        }
        Kind::Schedule => page::page(state.schedules(), size, token, |row| v1::Schedule::from(row).into()),
    }?;
    Ok(v1::ListResourcesResponse { resources: page.rows, next_page_token: page.next })
}

pub(super) async fn remove(
    call: &Call,
    request: v1::RemoveResourceRequest,
) -> Result<v1::RemoveResourceResponse, Denied> {
    let kind = Kind::named(request.kind)?;
    let name = request.name.as_str();
    call.about(kind.as_str(), name);
    let command: Command = match kind {
        Kind::Identity => RemoveIdentity { name: api::parse("name", name)? }.into(),
        Kind::Target => RemoveTarget { name: api::parse("name", name)? }.into(),
        Kind::Store => RemoveStore { name: api::parse("name", name)? }.into(),
        Kind::Credential => RemoveCredential { name: api::parse("name", name)? }.into(),
        Kind::Consumer => RemoveConsumer { name: api::parse("name", name)? }.into(),
        Kind::Schedule => RemoveSchedule { name: api::parse("name", name)? }.into(),
    };
    call.propose(command).await?;
    Ok(v1::RemoveResourceResponse {})
}

/// The resource of that kind and name, without its secrets.
pub(super) fn shown(
    state: &State,
    kind: Kind,
    name: &str,
    now: Time,
) -> Result<Option<v1::Resource>, Denied> {
    Ok(match kind {
        Kind::Identity => {
            state.identities().get(&api::parse("name", name)?).map(|row| v1::Identity::from(row).into())
        }
        Kind::Target => {
            state.targets().get(&api::parse("name", name)?).map(|row| v1::Target::from(row).into())
        }
        Kind::Store => state.stores().get(&api::parse("name", name)?).map(|row| v1::Store::from(row).into()),
        Kind::Credential => state
            .credentials()
            .get(&api::parse("name", name)?)
            .map(|row| api::credential::shown(state, row).into()),
        Kind::Consumer => state
            .consumers()
            .get(&api::parse("name", name)?)
            .map(|row| api::consumer::shown(state, row, now).into()),
        Kind::Schedule => {
            state.schedules().get(&api::parse("name", name)?).map(|row| v1::Schedule::from(row).into())
        }
    })
}

fn unknown(kind: Kind, name: &str) -> Denied {
    let code = match kind {
        Kind::Identity => Code::UnknownIdentity,
        Kind::Target => Code::UnknownTarget,
        Kind::Store => Code::UnknownStore,
        Kind::Credential => Code::UnknownCredential,
        Kind::Consumer => Code::UnknownConsumer,
        Kind::Schedule => Code::UnknownSchedule,
    };
    Denied::edge(code, format!("there is no {kind} `{name}`"))
}
