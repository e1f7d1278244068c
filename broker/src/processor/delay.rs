//! Delay levels (`ScheduleMessageService`): a delayed message lies in the queue of its level of SCHEDULE_TOPIC_XXXX and is
//! appended again under its own topic when its time has come.
//!
//! Within a level all wait equally long, so each queue is in the order of its deliveries and one position per level is the
//! whole state. The position passes a message only after the copy was promised like any send: flushed and replicated as the
//! modes demand. A crash in between delivers twice and never not at all. Messages that cannot be read any more are passed
//! over with a line that says so: nothing behind them would ever be delivered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rocket_protocol::message::{Properties, property};
use rocket_protocol::{
    Command, Message, QueueId, RecordView, ResponseCode, SysFlag, TopicName, UnixMillis,
};
use rocket_store::{GetResult, GetStatus, Promise, PutStatus, ReadLimits};
use tokio::sync::oneshot;

use super::BrokerProcessor;
use super::pending::PendingSend;
use crate::crew::joined;

const READ: ReadLimits = ReadLimits {
    messages_max: 64,
    bytes_max: 1 << 20,
};

/// What became of a look at one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// All that was due is delivered.
    Done,
    /// A batch is delivered, and there may be more.
    More,
    /// A copy was not promised; the level is tried again later, from that message on.
    Failed,
}

/// One delay level between two looks at it.
#[derive(Debug)]
pub(super) struct Level {
    /// Counted from 1.
    number: i32,
    queue: QueueId,
    waiting: Waiting,
    /// The next message, when it is known to wait: its queue offset and when it was stored.
    head: Option<(i64, UnixMillis)>,
}

/// How long the messages of a level wait.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    delay_ms: i64,
    /// Messages that wait anew: since when, and the queue offset at which they end.
    anew: Option<(UnixMillis, i64)>,
}

impl Level {
    /// `number` counts from 1.
    pub(super) fn new(number: usize, delay: Duration) -> Self {
        let queue = QueueId(u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX));
        Self {
            number: i32::try_from(number).unwrap_or(i32::MAX),
            queue,
            waiting: Waiting {
                delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
                anew: None,
            },
            head: None,
        }
    }

    /// Counted from 1.
    pub(super) fn number(&self) -> i32 {
        self.number
    }
}

impl Waiting {
    /// Whether a message is due. One that was stored after `now`, since the clock was set back, waits anew from when it is seen
    /// first, together with all that are in the queue then, which ends at `end`: so nothing comes early, and nothing waits for
    /// longer than twice its delay. (RocketMQ delivers such a message at once: `correctDeliverTimestamp`.)
    fn is_over(&mut self, offset: i64, stored: UnixMillis, now: UnixMillis, end: i64) -> bool {
        let since = match self.anew {
            _ if stored <= now => stored,
            Some((since, end)) if offset < end && since <= now => since,
            _ => {
                self.anew = Some((now, end));
                now
            }
        };
        now.since(since) >= self.delay_ms
    }
}

/// What of a read is due.
#[derive(Default)]
struct Due {
    /// The queue offset behind each message, and the message; `None` for one that does not say where it goes.
    messages: Vec<(i64, Option<Message>)>,
    /// The first that is not due.
    head: Option<(i64, UnixMillis)>,
    /// Whether what follows is no record.
    is_broken: bool,
}

impl BrokerProcessor {
    /// How many delay levels there are.
    pub(super) fn delay_levels(&self) -> usize {
        self.deps.config.load().message_delay_level.0.len()
    }

