//! Rotations: started, attempted, finished, aborted. The legal moves stand in [`crate::rotation::transition`];
//! here is what each of them writes.

use crate::{
    State,
    attempt::{Job, Liveness, Retry, StepOutcome},
    caps,
    command::{AbortRotation, RetryRotation},
    credential::{Version, VersionState},
    event::{About, EventKind, ReasonCode},
    name::{CredentialName, RotationId},
    outcome::{Applied, Outcome},
    refusal::{Code, Refusal},
    rotation::{Cause, Event, Order, Passage, Passed, Rotation, Stage, transition},
    schedule::{OverlapEnd, RotationPolicy},
    state::Timer,
    time::Span,
};

use super::{attempt::bearable, check, refuse};

impl State {
    /// Starts a rotation of a credential that has none under way.
    pub(super) fn start_rotation(
        &mut self,
        credential: &CredentialName,
        cause: Cause,
        order: Order,
        policy: RotationPolicy,
    ) -> RotationId {
        self.facts.rotations += 1;
        let id = RotationId(self.facts.rotations);
        let from = self.credentials.get(credential).and_then(|row| row.current);
        let retiring: Vec<u32> = from.into_iter().collect();
        let mut rotation = Rotation {
            id,
            credential: credential.clone(),
            cause,
            order,
            from,
            to: None,
            retiring,
            stage: Stage::Prepare,
            passed: Passed::default(),
            attempt: None,
            retry: Retry::default(),
            refuted: 0,
            published_revision: None,
            drain_until: None,
            policy,
            started: self.now(),
            ended: None,
            history: Vec::new(),
        };
        if rotation.retiring.is_empty() && order == Order::OverlapFirst {
            for stage in [Stage::Drain, Stage::Retire, Stage::Sever, Stage::ProveRefused] {
                rotation.passed = rotation.passed.with(stage);
            }
        }
        rotation.stage = order.next(rotation.passed);
        self.credentials.update(credential, |row| row.rotation = Some(id));
        self.write_rotation(rotation);
        id
    }

    pub(super) fn finish_rotation(&mut self, id: RotationId, outcome: &StepOutcome) -> Outcome {
        let Some(mut rotation) = self.rotations.get(&id).cloned() else { return unknown_rotation(id) };
        if let StepOutcome::Prepared { username, .. } = outcome {
            self.check_candidate(&rotation, username)?;
        }
        let event = event_of(&rotation, outcome);
        let stage = rotation.stage;
        let Ok((next, passed)) = transition(stage, event, rotation.order, rotation.passed) else {
            return refuse(
                Code::OutcomeMismatch,
                format!("that cannot happen while {id} is in `{}`", stage.as_str()),
            );
        };
        let attempt = rotation.attempt.take();
        self.remember(&mut rotation, outcome);
        match outcome {
            StepOutcome::Prepared { username, sealed } => self.add_candidate(&mut rotation, username, sealed),
            StepOutcome::Done { .. } => self.take_effect(&mut rotation, stage),
            StepOutcome::Failed { .. }
            | StepOutcome::Unknown { .. }
            | StepOutcome::Probed(_)
            | StepOutcome::StillLive { .. } => {}
        }
        rotation.retry = self.retry_after(&rotation, outcome, next).doubting(attempt.as_ref(), outcome);
        if matches!(outcome, StepOutcome::StillLive { .. }) {
            rotation.refuted = rotation.refuted.saturating_add(1);
        }
        rotation.passed = passed;
        self.enter(rotation, next);
        Ok(Applied::Changed)
    }

    /// Moves a rotation into a stage and does what entering it means.
    pub(super) fn enter(&mut self, mut rotation: Rotation, stage: Stage) {
        let goes_on = stage == Stage::Settled && self.take_up_survivors(&mut rotation);
        rotation.stage = if goes_on { Stage::Drain } else { stage };
        let (id, stage, credential) = (rotation.id, rotation.stage, rotation.credential.clone());
        if stage == Stage::Drain {
            rotation.drain_until = Some(self.now().plus(rotation.policy.overlap_max));
        }
        if stage.is_terminal() {
            rotation.ended = Some(self.now());
            self.credentials.update(&credential, |row| row.rotation = None);
        }
        self.write_rotation(rotation);
        if stage == Stage::Drain {
            self.check_drain(id);
        }
        if stage.is_terminal() {
            self.forget_rotations(&credential);
        }
    }

