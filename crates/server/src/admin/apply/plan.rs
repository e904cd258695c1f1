//! Reading a request into commands: names and words by the wire types, parameters by the workers, secrets sealed.

use std::{collections::BTreeMap, mem};

use api::{Malformed, resource::Kind, v1};
use model::{
    State, caps,
    command::{Adopt, Command, PutConsumer, PutCredential, PutIdentity, PutStore, PutTarget},
    name::TargetName,
    sealed::{Sealed, associated},
    store::Store,
    target::Target,
    timing::Timing,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{denied::Denied, edge::Call};

/// One command of a request.
pub(super) struct Planned {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) command: Command,
    /// For schedules.
    pub(super) timing: Option<Timing>,
    /// Whether a secret was given that is not the one there is.
    pub(super) secret_changed: bool,
}

/// What reading needs to know.
struct Reader<'a> {
    call: &'a Call,
    state: &'a State,
    /// Providers of the targets in the request; credentials in it may refer to them.
    providers: BTreeMap<TargetName, String>,
}

/// The commands that a request comes to, in the order to propose them in.
pub(super) fn plan(call: &Call, state: &State, resources: Vec<v1::Resource>) -> Result<Vec<Planned>, Denied> {
    if resources.len() > caps::LIST {
        let problem = format!("holds {}, at most {} fit into one request", resources.len(), caps::LIST);
        return Err(Malformed::new("resources", problem).into());
    }
    let mut ordered = BTreeMap::new();
    for (at, resource) in resources.into_iter().enumerate() {
        let place = format!("resources[{at}]");
        let Some((kind, name)) = resource.key() else {
            return Err(Malformed::new(place, "is of no kind").into());
        };
        let key = (kind, name.to_owned());
        if ordered.insert(key, (place, resource)).is_some() {
            return Err(Malformed::new(
                format!("resources[{at}]"),
                "was declared in the same request already",
            )
            .into());
        }
    }
    let mut reader = Reader { call, state, providers: BTreeMap::new() };
    ordered
        .into_iter()
        .map(|((kind, name), (place, resource))| {
            call.about(kind.as_str(), &name);
            let within = |error: Denied| located(error, &format!("{place} ({kind} `{name}`)"));
            reader.read(resource).map_err(within).map(|(command, timing, secret_changed)| Planned {
                kind,
                name: name.clone(),
                command,
                timing,
                secret_changed,
            })
        })
        .collect()
}

/// A refusal that says where in the request it was met.
fn located(denied: Denied, place: &str) -> Denied {
    if let Denied::Edge(refusal) = denied {
        Denied::edge(refusal.code, format!("{place}: {}", refusal.message))
    } else {
        denied
    }
}

type Read = (Command, Option<Timing>, bool);