    /// The properties of a message that waits: with where it goes.
    #[expect(
        clippy::unused_self,
        reason = "stands beside `schedule`, which needs the processor"
    )]
    pub(super) fn delay_properties(
        &self,
        properties: &Bytes,
        topic: &TopicName,
        queue_id: i32,
        level: usize,
    ) -> Bytes {
        let mut properties = Properties::parse(properties);
        properties.set(property::DELAY, level.to_string());
        properties.set(property::REAL_TOPIC, topic.as_str().to_owned());
        properties.set(property::REAL_QUEUE_ID, queue_id.to_string());
        properties.to_bytes()
    }

    /// The queue of a level, counted from 1.
    pub(super) fn schedule_place(&self, level: usize) -> (&TopicName, QueueId) {
        let queue = u32::try_from(level.saturating_sub(1)).unwrap_or(u32::MAX);
        (&self.schedule_topic, QueueId(queue))
    }

    /// Sends `message` through the queue of its level, counted from 1.
    pub(super) fn schedule(&self, message: &mut Message, level: usize) {
        let (topic, queue) = self.schedule_place(level);
        (message.topic, message.queue_id) = (topic.clone(), queue);
    }

    pub(super) fn all_delay_offsets(&self) -> Command {
        Command::response(ResponseCode::SUCCESS)
            .with_body(self.deps.metadata.delay.to_body().to_json())
    }

    /// Delivers the next batch of one level.
    pub(super) async fn deliver_level(self: &Arc<Self>, level: &mut Level) -> Delivery {
        let (positions, number) = (&self.deps.metadata.delay, level.number);
        let position = positions.get(number);
        let end = self.queue_end(&self.schedule_topic, level.queue);
        if position == end {
            return Delivery::Done;
        }
        if let Some((offset, stored)) = level.head
            && offset == position
            && !level.waiting.is_over(offset, stored, self.now(), end)
        {
            return Delivery::Done;
        }
        let Some((result, due)) = self.read_level(level, position, end).await else {
            return Delivery::Failed;
        };
        match result.status {
            GetStatus::Found => {}
            GetStatus::NoMatchedMessage | GetStatus::MessageWasRemoving => {
                passed_over(number, position, result.next_begin);
                positions.set(number, result.next_begin);
                return Delivery::More;
            }
            GetStatus::OffsetTooSmall => {
                tracing::warn!(
                    level = number,
                    position,
                    min = result.min,
                    "delayed messages were removed before their delivery"
                );
                positions.set(number, result.min);
                return Delivery::More;
            }
            // The end of the log was lost with a crash; what is sent from now on begins here again.
            GetStatus::OffsetOverflowBadly => {
                tracing::warn!(
                    level = number,
                    position,
                    max = result.max,
                    "more delayed messages were delivered than there were; the level goes on at its end"
                );
                positions.set(number, result.max);
                return Delivery::Done;
            }
            _ => return Delivery::Done,
        }
        level.head = due.head;
        let mut next = position;
        let copies = self.deliver(due.messages);
        self.deps.store.write_out();
        for (behind, copy) in copies {
            if !copy.kept().await {
                return Delivery::Failed;
            }
            if behind > next + 1 {
                passed_over(number, next, behind - 1);
            }
            next = next.max(behind);
            positions.set(number, next);
        }
        if due.head.is_some() {
            return Delivery::Done;
        }
        let behind = if due.is_broken {
            next + 1
        } else {
            result.next_begin
        };
        if behind > next {
            passed_over(number, next, behind);
            positions.set(number, behind);
        }
        Delivery::More
    }

    /// Reads and takes apart what comes next in a level, where waiting for a disk keeps nobody else waiting.
    async fn read_level(
        self: &Arc<Self>,
        level: &mut Level,
        position: i64,
        end: i64,
    ) -> Option<(GetResult, Due)> {
        let this = Arc::clone(self);
        let (queue, mut waiting) = (level.queue, level.waiting);
        let read = tokio::task::spawn_blocking(move || {
            let (store, topic) = (&this.deps.store, &this.schedule_topic);
            let result = store.get(topic, queue, position, READ, &|_, _| true);
            let due = due(&result.chunks, &mut waiting, this.now(), end);
            (result, due, waiting)
        });
        let (result, due, waiting) = joined(read.await)?;
        level.waiting = waiting;
        Some((result, due))
    }

    /// Appends copies, to be written out by the caller, each with the position behind it. None behind one that is refused at once: it
    /// would be delivered again whenever that is tried again.
    pub(super) fn deliver(
        &self,
        messages: impl IntoIterator<Item = (i64, Option<Message>)>,
    ) -> Vec<(i64, Delivered)> {
        let mut copies = Vec::new();
        for (behind, message) in messages {
            let mut copy = message.map_or(Delivered::Nothing, |message| self.append_copy(message));
            let is_refused = copy.is_refused();
            copies.push((behind, copy));
            if is_refused {
                break;
            }
        }
        copies
    }

    fn append_copy(&self, mut message: Message) -> Delivered {
        message.store_host = self.deps.identity.store_host;
        let (done, outcome) = oneshot::channel();
        let then = PendingSend::Broker(Box::new(move |outcome| {
            // Nobody listens any more when the broker stops; then the position stays where it is.
            let _ = done.send(outcome.status);
        }));
        self.append(&[message.as_ref()], Promise::Kept, then);
        Delivered::Awaited(message.topic, outcome)
    }
}

