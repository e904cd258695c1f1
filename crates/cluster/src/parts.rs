//! What the tasks of a node share, and the tasks made from it.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{Asking, Gate},
    clock::Clock,
    compare::Comparing,
    disk::Layout,
    fatal::Fatal,
    form::form,
    handover::{Handover, Lead},
    ledger::{CatchingUp, Ledger},
    log::DiskLog,
    machine::{SnapshotFolder, View},
    membership::Membership,
    peer::{PeerTls, Peers, Service},
    promise::{Promises, Stand},
    propose::{Collector, Proposer, Route},
    raft::Raft,
    read::Confirmer,
    settings::Settings,
    space::Space,
    status::LeaderHears,
    steer::Steering,
    trim::Trimming,
};

/// What the tasks of a node share.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) layout: Layout,
    pub(crate) raft: Raft,
    pub(crate) log: DiskLog,
    pub(crate) peers: Peers,
    pub(crate) tls: PeerTls,
    pub(crate) gate: Arc<Gate>,
    pub(crate) promises: Arc<Promises>,
    pub(crate) view: Arc<View>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) space: Arc<Space>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) changing: Arc<Mutex<()>>,
    pub(crate) heard: Arc<LeaderHears>,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) shutdown: CancellationToken,
}

impl Parts {
    /// What answers on the peer port.
    pub(crate) fn service(&self, snapshots: Arc<SnapshotFolder>, proposer: Proposer) -> Service {
        Service {
            node: self.settings.node,
            peers: self.peers.clone(),
            tls: self.tls.clone(),
            gate: Arc::clone(&self.gate),
            promises: Arc::clone(&self.promises),
            membership: self.membership(),
            heartbeat: self.settings.timing.heartbeat,
            steering: self.steering(),
            log: self.log.clone(),
            view: Arc::clone(&self.view),
            ledger: Arc::clone(&self.ledger),
            space: Arc::clone(&self.space),
            clock: Arc::clone(&self.clock),
            fatal: Arc::clone(&self.fatal),
            raft: self.raft.clone(),
            snapshots,
            proposer,
            timeout: self.settings.timeout,
            shutdown: self.shutdown.clone(),
        }
    }

    /// Starts what runs beside Raft. `stand` is how far the storage was found to go.
    pub(crate) fn start_tasks(&self, stand: Stand, snapshots: Arc<SnapshotFolder>, collector: Collector) {
        tokio::spawn(self.asking(stand).run());
        tokio::spawn(self.comparing().run());
        tokio::spawn(self.handover().run());
        tokio::spawn(self.trimming(snapshots).run());
        tokio::spawn(self.catching_up().run());
        tokio::spawn(self.membership().tidy(self.shutdown.clone()));
        tokio::spawn(CatchingUp::spill(
            Arc::clone(&self.ledger),
            Arc::clone(&self.fatal),
            self.shutdown.clone(),
        ));
        tokio::spawn(Arc::clone(&self.space).watch(self.shutdown.clone()));
        tokio::spawn(collector.run(self.route()));
        tokio::spawn(self.tls.clone().keep_renewed(self.shutdown.clone()));
        tokio::spawn(self.tls.clone().keep_heeding(Arc::clone(&self.view), self.shutdown.clone()));
        let parts = self.clone();
        tokio::spawn(async move {
            let Self { settings, gate, raft, peers, clock, fatal, shutdown, .. } = parts;
            form(settings, gate.storage(), raft, peers, &clock, &fatal, shutdown).await;
        });
    }

    fn catching_up(&self) -> CatchingUp {
        CatchingUp {
            ledger: Arc::clone(&self.ledger),
            view: Arc::clone(&self.view),
            peers: self.peers.clone(),
            fatal: Arc::clone(&self.fatal),
            shutdown: self.shutdown.clone(),
        }
    }

    /// What takes nodes in and out.
    fn membership(&self) -> Membership {
        Membership {
            raft: self.raft.clone(),
            view: Arc::clone(&self.view),
            lead: self.lead(),
            addresses: self.settings.peers.clone(),
            heartbeat: self.settings.timing.heartbeat,
            timeout: self.settings.timeout,
            changing: Arc::clone(&self.changing),
        }
    }

    /// What carries out what operators ask.
    pub(crate) fn steering(&self) -> Steering {
        Steering {
            node: self.settings.node,
            raft: self.raft.clone(),
            gate: Arc::clone(&self.gate),
            peers: self.peers.clone(),
            membership: self.membership(),
            timeout: self.settings.timeout,
        }
    }

    /// What confirms linearizable reads.
    pub(crate) fn confirmer(&self) -> Confirmer {
        Confirmer {
            node: self.settings.node,
            raft: self.raft.clone(),
            peers: self.peers.clone(),
            view: Arc::clone(&self.view),
            shutdown: self.shutdown.clone(),
        }
    }

    fn route(&self) -> Route {
        Route {
            node: self.settings.node,
            raft: self.raft.clone(),
            peers: self.peers.clone(),
            view: Arc::clone(&self.view),
            space: Arc::clone(&self.space),
            clock: Arc::clone(&self.clock),
            shutdown: self.shutdown.clone(),
        }
    }

    fn asking(&self, stand: Stand) -> Asking {
        Asking {
            node: self.settings.node,
            rejoin: self.settings.rejoin,
            layout: self.layout.clone(),
            stand,
            noted: self.log.noted().map(|noted| noted.promise(self.settings.node)),
            raft: self.raft.clone(),
            peers: self.peers.clone(),
            gate: Arc::clone(&self.gate),
            clock: Arc::clone(&self.clock),
            fatal: Arc::clone(&self.fatal),
            shutdown: self.shutdown.clone(),
        }
    }

    fn comparing(&self) -> Comparing {
        Comparing {
            node: self.settings.node,
            layout: self.layout.clone(),
            raft: self.raft.clone(),
            log: self.log.clone(),
            peers: self.peers.clone(),
            gate: Arc::clone(&self.gate),
            promises: Arc::clone(&self.promises),
            view: Arc::clone(&self.view),
            space: Arc::clone(&self.space),
            clock: Arc::clone(&self.clock),
            heard: Arc::clone(&self.heard),
            fatal: Arc::clone(&self.fatal),
            shutdown: self.shutdown.clone(),
        }
    }

    /// The lead, and who could take it over.
    pub(crate) fn lead(&self) -> Lead {
        Lead {
            raft: self.raft.clone(),
            space: Arc::clone(&self.space),
            clock: Arc::clone(&self.clock),
            heartbeat: self.settings.timing.heartbeat,
        }
    }

    fn trimming(&self, snapshots: Arc<SnapshotFolder>) -> Trimming {
        Trimming {
            raft: self.raft.clone(),
            log: self.log.clone(),
            snapshots,
            space: Arc::clone(&self.space),
            kept_bytes: self.settings.retention.kept_bytes,
            shutdown: self.shutdown.clone(),
        }
    }

    fn handover(&self) -> Handover {
        Handover { lead: self.lead(), log: self.log.clone(), shutdown: self.shutdown.clone() }
    }
}
