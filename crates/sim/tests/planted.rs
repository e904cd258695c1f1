//! The simulation catches bugs: each of these is planted alone, and some world breaks the promise named beside it.

#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use model::planted::{Bug, plant};
use sim::Invariant;

/// Worlds that are tried before a bug counts as missed.
const SEEDS: u64 = 200;

/// A bug is planted in the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A test for each bug: the promise that it must break, and the world to begin with, which was seen to show it. The
/// later ones are tried in case the worlds have changed.
macro_rules! caught {
    ($($name:ident: $bug:ident breaks $promise:ident from $seed:literal;)*) => {
        $(#[test]
        fn $name() {
            catch(Bug::$bug, Invariant::$promise, $seed);
        })*
    };
}

caught! {
    an_append_acknowledged_before_its_flush_is_caught: AckBeforeFlush breaks SameEntries from 18;
    a_vote_given_before_its_flush_is_caught: VoteUnflushed breaks TermsNeverBack from 5;
    a_stale_read_is_caught: StaleRead breaks ReadsAreFresh from 4;
    a_stale_fence_is_caught: StaleFence breaks StaleOutcomesRefused from 390;
    a_revision_left_out_is_caught: RevisionSkipped breaks DenseRevisions from 0;
    a_cursor_that_goes_back_is_caught: CursorBack breaks CursorsNeverBack from 0;
    a_version_retired_before_the_next_is_verified_is_caught: RetiredUnverified breaks RetiredAfterVerified from 0;
    a_session_that_goes_on_is_caught: SessionsKept breaks SessionsAreCut from 0;
    a_revoked_version_that_is_promoted_is_caught: RevokedPromoted breaks RevokedStayDead from 0;
    a_grant_that_outlives_its_end_is_caught: GrantOutlives breaks GrantsEnd from 1;
    an_effect_before_its_intent_is_caught: EffectBeforeIntent breaks IntentBeforeEffect from 0;
}

fn catch(bug: Bug, promise: Invariant, first: u64) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    plant(Some(bug));
    let caught = first_caught(promise, first);
    plant(None);
    let (seed, detail) =
        caught.unwrap_or_else(|| panic!("`{}` did not break `{promise}` in {SEEDS} worlds", bug.name()));
    println!("`{}` breaks `{promise}` in world {seed}: {detail}", bug.name());
    assert_eq!(sim::run(seed, false).violation, None, "and without it world {seed} is whole");
}

/// The first world found, from `first` on, that breaks the promise.
fn first_caught(promise: Invariant, first: u64) -> Option<(u64, String)> {
    let (next, found) = (AtomicU64::new(first), AtomicBool::new(false));
    let look = || {
        while !found.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + SEEDS {
                return None;
            }
            let violation = sim::run(seed, false).violation;
            if let Some(violation) = violation.filter(|violation| violation.invariant == promise) {
                found.store(true, Ordering::Relaxed);
                return Some((seed, violation.detail));
            }
        }
        None
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let caught: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(look)).collect();
        runs.into_iter().filter_map(|run| run.join().unwrap()).collect()
    });
    caught.into_iter().min_by_key(|(seed, _)| *seed)
}