/// What came, or will come, of a delayed message.
pub(super) enum Delivered {
    /// There was nothing to append.
    Nothing,
    /// It was appended.
    Awaited(TopicName, oneshot::Receiver<PutStatus>),
    /// The store said at once what came of it.
    Known(TopicName, PutStatus),
}

impl Delivered {
    /// Whether the store refused it at once, so that it holds nothing of it.
    fn is_refused(&mut self) -> bool {
        if let Self::Awaited(topic, outcome) = self
            && let Ok(status) = outcome.try_recv()
        {
            *self = Self::Known(topic.clone(), status);
        }
        matches!(self, Self::Known(_, status) if *status != PutStatus::Ok)
    }

    /// Whether the position may pass the message.
    pub(super) async fn kept(self) -> bool {
        let (topic, status) = match self {
            Self::Nothing => return true,
            Self::Awaited(topic, outcome) => (topic, outcome.await.ok()),
            Self::Known(topic, status) => (topic, Some(status)),
        };
        // It was taken with a larger limit, which has to be given back: the message was promised.
        if let Some(PutStatus::MessageIllegal(reason)) = &status {
            tracing::error!(%topic, %reason, "a delayed message is not taken by the store and holds up its level");
        }
        status == Some(PutStatus::Ok)
    }
}

fn passed_over(level: i32, from: i64, to: i64) {
    tracing::error!(
        level,
        from,
        to,
        "delayed messages cannot be read any more and are passed over"
    );
}

/// The messages at the start of `chunks` that are due.
fn due(chunks: &[Bytes], waiting: &mut Waiting, now: UnixMillis, end: i64) -> Due {
    let mut due = Due::default();
    for chunk in chunks {
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let Ok((record, len)) = RecordView::parse_trusting(rest) else {
                due.is_broken = true;
                return due;
            };
            let (offset, stored) = (record.queue_offset(), record.store_timestamp());
            if !waiting.is_over(offset.to_wire(), stored, now, end) {
                due.head = Some((offset.to_wire(), stored));
                return due;
            }
            let message = delayed_message(&record);
            if message.is_none() {
                tracing::error!(
                    offset = %record.physical_offset(),
                    "a delayed message does not say where it goes and is dropped"
                );
            }
            due.messages.push((offset.plus(1).to_wire(), message));
            rest = rest.get(len..).unwrap_or_default();
        }
    }
    due
}

/// Apache's broker takes zero bytes in properties, and this store does not. Better without such a property than not at all.
pub(super) fn remove_zeros(properties: &mut Properties, record: &RecordView<'_>) {
    if !record.properties().contains(&0) {
        return;
    }
    let has_zero = |text: &str| text.contains('\0');
    let bad: Vec<String> = properties
        .iter()
        .filter(|(name, value)| has_zero(name) || has_zero(value))
        .map(|(name, _)| name.to_owned())
        .collect();
    for name in bad {
        tracing::error!(offset = %record.physical_offset(), property = ?name, "a property of a stored message holds a zero byte and is dropped from its copy");
        properties.remove(&name);
    }
}

