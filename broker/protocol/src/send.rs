//! The two ends of a send that every message passes: its header read in place, and its answer written in place. Neither
//! allocates.
//!
//! [`SendView::read`] takes the form that clients send and says `None` to everything else, good or bad: that is left to
//! [`crate::frame`]'s decoders and [`crate::header`]'s types, which decide what an odd header means and how a broken one
//! is refused. Where the view says something, they say the same; a property test and a fuzz target compare them.

mod compact;
mod json;
mod response;

pub use response::SendResponse;

use crate::code::RequestCode;
use crate::command::{Command, HeaderFormat};
use crate::frame::{FrameView, Limits};
use crate::header::{SEND_FIELDS, SendField, SendMessageHeader};

/// The header of a SEND_MESSAGE, SEND_MESSAGE_V2 or SEND_BATCH_MESSAGE that wants to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendView<'a> {
    /// One of the three.
    pub code: RequestCode,
    /// The version of the sender.
    pub version: i32,
    /// What the answer must carry.
    pub opaque: i32,
    /// Whether no answer is wanted.
    pub is_oneway: bool,
    /// The form of the header, which is that of the answer.
    pub format: HeaderFormat,
    /// Who sends.
    pub producer_group: &'a str,
    /// Where to.
    pub topic: &'a str,
    /// The template if the topic is new.
    pub default_topic: &'a str,
    /// Queues if the topic is new.
    pub default_topic_queue_nums: i32,
    /// The queue; negative: any.
    pub queue_id: i32,
    /// See [`crate::SysFlag`].
    pub sys_flag: i32,
    /// When the producer made the message, ms.
    pub born_timestamp: i64,
    /// The user's own number.
    pub flag: i32,
    /// The properties string, without the escapes of JSON.
    pub properties: &'a [u8],
    /// How often the message was delivered in vain.
    pub reconsume_times: Option<i32>,
    /// Whether the topic is one of a unit.
    pub unit_mode: bool,
    /// Whether the body is a batch.
    pub batch: bool,
    /// How often it may be delivered.
    pub max_reconsume_times: Option<i32>,
}

/// Where an unescaped text is kept when it cannot be a slice of the header; to be used again for the next header.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

/// What of the fixed part of a header matters here.
#[derive(Debug, Clone, Copy, Default)]
struct Fixed {
    code: i32,
    version: i32,
    opaque: i32,
    flag: i32,
}

/// The texts of a send's fields, by [`SendField`].
type Texts<'a> = [Option<&'a str>; SEND_FIELDS];

impl<'a> SendView<'a> {
    /// Reads the header of `frame` if it is a send in one of the usual forms.
    pub fn read(frame: &FrameView<'a>, limits: &Limits, scratch: &'a mut Scratch) -> Option<Self> {
        match frame.format {
            HeaderFormat::Json => json::read(frame.header(), limits, scratch),
            HeaderFormat::Compact => compact::read(frame.header(), limits),
        }
    }

    /// The same of a header that was decoded the long way.
    pub fn of(command: &Command, header: &'a SendMessageHeader) -> Self {
        Self {
            code: command.request_code(),
            version: command.version,
            opaque: command.opaque,
            is_oneway: command.is_oneway(),
            format: command.format,
            producer_group: &header.producer_group,
            topic: &header.topic,
            default_topic: &header.default_topic,
            default_topic_queue_nums: header.default_topic_queue_nums,
            queue_id: header.queue_id,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            flag: header.flag,
            properties: header
                .properties
                .as_ref()
                .map(crate::ByteStr::as_bytes)
                .unwrap_or_default(),
            reconsume_times: header.reconsume_times,
            unit_mode: header.unit_mode,
            batch: header.batch,
            max_reconsume_times: header.max_reconsume_times,
        }
    }

    /// `None` when a field that must be there is not, or is not of its kind.
    fn new(
        fixed: Fixed,
        format: HeaderFormat,
        texts: &Texts<'a>,
        properties: &'a [u8],
    ) -> Option<Self> {
        let text = |field: SendField| texts.get(field as usize).copied().flatten();
        let number = |field: SendField| text(field)?.parse::<i32>().ok();
        // Outer `None`: no number.
        let optional = |field: SendField| match text(field) {
            None | Some("") => Some(None),
            Some(text) => text.parse::<i32>().ok().map(Some),
        };
        let is_true = |field| text(field).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        Some(Self {
            code: RequestCode(fixed.code),
            version: fixed.version,
            opaque: fixed.opaque,
            is_oneway: fixed.is_oneway(),
            format,
            producer_group: text(SendField::producer_group)?,
            topic: text(SendField::topic)?,
            default_topic: text(SendField::default_topic)?,
            default_topic_queue_nums: number(SendField::default_topic_queue_nums)?,
            queue_id: number(SendField::queue_id)?,
            sys_flag: number(SendField::sys_flag)?,
            born_timestamp: text(SendField::born_timestamp)?.parse().ok()?,
            flag: number(SendField::flag)?,
            properties,
            reconsume_times: optional(SendField::reconsume_times)?,
            unit_mode: is_true(SendField::unit_mode),
            batch: is_true(SendField::batch),
            max_reconsume_times: optional(SendField::max_reconsume_times)?,
        })
    }
}

impl Fixed {
    const fn is_oneway(self) -> bool {
        self.flag & 2 != 0
    }

    const fn is_response(self) -> bool {
        self.flag & 1 != 0
    }
}

/// Whether the code is one of the three.
const fn is_send(code: i32) -> bool {
    matches!(
        RequestCode(code),
        RequestCode::SEND_MESSAGE | RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE
    )
}

/// The field that a send of that code calls `name`.
fn field_of(code: i32, name: &[u8]) -> Option<SendField> {
    if code == RequestCode::SEND_MESSAGE.0 {
        SendField::of_name(name)
    } else {
        SendField::of_letter(name)
    }
}

#[cfg(test)]
mod tests;
