//! One managed process: start, signal, wait.
//!
//! Owns the child and its process group. Must not know what the program is. Invariants: the guard knows the group
//! before the program runs; a group is signalled only while its leader has not been reaped; when the leader ends, the
//! rest of its group is killed before the leader is reaped.

use std::io::Write;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::guard::Guard;
use crate::spec::Spec;
use crate::tree;

const POLL: Duration = Duration::from_millis(20);

#[derive(Default)]
struct State {
    child: Option<Child>,
    paused: bool,
    exit: Option<ExitStatus>,
}

/// A process that can be started again after it ended.
pub(crate) struct Process {
    pub(crate) spec: Spec,
    guard: Arc<Guard>,
    state: Mutex<State>,
}

impl Process {
    pub(crate) fn new(spec: Spec, guard: Arc<Guard>) -> Self {
        Self { spec, guard, state: Mutex::default() }
    }

    pub(crate) fn start(&self) -> Result<()> {
        let name = &self.spec.name;
        let mut state = self.lock();
        if self.leader(&mut state)?.is_some() {
            bail!("{name} already runs");
        }
        let mut child = self.spec.command()?.spawn().with_context(|| format!("cannot start {name}"))?;
        let group = group_of(&child)?;
        let gate = child.stdin.take();
        state.child = Some(child);
        state.exit = None;
        state.paused = false;
        self.guard.add(group.as_raw_nonzero().get(), self.spec.guard_signal)?;
        gate.context("no gate")?.write_all(b"go\n").with_context(|| format!("cannot start {name}"))
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        let mut state = self.lock();
        let leader = self.leader(&mut state).ok().flatten()?;
        u32::try_from(leader.as_raw_nonzero().get()).ok()
    }

    pub(crate) fn paused(&self) -> bool {
        self.lock().paused
    }

    /// Signals the group. A process that has ended is no error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let mut state = self.lock();
        match self.leader(&mut state)? {
            Some(group) => {
                kill_process_group(group, signal).with_context(|| format!("cannot signal {}", self.spec.name))
            }
            None => Ok(()),
        }
    }

    /// The exit status when the process has ended.
    pub(crate) fn exit(&self) -> Result<Option<ExitStatus>> {
        let mut state = self.lock();
        Ok(if self.leader(&mut state)?.is_some() { None } else { state.exit })
    }

    pub(crate) fn wait_exit(&self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exit()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} still runs after {within:?}", self.spec.name);
            }
            sleep(POLL);
        }
    }

    /// Ends it with `signal`; after `within` it is killed, and that is an error.
    pub(crate) fn end(&self, signal: Signal, within: Duration) -> Result<()> {
        if self.pid().is_none() {
            return Ok(());
        }
        self.resume()?;
        self.signal(signal)?;
        if self.wait_exit(within).is_err() {
            self.kill()?;
            bail!("{} did not stop within {within:?} and was killed", self.spec.name);
        }
        Ok(())
    }

    /// SIGKILL for the process and all its descendants, also those in groups of their own.
    pub(crate) fn kill(&self) -> Result<()> {
        let mut state = self.lock();
        let Some(group) = self.leader(&mut state)? else { return Ok(()) };
        let family = freeze(group)?;
        for pid in &family {
            kill_one(*pid, Signal::KILL);
        }
        let _ = kill_process_group(group, Signal::KILL);
        while self.leader(&mut state)?.is_some() {
            sleep(Duration::from_millis(2));
        }
        // They are init's now. A restart must not meet one that still holds a port or shared memory.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !family.iter().all(|pid| tree::is_gone(*pid)) && Instant::now() < deadline {
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// SIGSTOP for the process and all its descendants.
    pub(crate) fn pause(&self) -> Result<()> {
        let mut state = self.lock();
        let Some(group) = self.leader(&mut state)? else { bail!("{} does not run", self.spec.name) };
        freeze(group)?;
        state.paused = true;
        Ok(())
    }

    /// SIGCONT, children first: while their parent is stopped it cannot reap them.
    pub(crate) fn resume(&self) -> Result<()> {
        let mut state = self.lock();
        if let Some(group) = self.leader(&mut state)?
            && state.paused
        {
            for pid in tree::descendants(group.as_raw_nonzero().get()) {
                kill_one(pid, Signal::CONT);
            }
            kill_process_group(group, Signal::CONT)?;
            state.paused = false;
        }
        Ok(())
    }

    /// The running leader. One that has ended is swept up and reaped here, and only here.
    fn leader(&self, state: &mut State) -> Result<Option<Pid>> {
        let Some(child) = &mut state.child else { return Ok(None) };
        let pid = group_of(child)?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::Pid(pid), look)?.is_none() {
            return Ok(Some(pid));
        }
        // The unreaped leader still holds the group's id.
        let _ = kill_process_group(pid, Signal::KILL);
        self.guard.remove(pid.as_raw_nonzero().get());
        state.exit = Some(child.wait()?);
        state.child = None;
        state.paused = false;
        Ok(None)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Runs a helper program to its end.
pub(crate) fn run(spec: Spec, guard: &Arc<Guard>, within: Duration) -> Result<ExitStatus> {
    let process = Process::new(spec, Arc::clone(guard));
    process.start()?;
    process.wait_exit(within)
}

/// Stops the group and every descendant, and returns the descendants. Repeats until no new one appears: a child in a
/// group of its own can start another one before the signal reaches it.
fn freeze(group: Pid) -> Result<Vec<i32>> {
    kill_process_group(group, Signal::STOP)?;
    let mut stopped: Vec<i32> = Vec::new();
    loop {
        let family = tree::descendants(group.as_raw_nonzero().get());
        let fresh: Vec<i32> = family.iter().copied().filter(|pid| !stopped.contains(pid)).collect();
        if fresh.is_empty() {
            return Ok(family);
        }
        for pid in &fresh {
            kill_one(*pid, Signal::STOP);
        }
        stopped.extend(fresh);
    }
}

fn kill_one(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// The child leads a group of the same number.
fn group_of(child: &Child) -> Result<Pid> {
    let raw = i32::try_from(child.id()).context("a process id out of range")?;
    Pid::from_raw(raw).context("a process id of zero")
}
