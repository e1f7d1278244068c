//! `rocket-broker`: the command line is in [`rocket_broker::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    rocket_broker::cli::main()
}
