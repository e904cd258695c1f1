//! `apply`: one command, one transition, one audit record. Each file holds the verbs of one noun.

mod access;
mod attempt;
mod certificate;
mod check;
mod declare;
mod feed;
mod grant;
mod key;
mod look;
mod membership;
mod restore;
mod revoke;
mod rotate;
mod schedule;
mod seen;
#[cfg(test)]
mod tests;
mod tick;

use crate::{
    State,
    attempt::{Job, Liveness, StepOutcome},
    audit::{AuditHead, AuditRecord},
    caps,
    command::{Command, Receipt, Stamped},
    outcome::{Applied, Outcome},
    refusal::{Code, Refusal},
    state::Timer,
};

pub use restore::{Restore, Summary};

/// Who acts when nobody asked.
const SYSTEM: &str = "system";

pub(crate) fn apply(state: &mut State, stamped: &Stamped) -> Outcome {
    state.facts.now = state.facts.now.max(stamped.at);
    let outcome = state.run(stamped);
    state.state_in_ledger(stamped, &describe(&stamped.command).1);
    state.write_facts();
    outcome
}

impl State {
    fn run(&mut self, stamped: &Stamped) -> Outcome {
        let command = &stamped.command;
        if let Command::Tick(_) = command {
            return Ok(self.tick());
        }
        if let Command::RecordRefusals(body) = command {
            return Ok(self.record_refusals(body));
        }
        let Command::Acknowledge(body) = command else {
            return self.audited(stamped, command, |state| state.dispatch(&stamped.actor, command));
        };
        let outcome = self.audited(stamped, command, |state| state.acknowledge(body));
        if let Ok(Applied::Answered { refused }) = &outcome {
            self.record_refused_answers(&stamped.actor, body, refused);
        }
        outcome
    }

    fn dispatch(&mut self, actor: &str, command: &Command) -> Outcome {
        match command {
            Command::PutIdentity(body) => self.put_identity(body),
            Command::RemoveIdentity(body) => self.remove_identity(body),
            Command::PutTarget(body) => self.put_target(body),
            Command::RemoveTarget(body) => self.remove_target(body),
            Command::PutStore(body) => self.put_store(body),
            Command::RemoveStore(body) => self.remove_store(body),
            Command::PutCredential(body) => self.put_credential(body),
            Command::RemoveCredential(body) => self.remove_credential(body),
            Command::PutSchedule(body) => self.put_schedule(body),
            Command::RemoveSchedule(body) => self.remove_schedule(body),
            Command::PauseSchedule(body) => self.pause_schedule(body),
            Command::ResumeSchedule(body) => self.resume_schedule(body),
            Command::TriggerSchedule(body) => self.trigger_schedule(body),
            Command::Begin(body) => self.begin(body),
            Command::Finish(body) => self.finish(body),
            Command::AbortRotation(body) => self.abort_rotation(body),
            Command::RetryRotation(body) => self.retry_rotation(body),
            Command::Revoke(body) => self.revoke(actor, body),
            Command::LiftRevocation(body) => self.lift_revocation(actor, body),
            Command::PutConsumer(body) => self.put_consumer(body),
            Command::RemoveConsumer(body) => self.remove_consumer(body),
            Command::Deliver(body) => self.deliver(body),
            Command::WaiveReceipt(body) => self.waive_receipt(body),
            Command::RequestGrant(body) => self.request_grant(actor, body),
            Command::ApproveGrant(body) => self.approve_grant(actor, body),
            Command::DenyGrant(body) => self.deny_grant(actor, body),
            Command::EndGrant(body) => self.end_grant(actor, body),
            Command::RevealGrant(body) => self.reveal_grant(actor, body),
            Command::ReviewGrant(body) => self.review_grant(actor, body),
            Command::IssueToken(body) => self.issue_token(body),
            Command::RevokeToken(body) => self.revoke_token(body),
            Command::AnnounceNode(body) => self.announce_node(body),
            Command::ReportReachable(body) => self.report_reachable(body),
            Command::InstallDataKey(body) => self.install_data_key(body),
            Command::RecordRead(body) => self.record_read(body),
            Command::ChangeCluster(body) => self.change_cluster(body),
            Command::RecordCollection(body) => self.record_collection(body),
            Command::RecordCertificate(body) => self.record_certificate(body),
            Command::RevokeCertificate(body) => self.revoke_certificate(body),
            Command::AddDataKey(body) => self.add_data_key(body),
            Command::Reseal(body) => self.reseal(body),
            Command::DestroyDataKey(body) => self.destroy_data_key(body),
            Command::RewrapDataKeys(body) => self.rewrap_data_keys(body),
            Command::AnnounceKeys(body) => self.announce_keys(body),
            Command::FinishRootKey(body) => self.finish_root_key(body),
            Command::Restored(body) => self.mark_restored(actor, body),
            Command::ConfirmRestore(body) => self.confirm_restore(actor, body),
            Command::RecordBackup(body) => self.record_backup(body),
            Command::BackupTaken(body) => self.backup_taken(actor, body),
            Command::RecordLooks(body) => self.record_looks(body),
            Command::AdmitNode(body) => self.admit_node(body),
            Command::RemoveNode(body) => self.remove_node(body),
            Command::CreateJoinToken(body) => self.create_join_token(actor, body),
            Command::RevokeJoinToken(body) => self.revoke_join_token(body),
            Command::Acknowledge(_) | Command::Tick(_) | Command::RecordRefusals(_) => {
                unreachable!("these write their own audit records, see `apply`")
            }
        }
    }

