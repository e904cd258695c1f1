//! Providers: how targets are made to honour and to refuse credentials. Each kind declares what it can do; the verbs
//! take plain values and may all be repeated.

pub mod demo;
pub mod postgres;

use async_trait::async_trait;
use model::{
    attempt::{FailureClass, Liveness},
    credential::Strategy,
    target::{SecretPolicy, Target},
    time::Time,
};

use crate::{
    fault::Fault,
    params::ParamError,
    secret::{Login, Password},
};

/// Every kind of target there is.
pub const KINDS: [&str; 2] = [demo::KIND, postgres::KIND];

/// Fresh logins in a row that must succeed before a version counts as verified.
const VERIFICATIONS: u32 = 2;

/// How many values of a credential a target honours at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// As many as are asked for.
    Many,
    /// Two.
    Two,
    /// One for each user; two users in turn give an overlap.
    AlternateUser,
    /// One.
    None,
}

/// What a kind of target can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How old and new values live beside each other.
    pub overlap: Overlap,
    /// Whether sessions can be cut.
    pub sever: bool,
    /// Whether a login may change its own password.
    pub self_rotate: bool,
    /// Whether the credentials known to the target can be listed.
    pub inventory: bool,
}

/// Where consumers find a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What speaks there, such as `postgres`.
    pub engine: &'static str,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database, where there is such a thing.
    pub database: Option<String>,
}

/// What an attempt to log in came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It logged in and could work.
    Live,
    /// The password was accepted, but no session given, and why: the credential is not dead.
    Admitted(String),
    /// It was refused, and why.
    Refused(String),
    /// It could not be found out.
    Unknown(Fault),
}

impl Probe {
    /// What it tells the model.
    #[must_use]
    pub const fn liveness(&self) -> Liveness {
        match self {
            Self::Live | Self::Admitted(_) => Liveness::Live,
            Self::Refused(_) => Liveness::Refused,
            Self::Unknown(_) => Liveness::Unknown,
        }
    }
}

/// A login to be cut off, and the one of the same credential that must go on, if any.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// What must die.
    pub login: &'a Login,
    /// What must live.
    pub survivor: Option<&'a Login>,
    /// An instant of the *target's* clock, at or after which no session can have been opened with `login`. Sessions
    /// opened later are left alone; without it, every session that exists when the cut begins may be cut.
    pub opened_before: Option<Time>,
}

/// A user that ends by itself.
#[derive(Clone, Debug)]
pub struct Temporary {
    /// The user and its password; the name begins with [`TEMPORARY_PREFIX`].
    pub login: Login,
    /// The role it becomes a member of.
    pub role: String,
    /// From when on the target itself refuses it: the second fence.
    pub valid_until: Time,
}

/// How the names of temporary users begin; a user with another name is never removed.
pub const TEMPORARY_PREFIX: &str = "revolve_bg_";

