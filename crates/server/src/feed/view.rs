//! Whose stream is looked at.

use std::ops::Bound;

use model::{
    State,
    consumer::{Consumer, Subscription},
    event::Event,
    name::ConsumerName,
    refusal::Code,
};

use crate::denied::Denied;

/// Whose stream is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The consumer's own: what is sent is delivered.
    Own(ConsumerName),
    /// A consumer's, looked at by someone else: nothing is delivered.
    Observed(ConsumerName),
    /// Every event, for everyone.
    Whole,
}

/// A view on one state.
pub(super) enum Seen<'a> {
    Stream(&'a Consumer),
    Whole,
}

impl View {
    /// The consumer to whom things are delivered.
    pub(super) const fn receiver(&self) -> Option<&ConsumerName> {
        match self {
            Self::Own(name) => Some(name),
            Self::Observed(_) | Self::Whole => None,
        }
    }

    pub(super) fn on<'a>(&self, state: &'a State) -> Result<Seen<'a>, Denied> {
        match self {
            Self::Own(name) | Self::Observed(name) => {
                state.consumers().get(name).map(Seen::Stream).ok_or_else(|| {
                    Denied::edge(Code::UnknownConsumer, format!("there is no consumer `{name}`"))
                })
            }
            Self::Whole => Ok(Seen::Whole),
        }
    }
}

impl Seen<'_> {
    /// What falls under it.
    pub(super) fn subscription(&self) -> Subscription {
        match self {
            Self::Stream(consumer) => consumer.subscription.clone(),
            Self::Whole => Subscription { all: true, ..Subscription::default() },
        }
    }

    /// The kept events after `cursor`, oldest first.
    pub(super) fn after<'a>(&'a self, state: &'a State, cursor: u64) -> impl Iterator<Item = &'a Event> {
        let rest = state.events().range((Bound::Excluded(cursor), Bound::Unbounded));
        rest.map(|(_, event)| event).filter(|event| self.holds(event))
    }

    /// The revision of the last event up to `cursor`, 0 when there is none. Where it is not kept any more, the last
    /// revision that may have been it.
    pub(super) fn last_up_to(&self, state: &State, cursor: u64) -> u64 {
        let starts_after = state.history_starts_after();
        let forgotten = if self.since() < starts_after { cursor.min(starts_after) } else { 0 };
        let kept = state.events().range(..=cursor).rev().map(|(_, event)| event);
        kept.filter(|event| self.holds(event)).map(|event| event.revision).next().unwrap_or(forgotten)
    }

    /// Whether events after `cursor` may be gone from the kept history.
    pub(super) fn is_behind(&self, state: &State, cursor: u64) -> bool {
        // A reader that holds nothing at all is told where things stand, also when nothing is owed to it.
        let held = if cursor > 0 { cursor.max(self.since()) } else { 0 };
        held < state.history_starts_after()
    }

    /// Events up to here are not part of it.
    const fn since(&self) -> u64 {
        match self {
            Self::Stream(consumer) => consumer.since,
            Self::Whole => 0,
        }
    }

    fn holds(&self, event: &Event) -> bool {
        match self {
            Self::Stream(consumer) => consumer.is_owed(event),
            Self::Whole => true,
        }
    }
}
