//! Refusals made at the edge, on their way to the audit log: alike ones are counted together and committed a few
//! times a second at most, so that a flood of refused calls cannot become a flood of log entries.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use model::{
    caps,
    command::{EdgeRefusal, RecordRefusals},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::consensus::Consensus;

/// How long refusals are gathered before they are committed.
const LINGER: Duration = Duration::from_millis(250);
/// Most kinds of refusals gathered at a time; further ones are counted without their particulars.
const KINDS: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    actor: String,
    action: &'static str,
    object: String,
    code: &'static str,
}

/// The refusals not yet committed.
#[derive(Default)]
pub(crate) struct Refusals {
    gathered: Mutex<BTreeMap<Kind, u32>>,
    wake: Notify,
}

impl Refusals {
    /// Notes one refusal; whether it is the first of its kind since the last were committed.
    pub(crate) fn note(&self, actor: &str, action: &'static str, object: &str, code: &'static str) -> bool {
        let kind = Kind { actor: plain(actor), action, object: plain(object), code };
        let is_first = self.add(kind, 1);
        self.wake.notify_one();
        is_first
    }

    /// Commits what is gathered until `shutdown`, and once more then.
    pub(crate) async fn run(&self, consensus: Arc<dyn Consensus>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                () = shutdown.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(LINGER) => {}
                () = shutdown.cancelled() => break,
            }
            self.commit(&*consensus).await;
        }
        self.commit(&*consensus).await;
    }

    /// Commits what is gathered; what cannot be committed is kept and joins the next.
    async fn commit(&self, consensus: &dyn Consensus) {
        let taken = std::mem::take(&mut *self.lock());
        if taken.is_empty() {
            return;
        }
        let refusals = taken.iter().map(|(kind, count)| EdgeRefusal {
            actor: kind.actor.clone(),
            action: kind.action.to_owned(),
            object: kind.object.clone(),
            code: kind.code.to_owned(),
            count: *count,
        });
        let command = RecordRefusals { refusals: refusals.collect() }.into();
        let actor = consensus.standing().node.to_string();
        if let Err(unagreed) = consensus.propose(actor, command).await {
            // One of unknown outcome may be counted twice, which is better than not at all.
            tracing::warn!(kinds = taken.len(), "refusals could not be audited yet: {unagreed}");
            for (kind, count) in taken {
                self.add(kind, count);
            }
            self.wake.notify_one();
        }
    }

    fn add(&self, kind: Kind, count: u32) -> bool {
        let mut gathered = self.lock();
        let kind = if gathered.len() < KINDS || gathered.contains_key(&kind) {
            kind
        } else {
            Kind { actor: "several".into(), action: "access.refused", object: String::new(), code: kind.code }
        };
        let total = gathered.entry(kind).or_default();
        let is_first = *total == 0;
        *total = total.saturating_add(count);
        is_first
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Kind, u32>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Text from outside, cut and without control characters, as it may stand in the audit log.
fn plain(text: &str) -> String {
    const MAX: usize = 4 * caps::NAME_BYTES;
    let mut plain: String = text.chars().filter(|c| !c.is_control()).collect();
    if plain.len() > MAX {
        let end = (0..=MAX).rev().find(|at| plain.is_char_boundary(*at)).unwrap_or_default();
        plain.truncate(end);
    }
    plain
}

#[cfg(test)]
mod tests {
    use model::command::Command;

    use super::*;
    use crate::testing::Alone;

    fn recorded(consensus: &Alone) -> Vec<RecordRefusals> {
        consensus
            .proposed()
            .into_iter()
            .filter_map(
                |(_, command)| if let Command::RecordRefusals(body) = command { Some(body) } else { None },
            )
            .collect()
    }

    #[tokio::test]
    async fn alike_refusals_become_one_entry() {
        let consensus = Alone::new();
        let refusals = Refusals::default();
        for _ in 0..1_000 {
            refusals.note("mallory", "secret.read", "credential/orders-db", "permission_denied");
        }
        refusals.note("mallory", "secret.read", "credential/billing", "permission_denied");
        refusals.commit(&*consensus).await;
        let recorded = recorded(&consensus);
        assert_eq!(recorded.len(), 1);
        let counts: Vec<_> = recorded[0].refusals.iter().map(|refusal| refusal.count).collect();
        assert_eq!(counts, [1, 1_000]);
    }

    #[tokio::test]
    async fn a_flood_of_different_refusals_is_counted_and_not_kept() {
        let consensus = Alone::new();
        let refusals = Refusals::default();
        for n in 0..100_000 {
            refusals.note(&format!("anonymous as token/t{n}"), "state.read", "", "unauthenticated");
        }
        refusals.commit(&*consensus).await;
        let all = &recorded(&consensus)[0].refusals;
        assert_eq!(all.len(), KINDS + 1);
        assert_eq!(all.iter().map(|refusal| refusal.count).sum::<u32>(), 100_000);
    }

    #[tokio::test]
    async fn what_cannot_be_committed_is_kept() {
        let consensus = Alone::new();
        let refusals = Refusals::default();
        refusals.note("alice", "resource.apply", "", "invalid_request");
        consensus.lose_leader(true);
        refusals.commit(&*consensus).await;
        assert!(recorded(&consensus).is_empty());
        consensus.lose_leader(false);
        refusals.commit(&*consensus).await;
        assert_eq!(recorded(&consensus)[0].refusals[0].count, 1);
    }

    #[test]
    fn text_from_outside_is_cut_and_made_printable() {
        assert_eq!(plain("a\u{1b}[31mb\nc"), "a[31mbc");
        assert!(plain(&"ä".repeat(10_000)).len() <= 4 * caps::NAME_BYTES);
    }
}
