//! The feed: consumers, deliveries and receipts.

use crate::{
    State,
    attempt::Job,
    caps,
    command::{Acknowledge, Answer, Deliver, PutConsumer, Receipt, RemoveConsumer, WaiveReceipt},
    consumer::{Consumer, Receipts},
    event::{About, Event, EventKind, ReasonCode},
    name::{CredentialName, RevocationId, TargetName},
    outcome::{Applied, Outcome},
    planted::{Bug, is_planted},
    refusal::{Code, Refusal},
    state::Timer,
    time::Span,
};

use super::{check, refuse};

impl State {
    /// Appends an event with the next revision. `None` only when its subject is not known any more.
    pub(super) fn append_event(
        &mut self,
        kind: EventKind,
        about: About,
        reason: ReasonCode,
        revocation: Option<RevocationId>,
        ack_within: Span,
    ) -> Option<u64> {
        let target = self.target_of(&about)?.clone();
        self.facts.revision += if is_planted(Bug::RevisionSkipped) { 2 } else { 1 };
        let revision = self.facts.revision;
        let now = self.now();
        let deadline = now.plus(ack_within);
        let event =
            Event { revision, at: now, kind, about, target, reason, revocation, deadline, escalated: false };
        self.timed(Timer::Event(revision), |state| state.events.put(revision, event));
        if let Some(old) = revision.checked_sub(caps::FEED_EVENTS).filter(|old| self.events.contains(old)) {
            self.escalate(old);
            self.timed(Timer::Event(old), |state| state.events.remove(&old));
        }
        Some(revision)
    }

    pub(super) fn put_consumer(&mut self, command: &PutConsumer) -> Outcome {
        check::text("owner", &command.owner, Code::OwnerRequired)?;
        let subscription = &command.subscription;
        if subscription.is_empty() {
            return refuse(
                Code::EmptySubscription,
                format!("consumer `{}` would never be told anything", command.name),
            );
        }
        check::count("credentials", subscription.credentials.len(), caps::LIST)?;
        check::count("targets", subscription.targets.len(), caps::LIST)?;
        for name in &subscription.credentials {
            self.known_credential(name)?;
        }
        for name in &subscription.targets {
            self.known_target(name)?;
        }
        let old = self.consumers.get(&command.name);
        let unchanged = old.is_some_and(|old| {
            old.owner == command.owner
                && old.subscription == *subscription
                && old.required == command.required
        });
        if unchanged {
            return Ok(Applied::Unchanged);
        }
        let revision = self.revision();
        let mut consumer = old.cloned().unwrap_or_else(|| Consumer {
            name: command.name.clone(),
            owner: String::new(),
            subscription: subscription.clone(),
            required: false,
            since: revision,
            delivered: revision,
            received: Receipts::up_to(revision),
            enforced: Receipts::up_to(revision),
            failed: std::collections::BTreeMap::new(),
            waived: std::collections::BTreeSet::new(),
            last_answer: None,
        });
        if consumer.subscription != *subscription {
            self.settle_unowed(&mut consumer);
        }
        consumer.owner.clone_from(&command.owner);
        consumer.subscription = subscription.clone();
        consumer.required = command.required;
        self.consumers.put(command.name.clone(), consumer);
        self.check_drains();
        Ok(Applied::Changed)
    }

    /// Before a subscription changes: what was not for the consumer until now is not owed to it afterwards either.
    fn settle_unowed(&self, consumer: &mut Consumer) {
        let foreign: Vec<u64> = self
            .events
            .range(consumer.since + 1..)
            .map(|(_, event)| event)
            .filter(|event| !consumer.is_owed(event))
            .map(|event| event.revision)
            .collect();
        for revision in foreign {
            consumer.received.cover(revision, revision);
            consumer.enforced.cover(revision, revision);
        }
        consumer.delivered = consumer.delivered.max(consumer.enforced.cursor());
    }

    pub(super) fn remove_consumer(&mut self, command: &RemoveConsumer) -> Outcome {
        self.known_consumer(&command.name)?;
        let speaks = |token: &&crate::token::Token| {
            token.consumer.as_ref() == Some(&command.name) && token.is_live(self.now())
        };
        if let Some(token) = self.tokens.values().find(speaks) {
            let message = format!("token `{}` still speaks for consumer `{}`", token.name, command.name);
            return refuse(Code::InUse, message);
        }
        self.consumers.remove(&command.name);
        self.check_drains();
        Ok(Applied::Changed)
    }

    pub(super) fn deliver(&mut self, command: &Deliver) -> Outcome {
        for (name, upto) in &command.upto {
            self.known_consumer(name)?;
            if *upto > self.revision() {
                return refuse(Code::UnknownRevision, format!("revision {upto} does not exist yet"));
            }
        }
        let mut moved = false;
        for (name, upto) in &command.upto {
            if self.consumers.get(name).is_some_and(|row| row.delivered < *upto) {
                self.consumers.update(name, |row| row.delivered = *upto);
                moved = true;
            }
        }
        Ok(if moved { Applied::Changed } else { Applied::Unchanged })
    }

    /// Takes in the answers one by one; a refused one does not hold up the others.
    pub(super) fn acknowledge(&mut self, command: &Acknowledge) -> Outcome {
        let mut refused = Vec::new();
        let news = self.awaited_news();
        for (place, answer) in (0..).zip(&command.answers) {
            if let Err(refusal) = self.take_answer(answer, &news) {
                refused.push((place, refusal));
            }
        }
        self.check_drains();
        Ok(Applied::Answered { refused })
    }

