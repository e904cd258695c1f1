//! The first start of a node that has no number: it asks the cluster for one, keeps what it was given in its data
//! folder, and goes on as if that had stood in its configuration.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use api::v1::{self, join_service_client::JoinServiceClient};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use workers::RootKey;

use super::{Ask, Given, JoinToken, number_of};
use crate::{config::Config, node::ServerError};

/// What the node was given, in its data folder.
const GIVEN_FILE: &str = "joined.toml";
/// Wait before the cluster is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Longest wait for a connection, and for the answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Deserialize, Serialize)]
struct Kept {
    node: u64,
    peers: BTreeMap<String, String>,
}

/// The configuration with this node's number and the members in it. A node that has none asks until it is given one, or
/// `shutdown` is cancelled.
pub(crate) async fn number(
    mut config: Config,
    root: &RootKey,
    shutdown: &CancellationToken,
) -> Result<Config, ServerError> {
    if config.node > 0 {
        return Ok(config);
    }
    let path = config.data.join(GIVEN_FILE);
    let kept = match read(&path)? {
        Some(kept) => kept,
        None => {
            let address = config.listen.advertise_peer.clone();
            let address = address.unwrap_or_else(|| config.listen.peer.to_string());
            let storage = cluster::fresh_storage(&config.data).map_err(|source| failed(&path, source))?;
            let token = config.join.token_file.as_deref().map(token_in).transpose()?;
            let ask = Ask::new(root, token.as_ref(), storage, &address, false).map_err(refused)?;
            let given = until_given(&config, &ask, shutdown).await?;
            let kept = Kept { node: given.node.0, peers: peers(&given, &address) };
            let text = toml::to_string(&kept).map_err(|error| refused(error.to_string()))?;
            write_new(&path, &text).map_err(|source| failed(&path, source))?;
            tracing::info!(node = %given.node, "this node was let in");
            kept
        }
    };
    config.node = kept.node;
    config.peers = kept.peers;
    Ok(config)
}

