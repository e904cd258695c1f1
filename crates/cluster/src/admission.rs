//! Whether this node may take part. Its votes and acknowledgements count for its storage: before it gives the first
//! one after a start, it asks the others whether they know it with this storage and whether it still holds what it
//! has promised. One that was wiped, put back or shortened does not vote; it comes back as a learner under a new
//! storage UUID, for which nothing was ever promised.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use model::{
    name::NodeId,
    planted::{Bug, is_planted},
    time::Time,
};
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    clock::{Clock, Heard, difference},
    disk::Layout,
    fatal::Fatal,
    heartbeat::Heartbeat,
    machine::blocking,
    membership::Rejoined,
    peer::Peers,
    promise::{Promise, Stand},
    raft::{Raft, StoredMembership, term_and_index},
    settings::Rejoin,
    status::PeerStatus,
};

/// Wait between two rounds of asking.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Longest time a peer may take to answer. One that is starting has its port open already and answers a little later:
/// it is asked again, and must not hold up the answers of the others for long.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest time the leader may take over one change of the membership.
const REJOIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether this node takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// It asks the others whether it may.
    #[default]
    Asking,
    /// It votes and acknowledges, as far as the membership says.
    Admitted,
    /// It must not, and why; it is, or waits to be, taken in again.
    Excluded(Exclusion),
}

/// Why a node must not take part with the storage it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exclusion {
    /// Its data folder is a new one.
    #[error("the cluster knows this node with another storage: its data folder was wiped or replaced")]
    OtherStorage,
    /// Its data folder went back.
    #[error(
        "this node's data folder holds less than the node has promised the others: it is an old copy, or its log was \
         cut short"
    )]
    Forgotten,
    /// The cluster does not count it in.
    #[error("this node is not among the members of the cluster")]
    NoMember,
    /// An operator has turned it out.
    #[error("this node was removed from the cluster for good")]
    Removed,
}

/// A member as the membership has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) storage: Uuid,
    pub(crate) voter: bool,
}

/// The members of the cluster as a node knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roll {
    /// The entry it comes from, term and index.
    pub(crate) at: Option<(u64, u64)>,
    pub(crate) members: BTreeMap<NodeId, Registered>,
}

impl From<&StoredMembership> for Roll {
    fn from(stored: &StoredMembership) -> Self {
        let voters: Vec<u64> = stored.voter_ids().collect();
        let member = |(id, member): (&u64, &crate::raft::Member)| {
            (NodeId(*id), Registered { storage: member.storage, voter: voters.contains(id) })
        };
        Self { at: stored.log_id().map(term_and_index), members: stored.nodes().map(member).collect() }
    }
}

/// What a node says of itself and of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) node: NodeId,
    /// Whether it has a log, hence belongs to a cluster.
    pub(crate) initialised: bool,
    pub(crate) storage: Uuid,
    pub(crate) membership: Roll,
    pub(crate) promises: BTreeMap<Uuid, Promise>,
    /// Digests of its state by index of the entry.
    pub(crate) digests: BTreeMap<u64, [u8; 32]>,
    /// Whether its disk is full.
    pub(crate) full: bool,
    /// What it takes the time to be.
    pub(crate) time: Time,
    /// Whether its wall clock says something else.
    pub(crate) clock_off: bool,
    /// Why the node that asked was turned out, when it was.
    pub(crate) removed: Option<String>,
    /// What it hears of the others, when it leads.
    pub(crate) hears: BTreeMap<NodeId, PeerStatus>,
}

/// What the peer port asks before it lets Raft answer.
pub(crate) struct Gate {
    inner: Mutex<Held>,
    permitted: Notify,
    doubted: Notify,
    /// When a message of a leader was last let in.
    pub(crate) heartbeat: Heartbeat,
}

struct Held {
    storage: Uuid,
    admission: Admission,
    /// Whether Raft's messages are answered. A storage that has forgotten its promises is never open again.
    open: bool,
}

/// A request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Closed {
    #[error("this node does not know yet that it may take part, or knows that it may not")]
    NotAdmitted,
    #[error("the request is meant for another storage of this node")]
    OtherStorage,
}

impl Gate {
    pub(crate) fn new(storage: Uuid) -> Self {
        let held = Held { storage, admission: Admission::Asking, open: false };
        Self {
            inner: Mutex::new(held),
            permitted: Notify::new(),
            doubted: Notify::new(),
            heartbeat: Heartbeat::default(),
        }
    }

