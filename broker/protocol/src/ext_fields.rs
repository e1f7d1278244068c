//! The `extFields` of a command: the named texts that carry a request's or response's header.
//!
//! Fields that were received stay where they lie in the frame (a span each, no text of their own); fields that are written
//! gather in one buffer. The order of arrival is kept, because a signature is computed over the fields as they came.

use std::fmt::{self, Write as _};

use bytes::Bytes;

use crate::byte_str::ByteStr;

/// Fields, and bytes of their texts, that most answers have room in: so they take memory once.
const FIELDS_EXPECTED: usize = 8;
const BYTES_EXPECTED: usize = 64;

/// See the module.
#[derive(Clone, Default)]
pub struct ExtFields {
    /// What the spans of received fields point into: the header of their frame.
    source: Bytes,
    /// What the spans of written fields point into.
    written: String,
    entries: Vec<(Text, Text)>,
}

/// Where a text lies.
#[derive(Clone)]
pub(crate) enum Text {
    Source { start: usize, end: usize },
    Written { start: usize, end: usize },
    Own(ByteStr),
}

impl ExtFields {
    /// No fields.
    pub const fn new() -> Self {
        Self {
            source: Bytes::new(),
            written: String::new(),
            entries: Vec::new(),
        }
    }

    /// Fields as a decoder found them. Each span of `source` has been checked as UTF-8.
    pub(crate) fn received(source: Bytes, entries: Vec<(Text, Text)>) -> Self {
        Self {
            source,
            written: String::new(),
            entries,
        }
    }

    /// The value of `name`; of a repeated name the last, as in Java's map.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.find(name)?;
        Some(self.str(value))
    }

    /// [`ExtFields::get`] as a text that shares the frame's bytes and may outlive the command.
    pub fn get_shared(&self, name: &str) -> Option<ByteStr> {
        let (_, value) = self.find(name)?;
        match value {
            Text::Own(own) => Some(own.clone()),
            Text::Source { start, end } => ByteStr::new(
                self.source
                    .get(*start..*end)
                    .map(|part| self.source.slice_ref(part))?,
            )
            .ok(),
            Text::Written { .. } => Some(self.str(value).to_owned().into()),
        }
    }

    /// Gives `name` the value `value`.
    pub fn insert(&mut self, name: impl Into<ByteStr>, value: impl Into<ByteStr>) {
        self.put(name.into(), Text::Own(value.into()));
    }

    /// Gives `name` the value `value` as it prints: for numbers and booleans, without a text of their own.
    pub fn insert_display(&mut self, name: impl Into<ByteStr>, value: impl fmt::Display) {
        if self.written.capacity() == 0 {
            self.written.reserve(BYTES_EXPECTED);
        }
        let start = self.written.len();
        // Writing to a `String` fails only when `Display` itself does; then the field is empty.
        if write!(self.written, "{value}").is_err() {
            self.written.truncate(start);
        }
        let end = self.written.len();
        self.put(name.into(), Text::Written { start, end });
    }

    /// Takes `name` out; says whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.entries.len();
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|(key, _)| self.bytes(key) != name.as_bytes());
        self.entries = entries;
        self.entries.len() < before
    }

    /// All fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .map(|(key, value)| (self.str(key), self.str(value)))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries
            .iter()
            .map(|(key, value)| (self.bytes(key), self.bytes(value)))
    }

    fn put(&mut self, name: ByteStr, value: Text) {
        if self.find(&name).is_some() {
            self.remove(&name);
        }
        if self.entries.capacity() == 0 {
            self.entries.reserve(FIELDS_EXPECTED);
        }
        self.entries.push((Text::Own(name), value));
    }

    fn find(&self, name: &str) -> Option<&(Text, Text)> {
        self.entries
            .iter()
            .rev()
            .find(|(key, _)| self.bytes(key) == name.as_bytes())
    }

    fn bytes<'a>(&'a self, text: &'a Text) -> &'a [u8] {
        let span = match text {
            Text::Source { start, end } => self.source.get(*start..*end),
            Text::Written { start, end } => self.written.as_bytes().get(*start..*end),
            Text::Own(own) => Some(own.as_bytes()),
        };
        span.unwrap_or_default()
    }

    fn str<'a>(&'a self, text: &'a Text) -> &'a str {
        std::str::from_utf8(self.bytes(text)).unwrap_or_default()
    }
}

impl PartialEq for ExtFields {
    fn eq(&self, other: &Self) -> bool {
        self.iter_bytes().eq(other.iter_bytes())
    }
}

impl Eq for ExtFields {}

impl fmt::Debug for ExtFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserting_replaces_and_keeps_one_field() {
        let mut fields = ExtFields::new();
        fields.insert("topic", "a");
        fields.insert_display("queueId", -4);
        fields.insert("topic", String::from("b"));
        assert_eq!(
            fields.iter().collect::<Vec<_>>(),
            [("queueId", "-4"), ("topic", "b")]
        );
        assert_eq!(fields.get_shared("queueId").unwrap(), "-4");
        assert!(fields.remove("topic"));
        assert!(!fields.remove("topic"));
        assert_eq!(fields.get("topic"), None);
    }

    #[test]
    fn of_a_repeated_name_the_last_counts() {
        let source = Bytes::from_static(b"k12");
        let span = |start, end| Text::Source { start, end };
        let fields = ExtFields::received(
            source,
            vec![(span(0, 1), span(1, 2)), (span(0, 1), span(2, 3))],
        );
        assert_eq!(fields.get("k"), Some("2"));
        assert_eq!(fields.len(), 2);
    }
}
