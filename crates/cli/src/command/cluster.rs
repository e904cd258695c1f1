//! `revolve cluster`.

use api::v1::GetClusterRequest;
use clap::Subcommand;

use crate::{
    app::App,
    exit::{Exit, Outcome},
    show::Cluster,
};

/// What can be asked about the nodes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Leader, term, progress, digest and nodes; exit 2 when degraded
    Status,
    /// The nodes
    Members,
}

/// Runs a verb.
pub async fn run(app: &App, verb: Verb) -> Outcome {
    let cluster = Cluster::from(&app.client()?.get_cluster(GetClusterRequest {}).await?);
    match verb {
        Verb::Status => {
            app.output.screen(&cluster, &cluster.screen(&app.output))?;
            Ok(if cluster.is_healthy() { Exit::Done } else { Exit::Attention })
        }
        Verb::Members => {
            app.output.list(&cluster.members)?;
            Ok(Exit::Done)
        }
    }
}
