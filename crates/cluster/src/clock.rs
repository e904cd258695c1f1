//! What time it is. A wall clock may jump, by minutes or by years; what falls due must not fall due by that, nor be
//! held up. So the wall clock is followed only while it goes with a clock that does not jump and with what the majority
//! of the nodes takes the time to be; otherwise those are.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use model::{name::NodeId, time::Time};
use nix::time::{ClockId, clock_gettime};

/// How far a wall clock may be off the time that is believed, before it is not followed any more. Corrections by NTP are
/// smaller, or slewed.
const TOLERANCE_MS: i64 = 1_000;

/// The clock of one node.
pub(crate) struct Clock {
    read: fn() -> Reading,
    held: Mutex<Held>,
}

/// What the machine's clocks say at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: Time,
    /// Never jumps, and goes on while the machine sleeps.
    steady: Duration,
}

struct Held {
    /// The time that was believed at `steady`.
    believed: Time,
    steady: Duration,
    /// How far the wall clock was off when it was last not followed; `None` while it is.
    off: Option<i64>,
    /// What the others have said of their own.
    peers: BTreeMap<NodeId, bool>,
}

impl Clock {
    /// The clocks of this machine. Until others are heard, the wall clock is believed.
    pub(crate) fn of_machine() -> Self {
        Self::reading(read)
    }

    fn reading(read: fn() -> Reading) -> Self {
        let Reading { wall, steady } = read();
        Self { read, held: Mutex::new(Held { believed: wall, steady, off: None, peers: BTreeMap::new() }) }
    }

    /// The time that is believed.
    pub(crate) fn now(&self) -> Time {
        self.held().follow((self.read)())
    }

    /// How far the wall clock is off the time that is believed, in milliseconds, when it is too far to be followed.
    pub(crate) fn off(&self) -> Option<i64> {
        let mut held = self.held();
        held.follow((self.read)());
        held.off
    }

    /// Hears the others: how far the time that each believes is ahead of this node's, in milliseconds, and whether its
    /// wall clock is followed. `nodes` is the number of all nodes. What a majority believes is believed here.
    pub(crate) fn hear(&self, others: &[(NodeId, Heard)], nodes: usize) {
        let mut held = self.held();
        held.follow((self.read)());
        held.peers.extend(others.iter().map(|(node, heard)| (*node, heard.follows_wall)));
        let mut offsets: Vec<i64> = others.iter().map(|(_, heard)| heard.ahead_ms).collect();
        offsets.push(0);
        let Some(ahead) = of_majority(offsets, nodes) else { return };
        if ahead.abs() > TOLERANCE_MS {
            tracing::error!(ahead_ms = ahead, "the majority of the nodes has another time: it is taken over");
            held.believed = moved(held.believed, ahead);
            held.follow((self.read)());
        }
    }

    /// Whether the wall clock of `node` was not followed there when it was last heard.
    pub(crate) fn is_off_at(&self, node: NodeId) -> bool {
        self.held().peers.get(&node).is_some_and(|follows_wall| !follows_wall)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What another node says of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// How far the time it believes is ahead of this node's.
    pub(crate) ahead_ms: i64,
    /// Whether it follows its wall clock.
    pub(crate) follows_wall: bool,
}

impl Held {
    /// Goes on with the wall clock where it can be followed, and without it where it cannot.
    fn follow(&mut self, Reading { wall, steady }: Reading) -> Time {
        let passed = millis(steady.saturating_sub(self.steady));
        let expected = moved(self.believed, passed);
        let off = difference(wall, expected);
        self.steady = steady;
        if off.abs() <= TOLERANCE_MS {
            if self.off.take().is_some() {
                tracing::warn!("the wall clock of this machine is right again and is followed");
            }
            self.believed = wall;
        } else {
            if self.off.is_none_or(|told| (told - off).abs() > TOLERANCE_MS) {
                tracing::error!(
                    off_ms = off,
                    "the wall clock of this machine has jumped, or differs from the others: it is not followed"
                );
            }
            self.off = Some(off);
            self.believed = expected;
        }
        self.believed
    }
}

/// The offset of the majority: the middle one of those within the tolerance of each other, when they are more than half
/// of the nodes.
fn of_majority(mut offsets: Vec<i64>, nodes: usize) -> Option<i64> {
    offsets.sort_unstable();
    let groups = (0..offsets.len()).map(|first| {
        let limit = offsets[first].saturating_add(TOLERANCE_MS);
        let length = offsets[first..].partition_point(|offset| *offset <= limit);
        &offsets[first..first + length]
    });
    // Where two groups are as large, the one that this node is in.
    let largest = groups.max_by_key(|group| (group.len(), group.contains(&0)))?;
    (largest.len() > nodes / 2).then(|| if largest.contains(&0) { 0 } else { largest[largest.len() / 2] })
}

fn read() -> Reading {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let steady = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    Reading {
        wall: Time(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)),
        steady: steady.expect("every Linux since 2.6.39 has this clock"),
    }
}

