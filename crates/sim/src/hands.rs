//! What a simulated node can do: the steps of a rotation and of a grant, at the simulated target and store.

use std::{future::Future, time::Duration};

use cluster::sim::{Node, time};
use futures::future::BoxFuture;
use model::{
    State, Work,
    attempt::{Failure, FailureClass, Job, Liveness, Probed, Step, StepOutcome},
    command::{Command, InstallDataKey},
    credential::{Credential, Strategy, Version},
    grant::Grant,
    rotation::Rotation,
    sealed::Sealed,
    time::{Span, Time},
};
use server::reconcile::Hands;

use crate::target::{Caller, Fault, Found, Secret, Target, Verb};

/// Longest wait between two attempts.
const RETRY_MAX: Span = Span::seconds(8);

/// The hands of one incarnation of a node.
pub(crate) struct SimHands {
    pub(crate) node: Node,
    pub(crate) target: Target,
}

impl Hands for SimHands {
    fn founding(&self, state: &State) -> Vec<Command> {
        if state.data_key().is_some() {
            return Vec::new();
        }
        vec![InstallDataKey { id: 1, wrapped: vec![1; 8] }.into()]
    }

    fn perform<'a>(
        &'a self,
        state: &'a State,
        work: &'a Work,
        fence: u64,
        within: Duration,
    ) -> BoxFuture<'a, StepOutcome> {
        Box::pin(async move {
            let deadline = time::elapsed() + within;
            let caller = Caller { node: self.node.clone(), job: work.job, fence, deadline };
            let bench = Bench { target: &self.target, caller, failures: work.failures };
            let act = async {
                match work.job {
                    Job::Rotation(id) => bench.rotate(state, state.rotations().get(&id)?, work.step).await,
                    Job::Grant(id) => bench.serve(state.grants().get(&id)?, work.step).await,
                }
            };
            let outcome = time::within(within, act).await;
            let outcome = outcome.unwrap_or(Some(Err(Fault::Unknown)));
            match outcome {
                Some(Ok(outcome)) => outcome,
                Some(Err(fault)) => bench.failed(work.step, fault),
                None => bench.failed(work.step, Fault::Failed),
            }
        })
    }
}

/// A user and a secret.
type Login = (String, Secret);

struct Bench<'a> {
    target: &'a Target,
    caller: Caller,
    failures: u32,
}