    /// A repair has come to its end: versions that were not revoked and are not the new one go the ordinary way.
    fn take_up_survivors(&self, rotation: &mut Rotation) -> bool {
        let Some(to) = rotation.to else { return false };
        let survivors: Vec<u32> = self
            .versions_of(&rotation.credential)
            .filter(|version| version.state.is_live() && version.number != to)
            .map(|version| version.number)
            .collect();
        if survivors.is_empty() {
            return false;
        }
        rotation.order = Order::OverlapFirst;
        rotation.retiring = survivors;
        rotation.refuted = 0;
        for stage in [Stage::Drain, Stage::Retire, Stage::Sever, Stage::ProveRefused] {
            rotation.passed = rotation.passed.without(stage);
        }
        true
    }

    /// Forgets the ended rotations of a credential beyond the newest [`caps::ENDED_ROTATIONS`].
    fn forget_rotations(&mut self, credential: &CredentialName) {
        let old: Vec<RotationId> = self.index.ended_of(credential).skip(caps::ENDED_ROTATIONS).collect();
        for id in old {
            self.rotations.remove(&id);
            self.index.remove_ended(credential, id);
        }
    }

    fn check_candidate(&self, rotation: &Rotation, username: &str) -> Result<(), Refusal> {
        let credential = self.known_credential(&rotation.credential)?;
        let current = rotation.from.and_then(|from| self.versions.get(&(credential.name.clone(), from)));
        let wanted = credential.strategy.successor_of(current.map(|version| version.username.as_str()));
        if rotation.to.is_some() || wanted != username {
            let message =
                format!("the candidate of {} must be one new version for user `{wanted}`", rotation.id);
            return refuse(Code::OutcomeMismatch, message);
        }
        Ok(())
    }

    fn add_candidate(&mut self, rotation: &mut Rotation, username: &str, sealed: &crate::sealed::Sealed) {
        let number = self.next_version(&rotation.credential);
        let version = Version {
            credential: rotation.credential.clone(),
            number,
            state: VersionState::Prepared,
            username: username.to_owned(),
            sealed: Some(sealed.clone()),
            created: self.now(),
            verified: None,
            revoked: None,
            refused: None,
            revoked_revision: None,
        };
        self.versions.put((rotation.credential.clone(), number), version);
        rotation.to = Some(number);
    }

    fn take_effect(&mut self, rotation: &mut Rotation, stage: Stage) {
        let now = self.now();
        match stage {
            Stage::Verify => {
                self.change_versions(rotation, rotation.to, |version| version.verified = Some(now))
            }
            Stage::Publish => self.publish(rotation),
            Stage::Retire => self.change_versions(rotation, rotation.retiring.clone(), |version| {
                version.state = version.state.max(VersionState::Revoked);
                version.revoked.get_or_insert(now);
            }),
            Stage::ProveRefused => self.bury(rotation),
            Stage::Rollback => self.roll_back(rotation),
            Stage::Prepare
            | Stage::Install
            | Stage::Uncertain
            | Stage::Drain
            | Stage::Sever
            | Stage::Quarantined
            | Stage::Settled
            | Stage::Aborted => {}
        }
    }

    fn publish(&mut self, rotation: &mut Rotation) {
        let Some(to) = rotation.to else { return };
        self.change_versions(rotation, Some(to), |version| version.state = VersionState::Active);
        self.change_versions(rotation, rotation.from, |version| {
            if version.state == VersionState::Active {
                version.state = VersionState::Tainted;
            }
        });
        self.credentials.update(&rotation.credential, |row| row.current = Some(to));
        self.lost.remove(&rotation.credential);
        let about = About::Version { credential: rotation.credential.clone(), version: to };
        let within = rotation.policy.ack_within;
        rotation.published_revision =
            self.append_event(EventKind::CredentialRotated, about, ReasonCode::Superseded, None, within);
    }

