//! Application processes beside the servers of a stack.
//!
//! Owns how they are started and how long they may drain. Must not know what they do. Invariant: a name belongs to
//! one process at a time, and never to an application and a server both.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::member::Member;
use crate::process::Process;
use crate::spec::{Output, Spec};
use crate::stack::Stack;

/// Between SIGTERM and SIGKILL.
pub(crate) const APPLICATION_STOP_WITHIN: Duration = Duration::from_secs(25);

impl Stack {
    /// Starts an application process with the same guarantees as a server. It inherits this process's environment,
    /// plus `env`; add [`Stack::environment`] when it needs the stack. Both its streams go into its log file. The
    /// name of one that has ended may be used again.
    pub fn spawn(&self, name: &str, program: &Path, args: &[&str], env: &[(String, String)]) -> Result<()> {
        self.launch(name, program, args, env, Output::Log)
    }

    /// As [`Stack::spawn`], but it writes to this process's own streams. Its standard input is empty.
    pub fn spawn_attached(
        &self,
        name: &str,
        program: &Path,
        args: &[&str],
        env: &[(String, String)],
    ) -> Result<()> {
        self.launch(name, program, args, env, Output::Inherit)
    }

    fn launch(
        &self,
        name: &str,
        program: &Path,
        args: &[&str],
        env: &[(String, String)],
        output: Output,
    ) -> Result<()> {
        if name.is_empty() || name.contains('/') {
            bail!("{name:?} is not a name for a process");
        }
        if program.components().count() > 1 && !program.is_file() {
            bail!("cannot start {name}: {} is not a file", program.display());
        }
        let mut members = self.lock();
        if members.get(name).is_some_and(|old| old.is_server() || old.process.pid().is_some()) {
            bail!("{name} already exists");
        }
        let args = args.iter().map(ToString::to_string).collect();
        let mut spec = Spec::new(name, program, args, &std::env::current_dir()?, &self.log_file(name));
        spec.env = env.to_vec();
        spec.inherit_env = true;
        spec.output = output;
        spec.stop_within = APPLICATION_STOP_WITHIN;
        let process = Process::new(spec, Arc::clone(&self.guard));
        let member = Member { process, endpoint: None, ready_within: Duration::ZERO, quiet: true };
        member.start()?;
        members.insert(name.to_owned(), Arc::new(member));
        Ok(())
    }
}
