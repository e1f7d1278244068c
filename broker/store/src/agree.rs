//! Whether queues tell of the messages of this log, as far as some of them show.

use std::io;

use rocket_protocol::{QueueId, RecordView, TopicName};

use crate::checksums::is_damage;
use crate::commit_log::CommitLog;
use crate::error::OpenError;
use crate::queues::Queues;
use crate::unit::Unit;

/// Queues that are compared with the log, at most about so many.
const SAMPLES: usize = 64;

/// Whether the queues are of this log. Some of them are compared with it. What the log cannot tell, because the message
/// lies in damage, is gone or cannot be read now, says nothing against them: to build all queues again for it would cost
/// more than it mends.
pub(crate) fn agree(queues: &Queues, log: &CommitLog) -> Result<bool, OpenError> {
    let all = queues.all();
    let (mut agreeing, mut garbled) = (0, 0);
    for queue in all.iter().step_by(all.len() / SAMPLES + 1) {
        let index = queue.max() - 1;
        let unit = match queue.get(index) {
            Ok(unit) => unit.filter(|unit| *unit != Unit::PADDING),
            Err(error) if error.kind() == io::ErrorKind::InvalidData || is_damage(&error) => {
                return Ok(false);
            }
            Err(error) => return Err(OpenError::io("read", "rocket/queues")(error)),
        };
        let Some(unit) = unit.filter(|unit| unit.physical_offset >= log.min()) else {
            continue;
        };
        match look_at(log, unit, (queue.topic(), queue.queue_id(), index)) {
            Sample::Agrees => agreeing += 1,
            Sample::Another => return Ok(false),
            Sample::Garbled => garbled += 1,
            Sample::Unknown => {}
        }
    }
    // One message that has no checksum of its block yet may be damaged; of another log nearly all would look so.
    Ok(garbled == 0 || agreeing > garbled)
}

/// What the log has where a unit points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sample {
    Agrees,
    /// A good record of another message.
    Another,
    /// No record.
    Garbled,
    /// It cannot be told.
    Unknown,
}

pub(crate) fn look_at(
    log: &CommitLog,
    unit: Unit,
    (topic, queue_id, index): (&TopicName, QueueId, u64),
) -> Sample {
    let Some(file) = log.file_at(unit.physical_offset) else {
        return Sample::Unknown;
    };
    let at = unit.physical_offset - file.start;
    let len = usize::try_from(unit.size).unwrap_or(usize::MAX);
    if at + len as u64 > file.segment.len() {
        return Sample::Garbled;
    }
    let mut bytes = vec![0; len];
    let is_there = log.is_sound(&file, unit.physical_offset, len).is_ok()
        && file.segment.read_at(at, &mut bytes).is_ok();
    match RecordView::parse(&bytes) {
        _ if !is_there => Sample::Unknown,
        Ok((view, whole)) if whole == len && is_at(&view, topic, queue_id, index) => Sample::Agrees,
        Ok(_) => Sample::Another,
        Err(_) => Sample::Garbled,
    }
}

fn is_at(view: &RecordView<'_>, topic: &TopicName, queue_id: QueueId, index: u64) -> bool {
    view.topic() == topic.as_str() && view.queue_id() == queue_id && view.queue_offset().0 == index
}
