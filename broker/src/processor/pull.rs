//! PULL_MESSAGE and LITE_PULL_MESSAGE (`PullMessageProcessor`): read, answer, or wait.

use std::sync::Arc;
use std::time::Instant;

use rocket_filter::Filter;
use rocket_protocol::header::PullMessageResponseHeader;
use rocket_protocol::{Command, GroupName, QueueId, ResponseCode, TopicName};
use rocket_remoting::{Connection, Reply};
use rocket_store::{GetResult, GetStatus, NotInMemory, ReadLimits};

use super::BrokerProcessor;
use crate::clients::Subscription;
use crate::config::BrokerConfig;
use crate::long_polling::{ElapsedMillis, Waiting};

const FLAG_COMMIT: i32 = 1;
const FLAG_SUSPEND: i32 = 2;
/// Longest time that a pull is held, whatever it asks for; clients ask for 15 to 30 s.
const SUSPEND_MS_MAX: i64 = 120_000;
/// What is there and cannot be read now is tried again after this time, as long as the pull may be held.
pub(super) const HOLD_MS: i64 = 1_000;

/// A pull that passed all checks.
pub(super) struct Pull {
    pub(super) topic: TopicName,
    pub(super) group: GroupName,
    pub(super) queue: QueueId,
    pub(super) offset: i64,
    pub(super) max_messages: u32,
    pub(super) max_bytes: Option<usize>,
    pub(super) wanted: Wanted,
    pub(super) topic_sys_flag: i32,
    pub(super) group_sys_flag: i32,
    /// What it is called in metrics.
    pub(super) request: Option<&'static str>,
    pub(super) begun: Instant,
}

/// Which messages a pull wants.
pub(super) enum Wanted {
    /// What it says itself.
    Own(Filter),
    /// What its group's heartbeats said.
    OfGroup(Arc<Subscription>),
}

impl Pull {
    fn may_match(&self, tags_code: i64) -> bool {
        match &self.wanted {
            Wanted::Own(filter) => filter.may_match(tags_code),
            Wanted::OfGroup(subscription) => match &subscription.filter {
                Ok(filter) => filter.may_match(tags_code),
                Err(_) => false,
            },
        }
    }
}

/// A pull that waits for a message, or for the time to ask again for one that could not be read.
pub struct ParkedPull {
    pull: Pull,
    deadline: ElapsedMillis,
    reply: Reply,
    is_held: bool,
}

impl Waiting for ParkedPull {
    fn queue(&self) -> (&TopicName, QueueId) {
        (&self.pull.topic, self.pull.queue)
    }

    fn is_gone(&self) -> bool {
        !self.reply.is_open()
    }

    fn wants(&self, queue_offset: u64, tags_code: i64) -> bool {
        !self.is_held
            && i64::try_from(queue_offset).is_ok_and(|offset| offset >= self.pull.offset)
            && self.pull.may_match(tags_code)
    }
}

impl BrokerProcessor {
    /// Serves a pull: with messages, with the reason why there are none, or later.
    pub(super) fn pull(
        &self,
        connection: &Connection,
        request: &Command,
        reply: Reply,
        begun: Instant,
    ) {
        let config = self.deps.config.load();
        let (pull, header) = match self.check_pull(connection, request, &config, begun) {
            Ok(checked) => checked,
            Err(refused) => {
                let result = refused.refusal.code.name();
                reply.send(refused.into_command());
                let name = request.request_code().name();
                self.deps
                    .metrics
                    .answered(name, result, false, begun.elapsed());
                return;
            }
        };
        let offsets = &self.deps.metadata.offsets;
        let reset = offsets.take_reset(&pull.topic, &pull.group, pull.queue);
        if let Some(offset) = reset {
            let result = self.reset_result(&pull, offset);
            self.finish(
                &pull,
                reply,
                result,
                ResponseCode::PULL_OFFSET_MOVED,
                "OFFSET_RESET",
            );
            return;
        }
        if header.sys_flag & FLAG_COMMIT != 0 && header.commit_offset >= 0 {
            offsets.commit(&pull.topic, &pull.group, pull.queue, header.commit_offset);
        }
        let wait_ms = if header.sys_flag & FLAG_SUSPEND == 0 {
            0
        } else if config.long_polling_enable {
            header.suspend_timeout_millis.clamp(0, SUSPEND_MS_MAX)
        } else {
            i64::try_from(config.short_polling_time.as_millis()).unwrap_or(SUSPEND_MS_MAX)
        };
        let deadline = (wait_ms > 0).then(|| self.elapsed().plus(wait_ms));
        self.read_or_park(pull, reply, deadline, &config);
    }

