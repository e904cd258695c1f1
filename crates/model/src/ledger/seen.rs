//! What consumers were told, by their own records: not chained to anything, so it can only end what a ledger leaves
//! alive, and never bring anything back.

use std::collections::BTreeMap;

use crate::{
    caps,
    event::{About, Event},
    name::{ConsumerName, CredentialName},
    time::Time,
};

/// What the records of consumers say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    events: BTreeMap<u64, Event>,
    snapshots: BTreeMap<u64, Vec<SeenSnapshot>>,
    delivered: BTreeMap<ConsumerName, u64>,
    revision: u64,
}

/// What a consumer was told in place of a history that was not kept any more: the versions that are honoured. Of a
/// credential that it names, every other version is not.
pub type SeenSnapshot = BTreeMap<(CredentialName, u32), SeenState>;

/// How a version stood in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenState {
    /// What holders should use.
    Active,
    /// Still honoured; holders must move.
    Tainted,
    /// Not valid for the time being.
    Held,
}

/// Why something that a record says cannot be taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbelievable {
    /// No cluster gives out such numbers.
    #[error("{what} {number} lies beyond all that a cluster gives out")]
    Number {
        /// The number of what.
        what: &'static str,
        /// The number.
        number: u64,
    },
    /// One revision says one thing.
    #[error("revision {0} was told in another way before")]
    Contradiction(u64),
    /// An event is about one version or one grant.
    #[error("revision {0} names neither a version nor a grant, or both")]
    Subject(u64),
    /// More than is taken in.
    #[error("there are more than {most} events; keep the newest lines", most = caps::SEEN_EVENTS)]
    TooMany,
}

impl Seen {
    /// Takes in an event. A repeat changes nothing; an instant that is not given (0) is no contradiction.
    ///
    /// # Errors
    /// [`Unbelievable`]; nothing was taken in.
    pub fn tell(&mut self, event: Event) -> Result<(), Unbelievable> {
        check_number("revision", event.revision, caps::SEEN_REVISION)?;
        check_numbers(&event)?;
        self.reach(event.revision)?;
        let is_full = self.events.len() >= caps::SEEN_EVENTS;
        match self.events.get_mut(&event.revision) {
            Some(held) if contradict(held, &event) => Err(Unbelievable::Contradiction(event.revision)),
            Some(held) => {
                held.at = held.at.max(event.at);
                held.deadline = held.deadline.max(event.deadline);
                Ok(())
            }
            None if is_full => Err(Unbelievable::TooMany),
            None => {
                self.events.insert(event.revision, event);
                Ok(())
            }
        }
    }

    /// Takes in what a consumer was told as of `revision`.
    ///
    /// # Errors
    /// [`Unbelievable`]; nothing was taken in.
    pub fn list(&mut self, revision: u64, snapshot: SeenSnapshot) -> Result<(), Unbelievable> {
        for (_, version) in snapshot.keys() {
            check_number("version", u64::from(*version), u64::from(caps::SEEN_VERSION))?;
        }
        self.reach(revision)?;
        self.snapshots.entry(revision).or_default().push(snapshot);
        Ok(())
    }

    /// A consumer knows that `revision` was given out.
    ///
    /// # Errors
    /// [`Unbelievable::Number`].
    pub fn reach(&mut self, revision: u64) -> Result<(), Unbelievable> {
        check_number("revision", revision.max(1), caps::SEEN_REVISION)?;
        self.revision = self.revision.max(revision);
        Ok(())
    }

    /// Everything of this was handed to `consumer`.
    pub fn handed_to(&mut self, consumer: ConsumerName) {
        let delivered = self.delivered.entry(consumer).or_default();
        *delivered = self.revision.max(*delivered);
    }

    /// Takes in what another record says.
    ///
    /// # Errors
    /// [`Unbelievable`]; part of it was taken in then.
    pub fn join(&mut self, other: Self) -> Result<(), Unbelievable> {
        self.reach(other.revision)?;
        for event in other.events.into_values() {
            self.tell(event)?;
        }
        for (revision, snapshots) in other.snapshots {
            self.snapshots.entry(revision).or_default().extend(snapshots);
        }
        for (consumer, upto) in other.delivered {
            let delivered = self.delivered.entry(consumer).or_default();
            *delivered = upto.max(*delivered);
        }
        Ok(())
    }

