//! From owed work to a task: everything a worker needs for one step, looked up and opened.

use model::{
    State, Work,
    attempt::Job,
    credential::{Credential, Version, VersionState},
    name::{CredentialName, GrantId, RotationId, TargetName},
    rotation::Stage,
    sealed::{Sealed, associated},
    target::Target,
    time::Time,
};
use workers::{
    Login, Password, Task,
    task::{Grant, Held, Look, Placed, Rotation, Subject},
};

use crate::keys::{KeyError, Keyring};

/// Why a task cannot be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    #[error("{0} is gone")]
    Gone(String),
    #[error("a secret of {place} cannot be opened")]
    Sealed {
        place: String,
        #[source]
        source: KeyError,
    },
}

impl TaskError {
    /// Whether it is this node that cannot; otherwise it does not get better by itself.
    pub(crate) const fn is_of_this_node(&self) -> bool {
        match self {
            Self::Gone(_) => false,
            Self::Sealed { source, .. } => source.is_of_this_node(),
        }
    }
}

/// The task for `work`, as `state` has it.
pub(crate) fn build(state: &State, keys: &Keyring, work: &Work) -> Result<Task, TaskError> {
    let data_key =
        keys.data_key(state).map_err(|source| TaskError::Sealed { place: "the cluster".into(), source })?;
    let (subject, target) = match work.job {
        Job::Rotation(id) => rotation(state, keys, id)?,
        Job::Grant(id) => grant(state, keys, id)?,
    };
    let target = find_target(state, &target)?;
    let admin = admin(state, keys, &target)?;
    Ok(Task { step: work.step, subject, target, admin, data_key, failures: work.failures })
}

/// What is needed to log in with a version once.
pub(crate) fn look(
    state: &State,
    keys: &Keyring,
    name: &CredentialName,
    number: u32,
) -> Result<Look, TaskError> {
    let gone = |what: String| TaskError::Gone(what);
    let credential = state.credentials().get(name).ok_or_else(|| gone(format!("credential `{name}`")))?;
    let target = find_target(state, &credential.target)?;
    let admin = admin(state, keys, &target)?;
    let held =
        held(state, keys, name, number)?.ok_or_else(|| gone(format!("the secret of `{name}@{number}`")))?;
    Ok(Look { target, admin, login: held.login })
}

/// The opened password of the target's administrative user.
fn admin(state: &State, keys: &Keyring, target: &Target) -> Result<Option<Password>, TaskError> {
    let opened = |sealed| open(state, keys, sealed, &associated::target(&target.name));
    target.admin.as_ref().map(opened).transpose()
}

fn rotation(state: &State, keys: &Keyring, id: RotationId) -> Result<(Subject, TargetName), TaskError> {
    let rotation = state.rotations().get(&id).ok_or_else(|| TaskError::Gone(id.to_string()))?;
    let name = &rotation.credential;
    let credential =
        state.credentials().get(name).ok_or_else(|| TaskError::Gone(format!("credential `{name}`")))?;
    let held = |number: u32| held(state, keys, name, number);
    let candidate = rotation.to.map(held).transpose()?.flatten();
    let installed = candidate.as_ref().filter(|_| rotation.passed.contains(Stage::Install)).cloned();
    let current = credential.current.filter(|current| !rotation.retiring.contains(current));
    let survivor = match installed {
        Some(installed) => Some(installed),
        None => current.map(held).transpose()?.flatten(),
    };
    let subject = Rotation {
        credential: name.clone(),
        strategy: credential.strategy.clone(),
        next_version: state.next_version(name),
        candidate,
        current: rotation.from.map(held).transpose()?.flatten(),
        retiring: rotation
            .retiring
            .iter()
            .filter_map(|number| held(*number).transpose())
            .collect::<Result<_, _>>()?,
        survivor,
        installed_by: None,
        placements: placements(state, keys, credential)?,
    };
    Ok((Subject::Rotation(subject), credential.target.clone()))
}

fn grant(state: &State, keys: &Keyring, id: GrantId) -> Result<(Subject, TargetName), TaskError> {
    let grant = state.grants().get(&id).ok_or_else(|| TaskError::Gone(id.to_string()))?;
    let login = match (&grant.username, &grant.sealed) {
        (Some(username), Some(sealed)) => {
            Some(Login::new(username, open(state, keys, sealed, &associated::grant(id))?))
        }
        // The secret is erased once the end is proven; the name is still needed to remove the user.
        (Some(username), None) => {
            Some(Login::new(username, Password::generate(&model::target::SecretPolicy::default())))
        }
        (None, _) => None,
    };
    let subject =
        Grant { id, role: grant.role.clone(), login, valid_until: grant.expires.unwrap_or(Time(0)) };
    Ok((Subject::Grant(subject), grant.target.clone()))
}

/// A version with its secret; `None` once it is destroyed.
fn held(
    state: &State,
    keys: &Keyring,
    name: &CredentialName,
    number: u32,
) -> Result<Option<Held>, TaskError> {
    let version = state.versions().get(&(name.clone(), number));
    let Some(Version { username, sealed: Some(sealed), state: standing, .. }) = version else {
        return Ok(None);
    };
    if *standing == VersionState::Destroyed {
        return Ok(None);
    }
    let password = open(state, keys, sealed, &associated::version(name, number))?;
    Ok(Some(Held { number, login: Login::new(username, password) }))
}

fn placements(state: &State, keys: &Keyring, credential: &Credential) -> Result<Vec<Placed>, TaskError> {
    let place = |placement: &model::credential::Placement| {
        let name = &placement.store;
        let store = state.stores().get(name).ok_or_else(|| TaskError::Gone(format!("store `{name}`")))?;
        let access = match &store.access {
            Some(sealed) => Some(open(state, keys, sealed, &associated::store(name))?.into()),
            None => None,
        };
        Ok(Placed { store: store.clone(), access, path: placement.path.clone() })
    };
    credential.stores.iter().map(place).collect()
}

fn find_target(state: &State, name: &TargetName) -> Result<Target, TaskError> {
    state.targets().get(name).cloned().ok_or_else(|| TaskError::Gone(format!("target `{name}`")))
}

fn open(state: &State, keys: &Keyring, sealed: &Sealed, place: &[u8]) -> Result<Password, TaskError> {
    keys.open(state, sealed, place)
        .map(Password::from)
        .map_err(|source| TaskError::Sealed { place: String::from_utf8_lossy(place).into_owned(), source })
}