    /// Serves a pull that was waiting.
    pub(super) fn wake(&self, parked: ParkedPull) {
        if !parked.reply.is_open() {
            return;
        }
        let ParkedPull {
            pull,
            deadline,
            reply,
            ..
        } = parked;
        let deadline = Some(deadline).filter(|deadline| *deadline > self.elapsed());
        let config = self.deps.config.load();
        self.read_or_park(pull, reply, deadline, &config);
    }

    fn read_or_park(
        &self,
        mut pull: Pull,
        mut reply: Reply,
        deadline: Option<ElapsedMillis>,
        config: &BrokerConfig,
    ) {
        loop {
            let Ok(result) = self.read(&pull, config) else {
                self.catch_up(pull, reply, deadline);
                return;
            };
            match self.answer_or_park(pull, reply, deadline, result) {
                Some(again) => (pull, reply) = again,
                None => return,
            }
        }
    }

    /// Answers a pull, unless nothing can be given and it may wait. Gives it back when it could be read again at once.
    fn answer_or_park(
        &self,
        pull: Pull,
        mut reply: Reply,
        deadline: Option<ElapsedMillis>,
        result: GetResult,
    ) -> Option<(Pull, Reply)> {
        let status = result.status;
        let code = code_of(status, pull.offset);
        let waits = code == ResponseCode::PULL_NOT_FOUND;
        let (Some(deadline), true) = (deadline, waits) else {
            self.finish(&pull, reply, result, code, name_of(status));
            return None;
        };
        if reply.park().is_err() {
            self.refuse_to_wait(&pull, reply, "too many pulls of this connection wait");
            return None;
        }
        // There is something, which cannot be read now: neither an answer nor the next message would bring it.
        let is_held = result.next_begin < result.max;
        let until = if is_held {
            deadline.min(self.elapsed().plus(HOLD_MS))
        } else {
            deadline
        };
        let (topic, queue, offset) = (pull.topic.clone(), pull.queue, pull.offset);
        let parked = ParkedPull {
            pull,
            deadline,
            reply,
            is_held,
        };
        let polling = &self.deps.long_polling;
        match polling.park(until, parked) {
            // A message that came between the read and the parking has woken nobody.
            Ok(ticket) if !is_held && self.queue_end(&topic, queue) > offset => {
                let parked = polling.take(ticket)?;
                Some((parked.pull, parked.reply))
            }
            Ok(_) => None,
            Err(ParkedPull { pull, reply, .. }) if polling.is_closed() => {
                self.finish(&pull, reply, result, code, name_of(status));
                None
            }
            Err(ParkedPull { pull, reply, .. }) => {
                self.refuse_to_wait(&pull, reply, "too many pulls wait");
                None
            }
        }
    }

    /// An answer that there is nothing would bring the client back at once; after this one it rests.
    pub(super) fn refuse_to_wait(&self, pull: &Pull, reply: Reply, why: &str) {
        let code = ResponseCode::SYSTEM_BUSY;
        reply.send(Command::response(code).with_remark(format!("[OVERLOAD]system busy, {why}")));
        let time = pull.begun.elapsed();
        self.deps
            .metrics
            .answered(pull.request, code.name(), true, time);
    }

    fn read(&self, pull: &Pull, config: &BrokerConfig) -> Result<GetResult, NotInMemory> {
        let limits = limits(pull, config);
        let store = &self.deps.store;
        store.get_in_memory(
            &pull.topic,
            pull.queue,
            pull.offset,
            limits,
            &|tags_code, _| pull.may_match(tags_code),
        )
    }

    /// Serves a pull whose messages are not in memory. Waits for the disk.
    pub(super) fn read_from_disk(&self, pull: Pull, reply: Reply, deadline: Option<ElapsedMillis>) {
        let config = self.deps.config.load();
        let limits = limits(&pull, &config);
        let store = &self.deps.store;
        let result = store.get_catching_up(
            &pull.topic,
            pull.queue,
            pull.offset,
            limits,
            &|tags_code, _| pull.may_match(tags_code),
        );
        let deadline = deadline.filter(|deadline| *deadline > self.elapsed());
        if let Some((pull, reply)) = self.answer_or_park(pull, reply, deadline, result) {
            self.read_or_park(pull, reply, deadline, &config);
        }
    }

