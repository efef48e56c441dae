//! The command line: arguments and the text that a person reads.
//!
//! Owns the output formats. Must not start servers itself. Invariant: what goes to standard output can be used by a
//! script (`eval "$(devstack env --dir D)"`); progress goes to standard error.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use devstack::{Stack, StackOptions};

use crate::control::{self, Action, Request};
use crate::foreground;

/// Private PostgreSQL, ZooKeeper and RabbitMQ servers for development.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a stack and keeps it until SIGINT or SIGTERM.
    Up {
        #[command(flatten)]
        servers: Servers,
        /// Prints the addresses as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Starts a stack, runs a command with its environment, stops the stack; exits with the command's code.
    Run {
        #[command(flatten)]
        servers: Servers,
        /// The command and its arguments; its standard input is empty.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Stops a server gracefully.
    Stop(Target),
    /// Kills a server with SIGKILL.
    Kill(Target),
    /// Pauses a server with SIGSTOP.
    Pause(Target),
    /// Continues a paused server.
    Resume(Target),
    /// Starts a server again with the same port and data.
    Restart(Target),
    /// Shows every server.
    Status(Place),
    /// Prints the export lines.
    Env(Place),
}

#[derive(Args)]
struct Servers {
    /// The folder for data and logs, kept at the end; without it a temporary one.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// ZooKeeper nodes: 0, 1 or 3.
    #[arg(long, default_value_t = 1)]
    zookeeper: u8,
    /// RabbitMQ nodes: 0, 1 or 3.
    #[arg(long, default_value_t = 1)]
    rabbitmq: u8,
    /// `RabbitMQ`'s management plugin.
    #[arg(long)]
    management: bool,
    /// Without PostgreSQL.
    #[arg(long)]
    no_postgres: bool,
    /// One more flag for ZooKeeper's JVM; can be repeated.
    #[arg(long, allow_hyphen_values = true)]
    zookeeper_jvm_flag: Vec<String>,
}

#[derive(Args)]
struct Target {
    /// postgres, zookeeper or zookeeper-1..3, rabbitmq or rabbitmq-1..3.
    name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Place {
    /// The folder of the running stack.
    #[arg(long)]
    dir: PathBuf,
}

/// Runs the command and returns the exit code.
pub(crate) fn run(cli: Cli) -> Result<u8> {
    let (action, target) = match cli.command {
        Command::Up { servers, json } => return foreground::up(servers.options(), json),
        Command::Run { servers, command } => return foreground::run(servers.options(), &command),
        Command::Stop(target) => (Action::Stop, target),
        Command::Kill(target) => (Action::Kill, target),
        Command::Pause(target) => (Action::Pause, target),
        Command::Resume(target) => (Action::Resume, target),
        Command::Restart(target) => (Action::Restart, target),
        Command::Status(place) => (Action::Status, Target { name: String::new(), place }),
        Command::Env(place) => (Action::Env, Target { name: String::new(), place }),
    };
    print!("{}", control::ask(&target.place.dir, &Request { action, name: target.name })?);
    Ok(0)
}

impl Servers {
    fn options(self) -> StackOptions {
        StackOptions {
            dir: self.dir,
            zookeeper_nodes: self.zookeeper,
            rabbitmq_nodes: self.rabbitmq,
            postgres: !self.no_postgres,
            rabbitmq_management: self.management,
            zookeeper_jvm_flags: self.zookeeper_jvm_flag,
            zookeeper_quorum: None,
            quiet: false,
        }
    }
}

/// One line per server.
pub(crate) fn status_lines(stack: &Stack) -> String {
    stack.status().iter().fold(String::new(), |mut text, status| {
        let state = match (status.pid, status.paused) {
            (None, _) => "stopped".to_owned(),
            (Some(pid), true) => format!("paused, pid {pid}"),
            (Some(pid), false) => format!("running, pid {pid}"),
        };
        let address = status.address.as_deref().unwrap_or("-");
        // Invariant: writing to a String cannot fail.
        let _ = writeln!(text, "{:<12} {address:<16} {state:<20} {}", status.name, status.log.display());
        text
    })
}

/// The environment as lines for a shell.
pub(crate) fn export_lines(stack: &Stack) -> String {
    stack.environment().iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "export {key}='{value}'");
        text
    })
}
