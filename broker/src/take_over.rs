//! Whether a folder may be taken over from Apache's broker: what that one has begun and not finished this one would never deliver.

use rocket_protocol::QueueId;
use rocket_protocol::body::ConsumerOffsetTable;
use rocket_store::{OpenError, Unfinished, unfinished};

use crate::broker::Error;
use crate::config::BrokerConfig;
use crate::metadata::JsonFile;
use crate::store_settings;

/// To be called before anything in the folder is changed. Waits for the disk.
///
/// # Errors
/// Something is unfinished, and the configuration does not give it up; or the folder cannot be read.
pub(crate) fn look(config: &BrokerConfig) -> Result<(), Error> {
    let dir = &config.store_path_root_dir;
    if !dir.join("consumequeue").is_dir() {
        return Ok(());
    }
    let file = JsonFile::new(&dir.join("config"), "consumerOffset.json")?;
    let positions = file.load(ConsumerOffsetTable::parse)?.unwrap_or_default();
    let position = |topic: &str, group: &str, queue: QueueId| {
        let queues = positions.offset_table.get(&format!("{topic}@{group}"))?;
        u64::try_from(*queues.get(&queue.to_wire())?).ok()
    };
    let file_bytes = store_settings::of(config).consume_queue_file_bytes;
    let found = unfinished(dir, file_bytes, &position).map_err(|source| Error::Store {
        dir: dir.clone(),
        source: OpenError::Io {
            action: "read",
            file: "consumequeue".to_owned(),
            source,
        },
    })?;
    if found.is_nothing() {
        return Ok(());
    }
    if config.give_up_unfinished_messages {
        tracing::warn!(
            transactions = found.transactions,
            timers = found.timers,
            pops = found.pops,
            "what Apache's broker had not finished in this folder is never delivered, as the configuration says"
        );
        return Ok(());
    }
    Err(Error::Unfinished {
        dir: dir.clone(),
        what: in_words(found),
    })
}

fn in_words(found: Unfinished) -> String {
    let parts = [
        (
            found.transactions,
            "prepared messages of transactions (RMQ_SYS_TRANS_HALF_TOPIC)",
        ),
        (found.timers, "timer messages (rmq_sys_wheel_timer)"),
        (
            found.pops,
            "times that POP gave messages which were not acknowledged (rmq_sys_REVIVE_LOG_)",
        ),
    ];
    let parts = parts.into_iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> = parts
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    parts.join(", ")
}
