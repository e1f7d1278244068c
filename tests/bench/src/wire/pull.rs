//! Pull requests: one alone, or many written into a buffer that is kept.

use rocket_protocol::code::RequestCode;
use rocket_protocol::command::{Command, HeaderFormat};

use super::{Head, patch_opaque};

/// `PullSysFlag.java`: the offset is to be committed, the request may wait for messages, the subscription is inside.
const COMMIT: u32 = 1;
const SUSPEND: u32 = 2;
const SUBSCRIPTION: u32 = 4;

/// A pull of at most `messages_max` messages, all that there are from `offset` on, answered at once; for who looks after a run.
pub fn request(topic: &str, queue: u32, offset: u64, messages_max: u32) -> Command {
    Command::request(RequestCode::PULL_MESSAGE)
        .with_ext("consumerGroup", "rocket-bench")
        .with_ext("topic", topic.to_owned())
        .with_ext("queueId", queue.to_string())
        .with_ext("queueOffset", offset.to_string())
        .with_ext("maxMsgNums", messages_max.to_string())
        .with_ext("sysFlag", SUBSCRIPTION.to_string())
        .with_ext("commitOffset", "0")
        .with_ext("suspendTimeoutMillis", "0")
        .with_ext("subscription", "*")
        .with_ext("subVersion", "0")
        .with_ext("expressionType", "TAG")
}

/// What all pulls of one consumer have in common.
#[derive(Debug)]
pub struct PullFrames {
    format: HeaderFormat,
    head: Head,
    group: String,
    /// Most messages of an answer.
    pub messages_max: u32,
    /// How long an empty queue may hold the request, in milliseconds; 0 answers at once.
    pub suspend_ms: u64,
    /// Whether each pull commits the offset that it starts at.
    pub commits: bool,
}

impl PullFrames {
    /// For a consumer group.
    pub fn new(format: HeaderFormat, group: &str, messages_max: u32) -> Self {
        let code = i16::try_from(RequestCode::PULL_MESSAGE.0).unwrap_or_default();
        Self {
            format,
            head: Head::new(format, code),
            group: group.to_owned(),
            messages_max,
            suspend_ms: 0,
            commits: false,
        }
    }

    /// Appends a pull of `queue` from `offset`.
    pub fn write(&mut self, opaque: i32, topic: &str, queue: u32, offset: u64, out: &mut Vec<u8>) {
        let mut flag = SUBSCRIPTION;
        if self.commits {
            flag |= COMMIT;
        }
        if self.suspend_ms > 0 {
            flag |= SUSPEND;
        }
        let committed = if self.commits { offset } else { 0 };
        let head = &mut self.head;
        head.restart();
        head.field("consumerGroup", &self.group);
        head.field("topic", topic);
        head.field("queueId", &queue.to_string());
        head.field("queueOffset", &offset.to_string());
        head.field("maxMsgNums", &self.messages_max.to_string());
        head.field("sysFlag", &flag.to_string());
        head.field("commitOffset", &committed.to_string());
        head.field("suspendTimeoutMillis", &self.suspend_ms.to_string());
        head.field("subscription", "*");
        head.field("subVersion", "0");
        head.field("expressionType", "TAG");
        let begin = out.len();
        let (bytes, at) = head.finish(0);
        out.extend_from_slice(bytes);
        patch_opaque(out, begin + at, self.format, opaque);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rocket_protocol::frame::{self, Limits};
    use rocket_protocol::header::PullMessageHeader;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(HeaderFormat::Json)]
    #[case(HeaderFormat::Compact)]
    fn pulls_decode_to_what_was_asked_for(#[case] format: HeaderFormat) {
        let mut frames = PullFrames::new(format, "readers", 32);
        frames.suspend_ms = 15_000;
        let mut out = Vec::new();
        frames.write(1_000_000_007, "t", 3, 99, &mut out);
        frames.commits = true;
        frames.write(1_000_000_008, "t", 4, 12_345, &mut out);
        let mut buffer = BytesMut::from(&out[..]);
        let mut next = || {
            frame::decode(&mut buffer, &Limits::default())
                .unwrap()
                .unwrap()
        };
        let (first, second) = (next(), next());
        assert_eq!(
            (first.opaque, second.opaque),
            (1_000_000_007, 1_000_000_008)
        );
        let first: PullMessageHeader = first.header().unwrap();
        assert_eq!((first.queue_id, first.queue_offset), (3, 99));
        assert_eq!((first.sys_flag, first.suspend_timeout_millis), (6, 15_000));
        let second: PullMessageHeader = second.header().unwrap();
        assert_eq!((second.queue_id, second.commit_offset), (4, 12_345));
        assert_eq!(second.sys_flag, 7);
    }
}
