//! `rocket-broker`: the command line is in [`rocket_broker::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Gives memory back that nobody uses; `docs/memory.md` says what was measured. Its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    #[cfg(feature = "mutants")]
    if let Some(name) = std::env::var_os("ROCKET_MUTANT")
        && let Err(error) = rocket_broker::mutant::choose(&name.to_string_lossy())
    {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{error}\n").as_bytes());
        return ExitCode::FAILURE;
    }
    rocket_broker::cli::main()
}
