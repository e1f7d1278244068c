//! The body of REGISTER_BROKER, plain and compressed (`RegisterBrokerBody.java`).
//!
//! The compressed form is a zlib stream of
//! ```text
//! length i32, dataVersion JSON
//! count i32, each: length i32, `topic readQueues writeQueues perm filterType [attributes JSON]`
//! length i32, filterServerList JSON
//! count i32, each: length i32, static topic mapping JSON        (5.0 and later)
//! ```
//! which drops `order` and `topicSysFlag`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use bytes::{Buf, BufMut, Bytes};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::topic::{DataVersion, TopicConfig, TopicConfigTable, TopicFilterType};
use crate::json::{self, JsonError};

/// Topics that a broker may register.
pub const REGISTERED_TOPICS_MAX: usize = 500_000;
/// Most bytes that a compressed body may become: as many topics as there may be, with 60 bytes each.
pub const INFLATED_BYTES_MAX: u64 = 32 << 20;

/// What a broker tells a name server of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterBrokerBody {
    /// Filter servers: obsolete, empty.
    pub filter_server_list: Vec<String>,
    /// The broker's topics.
    pub topic_config_serialize_wrapper: TopicConfigTable,
}

/// Why a compressed body cannot be read.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// Not a zlib stream.
    #[error("cannot inflate the body")]
    Inflate(#[source] std::io::Error),
    /// Larger than [`INFLATED_BYTES_MAX`].
    #[error("the body inflates to more than {INFLATED_BYTES_MAX} bytes")]
    TooLarge,
    /// More topics than [`REGISTERED_TOPICS_MAX`].
    #[error("the body has {0} topics, and {REGISTERED_TOPICS_MAX} are taken")]
    TooManyTopics(usize),
    /// Ends too early, or a length or count is impossible.
    #[error("the body is cut off in {0}")]
    Torn(&'static str),
    /// A topic's line is not what it should be.
    #[error("malformed topic line")]
    TopicLine,
    /// A part that is JSON is not.
    #[error("malformed part")]
    Json(#[from] JsonError),
}

impl RegisterBrokerBody {
    /// Reads the compressed form. `has_mappings`: the sender is 5.0 or later (version ordinal 413).
    pub fn parse_compressed(body: &[u8], has_mappings: bool) -> Result<Self, RegisterError> {
        let mut inflated = Vec::new();
        let mut decoder = ZlibDecoder::new(body).take(INFLATED_BYTES_MAX + 1);
        decoder
            .read_to_end(&mut inflated)
            .map_err(RegisterError::Inflate)?;
        if u64::try_from(inflated.len()).is_ok_and(|len| len > INFLATED_BYTES_MAX) {
            return Err(RegisterError::TooLarge);
        }
        let mut rest = inflated.as_slice();
        let data_version: DataVersion = json::parse_as(block(&mut rest, "dataVersion")?)?;
        let mut topics = BTreeMap::new();
        let count_of_topics = count(&mut rest, "topics")?;
        if count_of_topics > REGISTERED_TOPICS_MAX {
            return Err(RegisterError::TooManyTopics(count_of_topics));
        }
        for _ in 0..count_of_topics {
            let line = std::str::from_utf8(block(&mut rest, "topics")?)
                .map_err(|_| RegisterError::TopicLine)?;
            let topic = parse_line(line).ok_or(RegisterError::TopicLine)?;
            topics.insert(topic.topic_name.clone(), topic);
        }
        let filter_server_list = match block(&mut rest, "filterServerList")? {
            [] => Vec::new(),
            text => json::parse_as(text)?,
        };
        let mut mappings = BTreeMap::new();
        if has_mappings && !rest.is_empty() {
            for _ in 0..count(&mut rest, "mappings")? {
                let mapping: Value = json::parse_as(block(&mut rest, "mappings")?)?;
                let topic = mapping
                    .get("topic")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                mappings.insert(topic, mapping);
            }
        }
        Ok(Self {
            filter_server_list,
            topic_config_serialize_wrapper: TopicConfigTable {
                data_version,
                mapping_data_version: None,
                topic_config_table: topics,
                topic_queue_mapping_detail_map: BTreeMap::new(),
                topic_queue_mapping_info_map: mappings,
            },
        })
    }

    /// Writes the compressed form of version 5.0 and later.
    pub fn to_compressed(&self) -> Bytes {
        let table = &self.topic_config_serialize_wrapper;
        let mut plain = Vec::new();
        put_block(&table.data_version.to_json(), &mut plain);
        put_count(table.topic_config_table.len(), &mut plain);
        for topic in table.topic_config_table.values() {
            put_block(line(topic).as_bytes(), &mut plain);
        }
        put_block(&json::to_json(&self.filter_server_list), &mut plain);
        put_count(table.topic_queue_mapping_info_map.len(), &mut plain);
        for mapping in table.topic_queue_mapping_info_map.values() {
            put_block(&json::to_json(mapping), &mut plain);
        }
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        let deflated = encoder.write_all(&plain).and_then(|()| encoder.finish());
        // Writing to memory does not fail.
        deflated.unwrap_or_default().into()
    }
}

fn line(topic: &TopicConfig) -> String {
    let mut line = format!(
        "{} {} {} {} {}",
        topic.topic_name,
        topic.read_queue_nums,
        topic.write_queue_nums,
        topic.perm,
        topic.topic_filter_type.name()
    );
    if !topic.attributes.is_empty() {
        line.push(' ');
        line.push_str(&String::from_utf8_lossy(&json::to_json(&topic.attributes)));
    }
    line
}

fn parse_line(line: &str) -> Option<TopicConfig> {
    let mut parts = line.splitn(6, ' ');
    let mut next = || parts.next();
    Some(TopicConfig {
        topic_name: next()?.to_owned(),
        read_queue_nums: next()?.parse().ok()?,
        write_queue_nums: next()?.parse().ok()?,
        perm: next()?.parse().ok()?,
        topic_filter_type: TopicFilterType::from_name(next()?)?,
        attributes: match next() {
            None | Some("") => BTreeMap::new(),
            Some(text) => json::parse_as(text.as_bytes()).ok()?,
        },
        ..TopicConfig::default()
    })
}

fn count(rest: &mut &[u8], what: &'static str) -> Result<usize, RegisterError> {
    let count = rest.try_get_i32().map_err(|_| RegisterError::Torn(what))?;
    usize::try_from(count).map_err(|_| RegisterError::Torn(what))
}

fn block<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], RegisterError> {
    let len = count(rest, what)?;
    let (block, tail) = rest
        .split_at_checked(len)
        .ok_or(RegisterError::Torn(what))?;
    *rest = tail;
    Ok(block)
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

fn put_block(block: &[u8], out: &mut Vec<u8>) {
    put_count(block.len(), out);
    out.put_slice(block);
}