    /// Runs one transition and writes its audit record, whether it was made or refused.
    fn audited(
        &mut self,
        stamped: &Stamped,
        command: &Command,
        transition: impl FnOnce(&mut Self) -> Outcome,
    ) -> Outcome {
        let before = self.content_digest();
        let outcome = transition(self);
        let (object, mut detail) = describe(command);
        let refused = match &outcome {
            Ok(applied) => {
                append_effect(&mut detail, applied);
                None
            }
            Err(refusal) => {
                detail.clone_from(&refusal.message);
                Some(refusal.code.as_str())
            }
        };
        self.record(before, &stamped.actor, command.action(), object, detail, refused);
        outcome
    }

    /// Writes an audit record of something that happened by itself.
    fn record_effect(&mut self, before: [u8; 32], action: &str, object: String, detail: String) {
        self.record(before, SYSTEM, action, object, detail, None);
    }

    fn record(
        &mut self,
        before: [u8; 32],
        actor: &str,
        action: &str,
        object: String,
        detail: String,
        refused: Option<&str>,
    ) {
        let bearable = |text: &str| clip(text, caps::AUDIT_TEXT_BYTES).to_owned();
        let head = self.facts.audit;
        let mut record = AuditRecord {
            sequence: head.sequence + 1,
            at: self.facts.now,
            actor: bearable(actor),
            action: bearable(action),
            object: bearable(&object),
            detail: bearable(&detail),
            refused: refused.map(str::to_owned),
            before,
            after: self.content_digest(),
            previous: head.hash,
            hash: [0; 32],
        };
        record.hash = record.expected_hash();
        self.facts.audit = AuditHead { sequence: record.sequence, hash: record.hash };
        self.audit.put(record.sequence, record);
    }

    fn write_facts(&mut self) {
        if self.meta.get(&0) != Some(&self.facts) {
            self.meta.put(0, self.facts.clone());
        }
    }

    /// Writes a row that a timer depends on, and moves the timer and the list of open jobs with it.
    fn timed<T>(&mut self, timer: Timer, write: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.instant_of(&timer);
        let result = write(self);
        let after = self.instant_of(&timer);
        if let Timer::Job(job) = timer {
            if self.is_open(job) {
                self.open.insert(job);
            } else {
                self.open.remove(&job);
            }
        }
        if before != after {
            if let Some(at) = before {
                self.timers.remove(&(at, timer.clone()));
            }
            if let Some(at) = after {
                self.timers.insert((at, timer));
            }
        }
        result
    }
}

