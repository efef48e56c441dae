//! What to run: program, environment, user, output and the signals that end it.
//!
//! Owns the description and the `Command` made from it; it must not start anything. Invariant: every command waits at
//! the gate for the parent's word, so that no program runs before the guard knows its group.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

/// Waits for the parent's word before the program runs, so that the guard already knows the group by then.
const GATE: &str = "read -r go || exit 1; exec \"$@\" </dev/null";

/// Where a process writes.
#[derive(Clone)]
pub(crate) enum Output {
    /// Both streams into the log file.
    Log,
    /// Standard output into this file, standard error into the log file.
    Split(PathBuf),
    /// Both streams of the parent.
    Inherit,
}

/// What to run and how to end it.
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Servers start from a clean environment: a developer's `PGPORT` or `RABBITMQ_NODENAME` must not leak in.
    pub(crate) inherit_env: bool,
    pub(crate) cwd: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) output: Output,
    pub(crate) identity: Option<(u32, u32)>,
    /// The graceful stop.
    pub(crate) stop_signal: Signal,
    pub(crate) stop_within: Duration,
    /// The quick end when the data is not needed any more.
    pub(crate) discard_signal: Signal,
    /// The same for the guard, by name.
    pub(crate) guard_signal: &'static str,
}

impl Spec {
    /// A server or a helper: clean environment, ends on SIGTERM.
    pub(crate) fn new(name: &str, program: &Path, args: Vec<String>, cwd: &Path, log: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args,
            env: Vec::new(),
            inherit_env: false,
            cwd: cwd.to_owned(),
            log: log.to_owned(),
            output: Output::Log,
            identity: None,
            stop_signal: Signal::TERM,
            stop_within: Duration::from_secs(20),
            discard_signal: Signal::KILL,
            guard_signal: "TERM",
        }
    }

    /// The command, behind the gate and in a process group of its own.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE, &self.name]).arg(&self.program).args(&self.args);
        if !self.inherit_env {
            command.env_clear().env("LC_ALL", "C.UTF-8");
            command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.current_dir(&self.cwd).stdin(Stdio::piped()).process_group(0);
        if let Some((user, group)) = self.identity {
            command.uid(user).gid(group);
        }
        let open = |path: &PathBuf| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot open {}", path.display()))
        };
        match &self.output {
            Output::Log => {
                let log = open(&self.log)?;
                command.stdout(log.try_clone()?).stderr(log);
            }
            Output::Split(stdout) => {
                command.stdout(open(stdout)?).stderr(open(&self.log)?);
            }
            Output::Inherit => {}
        }
        Ok(command)
    }
}
