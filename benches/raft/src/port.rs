//! Free ports on the loopback address.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};

/// Below the range from which Linux takes the ports of outgoing connections, so that none of those takes the port of
/// a server that is down for a moment.
const PORTS: Range<u16> = 20_000..32_000;

static OFFSET: AtomicU16 = AtomicU16::new(0);

/// A port on which nothing listens, never the same twice in one process.
pub fn free() -> Result<u16> {
    let size = PORTS.end - PORTS.start;
    let start = u16::try_from(std::process::id() * 97 % u32::from(size))?;
    (0..size)
        .map(|_| PORTS.start + (start + OFFSET.fetch_add(1, Ordering::Relaxed) % size) % size)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no port is free")
}
