//! Credentials and their versions.

use model::{
    State,
    command::PutCredential,
    credential::{Credential, Placement, SharedException, Strategy, Version},
    ledger::Look,
    time::Time,
};

use crate::{Malformed, or_zero, parse, v1};

/// Most versions shown with one credential: the newest, and all that still live.
const VERSIONS_SHOWN: usize = 20;

impl TryFrom<v1::Credential> for PutCredential {
    type Error = Malformed;

    /// Leaves the adopted secret out: the server seals it.
    fn try_from(wire: v1::Credential) -> Result<Self, Malformed> {
        Ok(Self {
            name: parse("name", &wire.name)?,
            identity: parse("identity", &wire.identity)?,
            target: parse("target", &wire.target)?,
            strategy: strategy(&wire.strategy, wire.usernames)?,
            stores: wire.stores.iter().enumerate().map(placement).collect::<Result<_, _>>()?,
            workloads: wire.workloads,
            shared: wire.shared.map(|shared| SharedException {
                owner: shared.owner,
                reason: shared.reason,
                ends: Time(shared.ends_ms),
            }),
            adopt: None,
        })
    }
}

/// A credential with its versions: the newest, and all that still live.
#[must_use]
pub fn shown(state: &State, row: &Credential) -> v1::Credential {
    let mut versions: Vec<_> = state
        .versions_of(&row.name)
        .rev()
        .enumerate()
        .filter(|(age, version)| *age < VERSIONS_SHOWN || version.state.is_live())
        .map(|(_, version)| v1::Version { look: look(state, version), ..v1::Version::from(version) })
        .collect();
    versions.reverse();
    v1::Credential {
        name: row.name.to_string(),
        identity: row.identity.to_string(),
        target: row.target.to_string(),
        strategy: row.strategy.as_str().to_owned(),
        usernames: row.strategy.usernames().into_iter().map(str::to_owned).collect(),
        stores: row.stores.iter().map(v1::Placement::from).collect(),
        workloads: row.workloads.clone(),
        shared: row.shared.as_ref().map(v1::SharedException::from),
        adopt_password: String::new(),
        current_version: row.current.unwrap_or_default(),
        versions,
        rotation: row.rotation.map(|id| id.to_string()).unwrap_or_default(),
    }
}

impl From<&Version> for v1::Version {
    fn from(row: &Version) -> Self {
        Self {
            number: row.number,
            state: row.state.as_str().to_owned(),
            username: row.username.clone(),
            created_ms: row.created.0,
            verified_ms: or_zero(row.verified),
            revoked_ms: or_zero(row.revoked),
            refused_ms: or_zero(row.refused),
            look: None,
        }
    }
}

/// What logging in with `version` has found, while a restored cluster observes.
fn look(state: &State, version: &Version) -> Option<v1::Look> {
    state.looks().get(&(version.credential.clone(), version.number)).map(v1::Look::from)
}

impl From<&Look> for v1::Look {
    fn from(row: &Look) -> Self {
        Self { found: row.found.as_str().to_owned(), at_ms: row.at.0, note: row.note.clone() }
    }
}

impl From<&Placement> for v1::Placement {
    fn from(row: &Placement) -> Self {
        Self { store: row.store.to_string(), path: row.path.clone() }
    }
}

impl From<&SharedException> for v1::SharedException {
    fn from(row: &SharedException) -> Self {
        Self { owner: row.owner.clone(), reason: row.reason.clone(), ends_ms: row.ends.0 }
    }
}

fn strategy(name: &str, usernames: Vec<String>) -> Result<Strategy, Malformed> {
    let count = usernames.len();
    let wrong = |wanted| Malformed::new("usernames", format!("`{name}` takes {wanted}, not {count}"));
    let one = |usernames: Vec<String>| <[String; 1]>::try_from(usernames).map_err(|_| wrong("one username"));
    match name {
        "single-user" => one(usernames).map(|[username]| Strategy::SingleUser { username }),
        "overlapping" => one(usernames).map(|[username]| Strategy::Overlapping { username }),
        "alternating-users" => <[String; 2]>::try_from(usernames)
            .map(|usernames| Strategy::AlternatingUsers { usernames })
            .map_err(|_| wrong("two usernames")),
        _ => Err(Malformed::new("strategy", "use one of `single-user`, `alternating-users`, `overlapping`")),
    }
}

fn placement((at, wire): (usize, &v1::Placement)) -> Result<Placement, Malformed> {
    let store = parse("store", &wire.store).map_err(|error| error.within(format_args!("stores[{at}]")))?;
    Ok(Placement { store, path: wire.path.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_takes_exactly_its_number_of_users() {
        let users = |count: usize| (0..count).map(|n| format!("app{n}")).collect::<Vec<_>>();
        for (name, wanted) in [("single-user", 1), ("overlapping", 1), ("alternating-users", 2)] {
            for count in 0..4 {
                let read = strategy(name, users(count));
                assert_eq!(read.is_ok(), count == wanted, "{name} with {count}");
                if let Ok(read) = read {
                    assert_eq!((read.as_str(), read.usernames().len()), (name, wanted));
                }
            }
        }
        assert!(strategy("whatever", users(1)).is_err());
    }

    #[test]
    fn a_wrong_placement_is_named_with_its_place() {
        let wire = v1::Credential {
            name: "c".into(),
            identity: "i".into(),
            target: "t".into(),
            strategy: "single-user".into(),
            usernames: vec!["app".into()],
            stores: vec![
                v1::Placement { store: "aws".into(), path: "p".into() },
                v1::Placement { store: "A W S".into(), path: "p".into() },
            ],
            ..Default::default()
        };
        assert_eq!(PutCredential::try_from(wire).unwrap_err().field(), "stores[1].store");
    }
}
