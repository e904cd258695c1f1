//! Every node by itself: the addresses of the settings, and those that the nodes know of each other.

use api::v1::{GetClusterRequest, GetClusterResponse};
use client::{Client, Error};

use crate::{app::App, exit::Failure};

/// A node that was asked.
pub struct Asked {
    /// Where.
    pub address: String,
    /// What it has said, or why it did not.
    pub answer: Result<Answered, Error>,
}

/// A node that has answered.
pub struct Answered {
    /// The way to it alone.
    pub client: Client,
    /// How it sees the cluster.
    pub cluster: GetClusterResponse,
}

/// Asks every node that can be found how it sees the cluster.
///
/// # Errors
/// When a setting cannot be used, or the token is not let in.
pub async fn ask_all(app: &App) -> Result<Vec<Asked>, Failure> {
    let mut asked = Vec::new();
    let mut waiting = app.settings.addresses.clone();
    let scheme =
        waiting.first().and_then(|first| first.split_once("://")).map_or("http", |(scheme, _)| scheme);
    let scheme = scheme.to_owned();
    while !waiting.is_empty() {
        let round = std::mem::take(&mut waiting).into_iter().map(|address| ask(app, address));
        for node in futures::future::join_all(round).await {
            let node = node?;
            if let Err(error @ (Error::Unauthenticated(_) | Error::PermissionDenied(_))) = node.answer {
                return Err(error.into());
            }
            asked.push(node);
        }
        waiting = unknown(&asked, &scheme);
    }
    Ok(asked)
}

async fn ask(app: &App, address: String) -> Result<Asked, Failure> {
    // An address that another node has told of may be one that nothing is sent to from here.
    let answer = match Client::connect(app.options(std::slice::from_ref(&address))?) {
        Ok(client) => {
            let cluster = client.get_cluster(GetClusterRequest {}).await;
            cluster.map(|cluster| Answered { client, cluster })
        }
        Err(error) if app.settings.addresses.contains(&address) => return Err(error.into()),
        Err(error) => Err(error),
    };
    Ok(Asked { address, answer })
}

/// The addresses of nodes that others speak of and that have not been asked.
fn unknown(asked: &[Asked], scheme: &str) -> Vec<String> {
    let answers = || asked.iter().filter_map(|node| Some(&node.answer.as_ref().ok()?.cluster));
    let mut addresses: Vec<String> = answers()
        .flat_map(|answer| &answer.members)
        .filter(|member| {
            !member.client_address.is_empty() && answers().all(|answer| answer.node != member.id)
        })
        .map(|member| format!("{scheme}://{}", member.client_address))
        .filter(|address| asked.iter().all(|node| node.address != *address))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
