//! Where the figures come from: processor, memory, versions, date. What cannot be found out stays empty.

use std::{fs, path::Path, process::Command, time::Duration};

use serde::Serialize;
use sqlx::PgConnection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::usage::kibibytes;

/// The machine and what runs on it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Machine {
    /// Model of the processor.
    pub processor: Option<String>,
    /// How many cores this program may use.
    pub cores: Option<usize>,
    /// Memory in GiB.
    pub memory_gib: Option<u64>,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Version of PostgreSQL.
    pub postgres: Option<String>,
    /// Version of ZooKeeper.
    pub zookeeper: Option<String>,
    /// Device and file system of PostgreSQL's data. On a file system in memory, durable commits cost nothing.
    pub disk: Option<String>,
    /// Day of the measurement, UTC, by the database's clock.
    pub date: Option<String>,
    /// The commit that the working tree is at.
    pub commit: Option<String>,
}

impl Machine {
    /// Asks everything. `servers` are ZooKeeper's.
    pub(super) async fn look(conn: &mut PgConnection, servers: &str) -> anyhow::Result<Self> {
        let (postgres, date, data): (String, String, String) = sqlx::query_as(
            "SELECT split_part(current_setting('server_version'), ' ', 1),
                    to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'), current_setting('data_directory')",
        )
        .fetch_one(conn)
        .await?;
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Ok(Self {
            processor: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| processor(&text)),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            memory_gib: kibibytes(&memory, "MemTotal:").map(|kibibytes| kibibytes.div_ceil(1024 * 1024)),
            kernel: kernel.map(|release| release.trim().to_owned()),
            postgres: Some(postgres),
            zookeeper: timeout(Duration::from_secs(2), zookeeper_version(servers)).await.ok().flatten(),
            disk: fs::read_to_string("/proc/mounts").ok().and_then(|mounts| disk(&mounts, &data)),
            date: Some(date),
            commit: commit(),
        })
    }
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// ZooKeeper answers `srvr` in plain text; its first line is the version.
async fn zookeeper_version(servers: &str) -> Option<String> {
    let address = servers.split([',', '/']).next()?.trim();
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"srvr").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    version(&answer)
}

fn version(answer: &str) -> Option<String> {
    let version = answer.lines().next()?.strip_prefix("Zookeeper version:")?;
    version.trim().split(['-', ',']).next().map(str::to_owned)
}

/// The mount that a folder is on: the one with the longest path.
fn disk(mounts: &str, folder: &str) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point, system) = (fields.next()?, fields.next()?, fields.next()?);
        Path::new(folder).starts_with(point).then(|| (point.len(), format!("{device}, {system}")))
    });
    mounts.max_by_key(|(length, _)| *length).map(|(_, disk)| disk)
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    Some(commit.trim().to_owned()).filter(|commit| output.status.success() && !commit.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_parsed() {
        let answer =
            "Zookeeper version: 3.8.0-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f, built on 2022-02-25\nLatency";
        assert_eq!(version(answer).as_deref(), Some("3.8.0"));
        assert_eq!(version("This command is not executed"), None);
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\ntmpfs /tm tmpfs rw 0 0\n";
        assert_eq!(disk(mounts, "/tmp/data").as_deref(), Some("tmpfs, tmpfs"));
        assert_eq!(disk(mounts, "/var/data").as_deref(), Some("/dev/vda, ext4"));
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.1GHz\nmodel name\t: Other\n";
        assert_eq!(processor(cpuinfo).as_deref(), Some("Some CPU @ 2.1GHz"));
    }
}
