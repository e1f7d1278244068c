//! Flags.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::logging::LogFormat;

/// A message broker and name server that speaks RocketMQ's wire protocol.
#[derive(Debug, Parser)]
#[command(name = "rocket-broker", version, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  rocket-broker standalone
      name server on 127.0.0.1:9876 and broker on 127.0.0.1:10911 in one process, data in ./rocket-data
  rocket-broker namesrv --set listenPort=9876
  rocket-broker broker --config broker.conf --data /var/lib/rocket
  rocket-broker broker --set namesrvAddr=ns-0:9876;ns-1:9876 --set flushDiskType=SYNC_FLUSH
  rocket-broker config
      every key of broker.conf, what it does and its default
  rocket-broker export --data /data --out /backup/store
      a stopped broker's data for Apache's broker

Status: 0 stopped in good order, 1 could not start or did not stop in time, 2 wrong flags or configuration,
3 the store failed (look at the log before you start it again), 4 the replica of a group is halted (its last line says
why, and starting it again changes nothing by itself), 5 start it again (the end of its log is to be cut off).";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a broker.
    #[command(after_help = "\
The configuration is RocketMQ's broker.conf, or TOML when the file's name ends in .toml; see `rocket-broker config`.

SIGTERM and SIGINT stop the broker in order: it accepts nothing new, answers what is in flight, unregisters from all
name servers, flushes and closes its store. A second signal ends it at once.

Example:
  rocket-broker broker --config broker.conf --data /data --replica c-0-1")]
    Broker(BrokerArgs),
    /// Run a name server.
    #[command(after_help = "\
Example:
  rocket-broker namesrv --set listenPort=9876 --set kvConfigPath=/data/kvConfig.json")]
    Namesrv(NamesrvArgs),
    /// Run a name server and a broker in one process, for a desk or a test.
    #[command(after_help = "\
Prints one line for each address that it listens on, and `ready` when all of them are served.
Topics are created by the first send, files are small (64 MiB); everything else is as in `broker`.

Example:
  rocket-broker standalone --data /tmp/rocket --set flushDiskType=SYNC_FLUSH")]
    Standalone(StandaloneArgs),
    /// Print every configuration key with its type, default, range and meaning.
    Config {
        /// As docs/configuration.md.
        #[arg(long)]
        markdown: bool,
        /// The table of metrics instead, as docs/metrics.md.
        #[arg(long, conflicts_with = "markdown")]
        metrics: bool,
    },
    /// Copy a stopped broker's data into a new folder that Apache's broker opens.
    #[command(after_help = "\
The broker that wrote the data must be stopped in order; after a crash start it once, so that it recovers, and stop it.
The copy holds commit log, consume queues, index and configuration in Apache's layout, and nothing of ours.

Example:
  rocket-broker export --data /data --out /backup/store")]
    Export(ExportArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Folder of all data of a stopped broker.
    #[arg(long, value_name = "DIR")]
    pub(super) data: PathBuf,
    /// Folder to make; it must not exist.
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
}

/// What every server takes.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Override one key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// Seconds that an orderly stop may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(super) grace: u64,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value = "text")]
    pub(super) log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,rocket_store=debug.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "ROCKET_LOG"
    )]
    pub(super) log_level: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct BrokerArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Folder of all data (key storePathRootDir).
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Address to listen on (key bindAddress).
    #[arg(long, value_name = "ADDRESS")]
    pub(super) bind: Option<IpAddr>,
    /// Name of this replica in its group (key replicaName).
    #[arg(long, value_name = "NAME")]
    pub(super) replica: Option<String>,
    /// Where other replicas of its group reach this one (key replicationAddress).
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) replication_address: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct NamesrvArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Address to listen on (key bindAddress).
    #[arg(long, value_name = "ADDRESS")]
    pub(super) bind: Option<IpAddr>,
}

#[derive(Debug, clap::Args)]
pub(super) struct StandaloneArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Folder of all data [default: rocket-data].
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Address to listen on and to tell clients [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    pub(super) bind: Option<IpAddr>,
    /// Port of the name server; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 9876)]
    pub(super) namesrv_port: u16,
    /// Port of the broker; 0 takes a free one [default: 10911].
    #[arg(long, value_name = "PORT")]
    pub(super) broker_port: Option<u16>,
    /// Port of /metrics, /livez and /readyz; 0 takes a free one [default: 5557].
    #[arg(long, value_name = "PORT")]
    pub(super) metrics_port: Option<u16>,
}
