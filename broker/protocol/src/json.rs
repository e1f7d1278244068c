//! fastjson's dialect of JSON, as RocketMQ's bodies and headers use it.
//!
//! Two forms are not JSON: integer keys without quotes, `{0:"a"}`, and objects as keys, `{{"topic":"T"}:5}` (maps keyed by
//! a message queue). [`strict`] turns a text of the dialect into JSON: a bare key gets its quotes, an object key becomes a
//! text that holds the object's compact JSON. Members whose value is null are left out, because in Java a missing field and
//! null are the same and clients of other languages write null for empty lists.
//!
//! Depth and the number of values are bounded, so that a small text cannot become a large tree.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

/// Deepest nesting of objects and arrays. RocketMQ's own bodies need 8.
pub const DEPTH_MAX: usize = 32;
/// Most values (members and elements) of one text: 50,000 topics with all their settings are less than half of it.
pub const VALUES_MAX: usize = 1_000_000;

/// Why a text is not what it should be. Answer code 1.
#[derive(Debug, Error)]
pub enum JsonError {
    /// Not the dialect at all.
    #[error("no JSON: {what} at byte {at}")]
    Syntax {
        /// What is missing or wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// More than [`VALUES_MAX`] values.
    #[error("more than {VALUES_MAX} values")]
    TooLarge,
    /// JSON, but not of the expected shape.
    #[error("unexpected shape")]
    Shape(#[from] serde_json::Error),
}

/// Parses a text of the dialect into a tree; object keys become texts with their compact JSON.
pub fn parse(source: &[u8]) -> Result<Value, JsonError> {
    parse_as(source)
}

/// Parses a text of the dialect into a typed value.
pub fn parse_as<T: DeserializeOwned>(source: &[u8]) -> Result<T, JsonError> {
    Ok(serde_json::from_slice(&strict(source)?)?)
}

/// JSON text of a value of ours.
///
/// # Panics
/// Never with the bodies of this crate: their maps have texts and numbers as keys.
#[expect(
    clippy::expect_used,
    reason = "bodies of this crate have no keys that JSON cannot write"
)]
pub fn to_json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value)
        .expect("a body of this crate")
        .into()
}

/// A text of the dialect as JSON. See the module.
pub fn strict(source: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut translator = Translator {
        source,
        at: 0,
        values: 0,
        in_key: false,
        out: Vec::with_capacity(source.len() + 16),
    };
    translator.value(0)?;
    match translator.token() {
        None => Ok(translator.out),
        Some(_) => Err(translator.error("something behind the value")),
    }
}

struct Translator<'a> {
    source: &'a [u8],
    at: usize,
    values: usize,
    /// Inside an object that is a key. Such a key in a key would double its escapes with each level.
    in_key: bool,
    out: Vec<u8>,
}

