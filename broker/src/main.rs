//! `rocket-broker`: the command line is in [`rocket_broker::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Gives memory back that nobody uses; `docs/memory.md` says what was measured. Its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    rocket_broker::cli::main()
}
