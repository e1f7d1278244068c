//! Where in a queue a time is, and when messages were stored.

use std::io;

use rocket_protocol::{QueueId, QueueOffset, TopicName, UnixMillis};

use crate::api::{Boundary, Completion};
use crate::engine::Engine;
use crate::queues::SharedQueue;
use crate::read::signed;
use crate::search::partition;
use crate::sound::Unsound;
use crate::unit::Unit;

/// Units that a search looks up at once.
const UNITS_AT_ONCE: usize = 16;

impl<C: Completion> Engine<C> {
    /// The queue offset at a time (`ConsumeQueue.getOffsetInQueueByTime`). Between two messages the lower boundary is the
    /// later one and the upper boundary the earlier one; before the first both are the first, after the last the lower
    /// boundary is the end and the upper one the last message. 0 for a queue that does not exist. A message that lies in damage
    /// counts as stored with the next one that can be read.
    ///
    /// # Errors
    /// The queue or the log cannot be read now: to be asked again. Of a queue that is damaged that is noted, and the store ends.
    pub fn offset_by_time(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        time: UnixMillis,
        boundary: Boundary,
    ) -> io::Result<i64> {
        let Some(queue) = self.queues.get(topic, queue_id) else {
            return Ok(0);
        };
        let (min, max) = queue.range();
        let is_before = |index| -> io::Result<bool> {
            let stored = self.next_store_time(&queue, index, max)?;
            Ok(stored.is_some_and(|stored| match boundary {
                Boundary::Lower => stored < time,
                Boundary::Upper => stored <= time,
            }))
        };
        let first = partition(min, max, is_before)?;
        Ok(signed(match boundary {
            Boundary::Lower => first,
            Boundary::Upper => first.saturating_sub(1).max(min),
        }))
    }

    /// When the first message from `index` on was stored that can be read.
    fn next_store_time(
        &self,
        queue: &SharedQueue,
        mut index: u64,
        max: u64,
    ) -> io::Result<Option<UnixMillis>> {
        let mut units = Vec::new();
        while index < max {
            units.clear();
            queue
                .look_up(index, UNITS_AT_ONCE, &mut units)
                .inspect_err(|error| self.judge(queue, index, error))?;
            if units.is_empty() {
                break;
            }
            for unit in &units {
                if let Some(time) = self.store_time_of(*unit)? {
                    return Ok(Some(time));
                }
            }
            index += units.len() as u64;
        }
        Ok(None)
    }

    /// `None` where there is no message, or a damaged one.
    fn store_time_of(&self, unit: Unit) -> io::Result<Option<UnixMillis>> {
        let (offset, len) = (unit.physical_offset, (unit.size as usize).min(128));
        let file = self.log.file_at(offset).filter(|_| unit != Unit::PADDING);
        let Some(file) = file else {
            return Ok(None);
        };
        match self.log.may_serve(&file, offset, len) {
            Ok(()) => {}
            Err(Unsound::Damaged) => return Ok(None),
            Err(Unsound::Later) => {
                return Err(io::Error::other("the log cannot be read now"));
            }
        }
        let head = file.lend(offset - file.start, len)?;
        let time = head.and_then(|head| store_time(&head));
        Ok(time.map(UnixMillis))
    }

    /// When the message at a queue offset was stored.
    pub fn store_time_at(
        &self,
        topic: &TopicName,
        queue_id: QueueId,
        offset: QueueOffset,
    ) -> Option<UnixMillis> {
        let queue = self.queues.get(topic, queue_id)?;
        let unit = queue.get(offset.0);
        let unit = unit.inspect_err(|error| self.judge(&queue, offset.0, error));
        let unit = unit.ok()??;
        self.store_time_of(unit).ok()?
    }

    /// When the first message of a queue that is still there was stored.
    pub fn earliest_store_time(&self, topic: &TopicName, queue_id: QueueId) -> Option<UnixMillis> {
        let range = self.queue_range(topic, queue_id)?;
        (range.min < range.max).then(|| self.store_time_at(topic, queue_id, range.min))?
    }
}

/// The store time in the head of a record that need not be whole.
pub(crate) fn store_time(head: &[u8]) -> Option<i64> {
    use rocket_protocol::SysFlag;
    use rocket_protocol::message::record::{MAGIC_V1, MAGIC_V2, position};
    let magic = i32::from_be_bytes(*head.get(4..)?.first_chunk()?);
    let flag = SysFlag(i32::from_be_bytes(
        *head.get(position::SYS_FLAG..)?.first_chunk()?,
    ));
    let v6 = flag.has(SysFlag::BORN_HOST_V6);
    let at = if v6 {
        position::STORE_TIMESTAMP_V6
    } else {
        position::STORE_TIMESTAMP_V4
    };
    let time = i64::from_be_bytes(*head.get(at..)?.first_chunk()?);
    (matches!(magic, MAGIC_V1 | MAGIC_V2) && time > 0).then_some(time)
}
