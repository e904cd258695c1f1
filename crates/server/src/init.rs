//! `revolve server init`: makes what a new cluster needs before its first start: a root key, a first admin token and
//! a configuration for each node. Nothing that exists is ever overwritten.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use model::{key::RootKeyId, name::TokenName};
use secrecy::ExposeSecret;
use workers::{RootKey, root_key::RootKeyError};

use crate::{
    pki::{self, PkiError},
    token::Bearer,
};

/// The file with the root key, in the folder of the cluster.
pub const ROOT_KEY_FILE: &str = "root.key";
/// The file with the first admin token.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
/// The name of the first admin token, and of the certificate beside it.
const ADMIN: &str = "admin";
/// How long that certificate is good.
const ADMIN_CERTIFICATE: Duration = Duration::from_secs(365 * 24 * 3_600);
/// For a loopback cluster.
const PLAIN: &str = "# Plain text, on loopback alone: leave this away, and clients and nodes show each other certificates.\n\
                     client_tls = \"off\"\n";

/// What to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where; made when it does not exist.
    pub folder: PathBuf,
    /// The addresses of each node, node 1 first.
    pub nodes: Vec<Addresses>,
}

/// Where one node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For clients.
    pub client: SocketAddr,
    /// For peers.
    pub peer: SocketAddr,
}

impl Addresses {
    /// Loopback addresses for `count` nodes, two ports each from `first_port` on.
    #[must_use]
    pub fn loopback(count: u16, first_port: u16) -> Vec<Self> {
        let at = |port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        (0..count)
            .map(|n| first_port.saturating_add(n.saturating_mul(2)))
            .map(|port| Self { client: at(port), peer: at(port.saturating_add(1)) })
            .collect()
    }
}

