//! Delay levels (`ScheduleMessageService`): a delayed message lies in the queue of its level of SCHEDULE_TOPIC_XXXX and is
//! appended again under its own topic when its time has come.
//!
//! Within a level all wait equally long, so each queue is in the order of its deliveries and one position per level is the
//! whole state. The position passes a message only after the copy was promised like any send: flushed and replicated as the
//! modes demand. A crash in between delivers twice and never not at all.

use std::time::Duration;

use bytes::Bytes;
use rocket_protocol::message::{Properties, property};
use rocket_protocol::{
    Command, Message, QueueId, RecordView, ResponseCode, SysFlag, TopicName, UnixMillis,
};
use rocket_store::{GetStatus, PutStatus, ReadLimits};
use tokio::sync::oneshot;

use super::BrokerProcessor;
use super::pending::PendingSend;

const READ: ReadLimits = ReadLimits {
    messages_max: 64,
    bytes_max: 1 << 20,
};

/// What became of a look at one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// All that was due is delivered.
    Done,
    /// A copy was not promised; the level is tried again later, from that message on.
    Failed,
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

    /// Delivers what is due of one level.
    pub(super) async fn deliver_level(&self, level: usize, delay: Duration) -> Delivery {
        let number = i32::try_from(level).unwrap_or(i32::MAX);
        let queue = QueueId(u32::try_from(level.saturating_sub(1)).unwrap_or(u32::MAX));
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let positions = &self.deps.metadata.delay;
        loop {
            let position = positions.get(number);
            let result =
                self.deps
                    .store
                    .get(&self.schedule_topic, queue, position, READ, &|_, _| true);
            match result.status {
                GetStatus::Found => {}
                GetStatus::OffsetTooSmall => {
                    tracing::warn!(
                        level,
                        position,
                        min = result.min,
                        "delayed messages were removed before their delivery"
                    );
                    positions.set(number, result.min);
                    continue;
                }
                // The end of the log was lost with a crash; what is sent from now on begins here again.
                GetStatus::OffsetOverflowBadly => {
                    positions.set(number, result.max);
                    return Delivery::Done;
                }
                _ => return Delivery::Done,
            }
            let (due, is_all) = self.due(&result.chunks, delay_ms);
            if due.is_empty() {
                return Delivery::Done;
            }
            let waits: Vec<_> = due.into_iter().map(|due| self.deliver(due)).collect();
            let mut next = position;
            for wait in waits {
                if !wait.await {
                    positions.set(number, next);
                    return Delivery::Failed;
                }
                next += 1;
            }
            positions.set(number, next);
            if !is_all {
                return Delivery::Done;
            }
        }
    }

    /// The messages at the start of `chunks` that are due, `None` for those that cannot be delivered, and whether all are.
    fn due(&self, chunks: &[Bytes], delay_ms: i64) -> (Vec<Option<Message>>, bool) {
        let now = self.now();
        let mut due = Vec::new();
        for chunk in chunks {
            let mut rest = &chunk[..];
            while let Ok((record, len)) = RecordView::parse_trusting(rest) {
                if record.store_timestamp().plus_millis(delay_ms) > now {
                    return (due, false);
                }
                let message = delayed_message(&record);
                if message.is_none() {
                    tracing::error!(
                        offset = %record.physical_offset(),
                        "a delayed message does not say where it goes and is dropped"
                    );
                }
                due.push(message);
                rest = rest.get(len..).unwrap_or_default();
            }
        }
        (due, true)
    }

    /// Appends a copy; the future says whether it was promised.
    fn deliver(&self, message: Option<Message>) -> impl Future<Output = bool> + Send + use<> {
        let outcome = message.map(|mut message| {
            message.store_host = self.deps.identity.store_host;
            let (done, outcome) = oneshot::channel();
            let then = PendingSend::Broker(Box::new(move |outcome| {
                // Nobody listens any more when the broker stops; then the position stays where it is.
                let _ = done.send(outcome.status);
            }));
            self.append_own(&message, then);
            outcome
        });
        async move {
            match outcome {
                None => true,
                Some(outcome) => matches!(outcome.await, Ok(PutStatus::Ok)),
            }
        }
    }
}

/// The message that a record of the schedule topic stands for, with everything that delaying added taken away again.
fn delayed_message(record: &RecordView<'_>) -> Option<Message> {
    let mut properties = Properties::parse(&Bytes::copy_from_slice(record.properties()));
    let topic = properties.remove(property::REAL_TOPIC)?;
    let queue = properties.remove(property::REAL_QUEUE_ID)?;
    properties.remove(property::DELAY);
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
