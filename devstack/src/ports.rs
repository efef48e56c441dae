//! Free loopback ports.
//!
//! Owns the choice; it must not keep a port bound. Invariants: a port is given out once per process, and lies below
//! the kernel's ephemeral range where that is possible, so that no outgoing connection takes a server's port while
//! the server is stopped (a client that retries could otherwise even connect to itself).

use std::collections::HashSet;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

const LOWEST: u16 = 20_000;
const TRIES: u32 = 200;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback address that nothing listens on now. Another process can still take it: the start then tries again.
pub(crate) fn free() -> Result<SocketAddr> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let top = ephemeral_start();
    for _ in 0..TRIES {
        let wanted = if top > LOWEST + 1000 { LOWEST + random() % (top - LOWEST) } else { 0 };
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)) else { continue };
        let address = listener.local_addr().context("a bound socket has no address")?;
        if given.insert(address.port()) {
            return Ok(address);
        }
    }
    bail!("no free port on 127.0.0.1 after {TRIES} tries")
}

fn ephemeral_start() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(LOWEST)
}

/// std seeds each `RandomState` anew: random enough to spread two stacks, and no crate is needed.
fn random() -> u16 {
    let [low, high, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    #[test]
    fn gives_each_port_once() {
        let ports: std::collections::HashSet<_> = (0..50).map(|_| super::free().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }
}
