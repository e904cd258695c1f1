//! Network namespaces: one for each node, joined by a router in another. What is to vanish on the way from one node to
//! another is dropped by a routing rule of the router, silently, as on a broken line.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::geteuid;

/// 198.18.0.0/15 is set aside for tests of networks (RFC 2544); each cluster takes 16 addresses of it.
const RANGE: u32 = 0xC612_0000;
const SIZE: u32 = 16;
const BLOCKS: u32 = (1 << 17) / SIZE;
/// The last parts of the addresses of the router and of this process.
const ROUTER: u32 = 13;
const OUTSIDE: u32 = 14;

static MADE: AtomicU32 = AtomicU32::new(0);

/// The namespaces of one cluster. Dropping it removes them.
#[derive(Debug)]
pub(super) struct Namespaces {
    name: String,
    first: u32,
    nodes: u64,
    folder: PathBuf,
    cuts: Mutex<Vec<(u64, u64)>>,
}

impl Namespaces {
    /// Whether this process may make network namespaces, found out by making one.
    pub(super) fn allowed() -> bool {
        let name = format!("rv{}try", std::process::id());
        let made = geteuid().is_root() && ran(&["netns", "add", &name]).is_ok_and(|error| error.is_empty());
        made && ran(&["netns", "del", &name]).is_ok_and(|error| error.is_empty())
    }

    /// Makes and joins them.
    pub(super) fn make(nodes: u64, folder: &Path) -> Self {
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let block = (std::process::id().wrapping_mul(31).wrapping_add(made)) % BLOCKS;
        assert!(nodes < u64::from(ROUTER), "at most {} nodes fit", ROUTER - 1);
        let network = Self {
            name: format!("rv{}x{made}", std::process::id()),
            first: RANGE + block * SIZE,
            nodes,
            folder: folder.to_path_buf(),
            cuts: Mutex::default(),
        };
        network.join_outside();
        (1..=nodes).for_each(|id| network.join_node(id));
        network.write_certificate();
        network
    }

    pub(super) fn address(&self, id: u64, port: u16) -> SocketAddr {
        (self.node(id), port).into()
    }

    pub(super) fn inside(&self, id: u64, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        // It becomes the program, so the process id stays the one that is waited for and killed.
        inside
            .args(["netns", "exec", &self.namespace(id)])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    pub(super) fn cut(&self, from: u64, to: u64) {
        let mut cuts = self.cuts.lock().expect("no panic while it is held");
        if !cuts.contains(&(from, to)) {
            self.rule("add", from, to);
            cuts.push((from, to));
        }
    }

    pub(super) fn heal(&self) {
        let cuts = std::mem::take(&mut *self.cuts.lock().expect("no panic while it is held"));
        cuts.into_iter().for_each(|(from, to)| self.rule("del", from, to));
    }

    pub(super) fn tls(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("client-port.pem"), self.folder.join("client-port.key"))
    }

    fn rule(&self, verb: &str, from: u64, to: u64) {
        let (from, to) = (self.node(from).to_string(), self.node(to).to_string());
        self.in_router(&["rule", verb, "pref", "100", "from", &from, "to", &to, "blackhole"]);
    }

    fn join_outside(&self) {
        let (router, outside) = (self.at(ROUTER).to_string(), self.at(OUTSIDE).to_string());
        let (name, block) = (self.router(), format!("{}/28", self.at(0)));
        ip(&["netns", "add", &name]);
        ip(&["link", "add", &self.name, "type", "veth", "peer", "name", "outside", "netns", &name]);
        ip(&["address", "add", &outside, "dev", &self.name]);
        ip(&["link", "set", &self.name, "up"]);
        ip(&["route", "add", &block, "via", &router, "dev", &self.name, "onlink"]);
        self.in_router(&["address", "add", &router, "dev", "outside"]);
        self.in_router(&["link", "set", "outside", "up"]);
        self.in_router(&["route", "add", &outside, "dev", "outside"]);
        ip(&["netns", "exec", &name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    }

    fn join_node(&self, id: u64) {
        let (inside, link) = (self.namespace(id), format!("node-{id}"));
        let (address, router) = (self.node(id).to_string(), self.at(ROUTER).to_string());
        ip(&["netns", "add", &inside]);
        self.in_router(&["link", "add", &link, "type", "veth", "peer", "name", "out", "netns", &inside]);
        self.in_router(&["address", "add", &router, "dev", &link]);
        self.in_router(&["link", "set", &link, "up"]);
        self.in_router(&["route", "add", &address, "dev", &link]);
        ip(&["-n", &inside, "address", "add", &address, "dev", "out"]);
        ip(&["-n", &inside, "link", "set", "out", "up"]);
        ip(&["-n", &inside, "link", "set", "lo", "up"]);
        ip(&["-n", &inside, "route", "add", "default", "via", &router, "dev", "out", "onlink"]);
    }

    /// One certificate for all client ports: they are not on the loopback, so they must have one.
    fn write_certificate(&self) {
        let names: Vec<String> = (1..=self.nodes).map(|id| self.node(id).to_string()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("addresses are names of a certificate");
        let (certificate, key) = self.tls();
        fs::write(certificate, made.cert.pem()).expect("a folder of ours");
        fs::write(key, made.signing_key.serialize_pem()).expect("a folder of ours");
    }

    fn in_router(&self, words: &[&str]) {
        ip(&[&["-n", &self.router()], words].concat());
    }

    fn router(&self) -> String {
        format!("{}r", self.name)
    }

    fn namespace(&self, id: u64) -> String {
        format!("{}n{id}", self.name)
    }

    fn node(&self, id: u64) -> Ipv4Addr {
        self.at(u32::try_from(id).expect("a small number of nodes"))
    }

    fn at(&self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first + place)
    }
}

impl Drop for Namespaces {
    #[expect(clippy::print_stderr, reason = "the test harness captures it and shows it with the failure")]
    fn drop(&mut self) {
        let nodes = (1..=self.nodes).map(|id| self.namespace(id));
        // The links go with the namespaces at their ends.
        for name in nodes.chain([self.router()]) {
            match ran(&["netns", "del", &name]) {
                Ok(error) if error.is_empty() => {}
                outcome => eprintln!("cannot remove the namespace `{name}`: {outcome:?}"),
            }
        }
    }
}

fn ip(words: &[&str]) {
    let error = ran(words).expect("iproute2 is installed");
    assert!(error.is_empty(), "`ip {}`: {error}", words.join(" "));
}

/// What the command had to say against it; empty when it has done it.
fn ran(words: &[&str]) -> std::io::Result<String> {
    let output = Command::new("ip").args(words).output()?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(if output.status.success() { String::new() } else { format!("{}: {said}", output.status) })
}
