//! What people and programs ask of the cluster, each through a node of its choice, and what they remember of the
//! answers.

use std::sync::Arc;

use cluster::{
    ProposeError,
    sim::{Node, time},
};
use model::{
    State,
    attempt::Job,
    command::{
        AbortRotation, ApproveGrant, Command, EndGrant, LiftRevocation, PauseSchedule, PutIdentity,
        RequestGrant, ResumeSchedule, RetryRotation, RevealGrant, ReviewGrant, Revoke, TriggerSchedule,
        WaiveReceipt,
    },
    event::{ReasonCode, Subject},
    grant::GrantStage,
    name::CredentialName,
    rotation::Stage,
    time::{Span, Time},
};

use crate::{
    chance::Chance, check::Checker, hands::login, member::any_node, setup, trace::Trace, world::World,
};

/// Holders of credentials open sessions with what they have.
fn log_in(world: &World, state: &State) {
    for (user, secret) in state.versions().values().filter_map(login) {
        world.target.open_session(&user, secret);
    }
}

/// A client with a name of its own.
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) chance: Chance,
    pub(crate) checker: Checker,
    pub(crate) trace: Trace,
    pub(crate) asked: u64,
}

impl Client {
    /// Asks for this and that until faults end.
    pub(crate) async fn run(mut self, world: Arc<World>) {
        let mut node = None;
        while !world.is_quiet() {
            let pause = self.chance.millis(50..=1_500);
            time::sleep(pause).await;
            // Most stay with the node they know: that is how one comes to ask a leader that has been replaced.
            if self.chance.permille(300) || node.as_ref().is_none_or(Node::is_dead) {
                node = any_node(&world.members, &mut self.chance);
            }
            let Some(node) = &node else { continue };
            if self.chance.permille(350) {
                self.read(node).await;
            } else if self.chance.permille(100) {
                log_in(&world, &node.local());
            } else if let Some(command) = self.choose(&node.local()) {
                self.ask(node, command).await;
            }
        }
    }

    /// Proposes a command in a name that is used for it alone. `true` when it was done.
    pub(crate) async fn ask(&mut self, node: &Node, command: Command) -> bool {
        self.asked += 1;
        let actor = format!("client-{}-{}", self.number, self.asked);
        let action = command.action();
        let answer = node.propose(actor.clone(), command).await;
        match &answer {
            Ok(outcome) => self.checker.acknowledged(&actor, outcome),
            Err(ProposeError::Unknown) => {}
            Err(
                ProposeError::NoLeader
                | ProposeError::Unsupported(_)
                | ProposeError::TooLarge(_)
                | ProposeError::DiskFull
                | ProposeError::Stopped,
            ) => self.checker.unproposed(&actor),
        }
        let told = match &answer {
            Ok(Ok(_)) => "done",
            Ok(Err(_)) => "refused",
            Err(ProposeError::Unknown) => "unknown",
            Err(_) => "not proposed",
        };
        self.trace.line(format_args!("{actor} at {} {action}: {told}", node.id()));
        matches!(answer, Ok(Ok(_)))
    }

    async fn read(&self, node: &Node) {
        let wanted = self.checker.freshness();
        if let Ok(state) = node.read().await {
            self.checker.read(wanted, &state);
        }
    }

    fn choose(&mut self, state: &State) -> Option<Command> {
        match self.chance.number(0..=99) {
            0..=14 => Some(self.declare()),
            15..=29 => self.trigger(state),
            30..=36 => self.revoke(state),
            37..=42 => self.lift(state),
            43..=64 => self.grant(state),
            65..=74 => self.pause(state),
            75..=84 => self.meddle(state),
            85..=89 => self.waive(state),
            _ => self.declare_more(state),
        }
    }

    fn declare(&mut self) -> Command {
        let name = format!("identity-{}", self.chance.number(0..=5)).parse();
        PutIdentity {
            name: name.expect("a name is made of letters and digits"),
            owner: "team".into(),
            purpose: format!("purpose {}", self.chance.number(0..=1_000)),
            workload: "api".into(),
            environment: "test".into(),
            review_by: Time::MAX,
        }
        .into()
    }

