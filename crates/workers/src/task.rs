//! Tasks: one owed step with everything opened that it needs. A task holds plain secrets and is dropped, and wiped,
//! as soon as it is performed.

use std::sync::Arc;

use model::{
    attempt::Step,
    credential::Strategy,
    name::{CredentialName, GrantId},
    store::Store,
    target::Target,
    time::Time,
};
use secrecy::SecretString;

use crate::{
    seal::DataKey,
    secret::{Login, Password},
};

/// One owed step.
#[derive(Clone, Debug)]
pub struct Task {
    /// The step.
    pub step: Step,
    /// What it is done for.
    pub subject: Subject,
    /// Where.
    pub target: Target,
    /// The password of the target's administrative user; `Prepare` does without.
    pub admin: Option<Password>,
    /// What `Prepare` seals the candidate with.
    pub data_key: Arc<DataKey>,
    /// How many attempts of this step have failed, from the model: decides how long to wait after the next failure.
    pub failures: u32,
}

/// What a step is done for.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A version of a credential is replaced or ended.
    Rotation(Rotation),
    /// A temporary user comes or goes.
    Grant(Grant),
}

/// What a rotation's steps need.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The credential.
    pub credential: CredentialName,
    /// How its versions live beside each other.
    pub strategy: Strategy,
    /// The number the candidate gets; read by `Prepare`.
    pub next_version: u32,
    /// The candidate, once prepared; `Install`, `Verify`, `Publish` need it.
    pub candidate: Option<Held>,
    /// The version before; `Probe` looks at it and `Rollback` goes back to it.
    pub current: Option<Held>,
    /// The versions that must die; `Retire`, `Sever` and `ProveRefused` read them.
    pub retiring: Vec<Held>,
    /// The version that must go on living at the target while others are ended: the candidate once it is installed,
    /// or the active version when another is revoked. `None` when nothing is to be left alive.
    pub survivor: Option<Held>,
    /// An instant of the target's own clock by which the survivor was installed, if it is known: sessions opened
    /// later are spared by `Sever`.
    pub installed_by: Option<Time>,
    /// The stores beside `builtin`.
    pub placements: Vec<Placed>,
}

/// A version and its opened secret.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its number.
    pub number: u32,
    /// The user it logs in as, and the password.
    pub login: Login,
}

/// One store that holds the credential, and what opens it.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The store.
    pub store: Store,
    /// The opened access of the store; ambient credentials when absent.
    pub access: Option<SecretString>,
    /// The name of the secret there.
    pub path: String,
}

/// What a grant's steps need.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The grant.
    pub id: GrantId,
    /// The role the temporary user becomes a member of.
    pub role: String,
    /// The temporary user and its password, once prepared; every step but `Prepare` needs it.
    pub login: Option<Login>,
    /// When it ends whatever happens; the target is told as well.
    pub valid_until: Time,
}

/// One attempt to log in, to see whether a version is honoured.
#[derive(Clone, Debug)]
pub struct Look {
    /// Where.
    pub target: Target,
    /// The password of the target's administrative user; nothing is done with it.
    pub admin: Option<Password>,
    /// The version's user and its password.
    pub login: Login,
}