    /// The UUID of this node's storage.
    pub(crate) fn storage(&self) -> Uuid {
        self.lock().storage
    }

    /// Where this node stands.
    pub(crate) fn admission(&self) -> Admission {
        self.lock().admission.clone()
    }

    /// Whether a request that is meant for `storage` may be answered.
    pub(crate) fn check(&self, storage: Option<Uuid>) -> Result<(), Closed> {
        let held = self.lock();
        if storage != Some(held.storage) {
            Err(Closed::OtherStorage)
        } else if held.open {
            Ok(())
        } else {
            Err(Closed::NotAdmitted)
        }
    }

    /// Lets an excluded node ask to be taken in again, whatever its settings say.
    pub(crate) fn permit(&self) {
        self.permitted.notify_one();
    }

    /// The others do not count this node in any more, as it seems: it must ask again.
    pub(crate) fn doubt(&self) {
        if self.admission() == Admission::Admitted {
            self.doubted.notify_one();
        }
    }

    fn admit(&self) {
        let mut held = self.lock();
        held.admission = Admission::Admitted;
        held.open = true;
    }

    fn exclude(&self, exclusion: Exclusion) {
        let mut held = self.lock();
        held.admission = Admission::Excluded(exclusion);
        held.open = false;
    }

    /// Nothing was ever promised for `storage`: what the leader sends to it may be answered.
    fn open_for(&self, storage: Uuid) {
        let mut held = self.lock();
        held.storage = storage;
        held.open = true;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Too few have answered.
    Wait,
    /// There is no cluster yet.
    Forming,
    Admit,
    Exclude(Exclusion),
}

/// What a node that asks needs.
pub(crate) struct Asking {
    pub(crate) node: NodeId,
    pub(crate) rejoin: Rejoin,
    pub(crate) layout: Layout,
    /// How far this node's storage was found to go at the start.
    pub(crate) stand: Stand,
    /// What it had itself noted down as durable.
    pub(crate) noted: Option<Promise>,
    pub(crate) raft: Raft,
    pub(crate) peers: Peers,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) shutdown: CancellationToken,
}

