//! Writes the fixtures again: `cargo run -p conformance --bin golden -- wire` (or `store`).
//!
//! `wire` records Apache's clients against Apache's name server and broker into `tests/fixtures/wire/`; `store` lets Apache's broker
//! write small stores into `tests/fixtures/store/`.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use conformance::programs::programs;

mod store;
mod wire;

fn main() -> Result<()> {
    let programs = programs().map_err(|why| anyhow!("{why}"))?;
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures"));
    match std::env::args().nth(1).as_deref() {
        Some("wire") => wire::record(programs, &fixtures.join("wire")),
        Some("store") => store::record(programs, &fixtures.join("store")),
        _ => bail!("usage: golden wire|store"),
    }
}

/// One line of progress; a maintainer waits a minute for this program.
fn say(line: &str) -> Result<()> {
    writeln!(std::io::stderr(), "{line}")?;
    Ok(())
}
