//! Whether a server answers its own protocol.
//!
//! Owns the probes and the wait. Must not start or stop anything. Invariant: a server counts as ready only after a
//! real answer, never because its port is open; a failure names the server, its log and the log's last lines.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

use crate::process::Process;

const POLL: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const LOG_LINES: usize = 15;

/// How to ask a server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    Postgres,
    ZooKeeper,
    Amqp,
    Epmd,
}

impl Probe {
    pub(crate) fn answers(self, address: SocketAddr) -> bool {
        match self {
            Self::Postgres => postgres(address),
            Self::ZooKeeper => zookeeper(address),
            Self::Amqp => amqp(address),
            Self::Epmd => epmd(address),
        }
        .unwrap_or(false)
    }
}

/// Waits until the server answers; ends early when its process does.
pub(crate) fn wait(process: &Process, probe: Probe, address: SocketAddr, within: Duration) -> Result<()> {
    let started = Instant::now();
    loop {
        if probe.answers(address) {
            return Ok(());
        }
        if let Some(status) = process.exit()? {
            return Err(failure(process, &format!("ended at its start ({status})")));
        }
        if started.elapsed() >= within {
            return Err(failure(process, &format!("does not answer on {address} after {within:?}")));
        }
        sleep(POLL);
    }
}

/// The error with the name, the log file and the log's last lines.
pub(crate) fn failure(process: &Process, what: &str) -> Error {
    let spec = &process.spec;
    anyhow!("{} {what}; last lines of {}:\n{}", spec.name, spec.log.display(), tail(&spec.log))
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    Ok(stream)
}

/// A startup message: `R` asks for the password. A server that still starts or recovers answers `E`.
fn postgres(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = connect(address)?;
    let body = b"\0\x03\0\0user\0holdfast\0database\0holdfast\0\0";
    let length = u32::try_from(body.len() + 4).unwrap_or_default().to_be_bytes();
    stream.write_all(&[&length[..], body].concat())?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    Ok(kind == *b"R")
}

/// `srvr` shows a mode only while the node serves: standalone, or with a quorum.
fn zookeeper(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = connect(address)?;
    stream.write_all(b"srvr")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().any(|line| line.starts_with("Mode: ")))
}

/// The protocol header; the broker answers with `Connection.Start`: a method frame on channel 0, class 10, method 10.
fn amqp(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = connect(address)?;
    stream.write_all(b"AMQP\0\0\x09\x01")?;
    let mut frame = [0; 11];
    stream.read_exact(&mut frame)?;
    Ok(frame[..3] == [1, 0, 0] && frame[7..] == [0, 10, 0, 10])
}

/// `NAMES_REQ`; the answer starts with epmd's own port.
fn epmd(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = connect(address)?;
    stream.write_all(&[0, 1, b'n'])?;
    let mut port = [0; 4];
    stream.read_exact(&mut port)?;
    Ok(u32::from_be_bytes(port) == u32::from(address.port()))
}
