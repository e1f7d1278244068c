//! Checked names of topics and consumer groups.
//!
//! A name that was parsed once is cheap to clone (shared text) and is what inner code takes. The rules are those of
//! RocketMQ's `TopicValidator`: the letters `% | a-z A-Z 0-9 _ -`, at most 127 bytes for a topic, 255 for the retry and
//! dead-letter topics that are made from a group's name.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Prefix of the topic that holds a group's messages to be delivered again.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// Prefix of the topic that holds a group's dead letters.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Longest ordinary topic name in bytes.
pub const TOPIC_BYTES_MAX: usize = 127;
/// Longest retry or dead-letter topic name in bytes: what the one length byte of a V1 record can say.
pub const DERIVED_TOPIC_BYTES_MAX: usize = 255;
/// Longest group name in bytes: its retry topic must fit in [`DERIVED_TOPIC_BYTES_MAX`].
pub const GROUP_BYTES_MAX: usize = DERIVED_TOPIC_BYTES_MAX - RETRY_PREFIX.len();

/// Names of the topics that a broker keeps for itself (`TopicValidator`).
pub mod system_topic {
    /// Template for topics that are created on first use.
    pub const AUTO_CREATE: &str = "TBW102";
    /// Messages that wait for a delay level.
    pub const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
    /// Used by RocketMQ's own benchmark.
    pub const BENCHMARK: &str = "BenchmarkTest";
    /// Prepared messages of transactions.
    pub const TRANS_HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
    /// Finished transactions.
    pub const TRANS_OP_HALF: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
    /// Transactions that were asked about too often.
    pub const TRANS_CHECK_MAX_TIME: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
    /// Message traces.
    pub const TRACE: &str = "RMQ_SYS_TRACE_TOPIC";
    /// Connection checks of the administration tools.
    pub const SELF_TEST: &str = "SELF_TEST_TOPIC";
    /// Notices of offsets that were moved.
    pub const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
    /// Messages that wait for an arbitrary time.
    pub const TIMER: &str = "rmq_sys_wheel_timer";
    /// Changes of metadata, in a group: ours alone.
    pub const METADATA: &str = "rmq_sys_rocket_metadata";
    /// All other topics of the broker itself start so.
    pub const PREFIX: &str = "rmq_sys_";

    pub(super) const ALL: [&str; 9] = [
        AUTO_CREATE,
        SCHEDULE,
        BENCHMARK,
        TRANS_HALF,
        TRANS_OP_HALF,
        TRANS_CHECK_MAX_TIME,
        TRACE,
        SELF_TEST,
        OFFSET_MOVED_EVENT,
    ];
    pub(super) const CLOSED_FOR_SEND: [&str; 7] = [
        SCHEDULE,
        TRANS_HALF,
        TRANS_OP_HALF,
        TRANS_CHECK_MAX_TIME,
        SELF_TEST,
        OFFSET_MOVED_EVENT,
        METADATA,
    ];
}

/// Why a text is not a name. Give up: the sender must choose another name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing, or only white space.
    #[error("the name is blank")]
    Blank,
    /// Longer than the bound for its kind.
    #[error("the name has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A letter outside `% | a-z A-Z 0-9 _ -`.
    #[error("the name contains {0:?}; allowed are % | a-z A-Z 0-9 _ -")]
    IllegalLetter(char),
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
    };
}

checked_name!(
    /// The name of a topic.
    TopicName
);
checked_name!(
    /// The name of a consumer or producer group.
    GroupName
);