/// What a command is about and why, for the audit log. Sealed secrets never take part.
#[expect(clippy::too_many_lines, reason = "a table with a line for each command")]
fn describe(command: &Command) -> (String, String) {
    let object = |kind: &str, name: &dyn std::fmt::Display| format!("{kind}/{name}");
    let plain = |object: String| (object, String::new());
    match command {
        Command::PutIdentity(c) => (object("identity", &c.name), format!("owner {}", c.owner)),
        Command::RemoveIdentity(c) => plain(object("identity", &c.name)),
        Command::PutTarget(c) => (object("target", &c.name), format!("provider {}", c.provider)),
        Command::RemoveTarget(c) => plain(object("target", &c.name)),
        Command::PutStore(c) => (object("store", &c.name), format!("kind {}", c.kind)),
        Command::RemoveStore(c) => plain(object("store", &c.name)),
        Command::PutCredential(c) => (
            object("credential", &c.name),
            format!("of {} at {}, {}", c.identity, c.target, c.strategy.as_str()),
        ),
        Command::RemoveCredential(c) => plain(object("credential", &c.name)),
        Command::PutSchedule(c) => (object("schedule", &c.name), format!("rotates {}", c.credential)),
        Command::RemoveSchedule(c) => plain(object("schedule", &c.name)),
        Command::PauseSchedule(c) => (object("schedule", &c.name), c.reason.clone()),
        Command::ResumeSchedule(c) => plain(object("schedule", &c.name)),
        Command::TriggerSchedule(c) => plain(object("schedule", &c.name)),
        Command::Begin(c) => (job_object(c.job), format!("{} on {}", c.step.as_str(), c.node)),
        Command::Finish(c) => {
            (job_object(c.job), format!("attempt {}: {}", c.fence, outcome_text(&c.outcome)))
        }
        Command::AbortRotation(c) => (object("rotation", &c.id), c.reason.clone()),
        Command::RetryRotation(c) => plain(object("rotation", &c.id)),
        Command::Revoke(c) => (c.subject.to_string(), format!("{}: {}", c.code.as_str(), c.reason)),
        Command::LiftRevocation(c) => (object("revocation", &c.id), c.reason.clone()),
        Command::PutConsumer(c) => (object("consumer", &c.name), format!("owner {}", c.owner)),
        Command::RemoveConsumer(c) => plain(object("consumer", &c.name)),
        Command::Deliver(c) => (format!("{} consumers", c.upto.len()), list_deliveries(c)),
        Command::Acknowledge(c) => (format!("{} answers", c.answers.len()), list_answers(c)),
        Command::WaiveReceipt(c) => {
            (object("consumer", &c.consumer), format!("revision {}: {}", c.revision, c.reason))
        }
        Command::RequestGrant(c) => (
            object("target", &c.target),
            format!("role {} for {}, ticket {}: {}", c.role, c.duration, c.ticket, c.reason),
        ),
        Command::ApproveGrant(c) => plain(object("grant", &c.id)),
        Command::DenyGrant(c) => (object("grant", &c.id), c.reason.clone()),
        Command::EndGrant(c) => (object("grant", &c.id), c.reason.clone()),
        Command::RevealGrant(c) => plain(object("grant", &c.id)),
        Command::ReviewGrant(c) => (object("grant", &c.id), c.note.clone()),
        Command::IssueToken(c) => {
            (object("token", &c.name), format!("{} for {}", c.role.as_str(), c.principal))
        }
        Command::RevokeToken(c) => (object("token", &c.name), c.reason.clone()),
        Command::AnnounceNode(c) => (object("node", &c.id), format!("{} at {}", c.version, c.client_address)),
        Command::ReportReachable(c) => ("nodes".to_owned(), list(c.nodes.iter())),
        Command::InstallDataKey(c) => plain(object("key", &c.id)),
        Command::RecordRead(c) => (object("credential", &c.credential), format!("version {}", c.version)),
        Command::ChangeCluster(c) => {
            (object("node", &c.node), format!("{}: {}", c.change.as_str(), c.reason))
        }
        Command::RecordCollection(c) => (object("node", &c.node), c.reason.clone()),
        Command::RecordCertificate(c) => (object("certificate", &c.serial), format!("for {}", c.name)),
        Command::RevokeCertificate(c) => (c.party.to_string(), format!("{}: {}", c.code.as_str(), c.reason)),
        Command::AddDataKey(c) => (object("data-key", &c.id), c.reason.clone()),
        Command::Reseal(c) => (object("data-key", &c.from), format!("{} values sealed anew", c.values.len())),
        Command::DestroyDataKey(c) => plain(object("data-key", &c.id)),
        Command::RewrapDataKeys(c) => {
            (object("root-key", &c.to), format!("in place of {}: {}", c.from, c.reason))
        }
        Command::AnnounceKeys(c) => {
            (object("node", &c.node), format!("holds root keys {}", list(c.held.iter())))
        }
        Command::FinishRootKey(c) => (object("root-key", &c.id), c.reason.clone()),
        Command::Restored(c) => ("cluster".to_owned(), restored_text(c)),
        Command::ConfirmRestore(c) => ("cluster".to_owned(), c.reason.clone()),
        Command::RecordBackup(c) => ("cluster".to_owned(), c.reason.clone()),
        Command::BackupTaken(c) => (
            "cluster".to_owned(),
            format!("up to entry {}, revision {}: {}", c.applied, c.revision, c.reason),
        ),
        Command::RecordLooks(c) => (format!("{} versions", c.looks.len()), looks_text(c)),
        Command::AdmitNode(c) => {
            let token = c.invitation.as_ref().map(|invitation| object("join-token", &invitation.token));
            (token.unwrap_or_else(|| "root-key".to_owned()), format!("peer address {}", c.peer_address))
        }
        Command::RemoveNode(c) => (object("node", &c.node), c.reason.clone()),
        Command::CreateJoinToken(c) => {
            (object("join-token", &c.name), format!("for {}: {}", c.ttl, c.reason))
        }
        Command::RevokeJoinToken(c) => (object("join-token", &c.name), c.reason.clone()),
        Command::Tick(_) | Command::RecordRefusals(_) => plain(String::new()),
    }
}

