//! Flags.

use clap::{Parser, Subcommand};

/// A message broker and name server that speaks RocketMQ's wire protocol.
#[derive(Debug, Parser)]
#[command(name = "rocket-broker", version, disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print every configuration key with its type, default, range and meaning.
    Config {
        /// As docs/configuration.md.
        #[arg(long)]
        markdown: bool,
        /// The table of metrics instead, as docs/metrics.md.
        #[arg(long, conflicts_with = "markdown")]
        metrics: bool,
    },
}
