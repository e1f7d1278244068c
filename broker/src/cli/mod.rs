//! The command line: what each subcommand takes, and the statuses with which the process leaves.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done, or stopped in good order |
//! | 1 | could not start, or did not stop within the grace period |
//! | 2 | the command line or the configuration is wrong |
//! | 3 | the store failed (a flush that did not succeed, a damaged log): do not restart blindly |

mod args;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::page;
use args::{Args, Command};

/// The configuration or the command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// The store failed.
pub const EXIT_STORE: u8 = 3;

/// Parses the command line, runs, and returns the status.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Command::Broker(_)
        | Command::Namesrv(_)
        | Command::Standalone(_)
        | Command::Export { .. } => ExitCode::FAILURE,
        Command::Config { metrics: true, .. } => print(&crate::metrics::markdown()),
        Command::Config { markdown: true, .. } => print(&page::markdown()),
        Command::Config { .. } => print(&page::text()),
    }
}

/// Writes to standard output; a reader that went away (`| head`) is not an error.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
