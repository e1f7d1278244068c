//! Settings of a store, checked once before anything is opened.

use std::path::PathBuf;
use std::time::Duration;

use rocket_mapped_file::Fill;
use rocket_protocol::PhysicalOffset;
use thiserror::Error;

use crate::pace;

/// RocketMQ's `messageDelayLevel`, in seconds.
const DELAY_LEVELS_S: [u64; 18] = [
    1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200,
];

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Group commit: the answer waits for a flush that covers the message (`SYNC_FLUSH`).
    Sync,
    /// Flushed every [`StoreConfig::flush_interval`], the answer does not wait (`ASYNC_FLUSH`).
    Async,
}

/// How the bytes of a log segment are reserved when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preallocate {
    /// [`Preallocate::Zeros`] with [`Flush::Sync`]. With [`Flush::Async`], where few flushes are left to gain from it and
    /// the disk would only have twice as much to write, [`Preallocate::Reserve`].
    Auto,
    /// Ask the file system for the blocks (`fallocate`): quick.
    Reserve,
    /// Write zeros through: slower to make, but a flush of them later needs no journal commit.
    Zeros,
}

/// How long messages are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Log files whose newest message is older are removed (`fileReservedTime`, default 72 h).
    pub reserved: Duration,
    /// The oldest log files are removed while all together are larger. Default `u64::MAX`: never.
    pub bytes_max: u64,
    /// How much older than `reserved` a file may become, and how much longer an oversize log may stay so, because a consumer
    /// group has not consumed it. Who reads is said by [`crate::Store::set_readers`]; until then only the hard limit
    /// ([`Watermarks::force`]) removes anything. Default 0: retention does not look at consumers.
    pub unconsumed_extra: Duration,
    /// Hours of the day (0..=23) at which expired files are removed (`deleteWhen`, default 4).
    pub delete_when: Vec<u8>,
    /// Minutes by which the hours of `delete_when` are ahead of UTC. Default 0.
    pub utc_offset_minutes: i32,
    /// How often retention looks (`cleanResourceInterval`, default 10 s).
    pub interval: Duration,
    /// Files removed at most in one look (`deleteFileBatchMax`, default 10).
    pub files_per_round: usize,
}

/// How full the disk may be, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Above: expired files are removed at once (`diskMaxUsedSpaceRatio`, default 75).
    pub clean: u8,
    /// Above: the oldest files are removed regardless of age and of who has not consumed them
    /// (`diskSpaceCleanForciblyRatio`, default 85). `None`: never; writes are refused instead.
    pub force: Option<u8>,
    /// Above: appends are refused until it is below again (`diskSpaceWarningLevelRatio`, default 90).
    pub refuse: u8,
}

/// How the consume queues are kept. The defaults suit from one to a million queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLogConfig {
    /// Size of a file of the unit log in bytes. Default 64 MiB.
    pub file_bytes: u64,
    /// Size of a journal file in bytes. Default 8 MiB.
    pub journal_bytes: u64,
    /// Units in a full extent. Twice as many may be in memory for each busy queue. Default 256.
    pub extent_units: usize,
    /// New units between two tables, unless the queues are so many that more pay. They are in memory meanwhile, 20 bytes
    /// each, unless their queue is busy enough to fill extents; and a start reads them. Default 524 288.
    pub table_units: u64,
}

