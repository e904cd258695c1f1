//! The nodes of a dev cluster: one in this process, or several as processes that can be killed one by one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use client::{Client, Options};
use secrecy::SecretString;
use server::{
    config::Config,
    init::{ADMIN_TOKEN_FILE, Addresses, Plan, ROOT_KEY_FILE, init},
    node::{Listeners, Server},
};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

/// How long the cluster may take to form.
const FORMED_WITHIN: Duration = Duration::from_secs(30);
/// How often it is asked whether it has.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// The nodes of a dev cluster.
pub struct Nodes {
    folder: PathBuf,
    addresses: Vec<Addresses>,
    running: Running,
}

enum Running {
    Here { server: Box<Server>, shutdown: CancellationToken },
    Processes(Vec<Process>),
}

struct Process {
    child: Child,
    /// The child ends when this is closed, so it does not outlive this process, however that ends.
    _tether: Option<ChildStdin>,
}

impl Nodes {
    /// Starts `count` nodes with their state under `folder`, which is set up when it is new.
    pub async fn start(folder: &Path, count: u16, port: u16, log: bool) -> anyhow::Result<Self> {
        let addresses = Addresses::loopback(count, port);
        if folder.join(ROOT_KEY_FILE).exists() {
            let configured = (1..).take_while(|n| configuration(folder, *n).exists()).count();
            if configured != usize::from(count) {
                bail!(
                    "`{}` holds a cluster of {configured} nodes; use --nodes {configured}",
                    folder.display()
                );
            }
        } else {
            init(&Plan { folder: folder.to_owned(), nodes: addresses.clone() })
                .with_context(|| format!("cannot set up `{}`", folder.display()))?;
        }
        let folder = fs::canonicalize(folder)?;
        let configs: Vec<Config> = (1..=usize::from(count))
            .map(|number| Config::load(&configuration(&folder, number)))
            .collect::<Result<_, _>>()?;
        let addresses = configs
            .iter()
            .map(|config| Addresses { client: config.listen.client, peer: config.listen.peer })
            .collect();
        let running = match <[Config; 1]>::try_from(configs) {
            Ok([config]) => here(config).await?,
            Err(_) => Running::Processes(
                (1..=count).map(|n| process(&folder, n, log)).collect::<anyhow::Result<_>>()?,
            ),
        };
        Ok(Self { folder, addresses, running })
    }

    /// The addresses of all nodes, as `REVOLVE_ADDR` takes them.
    pub fn addresses(&self) -> String {
        self.addresses.iter().map(|node| format!("http://{}", node.client)).collect::<Vec<_>>().join(",")
    }

    /// How many nodes there are.
    pub const fn count(&self) -> usize {
        self.addresses.len()
    }

    /// The file with the admin token.
    pub fn token_file(&self) -> PathBuf {
        self.folder.join(ADMIN_TOKEN_FILE)
    }

    /// The process that runs node `id`, when it is one of its own and alive.
    pub fn pid(&self, id: u64) -> Option<u32> {
        let Running::Processes(processes) = &self.running else { return None };
        let place = usize::try_from(id).ok()?.checked_sub(1)?;
        processes.get(place)?.child.id()
    }

    /// A client with the admin token.
    pub fn admin(&self) -> anyhow::Result<Client> {
        let text = fs::read_to_string(self.token_file()).context("cannot read the admin token")?;
        self.client(text.trim().to_owned().into())
    }

    /// A client with this token.
    pub fn client(&self, token: SecretString) -> anyhow::Result<Client> {
        let addresses = self.addresses.iter().map(|node| format!("http://{}", node.client));
        Ok(Client::connect(Options::new(addresses).token(token))?)
    }

    /// Waits until the cluster has a leader and answers the admin token, and says which node leads.
    pub async fn formed(&mut self, admin: &Client) -> anyhow::Result<u64> {
        let asking = async {
            loop {
                let answer = admin.get_cluster(client::v1::GetClusterRequest {}).await;
                if let Ok(cluster) = answer
                    && cluster.leader != 0
                {
                    return cluster.leader;
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        tokio::select! {
            leader = asking => Ok(leader),
            () = tokio::time::sleep(FORMED_WITHIN) => bail!("no leader after {} s; run with --log to see why", FORMED_WITHIN.as_secs()),
            ended = self.running.ended() => Err(ended),
        }
    }

    /// Ends all nodes.
    pub async fn stop(self) {
        match self.running {
            Running::Here { server, shutdown } => {
                shutdown.cancel();
                server.stop().await;
            }
            Running::Processes(processes) => {
                for mut process in processes {
                    drop(process._tether.take());
                    if let Err(error) = process.child.wait().await {
                        tracing::warn!(%error, "a node could not be waited for");
                    }
                }
            }
        }
    }
}

impl Running {
    /// Waits for a node in this process to fail, or for a node process to end before the cluster has formed.
    async fn ended(&mut self) -> anyhow::Error {
        match self {
            Self::Here { server, .. } => match server.ended().await {
                Err(error) => error.into(),
                Ok(()) => anyhow::anyhow!("the node was stopped"),
            },
            Self::Processes(processes) => {
                let waits = processes.iter_mut().map(|process| Box::pin(process.child.wait()));
                let (ended, place, _) = futures::future::select_all(waits).await;
                let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                anyhow::anyhow!("node {} ended ({status}); run with --log to see why", place + 1)
            }
        }
    }
}

fn configuration(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("node-{number}.toml"))
}

async fn here(config: Config) -> anyhow::Result<Running> {
    let listeners = Listeners::bind(&config)
        .await
        .context("cannot start: is another `revolve dev` running? choose another port with --port")?;
    let shutdown = CancellationToken::new();
    let server = Box::new(Server::start(config, listeners, shutdown.clone()).await?);
    Ok(Running::Here { server, shutdown })
}

fn process(folder: &Path, number: u16, log: bool) -> anyhow::Result<Process> {
    let binary = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(binary);
    command.args(["server", "--until-stdin-closes", "--config"]).arg(configuration(folder, number.into()));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    // The terminal's Ctrl-C goes to every process of the group; the nodes are ended by this one, in order.
    command.process_group(0);
    command.stderr(if log { Stdio::inherit() } else { Stdio::null() });
    if log {
        command.env("REVOLVE_LOG", std::env::var("REVOLVE_LOG").unwrap_or_else(|_| "info".to_owned()));
    }
    let mut child = command.spawn().with_context(|| format!("cannot start node {number}"))?;
    let tether = child.stdin.take();
    Ok(Process { child, _tether: tether })
}