impl Bench<'_> {
    fn ask(&self, verb: Verb) -> impl Future<Output = Result<Found, Fault>> + Send + '_ {
        self.target.ask(&self.caller, verb)
    }

    async fn probe(&self, login: &Login) -> Result<Found, Fault> {
        self.ask(Verb::Probe { user: login.0.clone(), secret: login.1 }).await
    }

    async fn liveness(&self, login: Option<&Login>) -> Liveness {
        let Some(login) = login else { return Liveness::Absent };
        match self.probe(login).await {
            Ok(Found::Live) => Liveness::Live,
            Ok(Found::Refused | Found::Done) => Liveness::Refused,
            Err(_) => Liveness::Unknown,
        }
    }

    async fn rotate(
        &self,
        state: &State,
        rotation: &Rotation,
        step: Step,
    ) -> Option<Result<StepOutcome, Fault>> {
        let credential = state.credentials().get(&rotation.credential)?;
        let version = |number: u32| state.versions().get(&(credential.name.clone(), number));
        let candidate = rotation.to.and_then(version).and_then(login);
        let current = rotation.from.and_then(version);
        let current_login = current.and_then(login);
        let retiring: Vec<Login> =
            rotation.retiring.iter().filter_map(|number| version(*number).and_then(login)).collect();
        Some(match step {
            Step::Prepare => Ok(self.prepare(credential, current)),
            Step::Install => self.install(credential, &candidate?).await,
            Step::Probe => {
                let seen = self.liveness(candidate.as_ref()).await;
                let current = self.liveness(current_login.as_ref()).await;
                Ok(StepOutcome::Probed(Probed { candidate: seen, current, retry_after: self.wait() }))
            }
            Step::Verify => self.verify(&candidate?).await,
            Step::Publish => {
                let secret = candidate?.1;
                self.ask(Verb::Publish { credential: credential.name.clone(), secret }).await.map(|_| done())
            }
            Step::Retire => self.each(&retiring, |(user, secret)| Verb::Retire { user, secret }).await,
            Step::Sever => self.each(&retiring, |(user, secret)| Verb::Sever { user, secret }).await,
            Step::ProveRefused => self.prove_refused(&retiring).await,
            Step::Rollback => self.roll_back(credential, candidate, current_login).await,
            Step::Remove => return None,
        })
    }

    fn prepare(&self, credential: &Credential, current: Option<&Version>) -> StepOutcome {
        let before = current.map(|version| version.username.as_str());
        let username = credential.strategy.successor_of(before).to_owned();
        StepOutcome::Prepared { username, sealed: seal(self.caller.fence) }
    }

    async fn install(&self, credential: &Credential, candidate: &Login) -> Result<StepOutcome, Fault> {
        let (user, secret) = candidate.clone();
        let beside = matches!(credential.strategy, Strategy::Overlapping { .. });
        self.ask(Verb::Install { user, secret, beside }).await.map(|_| done())
    }

    async fn verify(&self, login: &Login) -> Result<StepOutcome, Fault> {
        match self.probe(login).await? {
            Found::Live => Ok(done()),
            Found::Refused | Found::Done => Err(Fault::Failed),
        }
    }

    async fn each(&self, logins: &[Login], verb: impl Fn(Login) -> Verb) -> Result<StepOutcome, Fault> {
        for login in logins {
            self.ask(verb(login.clone())).await?;
        }
        Ok(done())
    }

    async fn prove_refused(&self, logins: &[Login]) -> Result<StepOutcome, Fault> {
        for login in logins {
            if self.probe(login).await? == Found::Live {
                let message = format!("`{}` still logs in", login.0);
                return Ok(StepOutcome::StillLive { message, retry_after: self.wait() });
            }
        }
        Ok(done())
    }

    /// The target first, then the store, then the candidate's end.
    async fn roll_back(
        &self,
        credential: &Credential,
        candidate: Option<Login>,
        current: Option<Login>,
    ) -> Result<StepOutcome, Fault> {
        let Some((user, secret)) = candidate else { return Ok(done()) };
        if let Some(current) = &current {
            if self.probe(current).await? == Found::Refused {
                self.install(credential, current).await?;
            }
            self.verify(current).await?;
            self.ask(Verb::Publish { credential: credential.name.clone(), secret: current.1 }).await?;
        }
        self.ask(Verb::Retire { user: user.clone(), secret }).await?;
        self.ask(Verb::Sever { user: user.clone(), secret }).await?;
        match self.probe(&(user, secret)).await? {
            Found::Refused => Ok(done()),
            Found::Live | Found::Done => Err(Fault::Failed),
        }
    }

    async fn serve(&self, grant: &Grant, step: Step) -> Option<Result<StepOutcome, Fault>> {
        if step == Step::Prepare {
            let username = format!("bg_{}_{}", grant.id.0, self.caller.fence);
            return Some(Ok(StepOutcome::Prepared { username, sealed: seal(self.caller.fence) }));
        }
        let Some(user) = grant.username.clone() else {
            // It ended before there was a user.
            return Some(Ok(done()));
        };
        let secret = grant.sealed.as_ref().and_then(unseal).unwrap_or_default();
        let login = (user.clone(), secret);
        Some(match step {
            Step::Install => {
                let until = grant.expires.unwrap_or(Time(0));
                self.ask(Verb::InstallTemporary { user, secret, until }).await.map(|_| done())
            }
            Step::Probe => {
                let candidate = self.liveness(Some(&login)).await;
                let current = Liveness::Absent;
                Ok(StepOutcome::Probed(Probed { candidate, current, retry_after: self.wait() }))
            }
            Step::Retire => self.ask(Verb::Retire { user, secret }).await.map(|_| done()),
            Step::Sever => self.ask(Verb::Sever { user, secret }).await.map(|_| done()),
            Step::ProveRefused => self.prove_refused(&[login]).await,
            Step::Remove => self.ask(Verb::Remove { user }).await.map(|_| done()),
            Step::Prepare | Step::Verify | Step::Publish | Step::Rollback => return None,
        })
    }

    /// As a real worker says it: only an install may have to be called unknown.
    fn failed(&self, step: Step, fault: Fault) -> StepOutcome {
        let class = match (step, fault) {
            (Step::Install, Fault::Unknown) => {
                return StepOutcome::Unknown { message: "the connection was lost".into() };
            }
            (_, Fault::Failed) => FailureClass::Retryable,
            (_, Fault::Unreachable | Fault::Unknown) => FailureClass::Unreachable,
        };
        let failure = Failure { class, message: format!("{fault:?}") };
        StepOutcome::Failed { failure, retry_after: self.wait() }
    }

    fn wait(&self) -> Span {
        Span(500 << self.failures.min(5)).min(RETRY_MAX)
    }
}

fn done() -> StepOutcome {
    StepOutcome::Done { note: String::new() }
}

/// In a simulation a secret is a number, and sealing it is writing it down.
pub(crate) fn seal(secret: Secret) -> Sealed {
    Sealed::try_from(secret.to_le_bytes().to_vec()).expect("eight bytes are within the limits")
}

pub(crate) fn unseal(sealed: &Sealed) -> Option<Secret> {
    Some(Secret::from_le_bytes(sealed.as_bytes().try_into().ok()?))
}

/// How a version logs in, as long as its secret is kept.
pub(crate) fn login(version: &Version) -> Option<Login> {
    Some((version.username.clone(), version.sealed.as_ref().and_then(unseal)?))
}