fn moved(time: Time, millis: i64) -> Time {
    Time(time.0.saturating_add_signed(millis))
}

/// How far `one` is ahead of `other`, in milliseconds.
pub(crate) fn difference(one: Time, other: Time) -> i64 {
    let span = |later: Time, earlier: Time| i64::try_from(later.since(earlier).0).unwrap_or(i64::MAX);
    if one >= other { span(one, other) } else { -span(other, one) }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const START: u64 = 1_800_000_000_000;
    const HOUR: i64 = 3_600_000;
    const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

    thread_local! {
        static WALL: Cell<i64> = const { Cell::new(0) };
        static STEADY: Cell<u64> = const { Cell::new(0) };
    }

    /// A clock whose machine is this thread.
    fn clock() -> Clock {
        WALL.set(0);
        STEADY.set(0);
        Clock::reading(|| Reading {
            wall: moved(Time(START), i64::try_from(STEADY.get()).unwrap() + WALL.get()),
            steady: Duration::from_millis(STEADY.get()),
        })
    }

    fn pass(millis: u64) {
        STEADY.set(STEADY.get() + millis);
    }

    fn heard(offsets: &[i64]) -> Vec<(NodeId, Heard)> {
        let heard = |ahead_ms: &i64| Heard { ahead_ms: *ahead_ms, follows_wall: true };
        (2..).map(NodeId).zip(offsets.iter().map(heard)).collect()
    }

    #[test]
    fn small_corrections_are_followed() {
        let clock = clock();
        for step in [3, -3, 900, -900] {
            WALL.set(WALL.get() + step);
            pass(10_000);
            assert_eq!(clock.now(), moved(Time(START + STEADY.get()), WALL.get()));
            assert_eq!(clock.off(), None);
        }
    }

    #[test]
    fn a_jump_is_not_followed_and_its_end_is() {
        for jump in [10 * 60_000, -10 * 60_000, HOUR, -HOUR, TEN_YEARS, -TEN_YEARS, 1_001, -1_001] {
            let clock = clock();
            pass(5_000);
            WALL.set(jump);
            for _ in 0..3 {
                pass(1_000);
                assert_eq!(clock.now(), Time(START + STEADY.get()), "{jump}");
                assert_eq!(clock.off(), Some(jump));
            }
            WALL.set(2);
            pass(1_000);
            assert_eq!(clock.now(), Time(START + STEADY.get() + 2));
            assert_eq!(clock.off(), None);
        }
    }

    #[test]
    fn what_the_majority_believes_is_believed() {
        let clock = clock();
        // This node was started with its clock an hour ahead.
        clock.hear(&heard(&[-HOUR, -HOUR + 40]), 3);
        pass(1_000);
        assert!(difference(clock.now(), moved(Time(START + 1_000), -HOUR)).abs() <= 40);
        assert!(clock.off().is_some_and(|off| (off - HOUR).abs() <= 40));
        // Somebody sets it right.
        WALL.set(-HOUR);
        assert_eq!(clock.off(), None);
        assert_eq!(clock.now(), moved(Time(START + 1_000), -HOUR));
    }

    #[test]
    fn one_other_alone_is_no_majority_of_three() {
        let clock = clock();
        clock.hear(&heard(&[HOUR]), 3);
        assert_eq!(clock.now(), Time(START));
        clock.hear(&heard(&[HOUR, 5]), 3);
        assert_eq!(clock.now(), Time(START));
        clock.hear(&heard(&[HOUR, -HOUR]), 3);
        assert_eq!(clock.now(), Time(START));
    }

    #[test]
    fn a_wall_clock_that_the_majority_confirms_is_followed_again() {
        let clock = clock();
        // The steady clock was wrong: the wall clocks of all say so.
        WALL.set(HOUR);
        assert_eq!(clock.off(), Some(HOUR));
        clock.hear(&heard(&[HOUR, HOUR]), 3);
        assert_eq!((clock.off(), clock.now()), (None, moved(Time(START), HOUR)));
    }

    #[test]
    fn whose_clock_is_off_is_remembered() {
        let clock = clock();
        let off = Heard { ahead_ms: 0, follows_wall: false };
        clock.hear(&[(NodeId(2), off)], 3);
        assert!(clock.is_off_at(NodeId(2)) && !clock.is_off_at(NodeId(3)));
    }
}