fn looks_text(command: &crate::command::RecordLooks) -> String {
    let count = |found: Liveness| command.looks.iter().filter(|look| look.found == found).count();
    let refused = count(Liveness::Refused) + count(Liveness::Absent);
    format!(
        "{} log in, {refused} are refused, {} could not be asked",
        count(Liveness::Live),
        count(Liveness::Unknown)
    )
}

fn restored_text(command: &crate::command::Restored) -> String {
    let (backup, ledger) = (command.backup.sequence, command.ledger.sequence);
    let applied = format!("backup of {} at ledger entry {backup}, carried on to {ledger}", command.backup_at);
    match &command.accepted_loss {
        Some(reason) => format!("{applied}; what was stated since may be lost, which is accepted: {reason}"),
        None => applied,
    }
}

fn job_object(job: Job) -> String {
    match job {
        Job::Rotation(id) => format!("rotation/{id}"),
        Job::Grant(id) => format!("grant/{id}"),
    }
}

fn outcome_text(outcome: &StepOutcome) -> String {
    match outcome {
        StepOutcome::Prepared { .. } => "candidate sealed".to_owned(),
        StepOutcome::Done { note } => format!("done: {note}"),
        StepOutcome::Failed { failure, .. } => {
            format!("failed ({}): {}", failure.class.as_str(), failure.message)
        }
        StepOutcome::Unknown { message } => format!("outcome unknown: {message}"),
        StepOutcome::Probed(probed) => {
            format!("candidate {}, current {}", probed.candidate.as_str(), probed.current.as_str())
        }
        StepOutcome::StillLive { message, .. } => format!("still live: {message}"),
    }
}

fn list<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

fn list_deliveries(command: &crate::command::Deliver) -> String {
    list(command.upto.iter().map(|(consumer, upto)| format!("{consumer}:{upto}")))
}

fn list_answers(command: &crate::command::Acknowledge) -> String {
    let receipt = |receipt: &Receipt| match receipt {
        Receipt::Received => "received",
        Receipt::Enforced => "enforced",
        Receipt::Failed { .. } => "failed",
    };
    let ranges = |ranges: &[(u64, u64)]| {
        let texts: Vec<_> = ranges
            .iter()
            .take(8)
            .map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") })
            .collect();
        texts.join(",")
    };
    list(
        command
            .answers
            .iter()
            .map(|a| format!("{} {} {}", a.consumer, receipt(&a.receipt), ranges(&a.ranges))),
    )
}

fn append_effect(detail: &mut String, applied: &Applied) {
    let effect = match applied {
        Applied::Changed | Applied::Unchanged | Applied::Answered { .. } => return,
        Applied::Started(id) => id.to_string(),
        Applied::Begun { fence } => format!("attempt {fence}"),
        Applied::Revoked { id, revisions } => format!("{id}, revisions {}", list(revisions.iter())),
        Applied::Requested(id) => id.to_string(),
        Applied::Admitted(id) => id.to_string(),
    };
    if !detail.is_empty() {
        detail.push_str("; ");
    }
    detail.push_str(&effect);
}

/// The beginning of `text`, at most `bytes` long.
fn clip(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

fn refuse<T>(code: Code, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}