    /// The highest revision that is known to have been given out; 0 when there is none.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The events, in order.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.values()
    }

    /// Whether `event` says something else than what is held of its revision.
    #[must_use]
    pub fn contradicts(&self, event: &Event) -> bool {
        self.events.get(&event.revision).is_some_and(|held| contradict(held, event))
    }

    /// Up to which revision every event behind `known` is held: revisions are dense, so what lies between is complete.
    #[must_use]
    pub fn complete_up_to(&self, known: u64) -> u64 {
        let behind = self.events.range(known.saturating_add(1)..);
        (known + 1..)
            .zip(behind)
            .take_while(|(next, (held, _))| next == *held)
            .last()
            .map_or(known, |(at, _)| at)
    }

    pub(crate) fn events_at(&self, revision: u64) -> Option<&Event> {
        self.events.get(&revision)
    }

    pub(crate) fn snapshots_at(&self, revision: u64) -> &[SeenSnapshot] {
        self.snapshots.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// The revisions behind `known` of which something is held.
    pub(crate) fn revisions_behind(&self, known: u64) -> std::collections::BTreeSet<u64> {
        let behind = known.saturating_add(1)..;
        let events = self.events.range(behind.clone()).map(|(at, _)| *at);
        events.chain(self.snapshots.range(behind).map(|(at, _)| *at)).collect()
    }

    pub(crate) const fn delivered(&self) -> &BTreeMap<ConsumerName, u64> {
        &self.delivered
    }
}

fn check_numbers(event: &Event) -> Result<(), Unbelievable> {
    match &event.about {
        About::Version { version, .. } => {
            check_number("version", u64::from(*version), u64::from(caps::SEEN_VERSION))?;
        }
        About::Grant(id) => check_number("grant", id.0, caps::SEEN_REVISION)?,
    }
    event.revocation.map_or(Ok(()), |id| check_number("revocation", id.0, caps::SEEN_REVISION))
}

const fn check_number(what: &'static str, number: u64, most: u64) -> Result<(), Unbelievable> {
    if number == 0 || number > most { Err(Unbelievable::Number { what, number }) } else { Ok(()) }
}

fn contradict(held: &Event, told: &Event) -> bool {
    let differ = |a: Time, b: Time| a != Time(0) && b != Time(0) && a != b;
    held.kind != told.kind
        || held.about != told.about
        || held.target != told.target
        || held.reason != told.reason
        || held.revocation != told.revocation
        || differ(held.at, told.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventKind, ReasonCode};

    fn event(revision: u64, version: u32) -> Event {
        Event {
            revision,
            at: Time(revision),
            kind: EventKind::CredentialRevoked,
            about: About::Version { credential: "orders-db".parse().unwrap(), version },
            target: "pg-main".parse().unwrap(),
            reason: ReasonCode::KeyCompromise,
            revocation: None,
            deadline: Time(0),
            escalated: false,
        }
    }

    fn told(events: impl IntoIterator<Item = Event>) -> Seen {
        let mut seen = Seen::default();
        events.into_iter().for_each(|event| seen.tell(event).unwrap());
        seen
    }

    #[test]
    fn what_is_complete_ends_at_the_first_revision_that_nobody_tells() {
        let mut seen = told([event(3, 1), event(4, 2), event(6, 3)]);
        assert_eq!((seen.complete_up_to(2), seen.complete_up_to(1), seen.complete_up_to(3)), (4, 1, 4));
        assert_eq!((seen.revision(), seen.complete_up_to(9)), (6, 9));
        seen.join(told([event(5, 9)])).unwrap();
        assert_eq!(seen.complete_up_to(2), 6, "records complete each other");
    }

    #[test]
    fn a_revision_says_one_thing_and_repeats_are_taken_as_such() {
        let mut seen = told([event(3, 1)]);
        assert_eq!(seen.tell(event(3, 1)), Ok(()));
        assert_eq!(seen.tell(Event { at: Time(0), ..event(3, 1) }), Ok(()), "the instant was left out");
        assert_eq!(seen.tell(event(3, 2)), Err(Unbelievable::Contradiction(3)));
        assert_eq!(seen.tell(Event { at: Time(9), ..event(3, 1) }), Err(Unbelievable::Contradiction(3)));
        assert!(seen.contradicts(&event(3, 2)) && !seen.contradicts(&event(4, 2)));
        assert_eq!(seen.join(told([event(3, 2)])), Err(Unbelievable::Contradiction(3)));
    }

    #[test]
    fn numbers_that_no_cluster_gives_out_are_refused() {
        let mut seen = Seen::default();
        for beyond in [event(0, 1), event(caps::SEEN_REVISION + 1, 1), event(1, 0), event(1, u32::MAX)] {
            assert!(matches!(seen.tell(beyond), Err(Unbelievable::Number { .. })));
        }
        assert!(seen.reach(u64::MAX).is_err());
        assert!(seen.list(1, [(("orders-db".parse().unwrap(), u32::MAX), SeenState::Held)].into()).is_err());
        assert_eq!(seen, Seen::default(), "nothing of it was taken in");
        assert_eq!(seen.reach(0), Ok(()), "a feed without events has begun");
    }
}