    /// Each refused answer is audited under the consumer it claimed to come from.
    pub(super) fn record_refused_answers(
        &mut self,
        actor: &str,
        command: &Acknowledge,
        refused: &[(u32, Refusal)],
    ) {
        for (place, refusal) in refused {
            let claimed = usize::try_from(*place).ok().and_then(|place| command.answers.get(place));
            let object = claimed.map(|answer| format!("consumer/{}", answer.consumer)).unwrap_or_default();
            let digest = self.content_digest();
            self.record(
                digest,
                actor,
                "feed.acknowledge",
                object,
                refusal.message.clone(),
                Some(refusal.code.as_str()),
            );
        }
    }

    /// The events that rotations under way wait for: they are owed even after they have left the history.
    fn awaited_news(&self) -> Vec<(u64, CredentialName, TargetName)> {
        let news = |job: &Job| {
            let Job::Rotation(id) = job else { return None };
            let rotation = self.rotations.get(id)?;
            let credential = self.credentials.get(&rotation.credential)?;
            Some((rotation.published_revision?, credential.name.clone(), credential.target.clone()))
        };
        self.open.iter().filter_map(news).collect()
    }

    fn take_answer(
        &mut self,
        answer: &Answer,
        news: &[(u64, CredentialName, TargetName)],
    ) -> Result<(), Refusal> {
        let mut consumer = self.known_consumer(&answer.consumer)?.clone();
        check::count("ranges", answer.ranges.len(), caps::ACK_RANGES)?;
        if answer.ranges.is_empty() {
            return refuse(Code::InvalidRange, "no revision is named");
        }
        for range in &answer.ranges {
            self.check_range(&consumer, *range)?;
        }
        if let Receipt::Failed { detail } = &answer.receipt {
            check::optional_text("detail", detail)?;
        }
        for &(first, last) in &answer.ranges {
            consumer.received.cover(first, last);
            match &answer.receipt {
                Receipt::Received => {}
                Receipt::Enforced => {
                    consumer.enforced.cover(first, last);
                    consumer.failed.retain(|revision, _| !(first..=last).contains(revision));
                }
                Receipt::Failed { .. } if is_planted(Bug::CursorBack) => {
                    consumer.enforced = Receipts::default();
                }
                Receipt::Failed { detail } => {
                    let owed = self.events.range(first..=last).map(|(_, event)| event);
                    let open: Vec<u64> = owed
                        .filter(|event| consumer.is_owed(event) && !consumer.has_settled(event.revision))
                        .map(|event| event.revision)
                        .collect();
                    for revision in open {
                        consumer.note_failure(revision, detail.clone());
                    }
                }
            }
        }
        let probe = consumer.clone();
        let first_owed = |from: u64, to: u64| {
            let kept = self.events.range(from..to).find(|(_, event)| probe.is_owed(event)).map(|(at, _)| *at);
            let awaited = news.iter().filter(|(revision, credential, target)| {
                (from..to).contains(revision) && probe.subscription.covers_credential(credential, target)
            });
            awaited.map(|(revision, ..)| *revision).chain(kept).min()
        };
        consumer.received.close_up(first_owed);
        consumer.enforced.close_up(first_owed);
        consumer.waived = consumer.waived.split_off(&(consumer.enforced.cursor() + 1));
        consumer.last_answer = Some(self.now());
        self.consumers.put(answer.consumer.clone(), consumer);
        Ok(())
    }

    fn check_range(&self, consumer: &Consumer, (first, last): (u64, u64)) -> Result<(), Refusal> {
        if first == 0 || first > last {
            return refuse(Code::InvalidRange, format!("`{first}-{last}` is not a range of revisions"));
        }
        if last > self.revision() {
            return refuse(Code::UnknownRevision, format!("there is no event {last} yet"));
        }
        if last > consumer.delivered {
            return refuse(
                Code::NeverDelivered,
                format!("event {last} was never sent to consumer `{}`", consumer.name),
            );
        }
        let foreign = first == last && self.events.get(&first).is_some_and(|event| !consumer.is_owed(event));
        if foreign {
            return refuse(
                Code::NotSubscribed,
                format!("event {first} is not for consumer `{}`", consumer.name),
            );
        }
        Ok(())
    }

    pub(super) fn waive_receipt(&mut self, command: &WaiveReceipt) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        let consumer = self.known_consumer(&command.consumer)?;
        let Some(event) = self.events.get(&command.revision) else {
            return refuse(
                Code::UnknownRevision,
                format!("there is no event {} in the kept history", command.revision),
            );
        };
        if !consumer.is_owed(event) {
            let message = format!("event {} is not for consumer `{}`", command.revision, command.consumer);
            return refuse(Code::NotSubscribed, message);
        }
        if consumer.has_settled(command.revision) {
            return Ok(Applied::Unchanged);
        }
        self.consumers.update(&command.consumer, |row| row.waived.insert(command.revision));
        self.check_drains();
        Ok(Applied::Changed)
    }

    /// An event's deadline has passed, or it leaves the history: the silence of required consumers is audited, once.
    pub(super) fn escalate(&mut self, revision: u64) {
        if self.events.get(&revision).is_none_or(|event| event.escalated) {
            return;
        }
        let silent: Vec<String> = self.missing_receipts(revision).map(|row| row.name.to_string()).collect();
        let before = self.content_digest();
        self.timed(Timer::Event(revision), |state| {
            state.events.update(&revision, |event| event.escalated = true)
        });
        if !silent.is_empty() {
            let detail = format!("not enforced in time by {}", silent.join(", "));
            self.record_effect(before, "receipt.overdue", format!("event/{revision}"), detail);
        }
    }
}
