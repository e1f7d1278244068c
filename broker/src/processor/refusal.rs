//! Why a request is not served: a response code and a remark, with RocketMQ's words where it has some.

use rocket_protocol::json::JsonError;
use rocket_protocol::{Command, GroupName, HeaderError, NameError, ResponseCode, TopicName};
use rocket_store::PutStatus;

use super::pending::put_answer;
use crate::metadata::{FileError, LogError};

/// What a handler answers: a response, or why there is none.
pub(super) type Answer = Result<Command, Refusal>;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: ResponseCode,
    pub(super) remark: String,
    /// Whether it is for the replica's role, which may be on its way to another one.
    pub(super) is_for_role: bool,
}

impl Refusal {
    pub(super) fn new(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self {
            code,
            remark: remark.into(),
            is_for_role: false,
        }
    }

    pub(super) fn for_role(self) -> Self {
        Self {
            is_for_role: true,
            ..self
        }
    }

    pub(super) fn into_command(mut self) -> Command {
        // It may name what the request brought, and that may be longer than an answer's header.
        let end = self.remark.floor_char_boundary(REMARK_BYTES_MAX);
        self.remark.truncate(end);
        Command::response(self.code).with_remark(self.remark)
    }

    pub(super) fn system_error(remark: impl Into<String>) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, remark)
    }

    pub(super) fn no_topic(topic: &str) -> Self {
        Self::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist, apply first please!{SEE_FAQ}"),
        )
    }

    pub(super) fn no_group(group: &str) -> Self {
        Self::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group not exist, {group} {SEE_FAQ}"),
        )
    }
}

/// Bytes of a change; only its remark names them.
const BYTES_MAX: u64 = 2 << 20;
/// Bytes of a remark; nobody reads more.
const REMARK_BYTES_MAX: usize = 4_096;

/// What RocketMQ adds to remarks that newcomers meet (`FAQUrl`).
pub(super) const SEE_FAQ: &str =
    "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self::system_error(error.to_string())
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        Self::system_error(error.to_string())
    }
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Self {
        if let FileError::Log(error) = error {
            return error.into();
        }
        tracing::error!(error = %error, source = ?std::error::Error::source(&error), "metadata was not written");
        Self::system_error(format!("metadata was not written: {error}"))
    }
}

/// What a send would be answered that was not taken for the same reason; nothing of the kind where the change may still come.
impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        tracing::warn!(%error, "a change of metadata was not made");
        match error {
            LogError::Refused(status) => {
                let is_for_role = matches!(status, PutStatus::ServiceNotAvailable(_));
                match put_answer(&status, || BYTES_MAX) {
                    Err(refusal) if is_for_role => refusal.for_role(),
                    Err(refusal) => refusal,
                    Ok(_) => Self::system_error("the change was not taken"),
                }
            }
            LogError::NotMaster => {
                Self::new(ResponseCode::SERVICE_NOT_AVAILABLE, error.to_string()).for_role()
            }
            LogError::Unknown => Self::new(
                ResponseCode::SYSTEM_BUSY,
                format!("[TIMEOUT_CLEAN_QUEUE]{error}; look before it is asked for again"),
            ),
            LogError::TooLarge(_) => Self::new(ResponseCode::MESSAGE_ILLEGAL, error.to_string()),
        }
    }
}

/// Filters other than those by tags look into messages, and there are none here.
pub(super) fn no_filter(kind: &str) -> Refusal {
    Refusal::system_error(format!(
        "The broker does not support consumer to filter message by {kind}"
    ))
}

/// A success without body or fields.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it stands where handlers return their answer"
)]
pub(super) fn success() -> Answer {
    Ok(Command::response(ResponseCode::SUCCESS))
}

/// The topic that a request names, or `TopicValidator`'s words about it.
pub(super) fn topic_name(text: &str) -> Result<TopicName, Refusal> {
    TopicName::parse(text).map_err(|error| invalid_name("topic", text, &error))
}

/// The group that a request names.
pub(super) fn group_name(text: &str) -> Result<GroupName, Refusal> {
    GroupName::parse(text).map_err(|error| invalid_name("group", text, &error))
}

fn invalid_name(kind: &str, text: &str, error: &NameError) -> Refusal {
    let remark = match error {
        NameError::Blank => format!("The specified {kind} is blank."),
        NameError::TooLong { max, .. } => {
            format!("The specified {kind}: {text}, is longer than {kind} max length: {max}")
        }
        NameError::IllegalLetter(_) => format!(
            "The specified {kind}: {text}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
        ),
    };
    Refusal::new(ResponseCode::INVALID_PARAMETER, remark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_cut_where_a_letter_ends() {
        let remark = |len: usize| {
            let text = format!("{}{}", "x".repeat(len), "\u{e9}".repeat(1 << 20));
            let command = Refusal::system_error(text).into_command();
            command.remark.as_deref().unwrap_or_default().len()
        };
        assert_eq!(remark(0), 4_096);
        assert_eq!(remark(1), 4_095);
    }
}
