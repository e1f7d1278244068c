//! `rocket-bench`: flags, progress and output.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool answers on its standard output"
)]

mod cli;

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    cli::run()
}