    /// A credential that there was not before, or a schedule that is changed.
    fn declare_more(&mut self, state: &State) -> Option<Command> {
        let number = self.chance.number(0..=5);
        let name = setup::credential_name(number);
        if !state.credentials().contains(&name) {
            return Some(setup::credential(number, None).into());
        }
        Some(setup::schedule(number, &mut self.chance).into())
    }

    fn trigger(&mut self, state: &State) -> Option<Command> {
        let names: Vec<_> = state.schedules().values().map(|row| row.name.clone()).collect();
        Some(TriggerSchedule { name: self.chance.one_of(&names)?.clone() }.into())
    }

    fn revoke(&mut self, state: &State) -> Option<Command> {
        let names: Vec<CredentialName> = state.credentials().values().map(|row| row.name.clone()).collect();
        let name = self.chance.one_of(&names)?.clone();
        let current = state.credentials().get(&name).and_then(|row| row.current);
        let subject = match current.filter(|_| self.chance.permille(500)) {
            Some(number) => Subject::Version(name, number),
            None => Subject::Credential(name),
        };
        let codes = [ReasonCode::KeyCompromise, ReasonCode::CessationOfOperation, ReasonCode::Hold];
        let code = *self.chance.one_of(&codes)?;
        let reason = "found in a public place".to_owned();
        Some(Revoke { subject, code, reason, ack_within: Span::seconds(20) }.into())
    }

    fn lift(&mut self, state: &State) -> Option<Command> {
        let held: Vec<_> = state
            .revocations()
            .values()
            .filter(|row| row.code == ReasonCode::Hold && row.lifted.is_none())
            .map(|row| row.id)
            .collect();
        Some(LiftRevocation { id: *self.chance.one_of(&held)?, reason: "found again".into() }.into())
    }

    fn grant(&mut self, state: &State) -> Option<Command> {
        let open: Vec<_> = state.grants().values().filter(|row| !row.stage.is_terminal()).collect();
        let chosen = self.chance.one_of(&open).map(|row| (row.id, row.stage));
        match chosen {
            Some((id, GrantStage::Requested)) => Some(ApproveGrant { id }.into()),
            Some((id, GrantStage::AwaitingReview)) => {
                Some(ReviewGrant { id, note: "as it should be".into() }.into())
            }
            Some((id, GrantStage::Active)) if self.chance.permille(300) => {
                Some(EndGrant { id, reason: "done early".into() }.into())
            }
            Some((id, GrantStage::Active)) => Some(RevealGrant { id }.into()),
            _ => Some(
                RequestGrant {
                    target: setup::target_name(),
                    role: setup::ROLE.into(),
                    duration: Span::seconds(self.chance.number(2..=20)),
                    ticket: "T-1".into(),
                    reason: "an incident".into(),
                }
                .into(),
            ),
        }
    }

    fn pause(&mut self, state: &State) -> Option<Command> {
        let rows: Vec<_> =
            state.schedules().values().map(|row| (row.name.clone(), row.paused.is_some())).collect();
        let (name, paused) = self.chance.one_of(&rows)?.clone();
        if paused {
            return Some(ResumeSchedule { name }.into());
        }
        self.chance.permille(300).then(|| PauseSchedule { name, reason: "a freeze".into() }.into())
    }

    /// Takes a rotation back, or lets one go on that was given up.
    fn meddle(&mut self, state: &State) -> Option<Command> {
        let open: Vec<_> = state
            .open_jobs()
            .filter_map(|job| match job {
                Job::Rotation(id) => state.rotations().get(&id),
                Job::Grant(_) => None,
            })
            .map(|row| (row.id, row.stage))
            .collect();
        match self.chance.one_of(&open)? {
            (id, Stage::Quarantined) => Some(RetryRotation { id: *id }.into()),
            (id, _) if self.chance.permille(400) => {
                Some(AbortRotation { id: *id, reason: "not now".into() }.into())
            }
            _ => None,
        }
    }

    fn waive(&mut self, state: &State) -> Option<Command> {
        let rows: Vec<_> = state.consumers().values().collect();
        let row = self.chance.one_of(&rows)?;
        let revision = state.outstanding_of(row).next()?.revision;
        Some(WaiveReceipt { consumer: row.name.clone(), revision, reason: "known to be away".into() }.into())
    }
}
