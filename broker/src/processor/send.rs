//! SEND_MESSAGE, SEND_MESSAGE_V2 and SEND_BATCH_MESSAGE (`SendMessageProcessor`).
//!
//! The usual message travels from the read buffer into the store's write buffer by one copy: its header is a [`SendView`], its
//! properties stay as they are and what the broker adds is a text made at start. Whatever is not usual (delays, retries,
//! properties that only the broker may set) is rewritten first and then takes the same way.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rocket_protocol::body::TopicFilterType;
use rocket_protocol::header::{SendMessageHeader, SendMessageV2Header};
use rocket_protocol::message::properties::PROPERTIES_BYTES_MAX;
use rocket_protocol::message::{MessageRef, SendFacts, batch, property};
use rocket_protocol::send::{Scratch, SendView};
use rocket_protocol::{
    Command, Message, QueueId, RequestCode, ResponseCode, SysFlag, TopicName, UnixMillis,
};
use rocket_remoting::{Connection, RawRequest, Reply};
use rocket_store::{Promise, PutOutcome, PutStatus, Refused};

use super::BrokerProcessor;
use super::pending::{
    PendingSend, ProducerSend, UniqueKey, illegal_message, put_answer, refuse_send,
};
use super::refusal::Refusal;
use super::send_properties::{kind, promise, refuse_unserved, with_properties, without};
use super::send_topics::{SendTopic, put_property};
use crate::config::BrokerConfig;

/// Since which client version `maxReconsumeTimes` means what it says (V3_4_9).
const VERSION_MAX_RECONSUME_TIMES: i32 = 121;
/// Messages of one batch. The answer names each with up to 57 letters, and a header ends at 16 MiB.
const BATCH_MESSAGES_MAX: usize = 65_536;
/// Room for so many messages is kept for the next batch.
const BATCH_ROOM_KEPT: usize = 1_024;
/// Bits of sysFlag that only the broker sets.
const BROKER_SYS_FLAGS: i32 =
    SysFlag::TRANSACTION_MASK | SysFlag::INNER_BATCH | SysFlag::NEED_UNWRAP;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// The empty list of a batch's messages, kept for its room.
    static BATCH: RefCell<Vec<MessageRef<'static>>> = const { RefCell::new(Vec::new()) };
}

