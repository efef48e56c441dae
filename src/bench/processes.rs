//! The processes of Holdfast that are measured: this same program, started with settings of its own on free loopback
//! ports.
//!
//! Owns their end: SIGTERM and a wait, and where the benchmark itself ends early, SIGKILL. A process that does not stop
//! cleanly makes the measurement fail.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::wire::Connection;

/// How long a process has to become ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long one has to drain.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// How much of a log an error shows.
const LOG_LINES: usize = 10;

/// Names and values of environment variables.
pub(super) type Environment = Vec<(&'static str, String)>;

/// How processes are started.
#[derive(Debug)]
pub(super) struct Launcher {
    program: PathBuf,
    config: Option<PathBuf>,
    logs: PathBuf,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    /// Its id.
    pub(super) pid: u32,
}

/// A running API.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) process: Process,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Launcher {
    /// `config` is the file that the processes get besides their environment; their logs go into the folder `logs`.
    pub(super) fn new(config: Option<PathBuf>, logs: PathBuf) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        fs::create_dir_all(&logs).with_context(|| format!("cannot make the folder {}", logs.display()))?;
        Ok(Self { program, config, logs })
    }

    /// Starts one. `name` is that of its log.
    pub(super) fn start(
        &self,
        name: &str,
        arguments: &[&str],
        environment: &Environment,
    ) -> anyhow::Result<Process> {
        let log = self.logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.program);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().context("the process has ended at once")?;
        Ok(Process { child, log, pid })
    }

    /// Runs a command to its end.
    pub(super) async fn run(
        &self,
        name: &str,
        arguments: &[&str],
        environment: &Environment,
    ) -> anyhow::Result<()> {
        let mut process = self.start(name, arguments, environment)?;
        let status = process.child.wait().await?;
        ensure!(status.success(), "`holdfast {name}` failed ({status}):\n{}", process.log_end());
        Ok(())
    }

    /// Starts APIs and waits until all can take orders.
    pub(super) async fn start_apis(&self, count: u16, environment: &Environment) -> anyhow::Result<Vec<Api>> {
        let mut apis = Vec::new();
        for number in 1..=count {
            let address = free_address()?;
            let mut environment = environment.clone();
            environment.push(("HOLDFAST__HTTP__BIND", address.to_string()));
            let process = self.start(&format!("api-{number}"), &["api"], &environment)?;
            apis.push(Api { process, address });
        }
        for api in &mut apis {
            api.wait_until_ready().await?;
        }
        Ok(apis)
    }
}

impl Api {
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let ready = async { Connection::open(self.address).await?.get("/readyz").await };
            if let Ok(Ok(200)) = timeout(Duration::from_secs(3), ready).await {
                return Ok(());
            }
            if let Some(status) = self.process.child.try_wait()? {
                bail!("`holdfast api` ended ({status}):\n{}", self.process.log_end());
            }
            ensure!(Instant::now() < deadline, "`holdfast api` is not ready:\n{}", self.process.log_end());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Process {
    /// SIGTERM, and waits until it has drained.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process id")?;
        if self.child.try_wait()?.is_none() {
            kill_process(pid, Signal::TERM)?;
        }
        let ended = timeout(STOP_WITHIN, self.child.wait()).await;
        let status = ended.with_context(|| format!("a process does not stop:\n{}", self.log_end()))??;
        ensure!(status.success(), "a process did not stop cleanly ({status}):\n{}", self.log_end());
        Ok(())
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// Stops all of them at once.
pub(super) async fn stop_all(processes: impl IntoIterator<Item = Process>) -> anyhow::Result<()> {
    futures_util::future::try_join_all(processes.into_iter().map(Process::stop)).await?;
    Ok(())
}

/// A loopback address that nobody uses now.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
