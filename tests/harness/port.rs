//! Free ports on the loopback address.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux takes the ports of outgoing connections, so that none of those takes a port
/// between the moment it was found free and the moment its server listens, or while the server is down.
const PORTS: Range<u16> = 20_000..32_000;

static OFFSET: AtomicU16 = AtomicU16::new(0);

/// A port on which nothing listens, never the same twice in one process.
///
/// # Panics
///
/// When every port of the range is taken.
#[must_use]
pub fn free() -> u16 {
    free_range(1)
}

/// The first of `count` neighbouring ports on which nothing listens, none of them given twice in one process.
///
/// # Panics
///
/// When there are no such ports.
#[must_use]
pub fn free_range(count: u16) -> u16 {
    let size = PORTS.end - PORTS.start;
    // Test processes that run side by side start looking in different places.
    let start = u16::try_from(std::process::id() * 97 % u32::from(size)).expect("a remainder below the size");
    for _ in 0..size / count {
        let offset = OFFSET.fetch_add(count, Ordering::Relaxed);
        let first = PORTS.start + (start + offset % size) % size;
        let mut ports = first..first + count;
        if ports.end <= PORTS.end && ports.all(|port| TcpListener::bind(loopback(port)).is_ok()) {
            return first;
        }
    }
    panic!("no {count} free ports between {} and {}", PORTS.start, PORTS.end)
}

/// `port` on the loopback address.
#[must_use]
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: HashSet<u16> = (0..50).map(|_| free()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
