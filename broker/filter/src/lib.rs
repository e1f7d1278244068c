//! Message filters: an expression is parsed once per subscription and evaluated per message.
//!
//! A tag filter looks only at the tags code that stands in the consume queue, so that a message that does not match is
//! never read. The hash may let a foreign tag through; the client compares the text again. An SQL92 filter would look at
//! the message's properties and therefore need the record; there is none yet, and who asks for one is refused.
//!
//! Pure: no clock, no I/O, no allocation while evaluating a tag filter.
#![forbid(unsafe_code)]

mod tag;

pub use tag::Tags;

use thiserror::Error;

/// Name of the tag expression type on the wire; also what a missing type means.
pub const TYPE_TAG: &str = "TAG";
/// Name of the SQL92 expression type on the wire.
pub const TYPE_SQL92: &str = "SQL92";

/// Bytes of an expression. RocketMQ sets no bound; a subscription is kept as long as its group lives, and its filter as long as a
/// pull waits.
pub const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// Tags of an expression.
pub const TAGS_MAX: usize = 1_024;

/// Why an expression is not a filter. The subscriber has to change it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// Only separators, no tag.
    #[error("the tag expression {0:?} has no tag")]
    NoTag(String),
    /// Longer than [`EXPRESSION_BYTES_MAX`], or of more than [`TAGS_MAX`] tags.
    #[error("an expression may have {EXPRESSION_BYTES_MAX} bytes and {TAGS_MAX} tags")]
    TooLong,
    /// An expression type that this broker has no filter for.
    #[error("the expression type {0:?} is not supported")]
    UnknownType(String),
}

/// A parsed subscription expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Every message.
    All,
    /// Messages with one of some tags.
    Tags(Tags),
}

impl Filter {
    /// Parses `expression` of the kind `expression_type`; without a type it is a tag expression, without an expression
    /// everything matches.
    ///
    /// # Errors
    /// [`FilterError`]: the subscriber has to change the expression.
    pub fn parse(
        expression_type: Option<&str>,
        expression: Option<&str>,
    ) -> Result<Self, FilterError> {
        match expression_type {
            None | Some("" | TYPE_TAG) => Self::tags(expression.unwrap_or_default()),
            Some(other) => Err(FilterError::UnknownType(other.to_owned())),
        }
    }

    fn tags(expression: &str) -> Result<Self, FilterError> {
        match expression.trim() {
            "" | "*" => Ok(Self::All),
            text => Tags::parse(text).map(Self::Tags),
        }
    }

    /// Whether a message whose consume queue entry has `tags_code` may match. A `false` is final.
    pub fn may_match(&self, tags_code: i64) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => tags.contains(tags_code),
        }
    }
}

/// Whether a subscription is one by tags, as `ExpressionType.isTagType` has it.
pub fn is_tag_type(expression_type: Option<&str>) -> bool {
    matches!(expression_type, None | Some("" | TYPE_TAG))
}
