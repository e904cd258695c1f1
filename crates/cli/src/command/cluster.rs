//! `revolve cluster`.

use api::v1::{GetClusterRequest, PermitRejoinRequest, TransferLeaderRequest};
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
    }
}

async fn look(app: &App) -> Result<Cluster, Failure> {
    Ok(Cluster::from(&app.client()?.get_cluster(GetClusterRequest {}).await?))
}