impl Reader<'_> {
    fn read(&mut self, resource: v1::Resource) -> Result<Read, Denied> {
        use v1::resource::Kind as Wire;
        match resource.kind.ok_or_else(|| Malformed::missing("kind"))? {
            Wire::Identity(wire) => Ok((PutIdentity::try_from(wire)?.into(), None, false)),
            Wire::Target(wire) => self.target(wire),
            Wire::Store(wire) => self.store(wire),
            Wire::Credential(wire) => self.credential(wire),
            Wire::Consumer(wire) => Ok((PutConsumer::try_from(wire)?.into(), None, false)),
            Wire::Schedule(wire) => {
                let floor = self.call.edge.limits.period_floor;
                let put = api::schedule::declared(&wire, floor, self.call.now())?;
                let timing = put.timing.clone();
                Ok((put.into(), Some(timing), false))
            }
        }
    }

    fn target(&mut self, mut wire: v1::Target) -> Result<Read, Denied> {
        let password = SecretString::from(mem::take(&mut wire.admin_password));
        let mut put = PutTarget::try_from(wire)?;
        let declared = Target {
            name: put.name.clone(),
            provider: put.provider.clone(),
            params: put.params.clone(),
            admin: None,
            secrets: put.secrets.clone(),
            break_glass_roles: put.break_glass_roles.clone(),
        };
        workers::provider::check(&declared).map_err(|error| Malformed::new("params", error))?;
        self.providers.insert(put.name.clone(), put.provider.clone());
        let kept = self.state.targets().get(&put.name).and_then(|row| row.admin.as_ref());
        put.admin = self.sealed(&password, kept, &associated::target(&put.name))?;
        let changed = put.admin.is_some();
        Ok((put.into(), None, changed))
    }

    fn store(&self, mut wire: v1::Store) -> Result<Read, Denied> {
        let access = as_json(&mem::take(&mut wire.access));
        let mut put = PutStore::try_from(wire)?;
        let declared = Store {
            name: put.name.clone(),
            kind: put.kind.clone(),
            params: put.params.clone(),
            access: None,
        };
        workers::store::check(&declared).map_err(|error| Malformed::new("params", error))?;
        if !access.expose_secret().is_empty() {
            workers::store::check_access(&put.kind, &access)
                .map_err(|error| Malformed::new("access", error))?;
        }
        let kept = self.state.stores().get(&put.name).and_then(|row| row.access.as_ref());
        put.access = self.sealed(&access, kept, &associated::store(&put.name))?;
        let changed = put.access.is_some();
        Ok((put.into(), None, changed))
    }

    fn credential(&self, mut wire: v1::Credential) -> Result<Read, Denied> {
        let password = SecretString::from(mem::take(&mut wire.adopt_password));
        let mut put = PutCredential::try_from(wire)?;
        if let Some(provider) = self.provider(&put.target) {
            workers::provider::supports(provider, &put.strategy)
                .map_err(|error| Malformed::new("strategy", error))?;
        }
        put.adopt = self.adopted(&put, &password)?;
        let changed = put.adopt.is_some();
        Ok((put.into(), None, changed))
    }

    /// The secret in use today, for a credential that is new. Once it exists, the secret in the file is out of date
    /// by design and is left alone, so that a file can be applied again.
    fn adopted(&self, put: &PutCredential, password: &SecretString) -> Result<Option<Adopt>, Denied> {
        if password.expose_secret().is_empty() || self.state.credentials().contains(&put.name) {
            return Ok(None);
        }
        let version = self.state.next_version(&put.name);
        let place = associated::version(&put.name, version);
        let sealed = self.call.edge.keys.seal(self.state, password, &place)?;
        Ok(Some(Adopt { username: put.strategy.successor_of(None).to_owned(), version, sealed }))
    }

    fn provider(&self, target: &TargetName) -> Option<&str> {
        let kept = || self.state.targets().get(target).map(|row| &row.provider);
        self.providers.get(target).or_else(kept).map(String::as_str)
    }

    /// Seals a secret, unless there is none or it is the one that is kept: sealing it again would look like a change.
    fn sealed(
        &self,
        given: &SecretString,
        kept: Option<&Sealed>,
        place: &[u8],
    ) -> Result<Option<Sealed>, Denied> {
        if given.expose_secret().is_empty() {
            return Ok(None);
        }
        let keys = &self.call.edge.keys;
        let same = |kept: &Sealed| {
            keys.open(self.state, kept, place).is_ok_and(|kept| {
                let (kept, given) = (kept.expose_secret().as_bytes(), given.expose_secret().as_bytes());
                aws_lc_rs::constant_time::verify_slices_are_equal(kept, given).is_ok()
            })
        };
        if kept.is_some_and(same) {
            return Ok(None);
        }
        Ok(Some(keys.seal(self.state, given, place)?))
    }
}

/// The access of a store as one JSON object, as `workers::store` reads it; empty when none was given.
fn as_json(access: &BTreeMap<String, String>) -> SecretString {
    if access.is_empty() {
        return SecretString::default();
    }
    serde_json::to_string(access).expect("texts can be written as JSON").into()
}
