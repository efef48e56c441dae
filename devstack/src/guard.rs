//! The guard: one small shell per stack that outlives the parent and ends what the parent left behind.
//!
//! Owns the guard's process and the pipe to it. Must not signal anything itself. Invariant: the parent holds the only
//! writing end of the pipe (std opens it close-on-exec), so the guard sees the end of its input exactly when the
//! parent lets go or dies.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

const SCRIPT: &str = include_str!("guard.sh");

/// The parent's side of the guard.
pub(crate) struct Guard {
    inner: Mutex<Option<Inner>>,
}

struct Inner {
    child: Child,
    pipe: ChildStdin,
}

impl Guard {
    /// Starts the guard. With `remove`, it deletes that folder at the end.
    pub(crate) fn start(remove: Option<&Path>) -> Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "devstack-guard"])
            .arg(remove.unwrap_or(Path::new("")))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A terminal's Ctrl-C must not reach it.
            .process_group(0)
            .spawn()
            .context("cannot start /bin/sh as the stack's guard")?;
        let pipe = child.stdin.take().context("the guard has no input pipe")?;
        Ok(Self { inner: Mutex::new(Some(Inner { child, pipe })) })
    }

    /// Tells the guard about a group and the signal that ends it (`TERM`, `QUIT`, ...).
    pub(crate) fn add(&self, group: i32, signal: &str) -> Result<()> {
        self.write(&format!("add {group} {signal}\n")).context("the stack's guard is gone")
    }

    /// Tells the guard that a group has ended. Best effort: a guard that is gone needs no news.
    pub(crate) fn remove(&self, group: i32) {
        let _ = self.write(&format!("del {group}\n"));
    }

    /// Closes the pipe and waits until the guard has ended every group it knew and removed the folder.
    pub(crate) fn finish(&self) {
        if let Some(Inner { mut child, pipe }) = self.lock().take() {
            drop(pipe);
            let _ = child.wait();
        }
    }

    fn write(&self, line: &str) -> std::io::Result<()> {
        match self.lock().as_mut() {
            Some(inner) => inner.pipe.write_all(line.as_bytes()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Inner>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.finish();
    }
}
