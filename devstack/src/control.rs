//! The control socket: one JSON line in, one JSON line out.
//!
//! Owns the protocol between a running `devstack up` and the other commands. Must not keep the stack alive: it holds
//! a weak reference, so that the end of the stack does not wait for a client.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;

use anyhow::{Context, Result, bail};
use devstack::Stack;
use serde::{Deserialize, Serialize};

use crate::cli::{export_lines, status_lines};

const SOCKET: &str = "control.sock";
const LONGEST_REQUEST: u64 = 4096;

/// What to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Stop,
    Kill,
    Pause,
    Resume,
    Restart,
    Status,
    Env,
}

/// One request; `name` is empty for `status` and `env`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) action: Action,
    pub(crate) name: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    ok: bool,
    text: String,
}

/// Listens in the stack's folder until the process ends.
pub(crate) fn listen(stack: &Arc<Stack>) -> Result<()> {
    let path = stack.dir().join(SOCKET);
    // The stack holds the folder's lock, so a socket that is here belongs to nobody.
    let _ = fs::remove_file(&path);
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let stack = Arc::downgrade(stack);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let stack = Weak::clone(&stack);
            thread::spawn(move || serve(&stream, &stack));
        }
    });
    Ok(())
}

/// Sends one request to the stack that runs in `dir` and returns its text.
pub(crate) fn ask(dir: &Path, request: &Request) -> Result<String> {
    let mut stream = UnixStream::connect(dir.join(SOCKET))
        .with_context(|| format!("no stack runs in {} (start one: devstack up --dir)", dir.display()))?;
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let reply: Reply = serde_json::from_str(&line).context("the stack ended before it answered")?;
    if !reply.ok {
        bail!("{}", reply.text);
    }
    Ok(reply.text)
}

fn serve(mut stream: &UnixStream, stack: &Weak<Stack>) {
    let reply = match answer(stream, stack) {
        Ok(text) => Reply { ok: true, text },
        Err(error) => Reply { ok: false, text: format!("{error:#}") },
    };
    if let Ok(text) = serde_json::to_string(&reply) {
        // A client that left needs no answer.
        let _ = stream.write_all(format!("{text}\n").as_bytes());
    }
}

fn answer(stream: &UnixStream, stack: &Weak<Stack>) -> Result<String> {
    let mut line = String::new();
    BufReader::new(stream).take(LONGEST_REQUEST).read_line(&mut line)?;
    let Request { action, name } = serde_json::from_str(&line)?;
    let stack = stack.upgrade().context("the stack is stopping")?;
    match action {
        Action::Stop => stack.stop(&name)?,
        Action::Kill => stack.kill(&name)?,
        Action::Pause => stack.pause(&name)?,
        Action::Resume => stack.resume(&name)?,
        Action::Restart => stack.restart(&name)?,
        Action::Status => return Ok(status_lines(&stack)),
        Action::Env => return Ok(export_lines(&stack)),
    }
    Ok(String::new())
}
