//! What logs, terms and applied entries must be.

use cluster::sim::{Appended, Applied, Committed, Standing};
use model::{command::Command, name::NodeId, outcome};

use super::{Book, Invariant, Verdict, broken, holds, members, step};
use crate::trace::Trace;

/// How clients' actors begin; each is used for one write alone.
pub(crate) const CLIENT: &str = "client-";

pub(super) fn appended(book: &mut Book, node: NodeId, entry: Appended) -> Verdict {
    let Appended { index, term, before, checksum, begins_change } = entry;
    let Some((known, known_before)) = book.entries.get_mut(&(index, term)) else {
        book.entries.insert((index, term), (checksum, before));
        // The log of the leader has it first.
        if begins_change {
            book.changes += 1;
            book.changing = Some(node);
        }
        return Ok(());
    };
    let same = *known == checksum && (before.is_none() || known_before.is_none() || *known_before == before);
    *known_before = known_before.or(before);
    holds(same, Invariant::LogsMatch, || format!("{node} has another entry {index} of term {term}"))
}

pub(super) fn applied(
    book: &mut Book,
    trace: &Trace,
    node: NodeId,
    applied: &Applied,
    entries: &dyn Fn(u64, u64) -> Vec<Committed>,
) -> Verdict {
    let index = applied.index;
    let seen = book.nodes.entry(node).or_default();
    let before = seen.applied;
    seen.applied = Some(index);
    holds(before.is_none_or(|before| before <= index), Invariant::AppliedNeverBack, || {
        format!("{node} had applied {before:?} and went back to {index}")
    })?;
    if book.next <= index {
        for entry in entries(book.next, index) {
            advance(book, trace, &entry)?;
        }
        if book.next <= index {
            return broken(
                Invariant::SameEntries,
                format!("{node} applied {index}, but {} is in no log any more", book.next),
            );
        }
    }
    let Some((term, digest)) = book.passed.get(&index) else { return Ok(()) };
    holds(*term == applied.term, Invariant::SameEntries, || {
        format!("{node} applied entry {index} of term {}, others that of term {term}", applied.term)
    })?;
    holds(*digest == applied.digest, Invariant::SameDigests, || {
        format!("{node} has another digest at {index}")
    })
}

/// The reference applies one more entry.
fn advance(book: &mut Book, trace: &Trace, entry: &Committed) -> Verdict {
    holds(entry.index == book.next, Invariant::SameEntries, || {
        format!("entry {} came after {}", entry.index, book.next)
    })?;
    for stamped in &entry.commands {
        let before = book.reference.clone();
        let outcome = book.reference.apply(stamped);
        // What is touched is kept by nodes alone.
        book.reference.drain_changes();
        book.commands += 1;
        let (action, actor) = (stamped.command.action(), &stamped.actor);
        match &outcome {
            Ok(applied) => {
                trace.line(format_args!("{} {} {action} {actor} {applied:?}", entry.term, entry.index))
            }
            Err(refusal) => {
                let code = refusal.code.as_str();
                trace.line(format_args!("{} {} {action} {actor} refused {code}", entry.term, entry.index));
            }
        }
        remember(book, &stamped.actor, &stamped.command, &outcome)?;
        let after = book.reference.clone();
        step::check(book, &before, &after, stamped, &outcome)?;
    }
    if let Some(membership) = &entry.membership {
        trace.line(format_args!("{} {} {membership:?}", entry.term, entry.index));
        members::changed(book, membership)?;
    }
    book.passed.insert(entry.index, (entry.term, book.reference.digest()));
    book.next += 1;
    Ok(())
}

fn remember(book: &mut Book, actor: &str, command: &Command, outcome: &outcome::Outcome) -> Verdict {
    if let (Command::Begin(begin), Ok(outcome::Applied::Begun { fence })) = (command, outcome) {
        let last = book.begun.last_key_value().map_or(0, |(last, _)| *last);
        holds(*fence > last, Invariant::FencesGrow, || format!("{fence} after {last}"))?;
        book.begun.insert(*fence, (begin.job, begin.step));
    }
    members::decided(book, command, outcome)?;
    if actor.starts_with(CLIENT) {
        holds(!book.unproposed.contains(actor), Invariant::RefusedStayOut, || {
            format!("{actor} was said not to be proposed, and was committed")
        })?;
        let sequence = book.reference.audit_head().sequence;
        book.written.insert(actor.to_owned(), (sequence, outcome.is_err()));
    }
    Ok(())
}

pub(super) fn stands(book: &mut Book, node: NodeId, standing: Standing) -> Verdict {
    let seen = book.nodes.entry(node).or_default();
    let before = seen.term;
    seen.term = before.max(standing.term);
    holds(before <= standing.term, Invariant::TermsNeverBack, || {
        format!("{node} was in term {before} and is in {}", standing.term)
    })?;
    if !standing.leads {
        return Ok(());
    }
    if !book.leaders.contains_key(&standing.term) {
        members::elected(book, node, standing.term)?;
    }
    let leader = *book.leaders.entry(standing.term).or_insert(node);
    holds(leader == node, Invariant::OneLeaderPerTerm, || {
        format!("{node} and {leader} both lead in term {}", standing.term)
    })
}