/// Why it was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The root key could not be written, or exists.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The certificates could not be made or written.
    #[error(transparent)]
    Certificates(#[from] PkiError),
    /// A file could not be written, or exists.
    #[error("cannot create `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes the files and answers their paths, in the order they were made.
///
/// # Errors
/// When a file exists or cannot be written. What was made before stays.
pub fn init(plan: &Plan) -> Result<Vec<PathBuf>, InitError> {
    let folder = &plan.folder;
    let (_, mut made) = secrets(folder)?;
    for number in 1..=plan.nodes.len() {
        let path = folder.join(format!("node-{number}.toml"));
        write_new(&path, 0o600, &configuration(number, &plan.nodes)).map_err(failed(&path))?;
        made.push(path);
    }
    Ok(made)
}

/// The only node of a new cluster, which is to grow.
#[derive(Clone, Debug)]
pub struct Alone {
    /// The client port.
    pub client: SocketAddr,
    /// The peer port.
    pub peer: SocketAddr,
    /// Where clients reach it, when that is not where it listens.
    pub advertise: Option<String>,
    /// Where other nodes will reach it.
    pub peer_address: String,
}

/// Makes the files of a cluster of one and answers their paths, in the order they were made: also the certificates with
/// which its client port is reached.
///
/// # Errors
/// When a file exists or cannot be written. What was made before stays.
pub fn init_alone(folder: &Path, alone: &Alone) -> Result<Vec<PathBuf>, InitError> {
    let (root, mut made) = secrets(folder)?;
    let pki::Files { ca, certificate, key, .. } = pki::issue_files(&root, folder, ADMIN, ADMIN_CERTIFICATE)?;
    made.extend([ca, certificate, key]);
    let path = folder.join("node-1.toml");
    let own = Addresses { client: alone.client, peer: alone.peer };
    let advertise = alone.advertise.as_ref();
    let advertise = advertise.map_or_else(String::new, |address| format!("advertise = \"{address}\"\n"));
    let peers = format!("1 = \"{}\"\n", alone.peer_address);
    write_new(&path, 0o600, &configuration_text(1, own, &advertise, &peers)).map_err(failed(&path))?;
    made.push(path);
    Ok(made)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> InitError + use<> {
    let path = path.to_owned();
    move |source| InitError::File { path, source }
}

/// Makes the root key and the first admin token.
fn secrets(folder: &Path) -> Result<(RootKey, Vec<PathBuf>), InitError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;

    let root_key = folder.join(ROOT_KEY_FILE);
    let root = RootKey::generate_to(&root_key)?;
    let mut made = vec![root_key];

    let bearer = Bearer::generate(ADMIN.parse::<TokenName>().expect("the name is well formed"));
    let token = folder.join(ADMIN_TOKEN_FILE);
    write_new(&token, 0o600, bearer.to_text().expose_secret()).map_err(failed(&token))?;
    made.push(token);
    Ok((root, made))
}

/// Makes a new root key in a file of its own, which only its owner may read, and gives its id.
///
/// # Errors
/// When the file exists already, whatever is in it, or cannot be written.
pub fn generate_root_key(path: &Path) -> Result<RootKeyId, InitError> {
    Ok(RootKey::generate_to(path)?.id())
}

fn configuration(number: usize, nodes: &[Addresses]) -> String {
    let own = nodes[number - 1];
    let mut peers = String::new();
    for (peer, addresses) in (1..).zip(nodes) {
        writeln!(peers, "{peer} = \"{}\"", addresses.peer).expect("writing to a text cannot fail");
    }
    configuration_text(number, own, PLAIN, &peers)
}

/// `listen` and `peers` are more lines of the sections of these names.
fn configuration_text(number: usize, own: Addresses, listen: &str, peers: &str) -> String {
    format!(
        "# Node {number}. See docs/reference/configuration.md for every setting.\n\
         node = {number}\n\
         data = \"node-{number}\"\n\
         root_key_file = \"{ROOT_KEY_FILE}\"\n\
         bootstrap_token_file = \"{ADMIN_TOKEN_FILE}\"\n\
         \n\
         [listen]\n\
         client = \"{}\"\n\
         peer = \"{}\"\n\
         {listen}\n\
         [peers]\n\
         {peers}",
        own.client, own.peer
    )
}

fn write_new(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{ClientTls, Config};

    fn plan(folder: &Path) -> Plan {
        Plan { folder: folder.join("cluster"), nodes: Addresses::loopback(3, 7_800) }
    }

    #[test]
    fn what_is_made_can_be_loaded_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let made = init(&plan(folder.path())).unwrap();
        assert_eq!(made.len(), 5);
        for path in &made {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        }
        let config = Config::load(&made[3]).unwrap();
        assert_eq!((config.node, config.peers.len()), (2, 3));
        assert_eq!(config.listen.client_tls, ClientTls::Off);
        RootKey::read_from(config.root_key_file.as_deref().unwrap()).unwrap();
        Bearer::parse(fs::read_to_string(config.bootstrap_token_file.unwrap()).unwrap().trim()).unwrap();
    }

    #[test]
    fn a_cluster_of_one_says_where_it_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let alone = Alone {
            client: "127.0.0.1:7800".parse().unwrap(),
            peer: "0.0.0.0:7801".parse().unwrap(),
            advertise: Some("one.example:7800".into()),
            peer_address: "one.example:7801".into(),
        };
        let made = init_alone(&folder.path().join("cluster"), &alone).unwrap();
        let config = Config::load(made.last().unwrap()).unwrap();
        assert_eq!((config.node, config.peers.len()), (1, 1));
        assert_eq!(config.listen.client_tls, ClientTls::Mutual);
        let names = made.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(names[2..5], ["ca.pem", "admin.pem", "admin.key"]);
        assert_eq!(config.peers["1"], "one.example:7801");
        assert_eq!(config.listen.advertise.as_deref(), Some("one.example:7800"));
        assert!(init_alone(&folder.path().join("cluster"), &alone).is_err());
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path());
        let made = init(&plan).unwrap();
        let before = fs::read(&made[0]).unwrap();
        assert!(init(&plan).is_err());
        assert_eq!(fs::read(&made[0]).unwrap(), before);
    }
}
