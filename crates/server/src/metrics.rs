//! The figures of a node, as OpenMetrics. They are read from the state and from Raft when they are asked for, so none of
//! them can be out of step with what it counts.

use std::{collections::BTreeSet, fs, sync::atomic::AtomicU64, time::Duration};

use cluster::{Admission, Status};
use model::{State, attempt::Job, grant::GrantStage, rotation::Stage, time::Time};
use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{admin::status, edge::Load, health};

type Number = Gauge<f64, AtomicU64>;

/// The figures as text.
pub(crate) fn exposition(
    status: &Status,
    is_stopping: bool,
    state: &State,
    now: Time,
    load: &Load,
    client_certificate_expires: Option<Time>,
) -> String {
    let mut figures = Figures(Registry::with_prefix("revolve"));
    let version = [(env!("CARGO_PKG_VERSION").to_owned(), 1)];
    figures.each("build_info", "The program", "version", version);
    let ready = health::unready(status, is_stopping).is_empty();
    figures.set("ready", "Whether this node is of use now, as /readyz says", ready.into());
    raft(&mut figures, status);
    storage(&mut figures, status);
    edge(&mut figures, load);
    certificates(&mut figures, now, status.certificate_expires, client_certificate_expires);
    held(&mut figures, state, now);
    jobs(&mut figures, state, now);
    consumers(&mut figures, state, now);
    keys(&mut figures, state);
    let mut text = String::new();
    encode(&mut text, &figures.0).expect("writing into memory does not fail");
    text
}

struct Figures(Registry);

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "OpenMetrics counts in floating point")]
    fn set(&mut self, name: &str, help: &str, value: u64) {
        self.measure(name, help, value as f64);
    }

    fn measure(&mut self, name: &str, help: &str, value: f64) {
        let gauge = Number::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    #[expect(clippy::cast_precision_loss, reason = "OpenMetrics counts in floating point")]
    fn each(&mut self, name: &str, help: &str, label: &str, values: impl IntoIterator<Item = (String, u64)>) {
        let family = Family::<Vec<(String, String)>, Number>::default();
        for (of, value) in values {
            family.get_or_create(&vec![(label.to_owned(), of)]).set(value as f64);
        }
        self.0.register(name, help, family);
    }
}

fn raft(figures: &mut Figures, status: &Status) {
    figures.set("raft_term", "The term", status.term);
    figures.set("raft_is_leader", "Whether this node leads", status.is_leader.into());
    figures.set("raft_has_leader", "Whether this node knows a leader", status.leader.is_some().into());
    figures.set("raft_voters", "The nodes that vote", count(status.voters.len()));
    figures.set(
        "raft_voters_changing",
        "Whether a change of the voters is under way",
        status.changing.into(),
    );
    figures.set("raft_log_last_index", "The last entry in the log", status.last_log.unwrap_or_default());
    let committed = status.committed.unwrap_or_default();
    figures.set("raft_log_committed_index", "The last entry known to be committed", committed);
    figures.set("raft_log_applied_index", "The last entry applied", status.applied.unwrap_or_default());
    figures.set("raft_log_purged_index", "The last entry purged", status.purged.unwrap_or_default());
    figures.set(
        "raft_snapshot_index",
        "The entry the newest snapshot reaches to",
        status.snapshot.unwrap_or_default(),
    );
    figures.set(
        "raft_snapshot_frames_received",
        "Frames of snapshots taken from other nodes since the start",
        status.snapshot_frames,
    );
    let peers = || status.peers.iter();
    let reachable = peers().map(|(node, peer)| (node.to_string(), peer.reachable.into()));
    figures.each("raft_peer_reachable", "Whether the leader hears the node", "node", reachable);
    let last = status.last_log.unwrap_or_default();
    let lag = peers().map(|(node, peer)| {
        (node.to_string(), peer.matched.map_or(last, |matched| last.saturating_sub(matched)))
    });
    figures.each("raft_peer_lag_entries", "Entries that the leader has and the node lacks", "node", lag);
}

fn storage(figures: &mut Figures, status: &Status) {
    let admitted = status.admission == Admission::Admitted;
    figures.set("storage_admitted", "Whether this node takes part with its storage", admitted.into());
    figures.set("storage_full", "Whether the disk is full and nothing more is taken on", status.full.into());
    figures.set("storage_free_bytes", "Room on the disk of this node", status.room);
    let off = Duration::from_millis(status.clock_off.unwrap_or_default().unsigned_abs()).as_secs_f64();
    figures.measure("clock_off_seconds", "How far the wall clock is off while it is not followed", off);
    let resident = resident_bytes().unwrap_or_default();
    figures.set("process_resident_memory_bytes", "Memory of this process", resident);
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    figures.set("process_open_fds", "Files and connections this process holds open", count(open));
}

fn edge(figures: &mut Figures, load: &Load) {
    figures.set("calls_looking", "Calls that only look, under way", count(load.looks));
    figures.set("calls_changing", "All other calls under way", count(load.changes));
    figures.set("calls_waiting", "Calls that wait until others are answered", count(load.waiting));
    figures.set("streams_open", "Streams open", count(load.streams));
}

fn certificates(figures: &mut Figures, now: Time, peer: Time, client: Option<Time>) {
    let shown = [("peer", Some(peer)), ("client", client)];
    let left = shown.into_iter().filter_map(|(kind, end)| Some((kind.to_owned(), end?.since(now).0 / 1_000)));
    let help = "How long the certificate that this node shows is still good";
    figures.each("certificate_expiry_seconds", help, "kind", left);
}

