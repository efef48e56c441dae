//! One named member of a stack: a server with an address and a probe, or an application process without.
//!
//! Owns start-until-ready and restart. Must not know which server it is. Invariant: a restart uses the same command,
//! port and data.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::Process;
use crate::ready::{self, Probe};

/// A process and how to tell that it is ready.
pub(crate) struct Member {
    pub(crate) process: Process,
    pub(crate) endpoint: Option<(SocketAddr, Probe)>,
    pub(crate) ready_within: Duration,
    pub(crate) quiet: bool,
}

impl Member {
    pub(crate) fn name(&self) -> &str {
        &self.process.spec.name
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&self) -> Result<()> {
        let started = Instant::now();
        if let Some((address, _)) = self.endpoint {
            self.say(&format!("starting {} on {address}", self.name()));
        }
        self.process.start()?;
        self.wait_ready()?;
        if self.endpoint.is_some() {
            self.say(&format!("{} ready in {:.1} s", self.name(), started.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    /// Gracefully; a member that has already ended is no error.
    pub(crate) fn stop(&self) -> Result<()> {
        let spec = &self.process.spec;
        self.process.end(spec.stop_signal, spec.stop_within)
    }

    /// The quick end for data that is thrown away. The process is gone afterwards in any case.
    pub(crate) fn discard(&self) {
        let _ = match self.process.spec.discard_signal {
            rustix::process::Signal::KILL => self.process.kill(),
            signal => self.process.end(signal, Duration::from_secs(5)),
        };
    }

    pub(crate) fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    pub(crate) fn is_server(&self) -> bool {
        self.endpoint.is_some()
    }

    fn wait_ready(&self) -> Result<()> {
        match self.endpoint {
            Some((address, probe)) => ready::wait(&self.process, probe, address, self.ready_within),
            None => Ok(()),
        }
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }
}
