//! What the tests of the stack share: one test at a time, and a look at the processes of a folder.
//!
//! Owns no server. Must not signal anything.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The servers need the machine for themselves to start in reasonable time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes that mention the folder in their command line, environment or working directory. Zombies have none.
pub(crate) fn processes_of(dir: &str) -> Vec<String> {
    let me = std::process::id().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|entry| entry.file_name().to_string_lossy() != me)
        .filter_map(|entry| {
            let read = |file: &str| {
                fs::read(entry.path().join(file)).map_or_else(
                    |_| String::new(),
                    |bytes| String::from_utf8_lossy(&bytes).replace('\0', " "),
                )
            };
            let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let text = format!("{} | {} | {}", read("cmdline"), cwd.display(), read("environ"));
            text.contains(dir).then(|| format!("{}: {text}", entry.file_name().display()))
        })
        .collect()
}

/// Waits until the condition holds.
pub(crate) fn eventually(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(Duration::from_millis(100));
    }
}

/// Nothing of the stack is left, neither a process nor a file.
pub(crate) fn assert_nothing_left(dir: &str) {
    let end = Instant::now() + Duration::from_secs(15);
    while (!processes_of(dir).is_empty() || Path::new(dir).exists()) && Instant::now() < end {
        sleep(Duration::from_millis(100));
    }
    assert_eq!(processes_of(dir), Vec::<String>::new());
    assert!(!Path::new(dir).exists(), "{dir} still exists");
}

/// One SQL statement through `psql`.
pub(crate) fn sql(url: &str, statement: &str) -> Result<String, String> {
    let output = Command::new("psql").args(["-X", "-A", "-t", "-c", statement, url]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// ZooKeeper's four-letter command `srvr`; empty when nothing answers within a second.
pub(crate) fn srvr(address: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"srvr")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().unwrap_or_default()
}