impl Default for QueueLogConfig {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            journal_bytes: 8 << 20,
            extent_units: 256,
            table_units: 1 << 19,
        }
    }
}

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The store's folder (`storePathRootDir`).
    pub dir: PathBuf,
    /// Size of new log files in bytes (`mappedFileSizeCommitLog`, default 1 GiB). Existing files keep theirs.
    pub segment_bytes: u64,
    /// How the consume queues are kept.
    pub queue_log: QueueLogConfig,
    /// Size of Apache's consume queue files in bytes, a multiple of 20 (`mappedFileSizeConsumeQueue` × 20, default 6 000 000):
    /// those that an import finds.
    pub consume_queue_file_bytes: u64,
    /// Hash slots of an index file (`maxHashSlotNum`, default 5 000 000).
    pub index_slots: u32,
    /// Entries of an index file (`maxIndexNum`, default 20 000 000).
    pub index_entries: u32,
    /// Whether keys are indexed (`messageIndexEnable`, default true).
    pub index_enabled: bool,
    /// The flush mode (`flushDiskType`). Default [`Flush::Sync`].
    pub flush: Flush,
    /// With [`Flush::Async`]: time between flushes. Default 200 ms.
    pub flush_interval: Duration,
    /// Flushes of the log that may be in flight at once, 1..=8. Default 2.
    pub flush_flights: usize,
    /// A kept promise that is not reached in this time is answered "unknown" (`syncFlushTimeout`, `slaveTimeout`). Default 5 s.
    pub promise_timeout: Duration,
    /// Largest body in bytes that is usual (`maxMessageSize`, default 4 MiB); a record may have 64 KiB more. The limit of
    /// senders is the broker's to keep: its own copies of what it took under a larger one must find their way.
    pub message_bytes_max: usize,
    /// Sends that may wait for their answer at once (`sendThreadPoolQueueCapacity`, default 10 000); more are refused as busy.
    pub append_queue_max: usize,
    /// Bytes of records that may wait to be written, unless a single send is larger; who brings more writes them. Default
    /// 16 MiB.
    pub append_bytes_max: usize,
    /// How long messages are kept.
    pub retention: Retention,
    /// From here on retention takes nothing until [`crate::Store::keep_from`] says otherwise. Default the greatest offset.
    pub kept_from: PhysicalOffset,
    /// How full the disk may be.
    pub watermarks: Watermarks,
    /// Room that no log file takes: with less available none is made, and appends are refused as above the mark. For all
    /// that is written beside messages. Default 0; whoever knows what else lies there sets it.
    pub metadata_reserve_bytes: u64,
    /// How log files are made. Default [`Preallocate::Auto`].
    pub preallocate: Preallocate,
    /// Bytes a second with which a log file is filled ahead, unless it would not be done in time. Default 256 MiB.
    pub prepare_bytes_per_second: u64,
    /// Delays of the levels 1, 2, … in milliseconds (`messageDelayLevel`, default RocketMQ's 18 from 1 s to 2 h): the
    /// queue entry of a waiting message holds its time of delivery.
    pub delay_levels_ms: Vec<u64>,
    /// The newest part of the log that is taken to be in memory (`accessMessageInMemoryMaxRatio` 40 % of RAM). Default
    /// 1 GiB; whoever knows the machine's memory sets it.
    pub memory_bytes: u64,
    /// How much of the page cache readers that are far behind may take, all together. Default 64 MiB.
    pub catch_up_bytes: u64,
    /// Most bytes a second that these readers fetch while somebody appends, at least 16 MiB. Default 160 MiB.
    pub catch_up_bytes_per_second: u64,
    /// How often positions, queues and index are secured; recovery re-reads at most what came after. Default 1 s.
    pub checkpoint_interval: Duration,
    /// Bytes of the log that the scrubber reads again in a second, 0 for none. Default 8 MiB.
    pub scrub_bytes_per_second: u64,
    /// Bytes of the log that one checksum covers, a power of two of at least 512. Default 64 KiB; smaller only in tests.
    pub checksum_block_bytes: u64,
    /// What becomes of readers who come to damage. Of what none of them needs to wait for tells [`crate::Store::pass_over`].
    pub on_damage: OnDamage,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("store"),
            segment_bytes: 1 << 30,
            queue_log: QueueLogConfig::default(),
            consume_queue_file_bytes: 6_000_000,
            index_slots: 5_000_000,
            index_entries: 20_000_000,
            index_enabled: true,
            flush: Flush::Sync,
            flush_interval: Duration::from_millis(200),
            flush_flights: 2,
            promise_timeout: Duration::from_secs(5),
            message_bytes_max: 4 << 20,
            append_queue_max: 10_000,
            append_bytes_max: 16 << 20,
            retention: Retention {
                reserved: Duration::from_hours(72),
                bytes_max: u64::MAX,
                unconsumed_extra: Duration::ZERO,
                delete_when: vec![4],
                utc_offset_minutes: 0,
                interval: Duration::from_secs(10),
                files_per_round: 10,
            },
            kept_from: PhysicalOffset(u64::MAX),
            watermarks: Watermarks {
                clean: 75,
                force: Some(85),
                refuse: 90,
            },
            metadata_reserve_bytes: 0,
            preallocate: Preallocate::Auto,
            prepare_bytes_per_second: 256 << 20,
            delay_levels_ms: DELAY_LEVELS_S
                .iter()
                .map(|seconds| seconds * 1000)
                .collect(),
            memory_bytes: 1 << 30,
            catch_up_bytes: 64 << 20,
            catch_up_bytes_per_second: 160 << 20,
            checkpoint_interval: Duration::from_secs(1),
            scrub_bytes_per_second: 8 << 20,
            checksum_block_bytes: crate::checksums::BLOCK_BYTES,
            on_damage: OnDamage::PassOver,
        }
    }
}

