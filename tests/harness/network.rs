//! What lies between the nodes of a cluster, and can be cut, one direction at a time.
//!
//! Network namespaces express every cut: packets from one node to another vanish, whichever side opened the
//! connection. They take root and iproute2. Proxies work for everyone: each node reaches each other node through a
//! proxy of that pair, which can keep back the bytes of one direction. What a proxied cut cannot express: the kernels
//! go on to confirm what the proxy has taken, so nothing is sent twice and no connection times out for want of that;
//! bytes are late, never lost.

mod namespaces;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use client::Options;

use crate::{Proxy, port};
use namespaces::Namespaces;

/// What lies between the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wiring {
    /// The loopback, which cannot be cut.
    #[default]
    Direct,
    /// A proxy for every ordered pair of nodes.
    Proxied,
    /// Each node in a network namespace of its own, with a router between them. Clients then need TLS.
    Namespaces,
}

impl Wiring {
    /// The wiring with the most honest cuts that this process may have.
    #[must_use]
    pub fn cuttable() -> Self {
        if Namespaces::allowed() { Self::Namespaces } else { Self::Proxied }
    }
}

/// The addresses of the nodes, and the links between them. Dropping it takes them down.
#[derive(Debug)]
pub struct Network {
    seats: BTreeMap<u64, Seat>,
    links: Links,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
struct Seat {
    client: SocketAddr,
    peer: SocketAddr,
}

#[derive(Debug)]
enum Links {
    Direct,
    /// By who connects, and to whom.
    Proxied(BTreeMap<(u64, u64), Proxy>),
    Namespaces(Namespaces),
}

impl Network {
    /// Lays the links between nodes 1 to `nodes`; what they need on disk goes into `folder`.
    pub(crate) async fn lay(wiring: Wiring, nodes: u64, folder: &Path) -> Self {
        let loopback = || Seat { client: port::loopback(port::free()), peer: port::loopback(port::free()) };
        let ids = 1..=nodes;
        match wiring {
            Wiring::Direct => Self { seats: ids.map(|id| (id, loopback())).collect(), links: Links::Direct },
            Wiring::Proxied => {
                let seats: BTreeMap<u64, Seat> = ids.map(|id| (id, loopback())).collect();
                let mut proxies = BTreeMap::new();
                for from in seats.keys() {
                    for (to, seat) in seats.iter().filter(|(to, _)| *to != from) {
                        proxies.insert((*from, *to), Proxy::start(seat.peer).await);
                    }
                }
                Self { seats, links: Links::Proxied(proxies) }
            }
            Wiring::Namespaces => {
                let namespaces = Namespaces::make(nodes, folder);
                let seat = |id| Seat {
                    client: namespaces.address(id, port::free()),
                    peer: namespaces.address(id, port::free()),
                };
                Self { seats: ids.map(|id| (id, seat(id))).collect(), links: Links::Namespaces(namespaces) }
            }
        }
    }

    /// From now on nothing that `from` sends arrives at `to`; the other direction goes on.
    ///
    /// # Panics
    ///
    /// When the wiring cannot be cut.
    pub fn cut(&self, from: u64, to: u64) {
        match &self.links {
            Links::Direct => panic!("the loopback cannot be cut: choose another wiring"),
            Links::Proxied(proxies) => {
                // One proxy carries what goes out on connections that `from` opened, the other what goes out on
                // those it accepted.
                let (out, back) = (&proxies[&(from, to)], &proxies[&(to, from)]);
                out.hold_requests();
                back.hold_replies();
            }
            Links::Namespaces(namespaces) => namespaces.cut(from, to),
        }
    }

    /// Takes every cut back.
    pub fn heal(&self) {
        match &self.links {
            Links::Direct => {}
            Links::Proxied(proxies) => proxies.values().for_each(Proxy::pass),
            Links::Namespaces(namespaces) => namespaces.heal(),
        }
    }

    pub(crate) fn client(&self, id: u64) -> SocketAddr {
        self.seats[&id].client
    }

    pub(crate) fn peer(&self, id: u64) -> SocketAddr {
        self.seats[&id].peer
    }

    /// The peer addresses as node `id` is told them.
    pub(crate) fn peers_of(&self, id: u64) -> BTreeMap<u64, SocketAddr> {
        let address = |(other, seat): (&u64, &Seat)| match &self.links {
            Links::Proxied(proxies) if *other != id => (*other, proxies[&(id, *other)].address()),
            Links::Direct | Links::Proxied(_) | Links::Namespaces(_) => (*other, seat.peer),
        };
        self.seats.iter().map(address).collect()
    }

    /// The command, run where node `id` lives.
    pub(crate) fn inside(&self, id: u64, command: Command) -> Command {
        match &self.links {
            Links::Direct | Links::Proxied(_) => command,
            Links::Namespaces(namespaces) => namespaces.inside(id, &command),
        }
    }

    pub(crate) fn url(&self, id: u64) -> String {
        let scheme = if self.tls().is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.client(id))
    }

    /// Options that trust the certificates of the client ports, where there are any.
    pub(crate) fn trusted(&self, options: Options) -> Options {
        match self.authority() {
            Some(file) => options.ca(std::fs::read_to_string(file).expect("the certificate of the cluster")),
            None => options,
        }
    }

    /// The file with the certificate that clients must trust.
    pub(crate) fn authority(&self) -> Option<PathBuf> {
        self.tls().map(|(certificate, _)| certificate)
    }

    /// The files with the certificate and key of the client ports.
    pub(crate) fn tls(&self) -> Option<(PathBuf, PathBuf)> {
        match &self.links {
            Links::Direct | Links::Proxied(_) => None,
            Links::Namespaces(namespaces) => Some(namespaces.tls()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Long enough that a byte which is let through by mistake arrives.
    const A_WHILE: Duration = Duration::from_millis(200);
    /// How long a byte that is let through may take, on a busy machine.
    const WITHIN: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_proxied_cut_keeps_back_one_direction_whoever_opened_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::lay(Wiring::Proxied, 2, folder.path()).await;
        let (mut one, mut two) = (connection(&network, 1, 2).await, connection(&network, 2, 1).await);

        network.cut(1, 2);
        // Of the first connection, node 1 holds the first end; of the second, the second.
        is_kept_back(&mut one.0, &mut one.1).await;
        arrives(&mut one.1, &mut one.0).await;
        arrives(&mut two.0, &mut two.1).await;
        is_kept_back(&mut two.1, &mut two.0).await;

        network.heal();
        assert_eq!(
            (one.1.read_u8().await.unwrap(), two.0.read_u8().await.unwrap()),
            (7, 7),
            "late, not lost"
        );
        arrives(&mut one.0, &mut one.1).await;
        arrives(&mut two.1, &mut two.0).await;
    }

    /// A connection from one node to another: both its ends.
    async fn connection(network: &Network, from: u64, to: u64) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(network.peer(to)).await.unwrap();
        let opened = TcpStream::connect(network.peers_of(from)[&to]).await.unwrap();
        (opened, listener.accept().await.unwrap().0)
    }

    async fn arrives(sender: &mut TcpStream, receiver: &mut TcpStream) {
        sender.write_u8(7).await.unwrap();
        tokio::time::timeout(WITHIN, receiver.read_u8()).await.expect("it arrives").unwrap();
    }

    async fn is_kept_back(sender: &mut TcpStream, receiver: &mut TcpStream) {
        sender.write_u8(7).await.unwrap();
        tokio::time::timeout(A_WHILE, receiver.read_u8()).await.expect_err("it does not arrive");
    }
}
