//! Where a new node listens, and where others reach it.

use std::net::SocketAddr;

use crate::exit::Failure;

/// Where a new node listens, and where others reach it.
#[derive(Debug, clap::Args)]
pub struct Listening {
    /// Where it listens for clients
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7800")]
    pub listen_client: SocketAddr,
    /// Where it listens for the other nodes
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7801")]
    pub listen_peer: SocketAddr,
    /// Name or IP under which others reach this machine [default: the addresses it listens on]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
}

impl Listening {
    /// Where clients reach it, when that is not where it listens.
    pub fn client_address(&self) -> Option<String> {
        self.advertise.as_deref().map(|host| with_port(host, self.listen_client.port()))
    }

    /// Where the other nodes reach it.
    ///
    /// # Errors
    /// When nobody could.
    pub fn peer_address(&self) -> Result<String, Failure> {
        match &self.advertise {
            Some(host) => Ok(with_port(host, self.listen_peer.port())),
            None if self.listen_peer.ip().is_unspecified() => Err(Failure::usage(
                format!("the other nodes cannot reach this one at {}", self.listen_peer),
                "say under which name or IP they can: --advertise HOST",
            )),
            None => Ok(self.listen_peer.to_string()),
        }
    }
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(peer: &str, advertise: Option<&str>) -> Listening {
        Listening {
            listen_client: "127.0.0.1:7800".parse().unwrap(),
            listen_peer: peer.parse().unwrap(),
            advertise: advertise.map(str::to_owned),
        }
    }

    #[test]
    fn a_node_says_where_it_is_reached() {
        let address = |peer, advertise| listening(peer, advertise).peer_address().ok();
        assert_eq!(address("10.0.0.4:7801", None).unwrap(), "10.0.0.4:7801");
        assert_eq!(address("0.0.0.0:7801", Some("node-4.example")).unwrap(), "node-4.example:7801");
        assert_eq!(address("[::]:7801", Some("fd00::4")).unwrap(), "[fd00::4]:7801");
        assert_eq!(address("0.0.0.0:7801", None), None);
        assert_eq!(listening("[::]:1", Some("a")).client_address().unwrap(), "a:7800");
        assert_eq!(listening("[::]:1", None).client_address(), None);
    }
}