impl TopicName {
    /// Checks `text` as a topic name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let derived = text.starts_with(RETRY_PREFIX) || text.starts_with(DLQ_PREFIX);
        let max = if derived {
            DERIVED_TOPIC_BYTES_MAX
        } else {
            TOPIC_BYTES_MAX
        };
        check(text, max)?;
        Ok(Self(text.into()))
    }

    /// The topic of `group`'s messages that are to be delivered again.
    pub fn retry_topic(group: &GroupName) -> Self {
        Self(format!("{RETRY_PREFIX}{group}").into())
    }

    /// The topic of `group`'s dead letters.
    pub fn dlq_topic(group: &GroupName) -> Self {
        Self(format!("{DLQ_PREFIX}{group}").into())
    }

    /// Whether the broker keeps this topic for itself.
    pub fn is_system(&self) -> bool {
        is_system_topic(&self.0)
    }

    /// Whether clients may not send to this topic (answer 16, `NO_PERMISSION`).
    pub fn is_closed_for_send(&self) -> bool {
        system_topic::CLOSED_FOR_SEND.contains(&&*self.0)
    }

    /// Whether this is some group's retry topic.
    pub fn is_retry(&self) -> bool {
        self.0.starts_with(RETRY_PREFIX)
    }

    /// Whether this is some group's dead-letter topic.
    pub fn is_dlq(&self) -> bool {
        self.0.starts_with(DLQ_PREFIX)
    }

    /// What stands for the group in the name of a retry or dead-letter topic; it need not be a group's name.
    pub fn derived_from(&self) -> Option<&str> {
        let retry = self.0.strip_prefix(RETRY_PREFIX);
        retry.or_else(|| self.0.strip_prefix(DLQ_PREFIX))
    }

    /// The group of a retry topic.
    pub fn retry_group(&self) -> Option<GroupName> {
        self.0
            .strip_prefix(RETRY_PREFIX)
            .and_then(|group| GroupName::parse(group).ok())
    }
}

impl GroupName {
    /// Checks `text` as a group name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text, GROUP_BYTES_MAX)?;
        Ok(Self(text.into()))
    }
}

/// [`TopicName::is_system`] for a text that was not checked.
pub fn is_system_topic(topic: &str) -> bool {
    system_topic::ALL.contains(&topic) || topic.starts_with(system_topic::PREFIX)
}

fn check(text: &str, max: usize) -> Result<(), NameError> {
    if text.trim().is_empty() {
        return Err(NameError::Blank);
    }
    if let Some(letter) = text.chars().find(|&letter| !is_name_letter(letter)) {
        return Err(NameError::IllegalLetter(letter));
    }
    if text.len() > max {
        return Err(NameError::TooLong {
            len: text.len(),
            max,
        });
    }
    Ok(())
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '%' | '|' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("orders", true)]
    #[case("a|b%c_D-9", true)]
    #[case("", false)]
    #[case("  ", false)]
    #[case("a b", false)]
    #[case("über", false)]
    #[case("a.b", false)]
    #[case("a\0b", false)]
    fn letters_of_a_topic(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(TopicName::parse(text).is_ok(), valid);
    }

    #[rstest]
    #[case("", 127, true)]
    #[case("", 128, false)]
    #[case("%RETRY%", 255, true)]
    #[case("%RETRY%", 256, false)]
    #[case("%DLQ%", 255, true)]
    #[case("%DLQ%", 256, false)]
    fn length_of_a_topic(#[case] prefix: &str, #[case] len: usize, #[case] valid: bool) {
        let text = format!("{prefix}{}", "x".repeat(len - prefix.len()));
        assert_eq!(TopicName::parse(&text).is_ok(), valid);
    }

    #[test]
    fn the_retry_topic_of_the_longest_group_is_a_topic() {
        let group = GroupName::parse(&"g".repeat(GROUP_BYTES_MAX)).unwrap();
        let topic = TopicName::retry_topic(&group);
        assert_eq!(TopicName::parse(topic.as_str()), Ok(topic.clone()));
        assert_eq!(topic.retry_group(), Some(group));
    }

    #[rstest]
    #[case("%RETRY%g", Some("g"))]
    #[case("%DLQ%g", Some("g"))]
    #[case("%DLQ%%RETRY%g", Some("%RETRY%g"))]
    #[case("%RETRY%", Some(""))]
    #[case("g", None)]
    fn what_a_topic_is_derived_from(#[case] topic: &str, #[case] expected: Option<&str>) {
        assert_eq!(TopicName::parse(topic).unwrap().derived_from(), expected);
    }

    #[test]
    fn system_topics_are_known() {
        assert!(TopicName::parse("TBW102").unwrap().is_system());
        assert!(!TopicName::parse("TBW102").unwrap().is_closed_for_send());
        assert!(TopicName::parse("rmq_sys_anything").unwrap().is_system());
        let metadata = TopicName::parse(system_topic::METADATA).unwrap();
        assert!(metadata.is_system() && metadata.is_closed_for_send());
        assert!(
            TopicName::parse("SCHEDULE_TOPIC_XXXX")
                .unwrap()
                .is_closed_for_send()
        );
        assert!(!TopicName::parse("orders").unwrap().is_system());
    }
}
