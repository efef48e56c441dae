//! Starts a whole stack: the folder, the guard and all servers in parallel.
//!
//! Owns the options and the order of the start. Must not keep anything running when a part fails: what was started
//! is killed and the guard removes a temporary folder. Invariant: the guard exists before the first server.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, bail};

use crate::find::{Programs, Search};
use crate::guard::Guard;
use crate::member::Member;
use crate::rabbitmq::RabbitMq;
use crate::ready::Probe;
use crate::spec::Spec;
use crate::{postgres, rabbitmq, zookeeper};

/// Only a port that another process took in between is worth another try.
const ATTEMPTS: u32 = 3;
const READY_WITHIN: Duration = Duration::from_secs(90);

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// The folder for data and logs, kept at the end. Without it: a temporary one, removed at the end.
    pub dir: Option<PathBuf>,
    /// 0, 1 (standalone) or 3 (an ensemble).
    pub zookeeper_nodes: u8,
    /// 0, 1 or 3 (a cluster).
    pub rabbitmq_nodes: u8,
    /// Whether PostgreSQL is part of the stack.
    pub postgres: bool,
    /// RabbitMQ's management plugin; it makes the start slower.
    pub rabbitmq_management: bool,
    /// More flags for ZooKeeper's JVM, for example `-Dznode.container.checkIntervalMs=1000`.
    pub zookeeper_jvm_flags: Vec<String>,
    /// For an ensemble of three: the quorum address under which each server looks for each other, `[server][peer]`, so
    /// that a proxy can stand in between. On the diagonal stands where the server listens. Without it: free ports.
    pub zookeeper_quorum: Option<[[SocketAddr; 3]; 3]>,
    /// No progress lines on standard error.
    pub quiet: bool,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            dir: None,
            zookeeper_nodes: 1,
            rabbitmq_nodes: 1,
            postgres: true,
            rabbitmq_management: false,
            zookeeper_jvm_flags: Vec::new(),
            zookeeper_quorum: None,
            quiet: true,
        }
    }
}

/// What the start of one server needs.
pub(crate) struct Context {
    pub(crate) dir: PathBuf,
    pub(crate) guard: Arc<Guard>,
    pub(crate) programs: Programs,
    pub(crate) options: StackOptions,
}

/// Everything that runs after a successful start.
pub(crate) struct Started {
    pub(crate) context: Context,
    pub(crate) postgres: Option<Member>,
    pub(crate) zookeeper: Vec<Member>,
    pub(crate) rabbitmq: Option<RabbitMq>,
    /// Locked as long as the stack lives: one stack per folder.
    pub(crate) lock: File,
}

/// Starts the stack; again with other ports when another process took one of them in between.
pub(crate) fn start(options: &StackOptions) -> Result<Started> {
    for (what, nodes) in [("ZooKeeper", options.zookeeper_nodes), ("RabbitMQ", options.rabbitmq_nodes)] {
        if !matches!(nodes, 0 | 1 | 3) {
            bail!("{what} runs with 1 or 3 nodes, not {nodes}");
        }
    }
    if options.zookeeper_quorum.is_some() && options.zookeeper_nodes != 3 {
        bail!("quorum addresses are those of 3 ZooKeeper nodes, not {}", options.zookeeper_nodes);
    }
    let mut attempt = 1;
    loop {
        match attempt_start(options) {
            Err(error) if attempt < ATTEMPTS && port_taken(&error) => attempt += 1,
            result => return result,
        }
    }
}

fn attempt_start(options: &StackOptions) -> Result<Started> {
    let programs = Search::system().programs(options)?;
    let dir = match &options.dir {
        Some(dir) => {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
            dir.canonicalize()?
        }
        None => tempfile::Builder::new().prefix("holdfast-").tempdir()?.keep(),
    };
    let guard = Arc::new(Guard::start(options.dir.is_none().then_some(dir.as_path()))?);
    // PostgreSQL may run as another user and must be able to pass.
    fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
    let lock = File::create(dir.join("lock"))?;
    lock.try_lock().map_err(|_| anyhow!("another stack already runs in {}", dir.display()))?;
    let context = Context { dir, guard, programs, options: options.clone() };
    context.folder("logs")?;
    let (postgres, zookeeper, rabbitmq) = thread::scope(|scope| {
        let context = &context;
        let postgres = options.postgres.then(|| scope.spawn(|| postgres::start(context)));
        let zookeeper = (options.zookeeper_nodes > 0).then(|| scope.spawn(|| zookeeper::start(context)));
        let rabbitmq = (options.rabbitmq_nodes > 0).then(|| scope.spawn(|| rabbitmq::start(context)));
        (postgres.map(joined), zookeeper.map(joined), rabbitmq.map(joined))
    });
    let (postgres, zookeeper, rabbitmq) =
        (postgres.transpose()?, zookeeper.transpose()?.unwrap_or_default(), rabbitmq.transpose()?);
    Ok(Started { context, postgres, zookeeper, rabbitmq, lock })
}

fn port_taken(error: &Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    // epmd says nothing, and takes it for an epmd that runs already.
    let epmd = text.contains("epmd ended at its start (exit status: 0)");
    epmd || text.contains("address already in use") || text.contains("eaddrinuse")
}

/// The result of a thread; its panic goes on here.
pub(crate) fn joined<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// `rabbitmq`, or `rabbitmq-2` when there are several.
pub(crate) fn node_name(base: &str, number: u8, count: u8) -> String {
    if count == 1 { base.to_owned() } else { format!("{base}-{number}") }
}

impl Context {
    /// A folder of the stack, created when needed.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        log_file(&self.dir, name)
    }

    pub(crate) fn member(&self, spec: Spec, address: SocketAddr, probe: Probe) -> Member {
        let process = crate::process::Process::new(spec, Arc::clone(&self.guard));
        let quiet = self.options.quiet;
        Member { process, endpoint: Some((address, probe)), ready_within: READY_WITHIN, quiet }
    }
}

/// Where the process of this name logs.
pub(crate) fn log_file(dir: &Path, name: &str) -> PathBuf {
    dir.join("logs").join(format!("{name}.log"))
}