fn read(path: &Path) -> Result<Option<Kept>, ServerError> {
    match fs::read_to_string(path) {
        Ok(text) => match toml::from_str(&text) {
            Ok(kept) => Ok(Some(kept)),
            Err(error) => Err(refused(format!("`{}` is damaged: {error}", path.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

fn token_in(path: &Path) -> Result<JoinToken, ServerError> {
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(|source| failed(path, source))?);
    JoinToken::parse(text.trim()).map_err(|error| refused(format!("`{}`: {error}", path.display())))
}

/// The members and this node, as they stand in a configuration.
fn peers(given: &Given, own_address: &str) -> BTreeMap<String, String> {
    let own = (given.node, own_address.to_owned());
    let all = given.peers.clone().into_iter().chain([own]);
    all.map(|(node, address)| (number_of(node), address)).collect()
}

async fn until_given(config: &Config, ask: &Ask, shutdown: &CancellationToken) -> Result<Given, ServerError> {
    let mut told = None;
    loop {
        for server in &config.join.servers {
            let problem = match ask_one(config, server, ask).await {
                Ok(given) => return Ok(given),
                Err(problem) => problem,
            };
            if told.as_ref() != Some(&problem) {
                tracing::warn!(server, problem, "this node is not let in yet");
                told = Some(problem);
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Err(refused("it was told to stop before it was let in")),
            () = tokio::time::sleep(AGAIN_AFTER) => {}
        }
    }
}

async fn ask_one(config: &Config, server: &str, ask: &Ask) -> Result<Given, String> {
    let channel = connect(config, server)?;
    let call = async { JoinServiceClient::new(channel).join(ask.request()).await };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, call).await;
    let answer: v1::JoinResponse = match answer {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(status.message().to_owned()),
        Err(_) => return Err("no answer in time".into()),
    };
    ask.take(&answer).map_err(|error| error.to_string())
}

/// A connection to the client port of a member. Nothing secret is sent; still plain text leaves no machine.
fn connect(config: &Config, server: &str) -> Result<Channel, String> {
    let authority = config.join.ca_file.as_deref().map(fs::read).transpose().map_err(|e| e.to_string())?;
    let scheme = if authority.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{server}")).map_err(|e| e.to_string())?;
    let endpoint = match authority {
        Some(pem) => {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint.tls_config(tls).map_err(|error| error.to_string())?
        }
        None if is_loopback(endpoint.uri().host()) => endpoint,
        None => return Err("set `join.ca_file`: plain text is for loopback alone".into()),
    };
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).connect_lazy())
}

fn is_loopback(host: Option<&str>) -> bool {
    let host = host.unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Where a node that was let in listens and what it works with.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder of its configuration.
    pub folder: PathBuf,
    /// Its data folder, from there.
    pub data: String,
    /// The root key file.
    pub root_key_file: PathBuf,
    /// The client port.
    pub client: SocketAddr,
    /// The peer port.
    pub peer: SocketAddr,
    /// Where clients reach it, when that is not where it listens.
    pub advertise: Option<String>,
    /// Where the other nodes reach it.
    pub peer_address: String,
}

/// Writes the configuration of a node that was let in, and gives its path.
///
/// # Errors
/// The file exists or cannot be written.
pub fn write_configuration(place: &Place, given: &Given) -> io::Result<PathBuf> {
    let path = place.folder.join(format!("{}.toml", given.node));
    let mut listen = toml::Table::new();
    listen.insert("client".into(), place.client.to_string().into());
    listen.insert("peer".into(), place.peer.to_string().into());
    if let Some(advertise) = &place.advertise {
        listen.insert("advertise".into(), advertise.clone().into());
    }
    let mut peers_table = toml::Table::new();
    for (node, address) in peers(given, &place.peer_address) {
        peers_table.insert(node, address.into());
    }
    let mut table = toml::Table::new();
    table.insert("node".into(), i64::try_from(given.node.0).map_err(io::Error::other)?.into());
    table.insert("data".into(), place.data.clone().into());
    table.insert("root_key_file".into(), place.root_key_file.display().to_string().into());
    table.insert("listen".into(), listen.into());
    table.insert("peers".into(), peers_table.into());
    let text = format!(
        "# {}, let in by the cluster. See docs/reference/configuration.md for every setting.\n{table}",
        given.node
    );
    write_new(&path, &text)?;
    Ok(path)
}

/// Writes a new file for its owner alone, so that it is whole or not there after a power cut.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, a link does not replace a file that is there.
    fs::hard_link(&temporary, path)?;
    fs::remove_file(&temporary)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn failed(path: &Path, source: io::Error) -> ServerError {
    ServerError::Join(format!("`{}`: {source}", path.display()))
}

fn refused(problem: impl ToString) -> ServerError {
    ServerError::Join(problem.to_string())
}

#[cfg(test)]
mod tests {
    use model::name::NodeId;

    use super::*;

    #[test]
    fn what_is_written_is_a_configuration_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            folder: folder.path().to_owned(),
            data: "data".into(),
            root_key_file: "/etc/revolve/root.key".into(),
            client: "127.0.0.1:7800".parse().unwrap(),
            peer: "127.0.0.1:7801".parse().unwrap(),
            advertise: Some("node.example:7800".into()),
            peer_address: "node.example:7801".into(),
        };
        let given = Given { node: NodeId(4), peers: [(NodeId(2), "two:7801".to_owned())].into() };
        let path = write_configuration(&place, &given).unwrap();
        assert!(path.ends_with("node-4.toml"));
        let config = Config::load(&path).unwrap();
        assert_eq!(config.node, 4);
        let addresses = config.peer_addresses().unwrap();
        assert_eq!(addresses[&NodeId(4)], "node.example:7801");
        assert_eq!(addresses[&NodeId(2)], "two:7801");
        assert!(write_configuration(&place, &given).is_err());
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "one file, and the one before it is renamed"
        );
    }
}
