//! Appends that wait for their outcome: a value that the store's thread completes, no task and no thread.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_protocol::message::property;
use rocket_protocol::send::SendResponse;
use rocket_protocol::{PhysicalOffset, RequestCode, ResponseCode};
use rocket_remoting::{HeldWakes, Reply};
use rocket_store::{Appended, Completion, PutOutcome, PutStatus};

use super::refusal::Refusal;
use super::send_topics::{SendContext, SendTopic};
use crate::metrics::MessageType;

/// Who waits for an append.
pub enum PendingSend {
    /// A producer.
    Producer(ProducerSend),
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

    /// Each connection that gets answers is woken once, and one reading of the clock is the time of all.
    fn together(complete: impl FnOnce()) {
        let _held = HeldWakes::new();
        NOW.set(Some(Instant::now()));
        complete();
        NOW.set(None);
    }
}

thread_local! {
    /// The time of the answers that this thread gives together.
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time since `begun`.
fn took(begun: Instant) -> Duration {
    let now = NOW.get().unwrap_or_else(Instant::now);
    now.saturating_duration_since(begun)
}

/// What is needed to answer a producer. A plain value: a send owns no memory of its own while it waits.
pub struct ProducerSend {
    pub(super) reply: Reply,
    pub(super) begun: Instant,
    pub(super) topic: Arc<SendTopic>,
    pub(super) unique_key: UniqueKey,
    pub(super) queue_id: i32,
    pub(super) body_bytes: usize,
    pub(super) request: RequestCode,
    pub(super) kind: MessageType,
    pub(super) trace_on: bool,
}

/// Letters that a unique key has when it was made on an IPv6 host, the longest that clients make.
const KEY_LETTERS: usize = 56;

/// The unique key of a message, if it has one.
pub(super) enum UniqueKey {
    None,
    Short {
        len: u8,
        letters: [u8; KEY_LETTERS],
    },
    /// A key of somebody's own making.
    Long(Box<str>),
}

impl UniqueKey {
    pub(super) fn of(key: Option<&str>) -> Self {
        let Some(key) = key else { return Self::None };
        let mut letters = [0; KEY_LETTERS];
        match (letters.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(key.as_bytes());
                Self::Short { len, letters }
            }
            _ => Self::Long(key.into()),
        }
    }

    fn as_str(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Short { len, letters } => {
                let letters = letters.get(..usize::from(*len)).unwrap_or_default();
                // It was a text when it was put there.
                std::str::from_utf8(letters).ok()
            }
            Self::Long(key) => Some(key),
        }
    }
}

impl ProducerSend {
    fn complete(self, outcome: &PutOutcome) {
        let context = &self.topic.context;
        match stored(outcome, || context.config.load().max_message_size.0) {
            Ok((code, appended)) => {
                let took = took(self.begun);
                let (count, len) = (appended.count, appended.len);
                self.topic
                    .stored(self.kind, count, self.body_bytes, len, took);
                let (reply, context) = (self.reply, &self.topic.context);
                let response = SendResponse {
                    code,
                    host_letters: &context.host_letters,
                    offsets: offsets(appended),
                    queue_id: self.queue_id,
                    queue_offset: appended.queue_offset.to_wire(),
                    unique_key: self.unique_key.as_str(),
                    region: &context.region,
                    trace_on: self.trace_on,
                };
                reply.send_with(|opaque, format, out| response.encode(opaque, format, out));
                context.answered(self.request, code, took);
            }
            Err(refusal) => {
                let (reply, trace_on) = (self.reply, self.trace_on);
                refuse_send(context, reply, refusal, trace_on, self.request, self.begun);
            }
        }
    }
}

/// Where the records of an append begin.
fn offsets(appended: &Appended) -> &[PhysicalOffset] {
    if appended.physical_offsets.is_empty() {
        std::slice::from_ref(&appended.physical_offset)
    } else {
        &appended.physical_offsets
    }
}

/// Answers a send that stored nothing. Java's client reads region and trace switch from refusals, too.
pub(super) fn refuse_send(
    context: &SendContext,
    reply: Reply,
    refusal: Refusal,
    trace_on: bool,
    request: RequestCode,
    begun: Instant,
) {
    context.stats.put_failed();
    let code = refusal.code;
    let trace_on = if trace_on { "true" } else { "false" };
    let response = refusal
        .into_command()
        .with_ext(property::MSG_REGION, context.region.clone())
        .with_ext(property::TRACE_ON, trace_on);
    reply.send(response);
    context.answered(request, code, took(begun));
}

/// What is answered to an append, and where it is stored.
///
/// SERVICE_NOT_AVAILABLE says to whoever passes a send on that it is nowhere and may be tried elsewhere. So it is never said of what was
/// appended, whatever the store says besides: that is an open outcome.
pub(super) fn stored(
    outcome: &PutOutcome,
    message_bytes_max: impl FnOnce() -> u64,
) -> Result<(ResponseCode, &Appended), Refusal> {
    let answer = put_answer(&outcome.status, message_bytes_max);
    match (answer, &outcome.appended) {
        (Ok(code), Some(appended)) => Ok((code, appended)),
        (Ok(_), None) => Err(Refusal::system_error(
            "the store does not say where the message is",
        )),
        (Err(refusal), Some(appended)) if refusal.code == ResponseCode::SERVICE_NOT_AVAILABLE => {
            Ok((ResponseCode::FLUSH_SLAVE_TIMEOUT, appended))
        }
        (Err(refusal), _) => Err(refusal),
    }
}

/// The code of an append that is stored, also when its promise was not kept in time, or why nothing is stored.
pub(super) fn put_answer(
    status: &PutStatus,
    message_bytes_max: impl FnOnce() -> u64,
) -> Result<ResponseCode, Refusal> {
    match status {
        PutStatus::Ok => Ok(ResponseCode::SUCCESS),
        PutStatus::FlushDiskTimeout => Ok(ResponseCode::FLUSH_DISK_TIMEOUT),
        PutStatus::FlushSlaveTimeout => Ok(ResponseCode::FLUSH_SLAVE_TIMEOUT),
        PutStatus::SlaveNotAvailable => Ok(ResponseCode::SLAVE_NOT_AVAILABLE),
        PutStatus::InSyncReplicasNotEnough => {
            Err(Refusal::system_error("in-sync replicas not enough"))
        }
        PutStatus::MessageIllegal(reason) => Err(illegal_message(message_bytes_max(), reason)),
        PutStatus::PropertiesTooLong => Err(illegal_message(message_bytes_max(), "properties")),
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
