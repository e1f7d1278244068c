//! Appends that wait for their outcome: a value that the store's thread completes, no task and no thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rocket_protocol::header::SendMessageResponseHeader;
use rocket_protocol::message::OffsetMessageId;
use rocket_protocol::message::property;
use rocket_protocol::{ByteStr, Command, PhysicalOffset, ResponseCode, TopicName};
use rocket_remoting::Reply;
use rocket_store::{Appended, Completion, PutOutcome, PutStatus};

use super::refusal::Refusal;
use super::stats::BrokerStats;
use crate::metrics::{Metrics, TopicSeries};

/// Who waits for an append.
pub enum PendingSend {
    /// A producer.
    Producer(Box<ProducerSend>),
    /// The broker itself: retries and delayed deliveries.
    Broker(Box<dyn FnOnce(PutOutcome) + Send>),
}

impl Completion for PendingSend {
    fn complete(self, outcome: PutOutcome) {
        match self {
            Self::Producer(send) => send.complete(&outcome),
            Self::Broker(then) => then(outcome),
        }
    }
}

/// What is needed to answer a producer.
pub struct ProducerSend {
    pub(super) reply: Reply,
    pub(super) base: ResponseBase,
    pub(super) request: Option<&'static str>,
    pub(super) begun: Instant,
    pub(super) topic: TopicName,
    pub(super) queue_id: i32,
    pub(super) unique_key: Option<ByteStr>,
    pub(super) store_host: SocketAddr,
    pub(super) body_bytes: usize,
    pub(super) message_bytes_max: u64,
    pub(super) series: Arc<TopicSeries>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stats: Arc<BrokerStats>,
}

/// What every answer to a send carries; without these fields Java's client fails on a null.
#[derive(Debug, Clone)]
pub(super) struct ResponseBase {
    pub(super) region: ByteStr,
    pub(super) trace_on: bool,
}

impl ResponseBase {
    pub(super) fn apply(&self, response: Command) -> Command {
        let trace_on = if self.trace_on { "true" } else { "false" };
        response
            .with_ext(property::MSG_REGION, self.region.clone())
            .with_ext(property::TRACE_ON, trace_on)
    }
}

impl ProducerSend {
    fn complete(self: Box<Self>, outcome: &PutOutcome) {
        let response = match put_answer(&outcome.status, self.message_bytes_max) {
            Ok(code) => self.stored(code, outcome.appended.as_ref()),
            Err(refusal) => {
                self.stats.put_failed();
                refusal.into_command()
            }
        };
        let result = response.response_code().name();
        self.reply.send(self.base.apply(response));
        self.metrics
            .answered(self.request, result, false, self.begun.elapsed());
    }

    fn stored(&self, code: ResponseCode, appended: Option<&Appended>) -> Command {
        let Some(appended) = appended else {
            return Refusal::system_error("the store does not say where the message is")
                .into_command();
        };
        self.series.count_batch(appended.count, self.body_bytes);
        self.stats.put(
            self.topic.as_str(),
            u64::from(appended.count),
            appended.len,
            self.begun.elapsed(),
        );
        let header = SendMessageResponseHeader {
            msg_id: message_ids(self.store_host, appended).into(),
            queue_id: self.queue_id,
            queue_offset: appended.queue_offset.to_wire(),
            transaction_id: self.unique_key.clone(),
            ..SendMessageResponseHeader::default()
        };
        Command::response(code).with_header(&header)
    }
}

/// The offset message ids of an append, joined by commas.
fn message_ids(store_host: SocketAddr, appended: &Appended) -> String {
    let id = |offset: PhysicalOffset| OffsetMessageId { store_host, offset }.to_string();
    if appended.physical_offsets.is_empty() {
        return id(appended.physical_offset);
    }
    let ids: Vec<String> = appended.physical_offsets.iter().copied().map(id).collect();
    ids.join(",")
}

/// The code of an append that is stored, also when its promise was not kept in time, or why nothing is stored.
pub(super) fn put_answer(
    status: &PutStatus,
    message_bytes_max: u64,
) -> Result<ResponseCode, Refusal> {
    match status {
        PutStatus::Ok => Ok(ResponseCode::SUCCESS),
        PutStatus::FlushDiskTimeout => Ok(ResponseCode::FLUSH_DISK_TIMEOUT),
        PutStatus::FlushSlaveTimeout => Ok(ResponseCode::FLUSH_SLAVE_TIMEOUT),
        PutStatus::SlaveNotAvailable => Ok(ResponseCode::SLAVE_NOT_AVAILABLE),
        PutStatus::InSyncReplicasNotEnough => {
            Err(Refusal::system_error("in-sync replicas not enough"))
        }
        PutStatus::MessageIllegal(reason) => Err(illegal_message(message_bytes_max, reason)),
        PutStatus::PropertiesTooLong => Err(illegal_message(message_bytes_max, "properties")),
        PutStatus::ServiceNotAvailable(reason) => Err(Refusal::new(
            ResponseCode::SERVICE_NOT_AVAILABLE,
            format!(
                "service not available now. It may be caused by one of the following reasons: the broker's disk is full, \
                 messages are put to the slave, message store has been shut down, etc. [{reason}]"
            ),
        )),
        PutStatus::Busy => Err(Refusal::new(
            ResponseCode::SYSTEM_BUSY,
            "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while",
        )),
        PutStatus::Unknown => Err(Refusal::system_error("UNKNOWN_ERROR")),
    }
}

/// RocketMQ's words for a message that cannot be stored, and which part of it.
pub(super) fn illegal_message(message_bytes_max: u64, which: &str) -> Refusal {
    Refusal::new(
        ResponseCode::MESSAGE_ILLEGAL,
        format!(
            "the message is illegal, maybe msg body or properties length not matched. msg body length limit \
             {message_bytes_max}B, msg properties length limit 32KB. [{which}]"
        ),
    )
}
