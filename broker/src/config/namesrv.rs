//! The name server's keys.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Problem;
use super::ignored;
use super::table::{Rule, settings};

settings! {
    /// A name server's checked configuration. Every field is a row of the key table.
    pub struct NamesrvConfig ignoring ignored::NAMESRV, example "namesrv.conf",
    "Name server" {
        /// Address to listen on.
        bind_address: IpAddr, "bindAddress" = "0.0.0.0", Rule::Any, "", Restart, RocketMQ;
        /// Port for clients and brokers; 0 takes a free one.
        listen_port: u16, "listenPort" = "9876", Rule::Between(0, 65535), "", Restart, RocketMQ;
        /// Port of /metrics, /livez and /readyz; 0 takes a free one.
        metrics_port: u16, "metricsPort" = "5557", Rule::Between(0, 65535), "", Restart, Ours;
        /// File that keeps the key-value settings (ordered topics among them).
        kv_config_path: PathBuf, "kvConfigPath" = "namesrv/kvConfig.json", Rule::Any, "", Restart, RocketMQ;
        /// Whether routes carry the order settings of their topic.
        order_message_enable: bool, "orderMessageEnable" = "false", Rule::Any, "", Restart, RocketMQ;
        /// Whether the list of all topics may be asked for.
        enable_all_topic_list: bool, "enableAllTopicList" = "true", Rule::Any, "", Restart, RocketMQ;
        /// Whether the smallest living slave stands in for a missing master in routes.
        support_acting_master: bool, "supportActingMaster" = "false", Rule::Any, "", Restart, RocketMQ;
        /// Whether topics that a registration no longer has are taken from the routes of its broker.
        delete_topic_with_broker_registration: bool, "deleteTopicWithBrokerRegistration" = "false", Rule::Any, "", Restart, RocketMQ;
        /// How often brokers that fell silent are looked for.
        scan_not_active_broker_interval: Duration, "scanNotActiveBrokerInterval" = "5000", Rule::Between(100, 600_000), "ms", Restart, RocketMQ;
        /// Silence in both directions after which a connection is closed.
        server_channel_max_idle_time: Duration, "serverChannelMaxIdleTimeSeconds" = "120", Rule::Between(1, 86_400), "s", Restart, RocketMQ;
        /// Connections at a time; above it new ones are closed.
        connections_max: usize, "connectionsMax" = "20000", Rule::Between(1, 1_000_000), "", Restart, Ours;
    }
}

impl NamesrvConfig {
    #[expect(
        clippy::unused_self,
        reason = "the table's macro asks every configuration"
    )]
    fn find_contradictions(&self, _given: &dyn Fn(&str) -> bool) -> Vec<Problem> {
        Vec::new()
    }
}