    /// The old versions are proven dead: their secrets are erased and consumers are told.
    fn bury(&mut self, rotation: &Rotation) {
        let now = self.now();
        for number in &rotation.retiring {
            let key = (rotation.credential.clone(), *number);
            let told = self.versions.get(&key).is_none_or(|version| version.revoked_revision.is_some());
            let revision = if told {
                None
            } else {
                let about = About::Version { credential: key.0.clone(), version: *number };
                let within = rotation.policy.ack_within;
                self.append_event(EventKind::CredentialRevoked, about, ReasonCode::Superseded, None, within)
            };
            self.versions.update(&key, |version| {
                version.state = VersionState::Destroyed;
                version.sealed = None;
                version.refused = Some(now);
                version.revoked_revision = version.revoked_revision.or(revision);
            });
        }
    }

    /// Target and stores are back at the old version: so is the model, and consumers are told if they had moved.
    fn roll_back(&mut self, rotation: &mut Rotation) {
        let now = self.now();
        self.change_versions(rotation, rotation.to, |version| {
            version.state = VersionState::Destroyed;
            version.sealed = None;
            version.revoked.get_or_insert(now);
        });
        self.change_versions(rotation, rotation.from, |version| {
            if version.state == VersionState::Tainted {
                version.state = VersionState::Active;
            }
        });
        if rotation.published_revision.is_some() {
            self.credentials.update(&rotation.credential, |row| row.current = rotation.from);
            let within = rotation.policy.ack_within;
            let about = |version: u32| About::Version { credential: rotation.credential.clone(), version };
            if let Some(to) = rotation.to {
                let told = self.append_event(
                    EventKind::CredentialRevoked,
                    about(to),
                    ReasonCode::Superseded,
                    None,
                    within,
                );
                self.change_versions(rotation, Some(to), |version| version.revoked_revision = told);
            }
            if let Some(from) = rotation.from {
                self.append_event(
                    EventKind::CredentialRestored,
                    about(from),
                    ReasonCode::Unspecified,
                    None,
                    within,
                );
            }
        }
    }

    pub(super) fn change_versions(
        &mut self,
        rotation: &Rotation,
        numbers: impl IntoIterator<Item = u32>,
        mut change: impl FnMut(&mut Version),
    ) {
        for number in numbers {
            self.versions.update(&(rotation.credential.clone(), number), &mut change);
        }
    }

