//! Between the wire's shapes and the route table's.

use std::collections::BTreeMap;
use std::time::Duration;

use rocket_protocol::body::{
    BrokerData, DataVersion, QueueData, RegisterBrokerBody, TopicConfigTable, TopicList,
};
use rocket_protocol::header::RegisterBrokerHeader;
use rocket_protocol::{Command, ResponseCode};

use super::{Refusal, success};
use crate::table::{Group, Queues, Registration, Version};

/// From this version on a registration has a body of its own shape (`MQVersion.V3_0_11`).
const VERSION_WITH_BODY: i32 = 37;
/// From this version on a compressed registration carries queue mappings (`MQVersion.V5_0_0`).
const VERSION_WITH_MAPPINGS: i32 = 413;
/// Bytes of a name or an address; routes carry them to every client.
const TEXT_BYTES_MAX: usize = 1_024;

/// Java's `UtilAll.crc32`: without the sign bit.
pub(super) fn crc32(body: &[u8]) -> i32 {
    (crc32fast::hash(body) & 0x7fff_ffff).cast_signed()
}

pub(super) fn read_topics(
    request: &Command,
    header: &RegisterBrokerHeader,
    body: &[u8],
) -> Result<Option<TopicConfigTable>, String> {
    if body.is_empty() {
        return Ok(None);
    }
    if request.version < VERSION_WITH_BODY {
        return TopicConfigTable::parse(body)
            .map(Some)
            .map_err(|error| error.to_string());
    }
    let parsed = if header.compressed {
        RegisterBrokerBody::parse_compressed(body, request.version >= VERSION_WITH_MAPPINGS)
            .map_err(|error| error.to_string())
    } else {
        RegisterBrokerBody::parse(body).map_err(|error| error.to_string())
    };
    parsed.map(|body| Some(body.topic_config_serialize_wrapper))
}

pub(super) fn registration(
    header: &RegisterBrokerHeader,
    topics: Option<&TopicConfigTable>,
    zone: Option<&str>,
) -> Result<Registration, Refusal> {
    // Clients split routes at these without a parser; one bad registration must not break everybody's route.
    let long = |text: &str| text.len() > TEXT_BYTES_MAX;
    let bad = |text: &str| {
        text.is_empty()
            || long(text)
            || text.contains(|c: char| matches!(c, ',' | '"' | '{' | '}') || c.is_control())
    };
    if [
        &header.cluster_name,
        &header.broker_name,
        &header.broker_addr,
    ]
    .into_iter()
    .any(|text| bad(text))
    {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_ERROR,
            "register broker failed: bad cluster, broker name or address",
        ));
    }
    if long(&header.ha_server_addr) || zone.is_some_and(long) {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_ERROR,
            format!("register broker failed: an address or a zone beyond {TEXT_BYTES_MAX} bytes"),
        ));
    }
    let id = u64::try_from(header.broker_id).map_err(|_| {
        Refusal::new(
            ResponseCode::SYSTEM_ERROR,
            "register broker failed: negative broker id",
        )
    })?;
    let expiry = header
        .heartbeat_timeout_millis
        .and_then(|millis| u64::try_from(millis).ok())
        .filter(|millis| *millis > 0);
    Ok(Registration {
        cluster: header.cluster_name.to_string(),
        name: header.broker_name.to_string(),
        addr: header.broker_addr.to_string(),
        id,
        ha_addr: header.ha_server_addr.to_string(),
        expiry: expiry.map(Duration::from_millis),
        acting_master: header.enable_acting_master,
        zone: zone.map(str::to_owned),
        topics: topics.map(|table| {
            table
                .topic_config_table
                .iter()
                .map(|(name, topic)| (name.clone(), queues(topic)))
                .collect()
        }),
        version: topics
            .map(|table| version(&table.data_version))
            .unwrap_or_default(),
    })
}

pub(super) fn version(version: &DataVersion) -> Version {
    Version {
        state: version.state_version,
        timestamp: version.timestamp,
        counter: version.counter,
    }
}

pub(super) fn queues(topic: &rocket_protocol::body::TopicConfig) -> Queues {
    let unsigned = |number: i32| u32::try_from(number).unwrap_or_default();
    Queues {
        read: unsigned(topic.read_queue_nums),
        write: unsigned(topic.write_queue_nums),
        perm: unsigned(topic.perm),
        sys_flag: topic.topic_sys_flag.cast_unsigned(),
    }
}

pub(super) fn queue_data(name: &str, queues: Queues) -> QueueData {
    let signed = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    QueueData {
        broker_name: name.to_owned(),
        perm: signed(queues.perm),
        read_queue_nums: signed(queues.read),
        topic_sys_flag: queues.sys_flag.cast_signed(),
        write_queue_nums: signed(queues.write),
    }
}

pub(super) fn broker_data(name: &str, group: &Group) -> BrokerData {
    BrokerData {
        broker_addrs: addresses(group),
        broker_name: name.to_owned(),
        cluster: group.cluster.clone(),
        enable_acting_master: group.acting_master,
        zone_name: group.zone.clone(),
    }
}

pub(super) fn addresses(group: &Group) -> BTreeMap<i64, String> {
    group
        .addrs
        .iter()
        .map(|(id, addr)| (i64::try_from(*id).unwrap_or(i64::MAX), addr.clone()))
        .collect()
}

pub(super) fn topic_list<'a>(
    topics: impl IntoIterator<Item = &'a str>,
    broker_addr: Option<String>,
) -> Command {
    let list = TopicList {
        broker_addr,
        topic_list: topics.into_iter().map(str::to_owned).collect(),
    };
    success().with_body(list.to_json())
}
