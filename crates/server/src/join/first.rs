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
use model::name::NodeId;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use workers::RootKey;

use super::{Ask, Given, JoinToken, number_of};
use crate::{
    config::{ClientTls, Config},
    node::ServerError,
    pki::{Pass, pass},
};

/// What the node was given, in its data folder.
const GIVEN_FILE: &str = "joined.toml";
/// The name in the certificate of a node that has no number yet.
const NEW_NODE: &str = "new-node";
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
            let given = until_given(&config, root, &ask, shutdown).await?;
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

/// The number that the node with this data folder was given, when it was and that can be read.
pub(crate) fn given(data: &Path) -> Option<NodeId> {
    let kept = read(&data.join(GIVEN_FILE)).ok().flatten();
    kept.map(|kept| NodeId(kept.node))
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

async fn until_given(
    config: &Config,
    root: &RootKey,
    ask: &Ask,
    shutdown: &CancellationToken,
) -> Result<Given, ServerError> {
    let mut told = None;
    loop {
        for server in &config.join.servers {
            let problem = match ask_one(config, root, server, ask).await {
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

async fn ask_one(config: &Config, root: &RootKey, server: &str, ask: &Ask) -> Result<Given, String> {
    let channel = connect(config, root, server)?;
    let call = async { JoinServiceClient::new(channel).join(ask.request()).await };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, call).await;
    let answer: v1::JoinResponse = match answer {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(with_causes(&status)),
        Err(_) => return Err("no answer in time".into()),
    };
    ask.take(&answer).map_err(|error| error.to_string())
}

/// What a server answered, or why the connection to it failed.
fn with_causes(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// Who may be asked in plain text, and whom a server's certificate is checked against where it is not the authority of
/// the root key.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Whether a loopback address without a scheme is asked in plain text.
    pub plain: bool,
    /// The authority of servers that show certificates of their own, PEM.
    pub ca: Option<String>,
}

/// The URL of a client port to join through, and what opens it: nothing where it is plain text, which leaves no machine.
///
/// # Errors
/// Why it cannot be asked.
pub fn door(root: &RootKey, server: &str, way: &Way) -> Result<(String, Option<Pass>), String> {
    let (scheme, address) = server.split_once("://").unwrap_or(("", server));
    let uri: tonic::codegen::http::Uri = format!("https://{address}")
        .parse()
        .map_err(|_| format!("`{server}` is not an address such as `node-1.example:7800`"))?;
    let is_near = is_loopback(uri.host());
    match scheme {
        "http" if !is_near => {
            Err(format!("`{server}` would be asked in plain text, which is for loopback alone"))
        }
        "http" => Ok((server.to_owned(), None)),
        "" if way.plain && is_near => Ok((format!("http://{address}"), None)),
        "" | "https" => {
            let mut pass = pass(root, NEW_NODE).map_err(|error| error.to_string())?;
            pass.ca = way.ca.clone().unwrap_or(pass.ca);
            Ok((format!("https://{address}"), Some(pass)))
        }
        other => Err(format!("`{other}` is neither `https` nor `http`")),
    }
}

/// A connection to the client port of a member.
fn connect(config: &Config, root: &RootKey, server: &str) -> Result<Channel, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let ca = config.join.ca_file.as_deref().map(fs::read_to_string).transpose().map_err(|e| text(&e))?;
    let way = Way { plain: config.listen.client_tls == ClientTls::Off, ca };
    let (url, pass) = door(root, server, &way)?;
    let endpoint = Endpoint::from_shared(url).map_err(|e| text(&e))?;
    let endpoint = match pass {
        Some(Pass { ca, certificate, key }) => {
            let identity = Identity::from_pem(certificate, key.expose_secret());
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).identity(identity);
            endpoint.tls_config(tls).map_err(|e| text(&e))?
        }
        None => endpoint,
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
    use super::*;

    #[test]
    fn plain_text_is_for_loopback_and_only_where_it_is_asked_for() {
        let (root, plain) = (RootKey::generate(), Way { plain: true, ca: None });
        let url = |server: &str, way: &Way| door(&root, server, way).map(|(url, pass)| (url, pass.is_some()));
        let tls = |url: &str| Ok((url.to_owned(), true));
        let open = |url: &str| Ok((url.to_owned(), false));
        assert_eq!(url("127.0.0.1:7800", &Way::default()), tls("https://127.0.0.1:7800"));
        assert_eq!(url("127.0.0.1:7800", &plain), open("http://127.0.0.1:7800"));
        assert_eq!(url("node-1.example:7800", &plain), tls("https://node-1.example:7800"));
        assert_eq!(url("http://[::1]:7800", &Way::default()), open("http://[::1]:7800"));
        assert!(url("http://node-1.example:7800", &plain).unwrap_err().contains("for loopback alone"));
        assert!(url("ftp://localhost:1", &plain).is_err() && url("a b", &plain).is_err());
        let own = Way { plain: false, ca: Some("theirs".into()) };
        assert_eq!(door(&root, "n:1", &own).unwrap().1.unwrap().ca, "theirs");
    }

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