impl Translator<'_> {
    fn error(&self, what: &'static str) -> JsonError {
        JsonError::Syntax { what, at: self.at }
    }

    /// The next byte that is no white space, without taking it.
    fn token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.source.get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(JsonError::TooLarge);
        }
        match self.token() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.scalar();
                Ok(())
            }
            _ => Err(self.error("a value is missing")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        self.out.push(b'{');
        let mut has_written = false;
        let mut has_read = false;
        loop {
            match self.token() {
                Some(b'}') => break,
                Some(b',') if has_read => self.at += 1,
                Some(_) if !has_read => {}
                _ => return Err(self.error("a comma or brace is missing")),
            }
            has_read = true;
            let start = self.out.len();
            if has_written {
                self.out.push(b',');
            }
            self.key(depth + 1)?;
            if self.token() != Some(b':') {
                return Err(self.error("a colon is missing"));
            }
            self.at += 1;
            self.out.push(b':');
            let value = self.out.len();
            self.value(depth + 1)?;
            if self.out.get(value..) == Some(b"null") {
                self.out.truncate(start);
            } else {
                has_written = true;
            }
        }
        self.at += 1;
        self.out.push(b'}');
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        self.out.push(b'[');
        let mut has_read = false;
        loop {
            match self.token() {
                Some(b']') => break,
                Some(b',') if has_read => {
                    self.at += 1;
                    self.out.push(b',');
                }
                Some(_) if !has_read => {}
                _ => return Err(self.error("a comma or bracket is missing")),
            }
            has_read = true;
            self.value(depth + 1)?;
        }
        self.at += 1;
        self.out.push(b']');
        Ok(())
    }

    fn key(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.token() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => {
                self.out.push(b'"');
                self.scalar();
                self.out.push(b'"');
                Ok(())
            }
            Some(b'{') if !self.in_key => {
                let start = self.out.len();
                self.in_key = true;
                self.object(depth)?;
                self.in_key = false;
                let object = self.out.split_off(start);
                self.out.push(b'"');
                for byte in object {
                    if matches!(byte, b'"' | b'\\') {
                        self.out.push(b'\\');
                    }
                    self.out.push(byte);
                }
                self.out.push(b'"');
                Ok(())
            }
            _ => Err(self.error("a key is missing")),
        }
    }

    /// Copies a string as it is; what stands in it is checked by the JSON parser behind.
    fn string(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.source.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(self.error("a string has no end")),
            }
        }
        self.at += 1;
        self.copy_from(start);
        Ok(())
    }

    /// Copies a number or word.
    fn scalar(&mut self) {
        let start = self.at;
        while let Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E') =
            self.source.get(self.at)
        {
            self.at += 1;
        }
        self.copy_from(start);
    }

    fn copy_from(&mut self, start: usize) {
        self.out
            .extend_from_slice(self.source.get(start..self.at).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(r#"{"a":{0:"x",-1:"y"}}"#, json!({"a": {"0": "x", "-1": "y"}}))]
    #[case(r#"{{"brokerName":"a","queueId":0}:{"x":1}}"#, json!({r#"{"brokerName":"a","queueId":0}"#: {"x": 1}}))]
    #[case(r#"{ { "q" : 0 } : 5 }"#, json!({r#"{"q":0}"#: 5}))]
    #[case(r#"{{"t":"a\"b\\c"}:5}"#, json!({r#"{"t":"a\"b\\c"}"#: 5}))]
    #[case(r#"{"a":null,"b":1,"c":null}"#, json!({"b": 1}))]
    #[case(r#"{"a":[null,1]}"#, json!({"a": [null, 1]}))]
    #[case(" [ 1 , 2.5e3 , \"\\u0001\" , true , {} ] ", json!([1, 2.5e3, "\u{1}", true, {}]))]
    #[case("null", json!(null))]
    fn the_dialect_becomes_json(#[case] text: &str, #[case] value: Value) {
        assert_eq!(parse(text.as_bytes()).unwrap(), value);
    }

    #[rstest]
    #[case("")]
    #[case("{")]
    #[case("{\"a\"}")]
    #[case("{\"a\":}")]
    #[case("{\"a\":1,}")]
    #[case("{,\"a\":1}")]
    #[case("{\"a\":1 \"b\":2}")]
    #[case("[1,]")]
    #[case("[,1]")]
    #[case("[1 2]")]
    #[case("{a:1}")]
    #[case("{0-1:2")]
    #[case("1 2")]
    #[case("\"abc")]
    #[case("\"abc\\")]
    #[case("nulls")]
    #[case("{{}:1")]
    #[case("{{{}:1}:1}")]
    #[case("\u{1}")]
    fn what_is_no_json_is_refused(#[case] text: &str) {
        assert!(parse(text.as_bytes()).is_err(), "{text}");
    }

    #[rstest]
    #[case("[", "]")]
    #[case("{\"a\":", "}")]
    fn depth_is_bounded(#[case] open: &str, #[case] close: &str) {
        let nested = |depth: usize, inside: &str| {
            format!("{}{inside}{}", open.repeat(depth), close.repeat(depth))
        };
        assert!(strict(nested(DEPTH_MAX - 1, "[]").as_bytes()).is_ok());
        assert!(matches!(
            strict(nested(DEPTH_MAX + 1, "{}").as_bytes()),
            Err(JsonError::TooDeep)
        ));
        assert!(strict(open.repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let text = format!("[{}1]", "1,".repeat(VALUES_MAX));
        assert!(matches!(parse(text.as_bytes()), Err(JsonError::TooLarge)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_mixture_of_tokens_is_survived(text in r#"[\[\]{}:,"0a\\ -]{0,40}"#) {
            let _ = parse(text.as_bytes());
        }
    }
}