/// What becomes of readers who come to damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// They pass over the messages that lie in it, as over removed ones: there is no other copy.
    PassOver,
    /// They wait, as at the end of their queue, and nothing behind it is dispatched: another copy may have what is damaged
    /// ([`crate::Store::repair`]), unless [`crate::Store::pass_over`] says that none has it.
    Hold,
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{setting}: {reason}")]
pub struct ConfigError {
    /// The field's name.
    pub setting: &'static str,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl StoreConfig {
    /// Checks ranges and what settings demand of each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        let rule = |holds: bool, setting, reason| {
            if holds {
                Ok(())
            } else {
                Err(ConfigError { setting, reason })
            }
        };
        rule(self.segment_bytes >= 4096, "segment_bytes", "at least 4096")?;
        rule(
            self.segment_bytes <= 1 << 31,
            "segment_bytes",
            "at most 2 GiB: a filler's size is an i32",
        )?;
        let unit = crate::unit::UNIT_BYTES;
        rule(
            self.consume_queue_file_bytes > 0 && self.consume_queue_file_bytes.is_multiple_of(unit),
            "consume_queue_file_bytes",
            "must be a positive multiple of 20",
        )?;
        rule(
            self.queue_log.extent_units > 0 && u32::try_from(self.queue_log.extent_units).is_ok(),
            "queue_log.extent_units",
            "must be positive",
        )?;
        rule(
            self.index_slots > 0 && i32::try_from(self.index_slots).is_ok(),
            "index_slots",
            "must be positive",
        )?;
        rule(
            self.index_entries > 1 && i32::try_from(self.index_entries).is_ok(),
            "index_entries",
            "must be at least 2",
        )?;
        rule(
            (1..=8).contains(&self.flush_flights),
            "flush_flights",
            "must be 1 to 8",
        )?;
        rule(
            !self.flush_interval.is_zero(),
            "flush_interval",
            "must be positive",
        )?;
        rule(
            self.prepare_bytes_per_second > 0,
            "prepare_bytes_per_second",
            "must be positive",
        )?;
        rule(
            self.catch_up_bytes_per_second >= pace::RATE_MIN,
            "catch_up_bytes_per_second",
            "at least 16 MiB",
        )?;
        rule(
            self.append_queue_max > 0,
            "append_queue_max",
            "must be positive",
        )?;
        rule(
            self.message_bytes_max <= 1 << 30,
            "message_bytes_max",
            "at most 1 GiB",
        )?;
        rule(
            self.retention.files_per_round > 0,
            "retention.files_per_round",
            "must be positive",
        )?;
        rule(
            self.retention.delete_when.iter().all(|&hour| hour < 24),
            "retention.delete_when",
            "hours are 0 to 23",
        )?;
        rule(
            self.checksum_block_bytes.is_power_of_two() && self.checksum_block_bytes >= 512,
            "checksum_block_bytes",
            "a power of two of at least 512",
        )?;
        let marks = self.watermarks;
        rule(
            marks.clean <= marks.force.unwrap_or(marks.clean)
                && marks.force.unwrap_or(marks.clean) <= marks.refuse
                && marks.refuse <= 100,
            "watermarks",
            "must not fall: clean, force, refuse, at most 100",
        )
    }

    /// How log files get their bytes.
    pub(crate) fn fill(&self) -> Fill {
        match (self.preallocate, self.flush) {
            (Preallocate::Reserve, _) | (Preallocate::Auto, Flush::Async) => Fill::Reserve,
            (Preallocate::Zeros, _) | (Preallocate::Auto, Flush::Sync) => Fill::Zeros,
        }
    }

    /// The largest record: body, and 64 KiB for all else.
    pub fn record_bytes_max(&self) -> usize {
        self.message_bytes_max + (64 << 10)
    }
}
