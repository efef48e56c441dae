//! RabbitMQ: one broker or a cluster of three, with an epmd of the stack's own.
//!
//! Owns the folder `rabbitmq` of the stack and the environment of its nodes and of `rabbitmqctl`. Must not use the
//! system's epmd, cookie or configuration. Invariants: everything listens on loopback, and no Erlang program of the
//! stack may start another epmd, which would outlive it.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::guard::Guard;
use crate::member::Member;
use crate::ports;
use crate::process::run;
use crate::ready::Probe;
use crate::spec::{Output, Spec};
use crate::start::{Context, joined, node_name};

const CONTROL_WITHIN: Duration = Duration::from_mins(2);
const ON_LOOPBACK: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

/// The running broker or cluster.
pub(crate) struct RabbitMq {
    pub(crate) nodes: Vec<Member>,
    pub(crate) epmd: Member,
    /// Empty without the management plugin.
    pub(crate) management: Vec<SocketAddr>,
    pub(crate) control: Control,
}

/// What `rabbitmqctl` needs.
pub(crate) struct Control {
    home: PathBuf,
    program: PathBuf,
    epmd: SocketAddr,
    guard: Arc<Guard>,
    runs: AtomicU32,
}

/// Starts epmd and all nodes and waits until each answers and the cluster is whole.
pub(crate) fn start(context: &Context) -> Result<RabbitMq> {
    let home = context.folder("rabbitmq")?;
    let count = context.options.rabbitmq_nodes;
    // The mark of a cluster that was whole once; a start that was interrupted begins anew.
    let complete = home.join(format!("complete-{count}"));
    let data = home.join(format!("mnesia-{count}"));
    let fresh = !complete.exists();
    if fresh && data.exists() {
        fs::remove_dir_all(&data)?;
    }
    prepare(context, &home)?;
    let address = ports::free()?;
    let args = ["-port", &address.port().to_string(), "-address", "127.0.0.1"].map(str::to_owned).to_vec();
    let epmd = Spec::new("epmd", &context.programs.epmd, args, &home, &context.log("epmd"));
    let mut epmd = context.member(epmd, address, Probe::Epmd);
    epmd.quiet = true;
    epmd.start()?;
    let control = Control {
        home,
        program: context.programs.rabbitmqctl.clone(),
        epmd: address,
        guard: Arc::clone(&context.guard),
        runs: AtomicU32::new(0),
    };

    let mut nodes = Vec::new();
    let mut management = Vec::new();
    for number in 1..=count {
        let web = if context.options.rabbitmq_management { Some(ports::free()?) } else { None };
        nodes.push(member(context, &control, number, web)?);
        management.extend(web);
    }
    // New nodes must find the first one running, because they join it. Known nodes must start
    // together, because one that stopped earlier waits for one that stopped later.
    let alone = usize::from(fresh);
    nodes[..alone].iter().try_for_each(Member::start)?;
    thread::scope(|scope| {
        let starts: Vec<_> = nodes[alone..].iter().map(|node| scope.spawn(|| node.start())).collect();
        starts.into_iter().try_for_each(joined)
    })?;
    if count > 1 {
        control.run(nodes[0].name(), &["await_online_nodes", &count.to_string(), "--timeout", "60"])?;
    }
    fs::write(complete, "")?;
    Ok(RabbitMq { nodes, epmd, management, control })
}

/// The files that all nodes share.
fn prepare(context: &Context, home: &Path) -> Result<()> {
    let cookie = home.join(".erlang.cookie");
    if !cookie.exists() {
        // epmd and the nodes listen on loopback only; the cookie keeps other users of the machine out.
        let mut random = [0; 16];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
        fs::write(&cookie, format!("{:032X}", u128::from_le_bytes(random)))?;
        fs::set_permissions(&cookie, Permissions::from_mode(0o400))?;
    }
    let plugins = if context.options.rabbitmq_management { "[rabbitmq_management].\n" } else { "[].\n" };
    fs::write(home.join("enabled_plugins"), plugins)?;
    // Empty: it stands in for the system's file.
    fs::write(home.join("rabbitmq-env.conf"), "")?;
    Ok(())
}

