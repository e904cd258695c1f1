//! Break-glass grants: asked for, decided on, revealed, ended, reviewed. The legal moves stand in
//! [`crate::grant::transition`]; here is what each of them writes.

use crate::{
    State,
    attempt::{Job, Liveness, Retry, StepOutcome},
    caps,
    command::{ApproveGrant, DenyGrant, EndGrant, RequestGrant, RevealGrant, ReviewGrant, Revoke},
    event::{About, EventKind, ReasonCode},
    grant::{Grant, GrantEnd, GrantEvent, GrantStage, Review, transition},
    name::{GrantId, TargetName},
    outcome::{Applied, Outcome},
    refusal::{Code, Refusal},
    schedule::RotationPolicy,
    state::Timer,
    time::Span,
};

use super::{attempt::bearable, check, refuse};

impl State {
    pub(super) fn request_grant(&mut self, actor: &str, command: &RequestGrant) -> Outcome {
        self.check_confirmed("break-glass")?;
        check::text("ticket", &command.ticket, Code::TextRequired)?;
        check::text("reason", &command.reason, Code::TextRequired)?;
        self.check_role(&command.target, &command.role)?;
        if command.duration < caps::GRANT_MIN || command.duration > caps::GRANT_MAX {
            let message =
                format!("{} is outside {} to {}", command.duration, caps::GRANT_MIN, caps::GRANT_MAX);
            return refuse(Code::DurationOutOfBounds, message);
        }
        self.facts.grants += 1;
        let id = GrantId(self.facts.grants);
        let grant = Grant {
            id,
            requester: actor.to_owned(),
            target: command.target.clone(),
            role: command.role.clone(),
            duration: command.duration,
            ticket: command.ticket.clone(),
            reason: command.reason.clone(),
            requested: self.now(),
            stage: GrantStage::Requested,
            decided: None,
            expires: None,
            username: None,
            sealed: None,
            revealed: None,
            attempt: None,
            retry: Retry::default(),
            ended: None,
            refused: None,
            ended_revision: None,
            revocation: None,
            review: None,
        };
        self.write_grant(grant);
        Ok(Applied::Requested(id))
    }

    pub(super) fn approve_grant(&mut self, actor: &str, command: &ApproveGrant) -> Outcome {
        self.check_confirmed("break-glass")?;
        let mut grant = self.others_grant(actor, command.id, "approves")?;
        if grant.stage == GrantStage::Requested {
            self.check_request(&grant)?;
        }
        self.move_grant(&mut grant, GrantEvent::Approved)?;
        grant.decided = Some((actor.to_owned(), self.now()));
        grant.expires = Some(self.now().plus(grant.duration));
        self.write_grant(grant);
        Ok(Applied::Changed)
    }

    /// What was asked for must still be in time and still be handed out.
    fn check_request(&self, grant: &Grant) -> Result<(), Refusal> {
        if let Some(end) = grant.ends_by_itself().filter(|end| *end <= self.now()) {
            return refuse(Code::WrongStage, format!("{} lapsed at {end}, undecided", grant.id));
        }
        self.check_role(&grant.target, &grant.role)
    }

    fn check_role(&self, target: &TargetName, role: &str) -> Result<(), Refusal> {
        if self.known_target(target)?.break_glass_roles.iter().any(|allowed| allowed == role) {
            return Ok(());
        }
        refuse(Code::RoleNotAllowed, format!("target `{target}` does not hand out the role `{role}`"))
    }

