//! Checks of backups, and of a state that was put back from one.

use model::time::Span;

use super::{Found, found, list};
use crate::doctor::{Examination, Severity};

/// A backup older than this should have been followed by another one; as the alert has it.
const BACKUP_AGE: Span = Span::days(8);
/// How long a cluster may hold credentials without any backup.
const FIRST_BACKUP_WITHIN: Span = Span::days(1);
pub(super) fn backup(seen: &Examination) -> Vec<Found> {
    const WHY: &str = "when the disks are lost, what was declared since the last backup is lost with them";
    let (Some(status), Some(answer)) = (&seen.status, seen.answers().max_by_key(|answer| answer.applied))
    else {
        return Vec::new();
    };
    let since = |at_ms: u64| Span(status.now_ms.saturating_sub(at_ms));
    let (severity, what) = match &answer.last_backup {
        Some(last) if since(last.at_ms) > BACKUP_AGE => {
            (Severity::Warning, format!("the last backup is {} old", days(since(last.at_ms))))
        }
        None if status.credentials > 0 && since(answer.founded_ms) > FIRST_BACKUP_WITHIN => {
            (Severity::Warning, "there is no backup yet".to_owned())
        }
        None if status.credentials > 0 => (Severity::Notice, "there is no backup yet".to_owned()),
        Some(_) | None => return Vec::new(),
    };
    let next =
        "`revolve cluster snapshot save FILE --reason …`, and keep it apart from the nodes and from root.key";
    vec![found(severity, what, WHY, next)]
}

fn days(span: Span) -> String {
    format!("{} days", span.0 / Span::days(1).0)
}

pub(super) fn observing(seen: &Examination) -> Vec<Found> {
    let observing = seen.status.iter().filter(|status| status.observing.is_some());
    observing
        .map(|_| {
            found(
                Severity::Critical,
                "the state was put back from a backup, and nobody has confirmed it",
                "no schedule fires and nothing is changed at a target",
                "compare `revolve status` with the targets, then `revolve cluster snapshot confirm --reason …`",
            )
        })
        .collect()
}

/// What a restored cluster has found when it logged in with what it holds.
pub(super) fn logins(seen: &Examination) -> Vec<Found> {
    let odd = seen.status.iter().filter_map(|status| status.observing.as_ref()).flat_map(|it| &it.odd);
    let of = |wanted: fn(&str) -> bool| {
        let odd = odd.clone().filter(|it| it.look.as_ref().is_some_and(|look| wanted(&look.found)));
        odd.map(|it| format!("{}@{}", it.credential, it.version)).collect::<Vec<_>>()
    };
    let refused = of(|found| found == "refused" || found == "absent");
    let live = of(|found| found == "live");
    let unknown = of(|found| found == "unknown");
    let mut founds = Vec::new();
    if !refused.is_empty() {
        founds.push(found(
            Severity::Critical,
            format!("versions that holders are told to use are refused: {}", list(refused.iter())),
            "they were replaced after the backup, and neither the ledger nor a consumer tells of it",
            "rotate them once the restore is confirmed: `revolve schedule trigger NAME`",
        ));
    }
    if !live.is_empty() {
        founds.push(found(
            Severity::Warning,
            format!("versions that are over still log in: {}", list(live.iter())),
            "their end at the target was not reached before the cluster was lost",
            "confirm the restore: they are ended then, and proven to be refused",
        ));
    }
    if !unknown.is_empty() {
        founds.push(found(
            Severity::Warning,
            format!("versions could not be asked about: {}", list(unknown.iter())),
            "nobody knows whether their targets honour them",
            "`revolve status` says why; they are tried again every minute",
        ));
    }
    founds
}

pub(super) fn lost_secrets(seen: &Examination) -> Vec<Found> {
    let lost = seen.status.iter().map(|status| &status.lost_secrets).filter(|names| !names.is_empty());
    lost.map(|names| {
        found(
            Severity::Warning,
            format!(
                "the secrets of {} credentials were not in the backup: {}",
                names.len(),
                list(names.iter())
            ),
            "the cluster cannot hand them out, nor prove that they are dead",
            "rotate them: `revolve schedule trigger NAME`",
        )
    })
    .collect()
}