    fn reset_result(&self, pull: &Pull, offset: i64) -> GetResult {
        GetResult {
            status: GetStatus::OffsetTooSmall,
            next_begin: offset,
            min: self.queue_start(&pull.topic, pull.queue),
            max: self.queue_end(&pull.topic, pull.queue),
            chunks: Vec::new(),
            messages: 0,
            bytes: 0,
            first_store_timestamp: None,
        }
    }

    /// Sends the answer. All offsets are in it whatever the code: clients read them from 19, 20 and 21 too.
    fn finish(
        &self,
        pull: &Pull,
        reply: Reply,
        result: GetResult,
        code: ResponseCode,
        remark: &'static str,
    ) {
        let header = PullMessageResponseHeader {
            suggest_which_broker_id: 0,
            next_begin_offset: result.next_begin,
            min_offset: result.min,
            max_offset: result.max,
            offset_delta: None,
            topic_sys_flag: Some(pull.topic_sys_flag),
            group_sys_flag: Some(pull.group_sys_flag),
            forbidden_type: None,
        };
        let mut response = Command::response(code)
            .with_remark(remark)
            .with_header(&header);
        let is_found = code == ResponseCode::SUCCESS;
        if is_found {
            response = response.with_body(result.chunks);
            self.deps.metadata.offsets.pulled(
                &pull.topic,
                &pull.group,
                pull.queue,
                result.next_begin,
            );
            self.deps.metrics.given(
                pull.topic.as_str(),
                pull.group.as_str(),
                pull.topic.is_system() || crate::metadata::is_system_group(pull.group.as_str()),
                result.messages,
                result.bytes,
            );
        }
        self.stats.got(
            pull.topic.as_str(),
            pull.group.as_str(),
            u64::from(result.messages),
            u64::try_from(result.bytes).unwrap_or(u64::MAX),
            is_found,
        );
        if code == ResponseCode::PULL_OFFSET_MOVED {
            tracing::info!(
                topic = %pull.topic, queue = %pull.queue, group = %pull.group, asked = pull.offset,
                next = result.next_begin, min = result.min, max = result.max, status = remark,
                "a pull is sent to another offset"
            );
        }
        reply.send(response);
        self.deps
            .metrics
            .answered(pull.request, code.name(), true, pull.begun.elapsed());
    }
}

/// What a pull may take from the newest part of the log, and elsewhere.
fn limits(pull: &Pull, config: &BrokerConfig) -> (ReadLimits, ReadLimits) {
    let limit = |messages_max: u32, bytes_max: u64| {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        ReadLimits {
            messages_max: messages_max.min(pull.max_messages),
            bytes_max: pull.max_bytes.map_or(bytes_max, |max| max.min(bytes_max)),
        }
    };
    (
        limit(
            config.max_transfer_count_on_message_in_memory,
            config.max_transfer_bytes_on_message_in_memory.0,
        ),
        limit(
            config.max_transfer_count_on_message_in_disk,
            config.max_transfer_bytes_on_message_in_disk.0,
        ),
    )
}

/// The response code of a read's outcome.
pub(super) fn code_of(status: GetStatus, offset: i64) -> ResponseCode {
    match status {
        GetStatus::Found => ResponseCode::SUCCESS,
        GetStatus::NoMatchedMessage | GetStatus::MessageWasRemoving => {
            ResponseCode::PULL_RETRY_IMMEDIATELY
        }
        GetStatus::NoMatchedLogicQueue | GetStatus::NoMessageInQueue => {
            if offset == 0 {
                ResponseCode::PULL_NOT_FOUND
            } else {
                ResponseCode::PULL_OFFSET_MOVED
            }
        }
        GetStatus::OffsetFoundNull | GetStatus::OffsetOverflowOne => ResponseCode::PULL_NOT_FOUND,
        GetStatus::OffsetOverflowBadly | GetStatus::OffsetTooSmall => {
            ResponseCode::PULL_OFFSET_MOVED
        }
    }
}

/// RocketMQ's name of a read's outcome: the remark of the answer.
pub(super) fn name_of(status: GetStatus) -> &'static str {
    match status {
        GetStatus::Found => "FOUND",
        GetStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
        GetStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
        GetStatus::NoMatchedLogicQueue => "NO_MATCHED_LOGIC_QUEUE",
        GetStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
        GetStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
        GetStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
        GetStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
        GetStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
    }
}