fn member(context: &Context, control: &Control, number: u8, web: Option<SocketAddr>) -> Result<Member> {
    let count = context.options.rabbitmq_nodes;
    let name = node_name("rabbitmq", number, count);
    let home = &control.home;
    let (amqp, dist) = (ports::free()?, ports::free()?);
    let config = home.join(format!("{name}.conf"));
    fs::write(&config, configuration(amqp, web, number, count))
        .with_context(|| format!("cannot write {}", config.display()))?;
    let mut spec = Spec::new(&name, &context.programs.rabbitmq_server, Vec::new(), home, &context.log(&name));
    spec.env = control.environment(&name);
    let path = |file: &str| home.join(file).display().to_string();
    for (key, value) in [
        ("CONFIG_FILE", config.display().to_string()),
        ("ADVANCED_CONFIG_FILE", path("advanced.config")),
        ("ENABLED_PLUGINS_FILE", path("enabled_plugins")),
        ("MNESIA_BASE", path(&format!("mnesia-{count}"))),
        ("LOG_BASE", path("log")),
        ("LOGS", "-".to_owned()),
        ("PID_FILE", path(&format!("{name}.pid"))),
        ("DIST_PORT", dist.port().to_string()),
        // Few threads: several nodes share one machine with the tests.
        ("SERVER_ADDITIONAL_ERL_ARGS", format!("{ON_LOOPBACK} +S 2:2 +A 8")),
    ] {
        spec.env.push((format!("RABBITMQ_{key}"), value));
    }
    // Then the script runs Erlang in its own place: no shell between us and the broker, which handles SIGTERM.
    spec.env.push(("RUNNING_UNDER_SYSTEMD".to_owned(), "true".to_owned()));
    Ok(context.member(spec, amqp, Probe::Amqp))
}

fn configuration(amqp: SocketAddr, web: Option<SocketAddr>, number: u8, count: u8) -> String {
    let mut lines = vec![
        format!("listeners.tcp.1 = {amqp}"),
        "default_user = holdfast".to_owned(),
        "default_pass = holdfast".to_owned(),
        "log.file = false".to_owned(),
        "log.console = true".to_owned(),
        "log.console.level = warning".to_owned(),
        "vm_memory_high_watermark.absolute = 512MB".to_owned(),
        "disk_free_limit.absolute = 50MB".to_owned(),
    ];
    if let Some(web) = web {
        lines.push(format!("management.tcp.port = {}", web.port()));
        lines.push("management.tcp.ip = 127.0.0.1".to_owned());
    }
    if count > 1 {
        // A node that was paused for long heals by itself; with `ignore` it would stay apart.
        lines.push("cluster_partition_handling = pause_minority".to_owned());
    }
    if number > 1 {
        // The first node founds the cluster without looking for others, which would cost it seconds.
        let first = node_name("rabbitmq", 1, count);
        lines.push("cluster_formation.peer_discovery_backend = classic_config".to_owned());
        lines.push(format!("cluster_formation.classic_config.nodes.1 = {first}@localhost"));
    }
    lines.join("\n") + "\n"
}

impl Control {
    /// Runs `rabbitmqctl ARGS` against a node and returns its standard output.
    pub(crate) fn run(&self, node: &str, args: &[&str]) -> Result<String> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let file = |suffix: &str| self.home.join(format!("rabbitmqctl-{number}.{suffix}"));
        let (stdout, stderr) = (file("out"), file("err"));
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let mut spec = Spec::new("rabbitmqctl", &self.program, args.clone(), &self.home, &stderr);
        spec.env = self.environment(node);
        spec.env.push(("RABBITMQ_CTL_ERL_ARGS".to_owned(), ON_LOOPBACK.to_owned()));
        spec.output = Output::Split(stdout.clone());
        let status = run(spec, &self.guard, CONTROL_WITHIN)?;
        let read = |path: &Path| {
            let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let _ = fs::remove_file(path);
            text
        };
        let (text, errors) = (read(&stdout)?, read(&stderr)?);
        if !status.success() {
            bail!("rabbitmqctl {} on {node} failed ({status}): {text}{errors}", args.join(" "));
        }
        Ok(text)
    }

    /// What a node and `rabbitmqctl` share.
    fn environment(&self, node: &str) -> Vec<(String, String)> {
        [
            ("HOME", self.home.display().to_string()),
            ("ERL_EPMD_PORT", self.epmd.port().to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            // Otherwise any `erl` starts a daemon epmd when it finds none.
            ("ERL_FLAGS", "-start_epmd false".to_owned()),
            ("RABBITMQ_NODENAME", format!("{node}@localhost")),
            ("RABBITMQ_CONF_ENV_FILE", self.home.join("rabbitmq-env.conf").display().to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }
}
