//! `revolve cluster`.

mod init;
mod invite;
mod join;
mod place;

use api::v1::{
    GetClusterRequest, PermitRejoinRequest, PromoteNodeRequest, RemoveNodeRequest, TransferLeaderRequest,
};
use clap::Subcommand;
use model::name::NodeId;

use super::{snapshot, text};

use crate::{
    app::App,
    confirm::confirm,
    exit::{Exit, Failure, Outcome},
    show::Cluster,
};

/// What can be asked about the nodes, and of them.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Leader, term, progress, digest and nodes; exit 2 when degraded
    Status,
    /// The nodes
    Members,
    /// Hand the lead over, such as before maintenance, and wait until the node leads
    TransferLeader(Order),
    /// Let a node come back whose data was wiped, put back or damaged, where its configuration says `rejoin = "manual"`
    Rejoin(Order),
    /// Make the files of a new cluster of one node, to be grown with invite and join
    Init(init::Init),
    /// Make a token that lets one new node in; it is shown this once
    Invite(invite::Invite),
    /// The join tokens, without their secrets, and who came in with them
    Invitations,
    /// Take an invitation back that was not used
    RevokeInvitation(invite::Revoke),
    /// Run on a new machine: come into a cluster. The join token is in --token-file (- for stdin) or REVOLVE_JOIN_TOKEN
    Join(join::Join),
    /// Let a learner vote that was let in with --learner
    Promote(Order),
    /// Turn a node out for good: its number is never used again
    Remove(Order),
    /// Backups, and putting a cluster back from one
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
}

/// What is asked of a node.
#[derive(Debug, clap::Args)]
pub struct Order {
    /// The node, such as node-2
    node: NodeId,
    /// Why; it stands in the audit log
    #[arg(long, value_parser = text())]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Order {
    /// Asks for a clear yes, and gives the node and the reason.
    fn confirmed(self, app: &App, what: &str) -> Result<(NodeId, String), Failure> {
        let node = self.node.to_string();
        confirm(&app.output, self.yes, &format!("this {what} {node}"), &node)?;
        Ok((self.node, self.reason))
    }
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    match verb {
        Verb::Snapshot(verb) => snapshot::run(app, verb).await,
        Verb::Status => {
            let cluster = look(app).await?;
            app.output.screen(&cluster, &cluster.screen(&app.output))?;
            Ok(if cluster.is_healthy() { Exit::Done } else { Exit::Attention })
        }
        Verb::Members => {
            app.output.list(&look(app).await?.members)?;
            Ok(Exit::Done)
        }
        Verb::TransferLeader(order) => {
            let (node, reason) = order.confirmed(app, "hands the lead over to")?;
            app.client()?.transfer_leader(TransferLeaderRequest { node: node.0, reason }).await?;
            app.output.note(&format!("{node} leads"));
            Ok(Exit::Done)
        }
        Verb::Rejoin(order) => {
            let (node, reason) =
                order.confirmed(app, "gives up what the storage promised, and takes in anew,")?;
            app.client()?.permit_rejoin(PermitRejoinRequest { node: node.0, reason }).await?;
            app.output.note(&format!("{node} comes back as a learner and votes when it has caught up"));
            Ok(Exit::Done)
        }
        Verb::Init(it) => init::run(app, &it),
        Verb::Invite(it) => invite::invite(app, it).await,
        Verb::Invitations => invite::list(app).await,
        Verb::RevokeInvitation(it) => invite::revoke(app, it).await,
        Verb::Join(it) => join::run(app, &it).await,
        Verb::Promote(order) => {
            let (node, reason) = order.confirmed(app, "lets vote")?;
            app.client()?.promote_node(PromoteNodeRequest { node: node.0, reason }).await?;
            app.output.note(&format!("{node} votes"));
            Ok(Exit::Done)
        }
        Verb::Remove(order) => {
            let (node, reason) = order.confirmed(app, "turns out for good")?;
            app.client()?.remove_node(RemoveNodeRequest { node: node.0, reason }).await?;
            app.output.note(&format!("{node} is no member any more, and its number is never used again"));
            Ok(Exit::Done)
        }
    }
}

async fn look(app: &App) -> Result<Cluster, Failure> {
    Ok(Cluster::from(&app.client()?.get_cluster(GetClusterRequest {}).await?))
}
