//! What the processes take of the machine, read from `/proc`: processor time and memory.
//!
//! A server that runs elsewhere, or that belongs to another user, has no figure; it is not an error.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::statistics::float;

/// The time that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) begin: Instant,
    pub(super) end: Instant,
}

impl Window {
    pub(super) fn new(warm_up: Duration, length: Duration) -> Self {
        let begin = Instant::now() + warm_up;
        Self { begin, end: begin + length }
    }

    pub(super) fn contains(&self, moment: Instant) -> bool {
        (self.begin..self.end).contains(&moment)
    }

    pub(super) fn seconds(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }
}

/// Processor cores in use, on average over a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Cores {
    /// All processes of Holdfast.
    pub holdfast: f64,
    /// PostgreSQL, if it runs on this machine.
    pub postgres: Option<f64>,
    /// ZooKeeper, if it runs on this machine.
    pub zookeeper: Option<f64>,
    /// The load generator.
    pub load: f64,
}

/// Whose processor time is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    pub(super) holdfast: Vec<u32>,
    pub(super) postgres: Option<u32>,
    pub(super) zookeeper: Option<u32>,
    /// Besides this process.
    pub(super) load: Vec<u32>,
}

/// Processor time so far, in clock ticks.
#[derive(Debug)]
pub(super) struct Reading {
    at: Instant,
    holdfast: u64,
    postgres: Option<u64>,
    zookeeper: Option<u64>,
    load: u64,
}

impl Watched {
    /// Sleeps through the window and gives the use of processors during it.
    pub(super) async fn over(&self, window: Window) -> Cores {
        tokio::time::sleep_until(window.begin.into()).await;
        let before = self.read();
        tokio::time::sleep_until(window.end.into()).await;
        self.since(&before)
    }

    /// The use of processors since a reading.
    pub(super) fn since(&self, before: &Reading) -> Cores {
        let after = self.read();
        let elapsed = (after.at - before.at).as_secs_f64() * float(rustix::param::clock_ticks_per_second());
        let cores = |before: u64, after: u64| float(after.saturating_sub(before)) / elapsed;
        let both = |before: Option<u64>, after: Option<u64>| Some(cores(before?, after?));
        Cores {
            holdfast: cores(before.holdfast, after.holdfast),
            postgres: both(before.postgres, after.postgres),
            zookeeper: both(before.zookeeper, after.zookeeper),
            load: cores(before.load, after.load),
        }
    }

    /// Reads the clocks of all of them.
    pub(super) fn read(&self) -> Reading {
        let processes = processes();
        let own = |pid: &u32| processes.get(pid).map_or(0, |process| process.own);
        let tree = |pid: Option<u32>| pid.map(|pid| tree(&processes, pid));
        Reading {
            at: Instant::now(),
            holdfast: self.holdfast.iter().map(own).sum(),
            postgres: tree(self.postgres),
            zookeeper: tree(self.zookeeper),
            load: self.load.iter().chain([&std::process::id()]).map(own).sum(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Process {
    parent: u32,
    /// Of itself.
    own: u64,
    /// Of its children that have ended.
    ended: u64,
}

fn processes() -> BTreeMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

/// See proc(5): the second field, the name in brackets, may itself hold blanks and brackets.
fn parse_stat(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let parent = u32::try_from(number(1)?).ok()?;
    Some(Process { parent, own: number(11)? + number(12)?, ended: number(13)? + number(14)? })
}

/// A process with all its descendants, the ended ones too.
fn tree(processes: &BTreeMap<u32, Process>, root: u32) -> u64 {
    let own = processes.get(&root).map_or(0, |process| process.own + process.ended);
    let children = processes.iter().filter(|(_, process)| process.parent == root);
    own + children.map(|(pid, _)| tree(processes, *pid)).sum::<u64>()
}

/// The most memory that a process has ever had, in MiB.
pub(super) fn peak_memory(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(float(kibibytes(&status, "VmHWM:")?) / 1024.0)
}

/// A figure of `/proc/PID/status` or `/proc/meminfo`.
pub(super) fn kibibytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())
}

/// The process that listens at a TCP port of this machine, if this user may see it.
pub(super) fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes = tables.iter().flat_map(|table| table.lines()).filter_map(|line| listening_inode(line, port));
    let sockets: Vec<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let holds = |pid: &u32| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        links.into_iter().any(|link| sockets.iter().any(|socket| link == Path::new(socket)))
    };
    // The lowest of those that share it: a server is older than its children.
    processes().into_keys().find(holds)
}

/// The socket of a line of `/proc/net/tcp` that listens at `port`.
fn listening_inode(line: &str, port: u16) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, hex) = fields.get(1)?.rsplit_once(':')?;
    let is_listening = *fields.get(3)? == "0A" && u16::from_str_radix(hex, 16) == Ok(port);
    is_listening.then_some(*fields.get(9)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_parsed_whatever_its_name_is() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3000 400 20 0 1 0 5";
        assert_eq!(parse_stat(stat), Some(Process { parent: 7, own: 120, ended: 3400 }));
        assert_eq!(parse_stat("42 (a) S 7"), None);
    }

    #[test]
    fn a_tree_holds_all_descendants() {
        let process = |parent, own, ended| Process { parent, own, ended };
        let processes = BTreeMap::from([
            (1, process(0, 1, 0)),
            (2, process(1, 10, 5)),
            (3, process(2, 100, 0)),
            (4, process(1, 7, 0)),
        ]);
        assert_eq!(tree(&processes, 2), 115);
        assert_eq!(tree(&processes, 9), 0);
    }

    #[test]
    fn this_process_is_found_by_its_port_and_has_memory() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(super::listener(port), Some(std::process::id()));
        assert!(peak_memory(std::process::id()).is_some_and(|mebibytes| mebibytes > 1.0));
        assert!(processes()[&std::process::id()].parent > 0);
    }

    #[test]
    fn memory_is_parsed() {
        assert_eq!(kibibytes("VmPeak:\t 9 kB\nVmHWM:\t   2048 kB\n", "VmHWM:"), Some(2048));
    }
}
