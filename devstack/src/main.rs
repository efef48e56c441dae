//! The `devstack` command, for development only.
//!
//! Owns the exit code and the error line. Must not hold any logic of the servers: that is the library's.

mod cli;
mod control;
mod foreground;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("devstack: {error:#}");
            ExitCode::FAILURE
        }
    }
}
