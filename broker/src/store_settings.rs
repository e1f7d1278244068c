//! From the broker's configuration to the store's settings.

use rocket_protocol::PhysicalOffset;
use rocket_store::{Flush, OnDamage, Preallocate, Retention, StoreConfig, Watermarks};

use crate::config::{BrokerConfig, FlushDiskType, ReplicationMode, SegmentPreallocate};
use crate::memory;

/// Bytes of a consume queue entry.
const QUEUE_UNIT_BYTES: u64 = 20;

/// When a message counts as durable.
pub fn flush(config: &BrokerConfig) -> Flush {
    match config.flush_disk_type {
        FlushDiskType::Sync => Flush::Sync,
        FlushDiskType::Async => Flush::Async,
    }
}

/// The store's settings. Ranges were checked with the configuration, so every number fits.
pub fn of(config: &BrokerConfig) -> StoreConfig {
    let defaults = StoreConfig::default();
    let percent = |ratio: u32| u8::try_from(ratio).unwrap_or(100);
    let queue_bytes = config.mapped_file_size_consume_queue.0;
    StoreConfig {
        dir: config.store_path_root_dir.clone(),
        segment_bytes: config.mapped_file_size_commit_log.0,
        consume_queue_file_bytes: queue_bytes - queue_bytes % QUEUE_UNIT_BYTES,
        index_slots: config.max_hash_slot_num,
        index_entries: config.max_index_num,
        index_enabled: config.message_index_enable,
        flush: flush(config),
        flush_interval: config.flush_interval_commit_log,
        promise_timeout: match config.replication().mode {
            // A group's modes may change while the store is open.
            ReplicationMode::Async if config.coordinator.is_none() => config.sync_flush_timeout,
            ReplicationMode::Sync | ReplicationMode::Async => {
                config.sync_flush_timeout.max(config.slave_timeout)
            }
        },
        message_bytes_max: config.max_message_size.as_usize(),
        append_queue_max: config.append_queue_max,
        retention: Retention {
            reserved: config.file_reserved_time,
            bytes_max: match config.commit_log_bytes_max.0 {
                0 => u64::MAX,
                max => max,
            },
            unconsumed_extra: config.unconsumed_extra_time,
            delete_when: config.delete_when.0.clone(),
            interval: config.clean_resource_interval,
            ..defaults.retention
        },
        kept_from: if config.coordinator.is_some() {
            // Until metadata says from where on the log tells everything.
            PhysicalOffset(0)
        } else {
            defaults.kept_from
        },
        watermarks: Watermarks {
            clean: percent(config.disk_max_used_space_ratio),
            force: config
                .clean_file_forcibly_enable
                .then(|| percent(config.disk_space_clean_forcibly_ratio)),
            refuse: percent(config.disk_space_warning_level_ratio),
        },
        on_damage: if config.coordinator.is_some() {
            // Another replica may have it.
            OnDamage::Hold
        } else {
            OnDamage::PassOver
        },
        metadata_reserve_bytes: config.metadata_reserve_bytes.0,
        scrub_bytes_per_second: config.scrub_bytes_per_second.0,
        catch_up_bytes: config.catch_up_bytes.0,
        catch_up_bytes_per_second: config.catch_up_bytes_per_second.0,
        memory_bytes: memory::bytes().map_or(defaults.memory_bytes, |bytes| {
            bytes / 100 * u64::from(config.access_message_in_memory_max_ratio)
        }),
        preallocate: match config.segment_preallocate {
            SegmentPreallocate::Auto => Preallocate::Auto,
            SegmentPreallocate::Reserve => Preallocate::Reserve,
            SegmentPreallocate::Zeros => Preallocate::Zeros,
        },
        prepare_bytes_per_second: config.segment_prepare_bytes_per_second.0,
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings as _;

    #[test]
    fn what_every_checked_configuration_says_the_store_can_take() {
        of(&BrokerConfig::default()).check().unwrap();
        for (key, value) in [
            ("mappedFileSizeConsumeQueue", "2147483647"),
            ("mappedFileSizeCommitLog", "2147483647"),
            ("maxHashSlotNum", "100000000"),
            ("maxIndexNum", "400000000"),
            ("diskSpaceWarningLevelRatio", "99"),
            ("cleanFileForciblyEnable", "false"),
            ("commitLogBytesMax", "4294967296"),
            ("scrubBytesPerSecond", "0"),
        ] {
            let mut config = BrokerConfig::default();
            config.set(key, value).unwrap().unwrap();
            of(&config)
                .check()
                .unwrap_or_else(|error| panic!("{key} = {value}: {error}"));
        }
    }

    #[test]
    fn without_forced_cleaning_writes_are_refused_and_nothing_is_deleted() {
        let mut config = BrokerConfig::default();
        config
            .set("cleanFileForciblyEnable", "false")
            .unwrap()
            .unwrap();
        assert_eq!(of(&config).watermarks.force, None);
    }
}
