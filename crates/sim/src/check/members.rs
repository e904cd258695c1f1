//! What must hold of who takes part.

use cluster::sim::Membership;
use model::{
    command::Command,
    name::NodeId,
    outcome::{Applied, Outcome},
};

use super::{Book, Invariant, Verdict, holds};

/// A change of the membership was committed.
pub(super) fn changed(book: &mut Book, membership: &Membership) -> Verdict {
    for node in &membership.members {
        holds(!book.gone.contains(node), Invariant::RemovedStayOut, || {
            format!("{node} was turned out and is a member again")
        })?;
    }
    if book.founders.is_empty() {
        book.founders.clone_from(&membership.members);
    }
    let left = book.membership.members.difference(&membership.members);
    let turned_out = left.filter(|node| book.reference.removal_of(**node).is_some());
    book.gone.extend(turned_out.copied().collect::<Vec<_>>());
    book.membership = membership.clone();
    Ok(())
}

/// A command was applied.
pub(super) fn decided(book: &mut Book, command: &Command, outcome: &Outcome) -> Verdict {
    let (Command::AdmitNode(admit), Ok(Applied::Admitted(node))) = (command, outcome) else { return Ok(()) };
    let storage = *book.admitted.entry(*node).or_insert(admit.storage);
    let is_new = storage == admit.storage && !book.founders.contains(node) && !book.gone.contains(node);
    holds(is_new, Invariant::NumbersNeverReused, || format!("{node} was given to another before"))
}

/// A node leads in a term in which no other was seen to lead: the majority that has chosen it is one of those who take
/// part. Votes are counted when they are on the disk, whether they arrive or not.
pub(super) fn elected(book: &Book, leader: NodeId, term: u64) -> Verdict {
    holds(!book.gone.contains(&leader), Invariant::RemovedStayOut, || {
        format!("{leader} was turned out and leads in term {term}")
    })?;
    let votes = book.votes.get(&term);
    let has_chosen = |voter: &NodeId| {
        *voter == leader || votes.and_then(|votes| votes.get(voter)).is_some_and(|chosen| *chosen == leader)
    };
    let configurations = &book.membership.voters;
    let is_chosen = configurations
        .iter()
        .any(|voters| voters.iter().filter(|voter| has_chosen(voter)).count() * 2 > voters.len());
    holds(is_chosen || configurations.is_empty(), Invariant::RemovedStayOut, || {
        format!("{leader} leads in term {term} with {votes:?}, which is no majority of {configurations:?}")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{
        command::{AdmitNode, RemoveNode, Stamped},
        time::Time,
    };

    use super::*;

    fn ids(ids: &[u64]) -> impl Iterator<Item = NodeId> {
        ids.iter().copied().map(NodeId)
    }

    fn membership(voters: &[&[u64]]) -> Membership {
        Membership {
            voters: voters.iter().map(|voters| ids(voters).collect()).collect(),
            members: voters.iter().flat_map(|voters| ids(voters)).collect(),
        }
    }

    fn broken(verdict: Verdict) -> Option<Invariant> {
        verdict.err().map(|violation| violation.invariant)
    }

    #[test]
    fn who_was_turned_out_is_not_chosen_and_helps_nobody_to_be() {
        let mut book = Book::default();
        changed(&mut book, &membership(&[&[1, 2, 3, 4]])).unwrap();
        let command = RemoveNode { node: NodeId(4), reason: "a test".into(), highest: NodeId(4) }.into();
        let remove = Stamped { at: Time(1), actor: "test".into(), command };
        book.reference.apply(&remove).unwrap();
        changed(&mut book, &membership(&[&[1, 2, 3, 4], &[1, 2, 3]])).unwrap();
        assert!(book.gone.is_empty(), "it takes part until the membership has let go of it");
        changed(&mut book, &membership(&[&[1, 2, 3]])).unwrap();

        let vote = |voters: &[u64]| ids(voters).map(|voter| (voter, NodeId(1))).collect();
        book.votes = BTreeMap::from([(7, vote(&[1, 4])), (8, vote(&[2, 4]))]);
        assert_eq!(broken(elected(&book, NodeId(1), 7)), Some(Invariant::RemovedStayOut));
        assert_eq!(broken(elected(&book, NodeId(1), 8)), None);
        assert_eq!(broken(elected(&book, NodeId(4), 9)), Some(Invariant::RemovedStayOut));
        let again = changed(&mut book, &membership(&[&[1, 2, 3, 4]]));
        assert_eq!(broken(again), Some(Invariant::RemovedStayOut));
    }

    #[test]
    fn a_number_is_given_once() {
        let mut book = Book::default();
        changed(&mut book, &membership(&[&[1, 2, 3]])).unwrap();
        let mut admit = |number, storage| {
            let peer_address = "n:1".into();
            let highest = NodeId(3);
            let command =
                AdmitNode { invitation: None, storage: [storage; 16], peer_address, learner: false, highest };
            broken(decided(&mut book, &command.into(), &Ok(Applied::Admitted(NodeId(number)))))
        };
        assert_eq!((admit(4, 1), admit(4, 1)), (None, None), "who asks again is given the same");
        assert_eq!(admit(4, 2), Some(Invariant::NumbersNeverReused));
        assert_eq!(admit(3, 3), Some(Invariant::NumbersNeverReused));
    }
}