impl BrokerProcessor {
    /// Serves a send whose header can be read where it lies.
    ///
    /// # Errors
    /// The request, when its header cannot be read there, and when the replica began to hand over its mastership after the gate had let
    /// the send in: decoded it comes to the gate again, and waits there.
    pub(super) fn send_in_place<'a>(&self, request: RawRequest<'a>) -> Result<(), RawRequest<'a>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let frame = request.frame();
            let Some(view) = SendView::read(&frame, request.limits(), scratch) else {
                return Err(request);
            };
            let (connection, begun) = (request.connection(), request.received());
            let again = request.clone();
            let reply = request.accept(view.opaque, view.format, view.is_oneway);
            match self.send(connection, &view, frame.body(), reply, begun) {
                Err((refusal, reply)) if refusal.is_for_role => {
                    reply.withhold();
                    return Err(again);
                }
                Err((refusal, reply)) => self.refuse(view.code, refusal, reply, begun),
                Ok(()) => {}
            }
            Ok(())
        })
    }

    /// Serves a send that was decoded the long way.
    pub(super) fn send_decoded(
        &self,
        connection: &Connection,
        request: &Command,
        reply: Reply,
        begun: Instant,
    ) {
        let config = self.deps.config.load();
        let header = accepts_sends(&config).and_then(|()| {
            let header: SendMessageHeader = match request.request_code() {
                RequestCode::SEND_MESSAGE => request.header()?,
                _ => request.header::<SendMessageV2Header>()?.into(),
            };
            Ok(header)
        });
        match header {
            Ok(header) => {
                let body = request.body.contiguous();
                let view = SendView::of(request, &header);
                let sent = self.send(connection, &view, &body, reply, begun);
                if let Err((refusal, reply)) = sent {
                    self.refuse(view.code, refusal, reply, begun);
                }
            }
            Err(refusal) => self.refuse(request.request_code(), refusal, reply, begun),
        }
    }

    /// Serves a send: the answer comes when the store has kept its promise. What was refused at once is stored nowhere.
    fn send(
        &self,
        connection: &Connection,
        view: &SendView<'_>,
        body: &[u8],
        reply: Reply,
        begun: Instant,
    ) -> Result<(), (Refusal, Reply)> {
        let config = self.deps.config.load();
        // Goes with the message when the store takes that, and stays when it is refused.
        let mut reply = Some(reply);
        let sent = self.prepare(connection, view, body, &config, &mut reply, begun);
        match (sent, reply) {
            (Err(refusal), Some(reply)) => Err((refusal, reply)),
            _ => Ok(()),
        }
    }

    fn refuse(&self, code: RequestCode, refusal: Refusal, reply: Reply, begun: Instant) {
        let trace_on = self.deps.config.load().trace_on;
        refuse_send(&self.send_context, reply, refusal, trace_on, code, begun);
    }

    /// Stores a message of the broker's own.
    pub(super) fn append_own(&self, message: &Message, then: PendingSend) {
        self.append(&[message.as_ref()], Promise::Kept, then);
        self.deps.store.write_out();
    }

    /// Hands messages to the store, which writes them when all of this read were served; those that are not taken are completed
    /// at once.
    pub(super) fn append(
        &self,
        messages: &[MessageRef<'_>],
        promise: Promise,
        completion: PendingSend,
    ) {
        use rocket_store::Completion as _;
        if let Err(refused) = self.deps.store.append(messages, promise, completion) {
            let (pending, status) = refused.into_parts();
            pending.complete(PutOutcome {
                status,
                appended: None,
            });
        }
    }

    fn prepare(
        &self,
        connection: &Connection,
        view: &SendView<'_>,
        body: &[u8],
        config: &BrokerConfig,
        reply: &mut Option<Reply>,
        begun: Instant,
    ) -> Result<(), Refusal> {
        accepts_sends(config)?;
        let accept_from = config.start_accept_send_request_timestamp;
        if accept_from > 0 && u64::try_from(self.now().0).unwrap_or_default() < accept_from {
            return Err(Refusal::system_error(format!(
                "broker unable to service, until {accept_from}"
            )));
        }
        let topic = self.check_topic(connection, view, config)?;
        let illegal = |which| illegal_message(config.max_message_size.0, which);
        if body.is_empty() {
            return Err(illegal("no body"));
        }
        if u64::try_from(body.len()).unwrap_or(u64::MAX) > config.max_message_size.0 {
            return Err(illegal("body"));
        }
        if view.properties.len() > PROPERTIES_BYTES_MAX {
            return Err(illegal("properties"));
        }
        let send = Send {
            processor: self,
            view,
            body,
            config,
            topic: &topic,
            born_host: connection.peer(),
            begun,
        };
        if view.batch || view.code == RequestCode::SEND_BATCH_MESSAGE {
            send.batch(reply)
        } else {
            send.one(reply)
        }
    }
}

fn accepts_sends(config: &BrokerConfig) -> Result<(), Refusal> {
    if config.is_standby() {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_BUSY,
            "[REJECTREQUEST]system busy, start flow control for a while",
        ));
    }
    Ok(())
}

/// Where a message goes.
struct Target {
    topic: TopicName,
    queue_id: i32,
    /// Delay level, 0 for none.
    level: usize,
}

/// One send between its checks and the store.
struct Send<'a> {
    processor: &'a BrokerProcessor,
    view: &'a SendView<'a>,
    body: &'a [u8],
    config: &'a BrokerConfig,
    topic: &'a Arc<SendTopic>,
    born_host: SocketAddr,
    begun: Instant,
}

