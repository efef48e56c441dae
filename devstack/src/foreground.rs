//! `devstack up` and `devstack run`: a stack for as long as this process lives.
//!
//! Owns the handling of SIGINT, SIGTERM and SIGHUP. Must not handle requests: that is `control`. Invariant: a signal
//! during the start ends the process at once, and the stack's guard then ends what was started.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use devstack::{Signal, Stack, StackOptions};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{cli, control};

const COMMAND: &str = "command";
const POLL: Duration = Duration::from_millis(50);

enum Event {
    Signal(i32),
    Started(Box<Result<Stack>>),
}

/// Starts the stack, prints where it listens, and keeps it until a signal comes.
pub(crate) fn up(options: StackOptions, json: bool) -> Result<u8> {
    let events = watch_signals()?;
    let stack = Arc::new(start(options, &events)?);
    control::listen(&stack)?;
    if json {
        println!("{}", serde_json::to_string_pretty(stack.addresses())?);
    } else {
        print!("{}", addresses(&stack));
    }
    events.1.recv().context("no signals any more")?;
    eprintln!("stopping");
    shutdown(stack)?;
    Ok(0)
}

/// Runs a command beside the stack and returns its exit code; 128 plus the signal when one ended it.
pub(crate) fn run(options: StackOptions, command: &[String]) -> Result<u8> {
    let Some((program, args)) = command.split_first() else { bail!("no command") };
    let events = watch_signals()?;
    let stack = Arc::new(start(options, &events)?);
    control::listen(&stack)?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    stack.spawn_attached(COMMAND, Path::new(program), &args, &stack.environment())?;
    let status = loop {
        match events.1.recv_timeout(POLL) {
            Ok(Event::Signal(number)) => stack.signal(COMMAND, signal(number))?,
            Ok(Event::Started(_)) | Err(RecvTimeoutError::Timeout) => {}
            Err(error @ RecvTimeoutError::Disconnected) => return Err(error.into()),
        }
        if stack.pid(COMMAND).is_none() {
            break stack.wait_exit(COMMAND, POLL)?;
        }
    };
    shutdown(stack)?;
    Ok(exit_code(status))
}

fn watch_signals() -> Result<(Sender<Event>, Receiver<Event>)> {
    let (sender, receiver) = channel();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let events = sender.clone();
    thread::spawn(move || {
        for number in signals.forever() {
            let _ = events.send(Event::Signal(number));
        }
    });
    Ok((sender, receiver))
}

fn start(options: StackOptions, (sender, events): &(Sender<Event>, Receiver<Event>)) -> Result<Stack> {
    let sender = sender.clone();
    thread::spawn(move || sender.send(Event::Started(Box::new(Stack::start(options)))));
    match events.recv()? {
        Event::Started(stack) => *stack,
        Event::Signal(number) => {
            eprintln!("interrupted");
            std::process::exit(128 + number)
        }
    }
}

/// A request in progress may still hold the stack for a moment.
fn shutdown(mut stack: Arc<Stack>) -> Result<()> {
    loop {
        match Arc::try_unwrap(stack) {
            Ok(stack) => return stack.shutdown(),
            Err(shared) => stack = shared,
        }
        sleep(POLL);
    }
}

fn addresses(stack: &Stack) -> String {
    let dir = stack.dir().display();
    let exports = cli::export_lines(stack);
    let mut notes = vec![format!("stack in {dir}")];
    notes.extend(cli::status_lines(stack).lines().map(str::to_owned));
    notes.extend(stack.addresses().management_urls.iter().map(|url| format!("management {url}")));
    // Comments, so that the whole output can be given to a shell.
    format!("# {}\n{exports}", notes.join("\n# "))
}

fn signal(number: i32) -> Signal {
    match number {
        SIGINT => Signal::INT,
        SIGHUP => Signal::HUP,
        _ => Signal::TERM,
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