/// The message that a record of the schedule topic stands for, with everything that delaying added taken away again.
fn delayed_message(record: &RecordView<'_>) -> Option<Message> {
    let mut properties = Properties::parse(&Bytes::copy_from_slice(record.properties()));
    let topic = properties.remove(property::REAL_TOPIC)?;
    let queue = properties.remove(property::REAL_QUEUE_ID)?;
    properties.remove(property::DELAY);
    remove_zeros(&mut properties, record);
    let topic = TopicName::parse(&topic).ok()?;
    if topic.is_closed_for_send() {
        return None;
    }
    Some(Message {
        topic,
        queue_id: QueueId::from_wire(queue.parse().ok()?)?,
        flag: record.flag(),
        sys_flag: record.sys_flag().without(SysFlag::TRANSACTION_MASK),
        born_timestamp: UnixMillis(record.born_timestamp().0),
        born_host: record.born_host(),
        store_host: record.store_host(),
        reconsume_times: record.reconsume_times(),
        prepared_transaction_offset: record.prepared_transaction_offset(),
        body: Bytes::copy_from_slice(record.body()),
        body_crc: record.body_crc(),
        properties: properties.to_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use rocket_protocol::message::record::body_crc;
    use rocket_protocol::{PhysicalOffset, QueueOffset};

    use super::*;

    #[test]
    fn a_property_that_the_store_does_not_take_does_not_hold_up_its_message() {
        let body = Bytes::from_static(b"body");
        let waiting = Message {
            topic: TopicName::parse("SCHEDULE_TOPIC_XXXX").unwrap(),
            queue_id: QueueId(2),
            flag: 0,
            sys_flag: SysFlag(0),
            born_timestamp: UnixMillis(1),
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:2".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body,
            properties: "A\u{1}1\u{2}B\u{1}b\0b\u{2}REAL_TOPIC\u{1}t\u{2}REAL_QID\u{1}3\u{2}"
                .into(),
        };
        let mut bytes = Vec::new();
        waiting.encode(QueueOffset(0), PhysicalOffset(0), UnixMillis(2), &mut bytes);
        let (record, _) = RecordView::parse_trusting(&bytes).unwrap();
        let message = delayed_message(&record).unwrap();
        assert_eq!(message.queue_id, QueueId(3));
        assert_eq!(message.properties, "A\u{1}1\u{2}");
    }

    #[test]
    fn after_the_clock_was_set_back_nothing_is_early_and_nothing_waits_for_the_old_time() {
        let mut waiting = Waiting {
            delay_ms: 10,
            anew: None,
        };
        let mut is_over = |offset, stored, now, end| {
            waiting.is_over(offset, UnixMillis(stored), UnixMillis(now), end)
        };
        assert!(!is_over(0, 1000, 1009, 1));
        assert!(is_over(0, 1000, 1010, 1));
        // Set back. Two are there; another one comes while they wait.
        assert!(!is_over(1, 1005, 100, 3));
        assert!(!is_over(1, 1005, 109, 4));
        assert!(is_over(1, 1005, 110, 4));
        assert!(is_over(2, 1005, 110, 4));
        assert!(!is_over(3, 1005, 110, 4));
        assert!(is_over(3, 1005, 120, 4));
        // Set back once more.
        assert!(!is_over(4, 1005, 110, 5));
        assert!(!is_over(4, 1005, 50, 5));
        assert!(is_over(4, 1005, 60, 5));
        // Put right again.
        assert!(is_over(5, 1005, 1015, 6));
        assert!(!is_over(6, 1015, 1015, 7));
    }
}
