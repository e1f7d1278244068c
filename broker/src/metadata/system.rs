//! Topics and groups that a broker has by itself: only those with a job in this broker.

use rocket_protocol::body::TopicConfig;
use rocket_protocol::body::route::perm;
use rocket_protocol::name::system_topic;

use crate::config::BrokerConfig;

/// Groups of tools and of RocketMQ's own programs (`MixAll`, `SubscriptionGroupManager.init`).
const GROUPS: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];
/// All other groups of RocketMQ itself start so.
const GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// Groups that exist from the first start on.
pub fn system_groups() -> &'static [&'static str] {
    &GROUPS
}

/// Whether a group belongs to RocketMQ itself.
pub fn is_system_group(group: &str) -> bool {
    GROUPS.contains(&group) || group.starts_with(GROUP_PREFIX)
}

/// Topics that exist from the first start on, as the configuration has it (`TopicConfigManager.init`).
pub fn system_topics(config: &BrokerConfig) -> Vec<TopicConfig> {
    let read_write = perm::READ | perm::WRITE;
    let if_enabled = |enabled: bool| {
        if enabled {
            perm::INHERIT | read_write
        } else {
            perm::INHERIT
        }
    };
    let levels = i32::try_from(config.message_delay_level.0.len()).unwrap_or(i32::MAX);
    let mut topics = vec![
        topic(system_topic::SELF_TEST, 1, read_write),
        topic(system_topic::BENCHMARK, 1024, read_write),
        topic(
            config.broker_cluster_name.as_str(),
            16,
            if_enabled(config.cluster_topic_enable),
        ),
        topic(&config.name(), 1, if_enabled(config.broker_topic_enable)),
        topic(system_topic::SCHEDULE, levels, read_write),
    ];
    if config.auto_create_topic_enable {
        let queues = i32::try_from(config.default_topic_queue_nums).unwrap_or(i32::MAX);
        topics.push(topic(
            system_topic::AUTO_CREATE,
            queues,
            perm::INHERIT | read_write,
        ));
    }
    if config.trace_topic_enable {
        topics.push(topic(config.msg_trace_topic_name.as_str(), 1, read_write));
    }
    topics
}

fn topic(name: &str, queues: i32, perm: i32) -> TopicConfig {
    TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm,
        ..TopicConfig::default()
    }
}
