//! The commands. Each builds what it needs from the configuration, and says in one line what is missing where it cannot.

use std::{
    io::{self, ErrorKind, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{
    config::{Config, DEFAULTS},
    telemetry,
    worker::WorkerKind,
};

mod audit;
mod bench;
mod dead_letters;
mod doctor;
mod events;
mod keys;
mod locks;
mod migrate;
mod replay;
mod serve;
mod stock;
mod topology;
mod verify;
mod wiring;

/// An order-processing service that does not oversell, does not charge twice and does not lose an event.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, max_term_width = 100)]
struct Options {
    /// Settings that override the defaults (TOML). Environment variables like `HOLDFAST__DATABASE__URL` override both.
    #[arg(long, global = true, env = "HOLDFAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the HTTP API.
    Api,
    /// Runs workers: those named, or all of them.
    Worker {
        /// Which workers.
        kinds: Vec<WorkerKind>,
    },
    /// Serves the API and runs all workers, in one process.
    All,
    /// Serves a payment provider for tests and demos. It moves no money.
    Sandbox,
    /// Applies the migrations that the database lacks.
    Migrate,
    /// Asks every dependency whether it answers.
    Doctor,
    /// Checks the invariants of the whole system. Exit code 1 if one is broken.
    Verify {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Checks that between changes, events and their effects nothing was lost or doubled. Exit code 1 if something was.
    Audit(audit::AuditOptions),
    /// Stock files.
    #[command(subcommand)]
    Stock(stock::StockCommand),
    /// Sends an order file through the HTTP API, pays the orders, and waits until they settle.
    Replay(replay::ReplayOptions),
    /// Measures how fast this is, beside bare PostgreSQL, and checks every figure.
    Bench(bench::BenchOptions),
    /// API keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Locks.
    #[command(subcommand)]
    Locks(locks::LocksCommand),
    /// Exchanges and queues of the broker: what the program declares, and whether the broker has it.
    #[command(subcommand)]
    Topology(topology::TopologyCommand),
    /// What consumers could not handle.
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Events: documents about them, made of the program, and those that were lost, sent again.
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// Prints every setting with its default and what it means.
    Settings,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let options = Options::parse();
    if matches!(options.command, Command::Settings) {
        return exit(print(DEFAULTS).map(|()| ExitCode::SUCCESS));
    }
    exit(
        start(&options)
            .and_then(|(config, runtime)| runtime.block_on(run(options.command, config, options.config))),
    )
}

fn exit(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what may be long. A reader that has seen enough, as `head` has, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn start(options: &Options) -> anyhow::Result<(Config, tokio::runtime::Runtime)> {
    let mut config = Config::load(options.config.as_deref())?;
    if matches!(options.command, Command::Topology(_) | Command::Doctor) {
        // They ask for what may be missing, and the client library reports each no as an error of its own.
        config.telemetry.filter.push_str(",lapin=off");
    }
    telemetry::init(&config.telemetry).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok((config, runtime))
}

async fn run(command: Command, config: Config, config_file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let done = ExitCode::SUCCESS;
    match command {
        Command::Api => serve::api(&config).await.map(|()| done),
        Command::Worker { kinds } if kinds.is_empty() => {
            serve::worker(&config, &WorkerKind::ALL).await.map(|()| done)
        }
        Command::Worker { kinds } => serve::worker(&config, &kinds).await.map(|()| done),
        Command::All => serve::all(&config).await.map(|()| done),
        Command::Sandbox => serve::sandbox(&config).await.map(|()| done),
        Command::Migrate => migrate::run(&config).await.map(|()| done),
        Command::Doctor => doctor::run(&config).await,
        Command::Verify { json } => verify::run(&config, json).await,
        Command::Audit(options) => audit::run(&config, &options).await,
        Command::Stock(command) => stock::run(&config, command).await,
        Command::Replay(options) => replay::run(&config, options).await,
        Command::Bench(options) => bench::run(&config, config_file, options).await.map(|()| done),
        Command::Keys(command) => keys::run(&config, command).await.map(|()| done),
        Command::Locks(command) => locks::run(&config, command).await.map(|()| done),
        Command::Topology(command) => topology::run(&config, command).await,
        Command::DeadLetters(command) => dead_letters::run(&config, command).await,
        Command::Events(command) => events::run(&config, &command).await.map(|()| done),
        Command::Settings => Ok(done),
    }
}
