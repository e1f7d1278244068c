//! From flags to checked configurations.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::Exit;
use super::args::{BrokerArgs, Common, NamesrvArgs, StandaloneArgs};
use crate::config::{BrokerConfig, Entry, NamesrvConfig, Settings, load};

pub(super) fn broker(args: &BrokerArgs) -> Result<BrokerConfig, Exit> {
    let flags = [
        args.data
            .as_ref()
            .map(|data| Entry::of_flag("--data", "storePathRootDir", data.display().to_string())),
        args.bind
            .map(|bind| Entry::of_flag("--bind", "bindAddress", bind.to_string())),
        args.replica
            .as_ref()
            .map(|name| Entry::of_flag("--replica", "replicaName", name.clone())),
        args.replication_address.as_ref().map(|address| {
            Entry::of_flag(
                "--replication-address",
                "replicationAddress",
                address.clone(),
            )
        }),
    ];
    checked(Vec::new(), flags, &args.common)
}

pub(super) fn namesrv(args: &NamesrvArgs) -> Result<NamesrvConfig, Exit> {
    let flags = [args
        .bind
        .map(|bind| Entry::of_flag("--bind", "bindAddress", bind.to_string()))];
    checked(Vec::new(), flags, &args.common)
}

/// The name server of a standalone process; only its address and port can be chosen, all else of the configuration is the broker's.
pub(super) fn standalone_namesrv(args: &StandaloneArgs, broker: &BrokerConfig) -> NamesrvConfig {
    NamesrvConfig {
        bind_address: broker.bind_address,
        listen_port: args.namesrv_port,
        kv_config_path: broker.store_path_root_dir.join("namesrv/kvConfig.json"),
        ..NamesrvConfig::default()
    }
}

pub(super) fn standalone_broker(args: &StandaloneArgs) -> Result<BrokerConfig, Exit> {
    let default = |key, value: &str| Entry::of_flag("standalone", key, value);
    let defaults = vec![
        default("brokerName", "broker-a"),
        default("bindAddress", &Ipv4Addr::LOCALHOST.to_string()),
        // A desk has little room: the first file of a kind is made at once.
        default("mappedFileSizeCommitLog", "67108864"),
        default("maxHashSlotNum", "250000"),
        default("maxIndexNum", "1000000"),
    ];
    let flags = [
        args.data
            .as_ref()
            .map(|data| Entry::of_flag("--data", "storePathRootDir", data.display().to_string())),
        args.bind
            .map(|bind| Entry::of_flag("--bind", "bindAddress", bind.to_string())),
        args.broker_port
            .map(|port| Entry::of_flag("--broker-port", "listenPort", port.to_string())),
        args.metrics_port
            .map(|port| Entry::of_flag("--metrics-port", "metricsPort", port.to_string())),
    ];
    checked(defaults, flags, &args.common)
}

/// Where a broker on the same machine reaches a server that listens on `bound`.
pub(super) fn reachable(bound: IpAddr) -> IpAddr {
    if bound.is_unspecified() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        bound
    }
}

fn checked<S: Settings>(
    defaults: Vec<Entry>,
    flags: impl IntoIterator<Item = Option<Entry>>,
    common: &Common,
) -> Result<S, Exit> {
    let mut overrides: Vec<Entry> = flags.into_iter().flatten().collect();
    for set in &common.set {
        overrides.push(Entry::from_flag(set).map_err(Exit::usage)?);
    }
    let loaded =
        load(defaults, common.config.as_deref().map(Path::new), overrides).map_err(Exit::usage)?;
    for warning in loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded.config)
}