    fn retry_after(&self, rotation: &Rotation, outcome: &StepOutcome, next: Stage) -> Retry {
        let (old, now) = (&rotation.retry, self.now());
        match outcome {
            StepOutcome::Failed { failure, retry_after } => old.failed(&bearable(failure), now, *retry_after),
            StepOutcome::StillLive { retry_after, .. } => old.waiting(now, *retry_after),
            StepOutcome::Unknown { .. } if next == Stage::Uncertain && next != rotation.stage => {
                old.undecided(now, Span(0))
            }
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

    fn remember(&self, rotation: &mut Rotation, outcome: &StepOutcome) {
        self.note(rotation, super::outcome_text(outcome));
    }

    pub(super) fn note(&self, rotation: &mut Rotation, note: String) {
        if rotation.history.len() >= caps::PASSAGES {
            rotation.history.remove(0);
        }
        let note = super::clip(&note, caps::TEXT_BYTES).to_owned();
        rotation.history.push(Passage { at: self.now(), stage: rotation.stage, note });
    }

    pub(super) fn write_rotation(&mut self, rotation: Rotation) {
        let timer = Timer::Job(Job::Rotation(rotation.id));
        if rotation.stage.is_terminal() {
            self.index.add_ended(&rotation);
        }
        self.timed(timer, |state| state.rotations.put(rotation.id, rotation));
    }

    /// Ends the wait for consumers when all required ones have answered, or when its time is up.
    pub(super) fn check_drain(&mut self, id: RotationId) {
        let Some(rotation) = self.rotations.get(&id).filter(|row| row.stage == Stage::Drain) else { return };
        let missing: Vec<String> =
            self.awaited_by(rotation).map(|consumer| consumer.name.to_string()).collect();
        let over = rotation.drain_until.is_some_and(|end| end <= self.now());
        let (event, note) = match (missing.is_empty(), over, rotation.policy.on_overlap_end) {
            (true, _, _) => (Event::Drained, "every required consumer has moved".to_owned()),
            (false, false, _) => return,
            (false, true, policy) => {
                let (event, verdict) = match policy {
                    OverlapEnd::Retire => (Event::Drained, "retired all the same, as its policy says"),
                    OverlapEnd::Hold => (Event::Held, "held for a decision, as its policy says"),
                    OverlapEnd::Abort => (Event::AbortRequested, "rolled back, as its policy says"),
                };
                (event, format!("overlap over without {}: {verdict}", missing.join(", ")))
            }
        };
        let before = self.content_digest();
        let mut rotation = rotation.clone();
        let Ok((next, passed)) = transition(rotation.stage, event, rotation.order, rotation.passed) else {
            return;
        };
        self.note(&mut rotation, note.clone());
        rotation.passed = passed;
        let back = event == Event::AbortRequested;
        rotation.retry = if back { rotation.retry.after_calling_off(None) } else { rotation.retry.anew() };
        self.enter(rotation, next);
        self.record_effect(before, "rotation.drain", format!("rotation/{id}"), note);
    }

    /// Looks again at every rotation that waits for consumers.
    pub(super) fn check_drains(&mut self) {
        let waiting: Vec<RotationId> = self
            .open
            .iter()
            .filter_map(|job| match job {
                Job::Rotation(id) => Some(*id),
                Job::Grant(_) => None,
            })
            .filter(|id| self.rotations.get(id).is_some_and(|row| row.stage == Stage::Drain))
            .collect();
        for id in waiting {
            self.check_drain(id);
        }
    }

    pub(super) fn abort_rotation(&mut self, command: &AbortRotation) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let mut rotation = self.open_rotation(command.id)?;
        if rotation.stage == Stage::Rollback {
            return Ok(Applied::Unchanged);
        }
        let Ok((next, passed)) =
            transition(rotation.stage, Event::AbortRequested, rotation.order, rotation.passed)
        else {
            let message = format!("{} is in `{}` and cannot go back", command.id, rotation.stage.as_str());
            return refuse(Code::PastAbort, message);
        };
        rotation.retry = rotation.retry.after_calling_off(rotation.attempt.take());
        rotation.passed = passed;
        self.note(&mut rotation, format!("abort asked for: {}", command.reason));
        self.enter(rotation, next);
        Ok(Applied::Changed)
    }

    pub(super) fn retry_rotation(&mut self, command: &RetryRotation) -> Outcome {
        let mut rotation = self.open_rotation(command.id)?;
        let Ok((next, passed)) =
            transition(rotation.stage, Event::RetryRequested, rotation.order, rotation.passed)
        else {
            let message = format!("{} is in `{}`, not quarantined", command.id, rotation.stage.as_str());
            return refuse(Code::NotQuarantined, message);
        };
        rotation.retry = rotation.retry.anew();
        rotation.refuted = 0;
        rotation.passed = passed;
        self.note(&mut rotation, "asked to go on".to_owned());
        self.enter(rotation, next);
        Ok(Applied::Changed)
    }

    fn open_rotation(&self, id: RotationId) -> Result<Rotation, Refusal> {
        match self.rotations.get(&id) {
            None => unknown_rotation(id),
            Some(rotation) if rotation.stage.is_terminal() => {
                refuse(Code::RotationEnded, format!("{id} has ended as `{}`", rotation.stage.as_str()))
            }
            Some(rotation) => Ok(rotation.clone()),
        }
    }
}

pub(super) fn unknown_rotation<T>(id: RotationId) -> Result<T, Refusal> {
    refuse(Code::UnknownRotation, format!("there is no rotation {id}"))
}

fn event_of(rotation: &Rotation, outcome: &StepOutcome) -> Event {
    let last = |count: u32| count.saturating_add(1) >= rotation.policy.max_attempts;
    match outcome {
        StepOutcome::Prepared { .. } | StepOutcome::Done { .. } => Event::Done,
        StepOutcome::Failed { failure, .. } => {
            Event::Failed { class: failure.class, exhausted: last(rotation.retry.spent) }
        }
        StepOutcome::Unknown { .. } => Event::Lost,
        StepOutcome::Probed(probed) => Event::Probed(probed.candidate),
        StepOutcome::StillLive { .. } => Event::StillLive { exhausted: last(rotation.refuted) },
    }
}
