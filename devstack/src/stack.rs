//! The running stack and everything a test can do to it.
//!
//! Owns the members and their end. Must not know how a server is configured. Invariants: all methods take `&self` and
//! may be called from several threads; dropping the stack ends every process and waits until a temporary folder is
//! gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::addresses::Addresses;
use crate::application::APPLICATION_STOP_WITHIN;
use crate::guard::Guard;
use crate::member::Member;
use crate::rabbitmq::Control;
use crate::start::{self, StackOptions, Started, joined, log_file};

/// A dropped stack does not wait for a full drain.
const DROP_WITHIN: Duration = Duration::from_secs(5);

/// Running servers, and the application processes started beside them.
pub struct Stack {
    dir: PathBuf,
    temporary: bool,
    addresses: Addresses,
    members: Mutex<BTreeMap<String, Arc<Member>>>,
    epmd: Option<Member>,
    control: Option<Control>,
    pub(crate) guard: Arc<Guard>,
    _lock: File,
}

/// One line of [`Stack::status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The name that the other methods take.
    pub name: String,
    /// None when it does not run.
    pub pid: Option<u32>,
    /// Stopped by [`Stack::pause`].
    pub paused: bool,
    /// `127.0.0.1:PORT` of a server.
    pub address: Option<String>,
    /// The log file.
    pub log: PathBuf,
}

impl Stack {
    /// Starts all servers in parallel and waits until each answers its own protocol.
    pub fn start(options: StackOptions) -> Result<Self> {
        let temporary = options.dir.is_none();
        let Started { context, postgres, zookeeper, rabbitmq, lock } = start::start(&options)?;
        drop(options);
        let mut addresses = Addresses { dir: context.dir.display().to_string(), ..Addresses::default() };
        let own = |member: &Member| member.endpoint.map(|(address, _)| address.to_string());
        addresses.postgres_url = postgres
            .as_ref()
            .and_then(own)
            .map(|address| format!("postgres://holdfast:holdfast@{address}/holdfast"));
        let nodes: Vec<String> = zookeeper.iter().filter_map(own).collect();
        addresses.zookeeper_servers = Some(nodes.join(",")).filter(|servers| !servers.is_empty());
        let mut members: Vec<Member> = postgres.into_iter().chain(zookeeper).collect();
        let (mut epmd, mut control) = (None, None);
        if let Some(rabbitmq) = rabbitmq {
            let urls = rabbitmq.nodes.iter().filter_map(own);
            addresses.amqp_urls = urls.map(|url| format!("amqp://holdfast:holdfast@{url}/%2f")).collect();
            addresses.management_urls =
                rabbitmq.management.iter().map(|address| format!("http://{address}")).collect();
            members.extend(rabbitmq.nodes);
            epmd = Some(rabbitmq.epmd);
            control = Some(rabbitmq.control);
        }
        addresses.servers =
            members.iter().filter_map(|member| Some((member.name().to_owned(), own(member)?))).collect();
        let members = members.into_iter().map(|member| (member.name().to_owned(), Arc::new(member)));
        let members = Mutex::new(members.collect());
        let guard = context.guard;
        Ok(Self { dir: context.dir, temporary, addresses, members, epmd, control, guard, _lock: lock })
    }

    /// Where the servers listen.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The environment that points the service at this stack.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.addresses.environment()
    }

    /// The folder with data and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The names of all servers and application processes.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Stops it gracefully. When that takes too long it is killed, and that is an error.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.member(name)?.stop()
    }

    /// SIGKILL for the process and all its children. Returns when they are gone.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.member(name)?.process.kill()
    }

    /// SIGSTOP for the process and all its children.
    pub fn pause(&self, name: &str) -> Result<()> {
        self.member(name)?.process.pause()
    }

    /// SIGCONT after [`Stack::pause`].
    pub fn resume(&self, name: &str) -> Result<()> {
        self.member(name)?.process.resume()
    }

    /// Starts it again, after a graceful stop if it runs, with the same command, port and data; returns when a server
    /// answers. A node of an ensemble or cluster answers only with a majority: restart several from several threads.
    pub fn restart(&self, name: &str) -> Result<()> {
        self.member(name)?.restart()
    }

    /// Sends a signal to the process group and does not wait.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.member(name)?.process.signal(signal)
    }

    /// The process id while it runs. For a server this is the server itself, not a wrapper.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.member(name).ok()?.process.pid()
    }

    /// The file with everything that it wrote.
    pub fn log_file(&self, name: &str) -> PathBuf {
        log_file(&self.dir, name)
    }

    /// The state of everything by name.
    pub fn status(&self) -> Vec<Status> {
        let members: Vec<Arc<Member>> = self.lock().values().cloned().collect();
        let status = |member: &Arc<Member>| Status {
            name: member.name().to_owned(),
            pid: member.process.pid(),
            paused: member.process.paused(),
            address: member.endpoint.map(|(address, _)| address.to_string()),
            log: self.log_file(member.name()),
        };
        members.iter().map(status).collect()
    }

    /// Runs `rabbitmqctl ARGS` against a node and returns its standard output.
    pub fn rabbitmqctl(&self, node: &str, args: &[&str]) -> Result<String> {
        self.control.as_ref().context("this stack has no RabbitMQ")?.run(node, args)
    }

    /// Waits until it ends.
    pub fn wait_exit(&self, name: &str, timeout: Duration) -> Result<ExitStatus> {
        self.member(name)?.process.wait_exit(timeout)
    }

    /// Stops everything gracefully, applications first, and reports the first failure. Servers whose data is thrown
    /// away with a temporary folder end without ceremony.
    pub fn shutdown(self) -> Result<()> {
        self.end(APPLICATION_STOP_WITHIN)
    }

    fn end(&self, applications_within: Duration) -> Result<()> {
        let members: Vec<Arc<Member>> = self.lock().values().cloned().collect();
        let (servers, applications): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.is_server());
        let applications = each(&applications, |member| {
            let process = &member.process;
            process.end(process.spec.stop_signal, applications_within.min(process.spec.stop_within))
        });
        let servers = each(&servers, |member| {
            if self.temporary {
                member.discard();
                return Ok(());
            }
            member.stop()
        });
        if let Some(epmd) = &self.epmd {
            epmd.discard();
        }
        self.guard.finish();
        applications.and(servers)
    }

    fn member(&self, name: &str) -> Result<Arc<Member>> {
        let members = self.lock();
        members.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = members.keys().map(String::as_str).collect();
            anyhow!("no {name} in this stack; there is {}", names.join(", "))
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.end(DROP_WITHIN);
    }
}

/// Does it to all at once; every one is tried, the first error is returned.
fn each(members: &[&Arc<Member>], act: impl Fn(&Member) -> Result<()> + Sync) -> Result<()> {
    let act = &act;
    thread::scope(|scope| {
        let threads: Vec<_> = members.iter().map(|member| scope.spawn(move || act(member))).collect();
        let results: Vec<Result<()>> = threads.into_iter().map(joined).collect();
        results.into_iter().collect()
    })
}
