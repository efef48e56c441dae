//! The binary `holdfast`: see [`holdfast::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast::cli::main()
}
