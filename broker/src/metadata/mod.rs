//! What the broker knows beside messages: topics, consumer groups and the positions of groups.
//!
//! Kept in files of Apache's shapes under `config/`. Topics and groups are on disk before a request that changed them is
//! answered; positions are written every few seconds and at stop, because clients only lose work done twice by that.

mod delay_offsets;
mod file;
mod groups;
mod offsets;
mod system;
mod topics;
mod writer;

use std::path::Path;

use rocket_protocol::UnixMillis;
use rocket_protocol::body::DataVersion;

pub use delay_offsets::DelayOffsets;
pub use file::{FileError, JsonFile};
pub use groups::{CreateGroupError, Groups};
pub use offsets::{Offsets, Position};
pub use system::{is_system_group, system_groups, system_topics};
pub use topics::{CreateError, Topics, apply_attributes};

use crate::config::BrokerConfig;

/// All metadata of a broker.
#[derive(Debug)]
pub struct Metadata {
    /// Topics: `topics.json`.
    pub topics: Topics,
    /// Consumer groups: `subscriptionGroup.json`.
    pub groups: Groups,
    /// Positions of groups: `consumerOffset.json`.
    pub offsets: Offsets,
    /// Positions of delay levels: `delayOffset.json`.
    pub delay: DelayOffsets,
}

impl Metadata {
    /// Reads the files under `dir/config` and adds the topics and groups that a broker has by itself.
    ///
    /// # Errors
    /// When a file and its `.bak` are damaged, or the folder cannot be used: the broker must not start then.
    pub fn open(dir: &Path, config: &BrokerConfig, now: UnixMillis) -> Result<Self, FileError> {
        let dir = dir.join("config");
        let metadata = Self {
            topics: Topics::open(&dir)?,
            groups: Groups::open(&dir)?,
            offsets: Offsets::open(&dir)?,
            delay: DelayOffsets::open(&dir)?,
        };
        metadata.topics.ensure_system(config, now)?;
        metadata.groups.ensure_system(now)?;
        Ok(metadata)
    }

    /// Writes what is not on disk yet: the positions.
    pub fn flush(&self, now: UnixMillis) -> Result<(), FileError> {
        let offsets = self.offsets.flush(now);
        // Whatever became of the other file: each costs work done twice.
        let delay = self.delay.flush(now);
        offsets.and(delay)
    }
}

/// The version after one more change.
fn next_version(version: DataVersion, now: UnixMillis) -> DataVersion {
    DataVersion {
        counter: version.counter + 1,
        state_version: version.state_version,
        timestamp: now.0,
    }
}

#[cfg(test)]
mod tests {
    use rocket_protocol::{GroupName, QueueId, TopicName};

    use super::*;

    #[test]
    fn positions_of_delay_levels_are_written_when_those_of_groups_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let config = BrokerConfig::default();
        let metadata = Metadata::open(dir.path(), &config, UnixMillis(0)).unwrap();
        let (topic, group) = (
            TopicName::parse("t").unwrap(),
            GroupName::parse("g").unwrap(),
        );
        metadata.offsets.commit(&topic, &group, QueueId(0), 1);
        metadata.delay.set(2, 7);
        // A folder where the file is made.
        std::fs::create_dir(dir.path().join("config/consumerOffset.json.tmp")).unwrap();
        assert!(metadata.flush(UnixMillis(1)).is_err());
        let config = dir.path().join("config");
        assert_eq!(DelayOffsets::open(&config).unwrap().get(2), 7);
    }
}