/// The verbs of one target. All may be repeated, and all are run under a deadline of the caller's.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Whether the administrative access may do what `strategy` needs, and the users are as it needs them. Changes
    /// nothing.
    async fn preflight(&self, strategy: &Strategy) -> Result<(), Fault>;

    /// Attempts a login on a connection of its own.
    async fn probe(&self, login: &Login) -> Probe;

    /// Makes the target honour `login`. Answers what was done, for people.
    async fn install(&self, login: &Login) -> Result<String, Fault>;

    /// Proves that `login` is honoured and that a wrong password is not.
    async fn verify(&self, login: &Login) -> Result<String, Fault> {
        verify(self, login).await
    }

    /// Makes the target refuse a login from now on. Open sessions live on.
    async fn retire(&self, ending: &Ending<'_>) -> Result<String, Fault>;

    /// Cuts the sessions opened with a login, returns once they are gone, and answers how many there were.
    async fn sever(&self, ending: &Ending<'_>) -> Result<u64, Fault>;

    /// Makes a temporary user, or makes an existing one as described.
    async fn install_temporary(&self, temporary: &Temporary) -> Result<String, Fault>;

    /// Removes a temporary user; what it owns goes to `role`.
    async fn remove(&self, username: &str, role: &str) -> Result<String, Fault>;
}

/// What a kind of target can do, if there is such a kind.
#[must_use]
pub fn capabilities(kind: &str) -> Option<Capabilities> {
    match kind {
        demo::KIND => Some(demo::CAPABILITIES),
        postgres::KIND => Some(postgres::CAPABILITIES),
        _ => None,
    }
}

/// Checks the declaration of a target: its kind and its parameters.
///
/// # Errors
/// Names the parameter and what is wrong with it.
pub fn check(target: &Target) -> Result<(), ParamError> {
    address(target).map(drop)
}

/// Checks that a kind of target supports a strategy.
///
/// # Errors
/// Says what it supports instead.
pub fn supports(kind: &str, strategy: &Strategy) -> Result<(), String> {
    match kind {
        demo::KIND => demo::supports(strategy),
        postgres::KIND => postgres::supports(strategy),
        _ => Err(unknown_kind(kind).to_string()),
    }
}

/// Where consumers find a target.
///
/// # Errors
/// When the kind or a parameter is refused.
pub fn address(target: &Target) -> Result<Address, ParamError> {
    match target.provider.as_str() {
        demo::KIND => demo::Settings::parse(&target.params).map(|settings| settings.address()),
        postgres::KIND => postgres::Settings::parse(&target.params).map(|settings| settings.address()),
        kind => Err(unknown_kind(kind)),
    }
}

/// The provider of a target, with the password of the administrative user that the parameters name. Nothing is
/// connected yet.
///
/// # Errors
/// When the kind or a parameter is refused, or the administrative password is missing.
pub fn connect(target: &Target, admin: Option<Password>) -> Result<Box<dyn Provider>, Fault> {
    let refused = |error: ParamError| Fault::permanent(format!("target `{}`: {error}", target.name));
    let Some(admin) = admin else {
        let message = format!("target `{}` has no administrative password", target.name);
        return Err(Fault::new(FailureClass::WrongCredential, message));
    };
    match target.provider.as_str() {
        demo::KIND => {
            let settings = demo::Settings::parse(&target.params).map_err(refused)?;
            Ok(Box::new(demo::Demo::new(settings, admin)))
        }
        postgres::KIND => {
            let settings = postgres::Settings::parse(&target.params).map_err(refused)?;
            Ok(Box::new(postgres::Postgres::new(settings, admin)?))
        }
        kind => Err(refused(unknown_kind(kind))),
    }
}

fn unknown_kind(kind: &str) -> ParamError {
    ParamError::UnknownKind { given: kind.to_owned(), known: KINDS.join(", ") }
}

/// Several fresh logins in a row, then one with a wrong password: a target that takes any password proves nothing.
async fn verify<P: Provider + ?Sized>(provider: &P, login: &Login) -> Result<String, Fault> {
    for _ in 0..VERIFICATIONS {
        match provider.probe(login).await {
            Probe::Live => {}
            Probe::Admitted(why) => {
                return Err(Fault::rejected(format!("`{}` may not work there: {why}", login.username)));
            }
            // A replica or a cache in between may lag behind: worth another try.
            Probe::Refused(why) => {
                return Err(Fault::retryable(format!("`{}` is refused: {why}", login.username)));
            }
            Probe::Unknown(fault) => return Err(fault),
        }
    }
    refuses_any_password(provider, &login.username).await?;
    Ok(format!("`{}` logged in {VERIFICATIONS} times; a wrong password was refused", login.username))
}

/// Makes sure that passwords are looked at.
async fn refuses_any_password<P: Provider + ?Sized>(provider: &P, username: &str) -> Result<(), Fault> {
    let wrong = Login::new(username, Password::generate(&SecretPolicy::default()));
    match provider.probe(&wrong).await {
        Probe::Refused(_) => Ok(()),
        Probe::Live | Probe::Admitted(_) => Err(Fault::permanent(format!(
            "the target accepts any password for `{username}`: rotating it would prove nothing"
        ))),
        Probe::Unknown(fault) => Err(fault),
    }
}
