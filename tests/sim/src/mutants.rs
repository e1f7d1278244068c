//! Rules broken on purpose (docs/replication.md §13.3): which of them the simulation notices, and in how many schedules.
//!
//! Rules of the store are switched on for a whole process, so each of those is counted by a process of its own.

use anyhow::Context;
use clap::Args;
use rocket_replication::mutations::Mutations;

#[cfg(feature = "mutants")]
mod rows;

/// What to make.
#[derive(Args, Debug)]
pub struct Wanted {
    /// Schedules for each row
    #[arg(long, default_value_t = 500)]
    pub schedules: u64,
    /// Threads
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// Only rows that name this rule, as M4
    #[arg(long)]
    pub only: Option<String>,
    /// Write the table between the markers of this file
    #[arg(long, value_name = "FILE")]
    pub write: Option<std::path::PathBuf>,
    /// Count one row of the store's, and print that
    #[arg(long, hide = true)]
    pub count: Option<String>,
}

/// Rules by their names.
///
/// # Errors
/// There is no such rule, or this build has no switches.
pub fn named(names: &[String]) -> anyhow::Result<Mutations> {
    #[cfg(feature = "mutants")]
    return rows::named(names);
    #[cfg(not(feature = "mutants"))]
    {
        if !names.is_empty() {
            anyhow::bail!(
                "this build has no switches: cargo run --release -p sim --features mutants -- …"
            );
        }
        Ok(Mutations::default())
    }
}

/// Makes the table.
///
/// # Errors
/// This build has no switches; or the file cannot be written.
pub fn table(wanted: &Wanted) -> anyhow::Result<()> {
    #[cfg(feature = "mutants")]
    return rows::table(wanted);
    #[cfg(not(feature = "mutants"))]
    anyhow::bail!(
        "no {} schedules: this build has no switches: cargo run --release -p sim --features mutants -- mutants",
        wanted.schedules
    )
}

const BEGIN: &str = "<!-- mutants: made by `cargo run --release -p sim --features mutants -- mutants --write docs/replication.md` -->";
const END: &str = "<!-- mutants: end -->";

/// `page` with `table` between the markers.
///
/// # Errors
/// The page has no markers.
pub fn insert(page: &str, table: &str) -> anyhow::Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .context("the page has no mark where the table begins")?;
    let (_, after) = rest
        .split_once(END)
        .context("the page has no mark where the table ends")?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_replaces_what_was_between_the_markers() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let expected = format!("a\n{BEGIN}\nnew\n{END}\nb\n");
        assert_eq!(insert(&page, "new\n").unwrap(), expected);
        assert!(insert("nothing", "new").is_err());
    }
}