    pub(super) fn deny_grant(&mut self, actor: &str, command: &DenyGrant) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let mut grant = self.others_grant(actor, command.id, "denies")?;
        self.move_grant(&mut grant, GrantEvent::Refused)?;
        grant.decided = Some((actor.to_owned(), self.now()));
        self.write_grant(grant);
        Ok(Applied::Changed)
    }

    pub(super) fn end_grant(&mut self, actor: &str, command: &EndGrant) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let grant = self.known_grant(command.id)?.clone();
        self.finish_early(grant, GrantEnd::Ended { by: actor.to_owned() })
    }

    /// The secret may be shown now, this once: the caller opens the sealed blob after this is committed.
    pub(super) fn reveal_grant(&mut self, actor: &str, command: &RevealGrant) -> Outcome {
        self.check_confirmed("break-glass")?;
        let mut grant = self.known_grant(command.id)?.clone();
        if grant.requester != actor {
            return refuse(
                Code::NotTheRequester,
                format!("{} was asked for by `{}`", grant.id, grant.requester),
            );
        }
        if let Some(at) = grant.revealed {
            return refuse(Code::AlreadyRevealed, format!("the secret of {} was shown at {at}", grant.id));
        }
        if !grant.is_live(self.now()) {
            return refuse(
                Code::WrongStage,
                format!("{} is `{}`, not active", grant.id, grant.stage.as_str()),
            );
        }
        grant.revealed = Some(self.now());
        self.write_grant(grant);
        Ok(Applied::Changed)
    }

    pub(super) fn review_grant(&mut self, actor: &str, command: &ReviewGrant) -> Outcome {
        check::text("note", &command.note, Code::TextRequired)?;
        let mut grant = self.others_grant(actor, command.id, "reviews")?;
        self.move_grant(&mut grant, GrantEvent::Reviewed)?;
        grant.review = Some(Review { by: actor.to_owned(), at: self.now(), note: command.note.clone() });
        self.write_grant(grant);
        Ok(Applied::Changed)
    }

    pub(super) fn revoke_grant(&mut self, id: GrantId, actor: &str, command: &Revoke) -> Outcome {
        if command.code == ReasonCode::Hold {
            return refuse(Code::OutOfRange, "a grant is ended, not held");
        }
        let mut grant = self.known_grant(id)?.clone();
        if let Some(standing) = grant.revocation.and_then(|standing| self.revocations.get(&standing)) {
            return Ok(Applied::Revoked { id: standing.id, revisions: standing.revisions.clone() });
        }
        if transition(grant.stage, GrantEvent::Over).is_err() || grant.ended.is_some() {
            return refuse(Code::NothingToRevoke, format!("{id} is `{}`", grant.stage.as_str()));
        }
        let revocation = self.next_revocation();
        let about = About::Grant(id);
        let revision = self.append_event(
            EventKind::GrantEnded,
            about,
            command.code,
            Some(revocation),
            command.ack_within,
        );
        grant.ended_revision = revision;
        grant.revocation = Some(revocation);
        self.finish_early(grant, GrantEnd::Revoked)?;
        let revisions: Vec<u64> = revision.into_iter().collect();
        self.put_revocation(revocation, actor, command, revisions.clone());
        Ok(Applied::Revoked { id: revocation, revisions })
    }

    /// The grant's time is up, or that of its request. Whatever was in flight is dropped; the end takes over.
    pub(super) fn expire_grant(&mut self, id: GrantId) {
        let Some(grant) = self.grants.get(&id).cloned() else { return };
        let before = self.content_digest();
        let event = if grant.stage == GrantStage::Requested { GrantEvent::Lapsed } else { GrantEvent::Over };
        let Ok(stage) = transition(grant.stage, event) else { return };
        let mut grant = Grant { stage, ..grant };
        grant.retry = grant.retry.after_calling_off(grant.attempt.take());
        if event == GrantEvent::Over {
            grant.ended = Some((GrantEnd::Expired, self.now()));
        }
        self.write_grant(grant);
        self.record_effect(
            before,
            "breakglass.expire",
            format!("grant/{id}"),
            format!("now `{}`", stage.as_str()),
        );
    }

    pub(super) fn finish_grant(&mut self, id: GrantId, outcome: &StepOutcome) -> Outcome {
        let mut grant = self.known_grant(id)?.clone();
        if let StepOutcome::Prepared { username, .. } = outcome
            && !(1..=caps::USERNAME_BYTES).contains(&username.len())
        {
            let message =
                format!("a user name of {} bytes is outside 1 to {}", username.len(), caps::USERNAME_BYTES);
            return refuse(Code::OutcomeMismatch, message);
        }
        let event = match outcome {
            StepOutcome::Prepared { .. } | StepOutcome::Done { .. } => GrantEvent::Done,
            StepOutcome::Failed { failure, .. } => GrantEvent::Failed(failure.class),
            StepOutcome::Unknown { .. } => GrantEvent::Lost,
            StepOutcome::Probed(probed) => GrantEvent::Probed(probed.candidate),
            StepOutcome::StillLive { .. } => GrantEvent::StillLive,
        };
        let stage = grant.stage;
        self.move_grant(&mut grant, event)?;
        let attempt = grant.attempt.take();
        grant.retry = self.grant_retry(&grant, stage, outcome).doubting(attempt.as_ref(), outcome);
        if let StepOutcome::Prepared { username, sealed } = outcome {
            grant.username = Some(username.clone());
            grant.sealed = Some(sealed.clone());
        }
        if matches!(outcome, StepOutcome::Failed { .. })
            && grant.stage == GrantStage::Retire
            && stage != grant.stage
        {
            grant.ended = Some((GrantEnd::ActivationFailed, self.now()));
        }
        if matches!(outcome, StepOutcome::Done { .. }) && stage == GrantStage::ProveRefused {
            self.prove_ended(&mut grant);
        }
        self.write_grant(grant);
        Ok(Applied::Changed)
    }

    /// The end is proven: consumers are told, unless a revocation told them, and the secret is erased.
    fn prove_ended(&mut self, grant: &mut Grant) {
        grant.refused = Some(self.now());
        grant.sealed = None;
        if grant.ended_revision.is_none() {
            let within = RotationPolicy::default().ack_within;
            let about = About::Grant(grant.id);
            grant.ended_revision =
                self.append_event(EventKind::GrantEnded, about, ReasonCode::BreakGlassEnded, None, within);
        }
    }

    fn grant_retry(&self, grant: &Grant, before: GrantStage, outcome: &StepOutcome) -> Retry {
        let (old, now) = (&grant.retry, self.now());
        match outcome {
            StepOutcome::Failed { failure, retry_after } if grant.stage == before => {
                old.failed(&bearable(failure), now, *retry_after)
            }
            StepOutcome::Failed { failure, .. } => Retry { last: Some(bearable(failure)), ..old.anew() },
            StepOutcome::StillLive { retry_after, .. } => old.undecided(now, *retry_after),
            StepOutcome::Unknown { .. } if grant.stage != before => old.undecided(now, Span(0)),
            StepOutcome::Unknown { .. } => old.undecided(now, old.lost_wait()),
            StepOutcome::Probed(probed) => match probed.candidate {
                Liveness::Live => old.anew(),
                Liveness::Unknown => old.undecided(now, probed.retry_after),
                Liveness::Refused | Liveness::Absent => {
                    Retry { not_before: now.plus(old.lost_wait()), ..old.clone() }
                }
            },
            StepOutcome::Prepared { .. } | StepOutcome::Done { .. } => old.anew(),
        }
    }

    fn finish_early(&mut self, mut grant: Grant, end: GrantEnd) -> Outcome {
        if grant.ended.is_some() {
            return refuse(Code::WrongStage, format!("{} is ending already", grant.id));
        }
        self.move_grant(&mut grant, GrantEvent::Over)?;
        grant.retry = grant.retry.after_calling_off(grant.attempt.take());
        grant.ended = Some((end, self.now()));
        self.write_grant(grant);
        Ok(Applied::Changed)
    }

    fn move_grant(&self, grant: &mut Grant, event: GrantEvent) -> Result<(), Refusal> {
        match transition(grant.stage, event) {
            Ok(stage) => {
                grant.stage = stage;
                Ok(())
            }
            Err(_) => refuse(Code::WrongStage, format!("{} is `{}`", grant.id, grant.stage.as_str())),
        }
    }

    fn others_grant(&self, actor: &str, id: GrantId, verb: &str) -> Result<Grant, Refusal> {
        let grant = self.known_grant(id)?;
        if grant.requester == actor {
            return refuse(
                Code::OwnGrant,
                format!("`{actor}` asked for {id}; nobody {verb} their own grant"),
            );
        }
        Ok(grant.clone())
    }

    fn known_grant(&self, id: GrantId) -> Result<&Grant, Refusal> {
        self.grants
            .get(&id)
            .ok_or_else(|| Refusal::new(Code::UnknownGrant, format!("there is no grant {id}")))
    }

    fn write_grant(&mut self, grant: Grant) {
        let ended = grant.stage.is_terminal();
        self.timed(Timer::Job(Job::Grant(grant.id)), |state| state.grants.put(grant.id, grant));
        if ended {
            self.forget_grants();
        }
    }

    /// Forgets the oldest grants that are over, beyond [`caps::ENDED_GRANTS`] of them.
    fn forget_grants(&mut self) {
        let open = self.open.range(Job::Grant(GrantId(0))..).count();
        while self.grants.len() - open > caps::ENDED_GRANTS {
            let Some(oldest) = self.grants.values().find(|row| row.stage.is_terminal()).map(|row| row.id)
            else {
                return;
            };
            self.grants.remove(&oldest);
        }
    }
}