fn held(figures: &mut Figures, state: &State, now: Time) {
    figures.set("identities", "Identities declared", count(state.identities().len()));
    figures.set("credentials", "Credentials declared", count(state.credentials().len()));
    figures.set("schedules", "Schedules declared", count(state.schedules().len()));
    let overdue = state.overdue_schedules(now).count();
    let help = "Whether the state was put back from a backup and nothing fires until somebody confirms it";
    figures.set("restore_observing", help, state.is_observing().into());
    figures.set("schedules_overdue", "Schedules whose instant has passed without a rotation", count(overdue));
    figures.set("feed_revision", "The last revision of the feed", state.revision());
    figures.set("audit_records", "Records in the audit log", state.audit_head().sequence);
    let backup = state.last_backup().map_or(0, |backup| backup.at.0 / 1_000);
    figures.set(
        "last_backup_timestamp_seconds",
        "When the last backup was taken; 0 before the first",
        backup,
    );
    let reviews = state.reviews_due(now).count();
    figures.set(
        "reviews_overdue",
        "Identities and exceptions that had to be looked at again",
        count(reviews),
    );
}

/// What is under way at targets: rotations, break-glass grants, and the steps that are owed for them.
fn jobs(figures: &mut Figures, state: &State, now: Time) {
    let mut rotations = Vec::new();
    let mut grants = Vec::new();
    for job in state.open_jobs() {
        match job {
            Job::Rotation(id) => rotations.extend(state.rotations().get(&id).map(|row| row.stage)),
            Job::Grant(id) => grants.extend(state.grants().get(&id)),
        }
    }
    let quarantined = rotations.iter().filter(|stage| **stage == Stage::Quarantined).count();
    figures.set("rotations_open", "Rotations that have not ended", count(rotations.len()));
    figures.set("rotations_quarantined", "Rotations that wait for a person", count(quarantined));
    let stages: BTreeSet<&str> = rotations.iter().map(|stage| stage.as_str()).collect();
    let by_stage = stages.into_iter().map(|name| {
        (name.to_owned(), count(rotations.iter().filter(|stage| stage.as_str() == name).count()))
    });
    figures.each("rotations_in_stage", "Rotations that have not ended, by stage", "stage", by_stage);
    let at = |wanted: GrantStage| count(grants.iter().filter(|grant| grant.stage == wanted).count());
    figures.set("grants_active", "Break-glass grants in force", at(GrantStage::Active));
    let past_end =
        grants.iter().filter(|grant| status::is_out(grant) && grant.expires.is_some_and(|end| end < now));
    figures.set(
        "grants_past_end",
        "Break-glass grants whose end has passed and whose user may still be at the target",
        count(past_end.count()),
    );
    figures.set(
        "grants_awaiting_review",
        "Break-glass grants that ended and nobody has reviewed",
        at(GrantStage::AwaitingReview),
    );
    let nodes = || state.nodes().values().map(|node| node.id);
    let waiting = nodes().map(|node| (node.to_string(), count(state.work(node, now).len())));
    figures.each("steps_waiting", "Steps that the node's workers could begin now", "node", waiting);
    let begun = nodes().map(|node| (node.to_string(), count(state.attempts_of(node).len())));
    figures.each("steps_under_way", "Steps that the node's workers have begun", "node", begun);
}

fn keys(figures: &mut Figures, state: &State) {
    let keys = state.data_keys();
    let sealed = keys.iter().map(|key| (key.id.to_string(), state.sealed_under(key.id)));
    figures.each("sealed_values", "Secrets sealed under the data key", "data_key", sealed);
}

fn consumers(figures: &mut Figures, state: &State, now: Time) {
    let mut lag = Vec::new();
    let mut age = Vec::new();
    let mut late = Vec::new();
    for consumer in state.consumers().values() {
        let mut outstanding = state.outstanding_of(consumer).peekable();
        let oldest = outstanding.peek().map_or(0, |event| now.since(event.at).0 / 1_000);
        age.push((consumer.name.to_string(), oldest));
        let overdue = state.outstanding_of(consumer).filter(|event| event.deadline < now);
        late.push((consumer.name.to_string(), count(overdue.count())));
        lag.push((consumer.name.to_string(), count(outstanding.count())));
    }
    figures.each("consumer_lag_events", "Events that the consumer has not answered", "consumer", lag);
    figures.each(
        "consumer_oldest_unanswered_seconds",
        "Age of the oldest event that the consumer has not answered",
        "consumer",
        age,
    );
    let help = "Events that the consumer has not answered by their deadline";
    figures.each("consumer_overdue_events", help, "consumer", late);
}

/// From `/proc/self/statm`: pages of memory, the second number those that are resident.
fn resident_bytes() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_help_text_and_a_value() {
        let (state, load) = (State::default(), Load::default());
        let text = exposition(&Status::default(), false, &state, Time(0), &load, Some(Time(7_000)));
        for name in [
            "revolve_raft_term",
            "revolve_credentials",
            "revolve_storage_full",
            "revolve_calls_waiting",
            "revolve_restore_observing",
            "revolve_last_backup_timestamp_seconds",
        ] {
            assert!(text.contains(&format!("# HELP {name} ")), "{text}");
            assert!(text.contains(&format!("\n{name} 0.0\n")), "{text}");
        }
        assert!(text.contains("\nrevolve_certificate_expiry_seconds{kind=\"client\"} 7.0\n"), "{text}");
        assert!(text.contains("revolve_build_info{version="), "{text}");
        // `promtool check metrics` wants base units and no type that Prometheus' own text does not have.
        let off = exposition(
            &Status { clock_off: Some(-1_500), ..Status::default() },
            false,
            &state,
            Time(0),
            &load,
            None,
        );
        assert!(
            off.contains("\nrevolve_clock_off_seconds 1.5\n") && off.contains("\nrevolve_ready 0.0\n"),
            "{off}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