impl Asking {
    /// Runs until the node stops.
    pub(crate) async fn run(self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.take_part() => {}
        }
    }

    /// Asks whether this node may take part, and again whenever that is in doubt.
    async fn take_part(&self) {
        // What it promises after it was let in is no sign that it has forgotten something.
        let mut stand = Some(self.stand);
        loop {
            self.ask(stand.take()).await;
            self.gate.doubted.notified().await;
            tracing::warn!("the other nodes do not count this one in: it asks them");
        }
    }

    async fn ask(&self, mut stand: Option<Stand>) {
        let noted = self.noted.filter(|_| stand.is_some());
        loop {
            let own = Roll::from(&*self.raft.metrics().borrow_watched().membership_config);
            let answers = ask_all(&self.peers, self.peers.everyone(), &self.clock).await;
            if let Some(reason) = answers.iter().find_map(|answer| answer.removed.as_deref()) {
                return self.end(reason).await;
            }
            let about = About { node: self.node, storage: self.gate.storage(), stand, noted };
            match about.judge(&own, &answers, &self.peers.ids()) {
                Verdict::Wait => {}
                Verdict::Forming => {
                    stand = None;
                    self.let_in();
                }
                Verdict::Admit => return self.let_in(),
                Verdict::Exclude(exclusion) => return self.exclude(exclusion).await,
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    fn let_in(&self) {
        self.gate.admit();
        self.raft.runtime_config().elect(true);
    }

    /// This node was turned out. Its id is never given again, and nothing it holds is of use to anyone.
    async fn end(&self, reason: &str) {
        self.raft.runtime_config().elect(false);
        self.gate.exclude(Exclusion::Removed);
        self.fatal.raise(format!(
            "`{}` was removed from the cluster: {reason}; its number is never given again. To let this machine come back, \
             let it join anew with an empty data folder: `revolve cluster join`",
            self.node
        ));
        std::future::pending().await
    }

    async fn exclude(&self, exclusion: Exclusion) {
        self.raft.runtime_config().elect(false);
        tracing::error!(reason = %exclusion, "this node does not vote");
        self.gate.exclude(exclusion);
        // Who was let in and has no part yet has nothing to be given up.
        if self.rejoin == Rejoin::Manual && exclusion != Exclusion::NoMember {
            tracing::error!("start it with `--rejoin` to let it come back as a learner");
            self.gate.permitted.notified().await;
        }
        let layout = self.layout.clone();
        let storage = match exclusion {
            Exclusion::Forgotten => blocking(move || layout.renew_identity()).await,
            Exclusion::OtherStorage | Exclusion::NoMember | Exclusion::Removed => Ok(self.gate.storage()),
        };
        match storage {
            Ok(storage) => self.gate.open_for(storage),
            Err(error) => return self.fatal.raise(format!("the identity cannot be written: {error}")),
        }
        self.come_back().await;
    }

    /// Asks the leader to be taken in again, until the membership that this node holds says so.
    async fn come_back(&self) {
        let storage = self.gate.storage();
        let mut told = None;
        loop {
            let own = Roll::from(&*self.raft.metrics().borrow_watched().membership_config);
            let registered = own.members.get(&self.node);
            if registered.is_some_and(|member| member.voter && member.storage == storage) {
                tracing::info!(%storage, "this node votes again");
                return self.let_in();
            }
            if let Some(reason) = self.removed().await {
                return self.end(&reason).await;
            }
            for peer in self.peers.everyone() {
                match self.peers.rejoin(peer, self.node, storage, REJOIN_TIMEOUT).await {
                    Ok(Rejoined::Learner { stays: true, .. })
                        if registered.is_some_and(|member| member.storage == storage) =>
                    {
                        tracing::info!(%storage, "this node takes part as a learner, until it is promoted");
                        return self.let_in();
                    }
                    Ok(answer @ (Rejoined::Voter | Rejoined::Learner { .. })) => {
                        tracing::debug!(?answer, "on the way back");
                        break;
                    }
                    Ok(Rejoined::Refused(reason)) => {
                        if told.as_ref() != Some(&reason) {
                            tracing::warn!(%peer, reason, "the leader does not take this node in yet");
                            told = Some(reason);
                        }
                        break;
                    }
                    Ok(Rejoined::NotLeader(_)) => {}
                    Err(error) => {
                        tracing::debug!(error = &error as &dyn std::error::Error, %peer, "not asked");
                    }
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

impl Asking {
    /// Why this node was turned out, when one of the others says so.
    async fn removed(&self) -> Option<String> {
        let answers = ask_all(&self.peers, self.peers.everyone(), &self.clock).await;
        answers.into_iter().find_map(|answer| answer.removed)
    }
}

/// Asks all these nodes at once, and gives the answers that came. The clock hears what time they have.
pub(crate) async fn ask_all(peers: &Peers, nodes: Vec<NodeId>, clock: &Clock) -> Vec<Description> {
    let count = nodes.len() + 1;
    let ask = async |node| {
        let asked = clock.now();
        let answer = peers.describe(node, ASK_TIMEOUT).await.ok()?;
        // It was written down half way between.
        let here = Time(asked.0.midpoint(clock.now().0));
        let heard = Heard { ahead_ms: difference(answer.time, here), follows_wall: !answer.clock_off };
        Some((answer, heard))
    };
    let answers: Vec<_> = join_all(nodes.into_iter().map(ask)).await.into_iter().flatten().collect();
    let heard: Vec<_> = answers.iter().map(|(answer, heard)| (answer.node, *heard)).collect();
    clock.hear(&heard, count);
    answers.into_iter().map(|(answer, _)| answer).collect()
}

struct About {
    node: NodeId,
    storage: Uuid,
    /// `None` once it was found to hold what it promised.
    stand: Option<Stand>,
    noted: Option<Promise>,
}

impl About {
    /// `others` are the nodes of the settings, asked as long as there is no cluster.
    fn judge(&self, own: &Roll, answers: &[Description], others: &[NodeId]) -> Verdict {
        let forgotten = |promise: &Promise| self.stand.is_some_and(|stand| promise.is_forgotten_at(stand));
        let remembered = answers.iter().filter_map(|answer| answer.promises.get(&self.storage));
        if remembered.chain(&self.noted).any(forgotten) {
            return Verdict::Exclude(Exclusion::Forgotten);
        }
        let rolls = answers.iter().map(|answer| &answer.membership).chain([own]);
        let Some(newest) = rolls.max_by_key(|roll| roll.at) else { return Verdict::Wait };
        let registered = newest.members.get(&self.node).map(|member| member.storage);
        // With this node they are a majority, so one of them is in every quorum that it took part in.
        let enough = {
            let voters = newest.members.iter().filter(|(_, member)| member.voter).map(|(node, _)| *node);
            let others: Vec<NodeId> = match newest.at {
                Some(_) => voters.filter(|node| *node != self.node).collect(),
                None => others.to_vec(),
            };
            let heard = answers.iter().filter(|answer| others.contains(&answer.node)).count();
            heard >= others.len().div_ceil(2)
        };
        match (newest.at, registered) {
            (Some(_), None) => Verdict::Exclude(Exclusion::NoMember),
            (Some(_), Some(storage)) if storage != self.storage && !is_planted(Bug::WipedVotes) => {
                Verdict::Exclude(Exclusion::OtherStorage)
            }
            _ if !enough => Verdict::Wait,
            (Some(_), Some(_)) => Verdict::Admit,
            (None, _) => Verdict::Forming,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);
    const MINE: Uuid = Uuid::from_u128(11);
    const FORMER: Uuid = Uuid::from_u128(10);

    fn roll(index: u64, storage: Option<Uuid>) -> Roll {
        let me = storage.map(|storage| (ME, Registered { storage, voter: true }));
        let other = (NodeId(2), Registered { storage: Uuid::from_u128(2), voter: true });
        Roll { at: Some((1, index)), members: me.into_iter().chain([other]).collect() }
    }

    fn answer(membership: Roll, promise: Option<Promise>) -> Description {
        Description {
            node: NodeId(2),
            initialised: membership.at.is_some(),
            storage: Uuid::from_u128(2),
            membership,
            promises: promise.map(|promise| (MINE, promise)).into_iter().collect(),
            digests: BTreeMap::new(),
            full: false,
            time: Time::default(),
            clock_off: false,
            removed: None,
            hears: BTreeMap::new(),
        }
    }

    fn judge(own: &Roll, answers: &[Description]) -> Verdict {
        let stand = Some(Stand { term: 3, last: Some((3, 40)) });
        About { node: ME, storage: MINE, stand, noted: None }.judge(own, answers, &[NodeId(2), NodeId(3)])
    }

    #[test]
    fn a_node_that_nobody_can_speak_for_waits() {
        assert_eq!(judge(&roll(1, Some(MINE)), &[]), Verdict::Wait);
        assert_eq!(judge(&Roll::default(), &[]), Verdict::Wait);
        assert_eq!(judge(&Roll::default(), &[answer(Roll::default(), None)]), Verdict::Forming);
    }

    #[test]
    fn a_known_storage_that_kept_its_promises_is_admitted() {
        let promise = Promise { node: 1, term: 3, last: Some((3, 40)) };
        let answers = [answer(roll(1, Some(MINE)), Some(promise))];
        assert_eq!(judge(&roll(1, Some(MINE)), &answers), Verdict::Admit);
    }

    #[test]
    fn a_storage_that_went_back_is_excluded() {
        for promise in
            [Promise { node: 1, term: 4, last: None }, Promise { node: 1, term: 3, last: Some((3, 41)) }]
        {
            let answers = [answer(roll(1, Some(MINE)), Some(promise))];
            assert_eq!(judge(&roll(1, Some(MINE)), &answers), Verdict::Exclude(Exclusion::Forgotten));
        }
    }

    #[test]
    fn the_newest_membership_decides_about_the_storage() {
        let excluded = Verdict::Exclude(Exclusion::OtherStorage);
        assert_eq!(judge(&Roll::default(), &[answer(roll(5, Some(FORMER)), None)]), excluded);
        assert_eq!(judge(&roll(9, Some(MINE)), &[answer(roll(5, Some(FORMER)), None)]), Verdict::Admit);
        let answers = [answer(roll(5, Some(FORMER)), None), answer(roll(6, Some(MINE)), None)];
        assert_eq!(judge(&Roll::default(), &answers), Verdict::Admit);
        let removed = Verdict::Exclude(Exclusion::NoMember);
        assert_eq!(judge(&roll(1, Some(MINE)), &[answer(roll(5, None), None)]), removed);
    }
}
