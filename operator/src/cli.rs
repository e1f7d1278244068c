//! Flags and environment of the program.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A Kubernetes operator for RocketMQ clusters.
#[derive(Debug, Parser)]
#[command(name = "rocket-operator", version, about)]
pub struct Cli {
    /// What to do; without it: run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of `run`.
    #[command(flatten)]
    pub run: Run,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator (the default)
    Run(Box<Run>),
    /// Print the custom resource definitions as YAML
    Crd {
        /// Write one file per definition into this folder instead
        #[arg(long)]
        out_dir: Option<PathBuf>,
    },
    /// Print the table of metrics, as docs/operator-metrics.md
    Metrics,
    /// Check that the API server is reachable and the definitions are installed; exits 0 or 1
    Check {
        /// Namespaces that must be readable; empty means all
        #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
        watch_namespaces: Vec<String>,
    },
}

/// Settings of `run`.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Namespaces to watch, separated by commas; empty means all
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Address of /metrics, /livez and /readyz
    #[arg(long, env = "METRICS_ADDR", default_value = "0.0.0.0:8080")]
    pub metrics_addr: SocketAddr,
    /// Whether several replicas elect one leader by a Lease
    #[arg(long, env = "LEADER_ELECT", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// Name of the Lease
    #[arg(long, env = "LEASE_NAME", default_value = "rocket-operator")]
    pub lease_name: String,
    /// Namespace of the Lease; without it the operator's own
    #[arg(long, env = "LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of this replica in the Lease and in events; without it the host's name
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Form of the log
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// Level of the log, or a filter such as info,kube=debug
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// Broker image: a repository to which spec.version is appended, or a whole reference with tag or digest
    #[arg(long, env = "BROKER_IMAGE", default_value = "rocketcluster/broker")]
    pub broker_image: String,
    /// DNS domain of the Kubernetes cluster
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Clusters that are worked on at the same time
    #[arg(long, env = "CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
}

impl Run {
    /// The namespaces to watch, without the empty words of an empty variable.
    pub fn namespaces(&self) -> Vec<String> {
        let mut namespaces: Vec<String> = self
            .watch_namespaces
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        namespaces.sort();
        namespaces.dedup();
        namespaces
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}
