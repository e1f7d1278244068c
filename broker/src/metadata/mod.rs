//! What the broker knows beside messages: topics, consumer groups and the positions of groups.
//!
//! Kept in files of Apache's shapes under `config/`. Topics and groups are on disk before a request that changed them is
//! answered; positions are written every few seconds and at stop, because clients only lose work done twice by that.
//!
//! In a group of replicas the truth is in the log that all of them have, and the files are what somebody else may want to read:
//!
//! ```text
//! request on the master ─ append a change ─▶ log ─ committed ─▶ queue of changes ─ step ─▶ what is in memory, here and on every other replica
//!                                                                    ▲                      └─▶ config/rocket-metadata.json, now and then
//!                        positions that moved, every second ─────────┤
//!                        a snapshot, in every file of the log ───────┘
//! ```

mod cache;
mod change;
mod delay_offsets;
mod ends;
mod file;
mod fold;
mod follow;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod groups;
mod lead;
mod log;
mod offsets;
mod search;
mod shared;
mod state;
mod system;
mod topics;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::body::DataVersion;
use rocket_protocol::{QueueId, TopicName, UnixMillis};

pub use delay_offsets::DelayOffsets;
pub use file::{FileError, JsonFile};
pub use fold::Newer;
pub use follow::Following;
pub use groups::{CreateGroupError, Groups};
pub use lead::LeadError;
pub use log::{LogError, Wake};
pub use offsets::{Offsets, Position};
pub use system::{is_system_group, system_groups, system_topics};
pub use topics::{CreateError, Topics, apply_attributes};

use crate::config::BrokerConfig;
use crate::processor::BrokerStore;
use cache::Cache;
use fold::Replica;
use log::ChangeLog;

/// How often positions are told to the log of a group, at least.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

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
    /// Of a replica of a group.
    replica: Option<Replica>,
}

impl Metadata {
    /// Reads the files under `dir/config` and adds the topics and groups that a broker has by itself.
    ///
    /// # Errors
    /// When a file and its `.bak` are damaged, or the folder cannot be used: the broker must not start then.
    pub fn open(dir: &Path, config: &BrokerConfig, now: UnixMillis) -> Result<Self, FileError> {
        let metadata = Self::read(&dir.join("config"), None)?;
        metadata.topics.ensure_system(config, now)?;
        metadata.groups.ensure_system(now)?;
        Ok(metadata)
    }

    /// As [`Metadata::open`] for a replica of a group, after its store was opened and before anything is appended: what was kept beside
    /// the log is believed only if the log still says so. Folds what is visible. `wake` is to hear of the store's arrivals.
    ///
    /// # Errors
    /// As [`Metadata::open`].
    pub fn open_replica(
        dir: &Path,
        config: &BrokerConfig,
        now: UnixMillis,
        store: &Arc<BrokerStore>,
        wake: Wake,
    ) -> Result<Self, FileError> {
        let dir = dir.join("config");
        let log = Arc::new(ChangeLog::new(store, wake));
        let mut metadata = Self::read(&dir, Some(&log))?;
        metadata.topics.ensure_system(config, now)?;
        metadata.groups.ensure_system(now)?;
        let replica = Replica::new(log, Cache::new(&dir)?, config.clone());
        metadata.replica = Some(replica);
        if let Some(replica) = &metadata.replica {
            metadata.recall(replica)?;
        }
        Ok(metadata)
    }

    fn read(dir: &Path, log: Option<&Arc<ChangeLog>>) -> Result<Self, FileError> {
        Ok(Self {
            topics: Topics::open(dir, log.cloned())?,
            groups: Groups::open(dir, log.cloned())?,
            offsets: Offsets::open(dir)?,
            delay: DelayOffsets::open(dir)?,
            replica: None,
        })
    }

    /// Whether this broker is a replica of a group: then a deleted topic's messages are hidden by the change that deletes it.
    pub fn is_replica(&self) -> bool {
        self.replica.is_some()
    }

    /// Lowers positions that lie behind the `end` of their queue to it, those of delay levels too, and writes them before anything is taken. For a
    /// broker that stands alone, when its queues are whole.
    ///
    /// # Errors
    /// They could not be written.
    pub fn lower(
        &self,
        end: &dyn Fn(&TopicName, QueueId) -> i64,
        now: UnixMillis,
    ) -> Result<(), FileError> {
        let (positions, levels) = (self.offsets.lower(end), self.delay.lower(end));
        if positions + levels == 0 {
            return Ok(());
        }
        tracing::warn!(
            positions,
            levels,
            "positions lay behind the ends of their queues, as a crash has taken more of the log than of them, and were lowered"
        );
        self.flush(now)
    }

    /// Writes what is not on disk yet: the positions. In a group the master tells the log.
    pub fn flush(&self, now: UnixMillis) -> Result<(), FileError> {
        if let Some(replica) = &self.replica {
            return self.tell(replica, now);
        }
        let offsets = self.offsets.flush(now);
        // Whatever became of the other file: each costs work done twice.
        let delay = self.delay.flush(now);
        offsets.and(delay)
    }

    /// As [`Metadata::flush`] before the store is closed. In a group it is written too what was folded.
    pub fn close(&self, now: UnixMillis) -> Result<(), FileError> {
        let flushed = self.flush(now);
        let saved = match &self.replica {
            Some(replica) => self.save_cache(replica, now),
            None => Ok(()),
        };
        flushed.and(saved)
    }

    /// How often [`Metadata::flush`] is to be called.
    pub fn flush_interval(&self, config: &BrokerConfig) -> Duration {
        let interval = config.flush_consumer_offset_interval;
        if self.is_replica() {
            interval.min(TELL_INTERVAL)
        } else {
            interval
        }
    }

    /// How long a request waits for its change, in a group; 3 s unless it is said otherwise.
    pub fn set_patience(&self, patience: Duration) {
        if let Some(replica) = &self.replica {
            replica.log.set_patience(patience);
        }
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
