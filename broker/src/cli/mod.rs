//! The command line: what each subcommand takes, and the statuses with which the process leaves.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done, or stopped in good order |
//! | 1 | could not start, or did not stop within the grace period |
//! | 2 | the command line or the configuration is wrong |
//! | 3 | the store failed (a flush that did not succeed, a damaged log): do not restart blindly |
//! | 4 | the replica of a group must not go on: a person must look at it |
//! | 5 | stopped in order because only a start can do what is next: start it again |

mod args;
mod configure;
mod serve;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::page;
use args::{Args, Command, Common, ExportArgs};

/// Stopped in good order.
pub const EXIT_OK: u8 = 0;
/// Could not start or stop.
pub const EXIT_FAILURE: u8 = 1;
/// The configuration or the command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// The store failed.
pub const EXIT_STORE: u8 = 3;
/// The replica must not go on.
pub const EXIT_HALTED: u8 = 4;
/// To be started again.
pub const EXIT_RESTART: u8 = 5;

/// Why the process leaves before it served, with its status.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) status: u8,
    pub(crate) reason: String,
}

impl Exit {
    fn failure(reason: impl fmt::Display) -> Self {
        Self {
            status: EXIT_FAILURE,
            reason: reason.to_string(),
        }
    }

    fn usage(reason: impl fmt::Display) -> Self {
        Self {
            status: EXIT_USAGE,
            reason: reason.to_string(),
        }
    }
}

/// Parses the command line, runs, and returns the status.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Command::Config { metrics: true, .. } => print(&crate::metrics::markdown()),
        Command::Config { markdown: true, .. } => print(&page::markdown()),
        Command::Config { .. } => print(&page::text()),
        Command::Broker(args) => prepare(&args.common).and_then(|()| serve::broker(&args)),
        Command::Namesrv(args) => prepare(&args.common).and_then(|()| serve::namesrv(&args)),
        Command::Standalone(args) => prepare(&args.common).and_then(|()| serve::standalone(&args)),
        Command::Export(args) => export(&args),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(exit) => {
            // Not a log line: a person made a mistake at a terminal, or a supervisor shows the last line.
            let _ = writeln!(std::io::stderr(), "rocket-broker: {}", exit.reason);
            ExitCode::from(exit.status)
        }
    }
}

fn prepare(common: &Common) -> Result<(), Exit> {
    crate::logging::start(common.log_format, &common.log_level).map_err(Exit::usage)
}

fn export(args: &ExportArgs) -> Result<u8, Exit> {
    let report =
        rocket_store::export::to_apache_layout(&args.data, &args.out).map_err(|error| {
            Exit::failure(format!("nothing to use in {}: {error}", args.out.display()))
        })?;
    let (files, bytes) = (report.files, report.bytes);
    print(&format!(
        "{files} files, {bytes} bytes in {}\n",
        args.out.display()
    ))
}

/// Writes to standard output; a reader that went away (`| head`) is not an error.
fn print(text: &str) -> Result<u8, Exit> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Exit::failure(error)),
        _ => Ok(EXIT_OK),
    }
}