impl Send<'_> {
    fn one(&self, reply: &mut Option<Reply>) -> Result<(), Refusal> {
        let facts = SendFacts::read(self.view.properties);
        self.refuse_transaction(&facts)?;
        refuse_unserved(&facts, self.topic.is_retry)?;
        let queue_id = self.queue_id();
        let is_usual =
            !self.topic.is_retry && facts.delay.is_none() && !facts.has_broker_properties;
        let additions = self.processor.send_context.additions(self.config.trace_on);
        if let (true, Some(unique_key)) = (is_usual, facts.unique_key) {
            let message = MessageRef {
                more_properties: additions,
                ..self.message(&self.topic.name, queue_id, self.view.properties)
            };
            let unique_key = UniqueKey::of(Some(unique_key));
            return self.hand_over(&[message], &facts, 0, queue_id, unique_key, reply);
        }
        self.rewritten(&facts, queue_id, additions, reply)
    }

    /// A message whose properties are not stored as they came.
    fn rewritten(
        &self,
        facts: &SendFacts<'_>,
        queue_id: i32,
        additions: &[u8],
        reply: &mut Option<Reply>,
    ) -> Result<(), Refusal> {
        let processor = self.processor;
        let target = self.target(queue_id, facts)?;
        let made;
        let (key, extra) = if let Some(known) = facts.unique_key {
            (known, None)
        } else {
            made = processor.unique_keys.next(processor.now());
            (made.as_str(), Some(made.as_str()))
        };
        let mut additions = additions.to_vec();
        if let Some(key) = extra {
            put_property(property::UNIQ_KEY, key, &mut additions);
        }
        let properties = Bytes::copy_from_slice(self.view.properties);
        let properties = with_properties(&properties, facts, &additions);
        let properties = if target.level > 0 {
            let (topic, queue_id) = (&target.topic, target.queue_id);
            processor.delay_properties(&properties, topic, queue_id, target.level)
        } else if target.topic == self.topic.name {
            properties
        } else {
            without(&properties, property::DELAY)
        };
        let mut message = self.message(&target.topic, target.queue_id, &properties);
        if target.level > 0 {
            (message.topic, message.queue_id) = processor.schedule_place(target.level);
        }
        let key = UniqueKey::of(Some(key));
        self.hand_over(&[message], facts, target.level, queue_id, key, reply)
    }

    fn batch(&self, reply: &mut Option<Reply>) -> Result<(), Refusal> {
        let illegal = |remark: String| Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark);
        if self.topic.is_retry {
            return Err(illegal(format!(
                "batch request does not support retry group {}",
                self.topic.name
            )));
        }
        let queue_id = self.queue_id();
        let additions = self.processor.send_context.additions(self.config.trace_on);
        // Properties that had to be rewritten; usually none.
        let mut rewritten: Vec<(usize, Bytes)> = Vec::new();
        let mut messages = recycled(BATCH.take());
        for part in batch::views(self.body) {
            let part = part.map_err(|error| illegal(error.to_string()))?;
            if messages.len() >= BATCH_MESSAGES_MAX {
                return Err(illegal(format!(
                    "a batch may have {BATCH_MESSAGES_MAX} messages"
                )));
            }
            let facts = SendFacts::read(part.properties);
            self.refuse_transaction(&facts)?;
            refuse_unserved(&facts, self.topic.is_retry)?;
            if facts.delay.is_some() {
                return Err(illegal("batch messages cannot be delayed".to_owned()));
            }
            if facts.has_broker_properties {
                let properties = Bytes::copy_from_slice(part.properties);
                let properties = with_properties(&properties, &facts, additions);
                rewritten.push((messages.len(), properties));
            }
            messages.push(MessageRef {
                flag: part.flag,
                body: part.body,
                more_properties: additions,
                ..self.message(&self.topic.name, queue_id, part.properties)
            });
        }
        if messages.is_empty() {
            let max = self.config.max_message_size.0;
            return Err(illegal_message(max, "empty batch"));
        }
        for (index, properties) in &rewritten {
            if let Some(message) = messages.get_mut(*index) {
                (message.properties, message.more_properties) = (properties, &[]);
            }
        }
        // The batch as a whole has properties of its own, which say how it is answered.
        let facts = SendFacts::read(self.view.properties);
        let unique_key = UniqueKey::of(facts.unique_key);
        let handed = self.hand_over(&messages, &facts, 0, queue_id, unique_key, reply);
        let room = recycled(messages);
        if room.capacity() <= BATCH_ROOM_KEPT {
            BATCH.set(room);
        }
        handed
    }

    /// Gives the messages to the store, with what is needed to answer their producer. When it does not take them, `reply` stays.
    fn hand_over(
        &self,
        messages: &[MessageRef<'_>],
        facts: &SendFacts<'_>,
        level: usize,
        queue_id: i32,
        unique_key: UniqueKey,
        reply: &mut Option<Reply>,
    ) -> Result<(), Refusal> {
        let Some(taken) = reply.take() else {
            return Ok(());
        };
        let pending = ProducerSend {
            reply: taken,
            begun: self.begun,
            topic: Arc::clone(self.topic),
            unique_key,
            queue_id,
            body_bytes: messages.iter().map(|message| message.body.len()).sum(),
            request: self.view.code,
            kind: kind(facts, level),
            trace_on: self.config.trace_on,
        };
        let completion = PendingSend::Producer(pending);
        let store = &self.processor.deps.store;
        let Err(refused) = store.append(messages, promise(facts), completion) else {
            return Ok(());
        };
        let is_for_role = matches!(
            refused,
            Refused::Status(_, PutStatus::ServiceNotAvailable(_))
        );
        let (completion, status) = refused.into_parts();
        if let PendingSend::Producer(pending) = completion {
            *reply = Some(pending.reply);
        }
        match put_answer(&status, || self.config.max_message_size.0) {
            Err(refusal) if is_for_role => Err(refusal.for_role()),
            Err(refusal) => Err(refusal),
            Ok(_) => Err(Refusal::system_error("the message was not taken")),
        }
    }

    /// Where the message goes: a retry that was tried too often goes to the dead letters (`handleRetryAndDLQ`).
    fn target(&self, queue_id: i32, facts: &SendFacts<'_>) -> Result<Target, Refusal> {
        let (processor, topic) = (self.processor, &self.topic.name);
        if let Some(group) = topic.retry_group() {
            let now = processor.now();
            let group_config = processor
                .group_of(group.as_str(), self.config)?
                .ok_or_else(|| Refusal::no_group(group.as_str()))?;
            let max = self
                .view
                .max_reconsume_times
                .filter(|_| self.view.version >= VERSION_MAX_RECONSUME_TIMES)
                .unwrap_or(group_config.retry_max_times);
            let locks = &processor.deps.clients.locks;
            let is_ordered = locks.lock().is_locked(now, &group);
            if is_ordered || self.view.reconsume_times.unwrap_or(0) > max {
                let dlq = processor.dlq_topic(&group)?;
                processor.count_dead_letter(topic.as_str(), group.as_str());
                return Ok(Target {
                    topic: dlq,
                    queue_id: 0,
                    level: 0,
                });
            }
        }
        let level = facts
            .delay
            .and_then(|level| level.parse::<i32>().ok())
            .and_then(|level| usize::try_from(level).ok())
            .unwrap_or(0);
        Ok(Target {
            topic: topic.clone(),
            queue_id,
            level: level.min(processor.delay_levels()),
        })
    }

    /// The producer's queue, or one at random when it wants none in particular.
    fn queue_id(&self) -> i32 {
        if self.view.queue_id >= 0 {
            return self.view.queue_id;
        }
        let queues = self.topic.config.write_queue_nums.max(1);
        rand::random_range(0..queues)
    }

    fn message<'m>(
        &'m self,
        topic: &'m TopicName,
        queue_id: i32,
        properties: &'m [u8],
    ) -> MessageRef<'m> {
        let mut sys_flag = SysFlag(self.view.sys_flag).without(BROKER_SYS_FLAGS);
        if self.topic.config.topic_filter_type == TopicFilterType::MultiTag {
            sys_flag = sys_flag.with(SysFlag::MULTI_TAGS);
        }
        MessageRef {
            topic,
            queue_id: QueueId::from_wire(queue_id).unwrap_or_default(),
            flag: self.view.flag,
            sys_flag,
            born_timestamp: UnixMillis(self.view.born_timestamp),
            born_host: self.born_host,
            store_host: self.processor.deps.identity.store_host,
            reconsume_times: self.view.reconsume_times.unwrap_or(0),
            prepared_transaction_offset: 0,
            body: self.body,
            body_crc: None,
            properties,
            more_properties: &[],
        }
    }

    /// Half messages are not served by this version; delivering one at once would break its producer's promise.
    fn refuse_transaction(&self, facts: &SendFacts<'_>) -> Result<(), Refusal> {
        let is_transaction = facts
            .transaction
            .is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
        // Clients before 4.6.1 leave the flag on messages that they send back.
        let is_retry = self.view.reconsume_times.unwrap_or(0) > 0 && facts.delay.is_some();
        if !is_transaction || is_retry {
            return Ok(());
        }
        if self.config.reject_transaction_message {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                format!(
                    "the broker[{}] sending transaction message is forbidden",
                    self.processor.deps.identity.advertised
                ),
            ));
        }
        Err(Refusal::new(
            ResponseCode::MESSAGE_ILLEGAL,
            "transactional messages are not supported by this broker version",
        ))
    }
}

/// The room of a list for another list of the same kind of value: collecting from a vector into its like reuses its memory.
fn recycled<'to>(mut messages: Vec<MessageRef<'_>>) -> Vec<MessageRef<'to>> {
    messages.clear();
    messages.into_iter().map_while(|_| None).collect()
}
