//! Reading the current value of a credential from the store `builtin`.

use std::collections::BTreeMap;

use api::v1;
use model::{
    State,
    command::RecordRead,
    credential::{Credential, Version, VersionState},
    name::{CredentialName, TargetName},
    refusal::Code,
    sealed::associated,
    token::Role,
};
use secrecy::ExposeSecret as _;

use crate::{denied::Denied, edge::Call, gate::Caller};

/// Answers with the active version, once the reading is in the audit log.
pub(super) async fn get(call: &Call, request: v1::GetSecretRequest) -> Result<v1::GetSecretResponse, Denied> {
    call.about("credential", &request.credential);
    let name: CredentialName = api::parse("credential", &request.credential)?;
    let state = call.read().await?;
    let credential = find(&state, &call.caller, &name)?;
    let version = readable(&state, credential)?;
    let no_secret =
        || Denied::edge(Code::NoSecret, format!("version {} of `{name}` is erased", version.number));
    let sealed = version.sealed.as_ref().ok_or_else(no_secret)?;
    let place = associated::version(&name, version.number);
    let password = call.edge.keys.open(&state, sealed, &place)?;
    call.propose(RecordRead { credential: name.clone(), version: version.number }).await?;
    Ok(v1::GetSecretResponse {
        version: version.number,
        username: version.username.clone(),
        password: password.expose_secret().to_owned(),
        connection: connection(&state, &credential.target),
    })
}

/// Where a target is found, as its provider knows it.
pub(super) fn connection(state: &State, target: &TargetName) -> BTreeMap<String, String> {
    let address = state.targets().get(target).and_then(|target| workers::provider::address(target).ok());
    let Some(address) = address else { return BTreeMap::new() };
    let mut connection = BTreeMap::from([
        ("engine".to_owned(), address.engine.to_owned()),
        ("host".to_owned(), address.host),
        ("port".to_owned(), address.port.to_string()),
    ]);
    connection.extend(address.database.map(|name| ("dbname".to_owned(), name)));
    connection
}

/// The credential, if the caller may read it. To a consumer, one that is not covered and one that does not exist
/// look alike.
fn find<'a>(state: &'a State, caller: &Caller, name: &CredentialName) -> Result<&'a Credential, Denied> {
    let credential = state.credentials().get(name);
    if matches!(caller.role, Role::Consumer) {
        let consumer = caller.consumer.as_ref().and_then(|consumer| state.consumers().get(consumer));
        return credential
            .filter(|row| consumer.is_some_and(|c| c.subscription.covers_credential(name, &row.target)))
            .ok_or_else(|| {
                let message = format!("credential `{name}` is not covered by the subscription");
                Denied::edge(Code::PermissionDenied, message)
            });
    }
    credential
        .ok_or_else(|| Denied::edge(Code::UnknownCredential, format!("there is no credential `{name}`")))
}

fn readable<'a>(state: &'a State, credential: &Credential) -> Result<&'a Version, Denied> {
    let name = &credential.name;
    let refuse = |why: String| Err(Denied::edge(Code::NoSecret, why));
    let Some(number) = credential.current else {
        return refuse(format!("credential `{name}` has no active version"));
    };
    if state.is_held(name, number) {
        return refuse(format!("version {number} of `{name}` is on hold"));
    }
    match state.versions().get(&(name.clone(), number)) {
        Some(version) if matches!(version.state, VersionState::Active) => Ok(version),
        Some(version) => refuse(format!("version {number} of `{name}` is {}", version.state.as_str())),
        None => refuse(format!("credential `{name}` has no active version")),
    }
}
