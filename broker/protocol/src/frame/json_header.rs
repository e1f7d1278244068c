//! The JSON header: `{"code":310,"extFields":{…},"flag":0,"language":"JAVA","opaque":1,"version":401}`.
//!
//! The form that clients send is read by a scanner that makes no text of its own, except where a value holds escapes
//! (properties do: their separators are control characters). Whatever the scanner does not know (numbers as field values,
//! nested values under unknown keys, bare keys) goes to the full parser of [`crate::json`]; the two are fuzzed against
//! each other.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::{FrameError, Limits, Rule, Salvage};
use crate::byte_str::ByteStr;
use crate::command::{Body, Command, HeaderFormat, Language};
use crate::decimal::put_decimal;
use crate::ext_fields::{ExtFields, Text};
use crate::json;
use crate::swar::find_json_special;

pub(super) fn decode(header: Bytes, limits: &Limits) -> Result<Command, FrameError> {
    if std::str::from_utf8(&header).is_err() {
        return Err(Rule::MalformedHeader("the header is no UTF-8").into());
    }
    let mut found = Found::default();
    match scan(&header, limits, &mut found) {
        Ok(()) => Ok(found.into_command(header)),
        // Java writes the fields before the opaque, so what an answer needs lies behind the fault.
        Err(Stop::Rule(rule)) => {
            let salvage = match decode_fully(&header, limits) {
                Ok(command) => Some(Salvage {
                    opaque: command.opaque,
                    flag: command.flag,
                    format: HeaderFormat::Json,
                }),
                Err(error) => error.salvage,
            };
            Err(FrameError { rule, salvage })
        }
        Err(Stop::OddForm) => decode_fully(&header, limits),
    }
}

/// What of a header has been read.
#[derive(Default)]
struct Found {
    code: i32,
    language: Option<Language>,
    version: i32,
    opaque: Option<i32>,
    flag: i32,
    remark: Option<Text>,
    fields: Vec<(Text, Text)>,
}

impl Found {
    fn into_command(self, header: Bytes) -> Command {
        let remark = match self.remark {
            Some(Text::Own(own)) => Some(own),
            Some(Text::Source { start, end }) => ByteStr::new(header.slice(start..end)).ok(),
            Some(Text::Written { .. }) | None => None,
        };
        Command {
            code: self.code,
            language: self.language.unwrap_or(Language::OTHER),
            version: self.version,
            opaque: self.opaque.unwrap_or(0),
            flag: self.flag,
            remark,
            ext: ExtFields::received(header, self.fields),
            body: Body::EMPTY,
            format: HeaderFormat::Json,
        }
    }

    fn salvage(&self, rule: Rule) -> FrameError {
        let salvage = self.opaque.map(|opaque| Salvage {
            opaque,
            flag: self.flag,
            format: HeaderFormat::Json,
        });
        FrameError { rule, salvage }
    }
}

/// Why the scanner gave up.
enum Stop {
    /// Not what clients send; perhaps still a header.
    OddForm,
    /// A bound is broken, whoever reads.
    Rule(Rule),
}

fn scan(header: &[u8], limits: &Limits, found: &mut Found) -> Result<(), Stop> {
    let mut scanner = Scanner {
        bytes: header,
        at: 0,
    };
    scanner.expect(b'{')?;
    let mut first = true;
    while scanner.member(&mut first)? {
        let (start, end) = scanner.plain_string()?;
        scanner.expect(b':')?;
        match header.get(start..end).unwrap_or_default() {
            b"code" => found.code = scanner.number()?,
            b"version" => found.version = scanner.number()?,
            b"opaque" => found.opaque = Some(scanner.number()?),
            b"flag" => found.flag = scanner.number()?,
            b"language" => {
                let (start, end) = scanner.plain_string()?;
                found.language = Some(Language::from_name(
                    header.get(start..end).unwrap_or_default(),
                ));
            }
            b"remark" => found.remark = Some(scanner.string()?),
            b"extFields" => scan_fields(&mut scanner, limits, &mut found.fields)?,
            b"serializeTypeCurrentRPC" => {
                scanner.plain_string()?;
            }
            _ => return Err(Stop::OddForm),
        }
    }
    scanner.end()
}

fn scan_fields(
    scanner: &mut Scanner<'_>,
    limits: &Limits,
    fields: &mut Vec<(Text, Text)>,
) -> Result<(), Stop> {
    fields.clear();
    scanner.expect(b'{')?;
    let mut first = true;
    while scanner.member(&mut first)? {
        let key = scanner.string()?;
        scanner.expect(b':')?;
        let value = scanner.string()?;
        if fields.len() == limits.ext_fields_max {
            return Err(Stop::Rule(Rule::TooManyExtFields {
                max: limits.ext_fields_max,
            }));
        }
        fields.push((key, value));
    }
    Ok(())
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn next_token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn expect(&mut self, token: u8) -> Result<(), Stop> {
        if self.next_token() != Some(token) {
            return Err(Stop::OddForm);
        }
        self.at += 1;
        Ok(())
    }

    /// Steps to the next member of an object; `false` behind its last.
    fn member(&mut self, first: &mut bool) -> Result<bool, Stop> {
        match self.next_token() {
            Some(b'}') => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !*first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if *first => {
                *first = false;
                Ok(true)
            }
            _ => Err(Stop::OddForm),
        }
    }

    /// Only white space may follow.
    fn end(&mut self) -> Result<(), Stop> {
        if self.next_token().is_some() {
            Err(Stop::OddForm)
        } else {
            Ok(())
        }
    }

    /// An i32 without fraction, exponent or needless zeros.
    fn number(&mut self) -> Result<i32, Stop> {
        self.next_token();
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .take_while(|byte| matches!(byte, b'-' | b'0'..=b'9'))
            .count();
        let digits = rest.get(..len).unwrap_or_default();
        let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
        if unsigned.starts_with(b"0") && digits != b"0" {
            return Err(Stop::OddForm);
        }
        let text = std::str::from_utf8(digits).map_err(|_| Stop::OddForm)?;
        let number = text.parse().map_err(|_| Stop::OddForm)?;
        self.at += len;
        if matches!(self.bytes.get(self.at), Some(b'.' | b'e' | b'E')) {
            return Err(Stop::OddForm);
        }
        Ok(number)
    }

    /// Where the inside of a string without escapes lies.
    fn plain_string(&mut self) -> Result<(usize, usize), Stop> {
        match self.string()? {
            Text::Source { start, end } => Ok((start, end)),
            Text::Written { .. } | Text::Own(_) => Err(Stop::OddForm),
        }
    }

    fn string(&mut self) -> Result<Text, Stop> {
        self.expect(b'"')?;
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        self.at += find_json_special(rest).ok_or(Stop::OddForm)?;
        match self.bytes.get(self.at) {
            Some(b'"') => {}
            Some(b'\\') => return self.escaped_string(start),
            _ => return Err(Stop::OddForm),
        }
        let end = self.at;
        self.at += 1;
        Ok(Text::Source { start, end })
    }

    /// The rest of a string from its first escape on.
    fn escaped_string(&mut self, start: usize) -> Result<Text, Stop> {
        let mut text = self.bytes.get(start..self.at).unwrap_or_default().to_vec();
        loop {
            let byte = *self.bytes.get(self.at).ok_or(Stop::OddForm)?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => self.escape(&mut text)?,
                0..=0x1f => return Err(Stop::OddForm),
                other => text.push(other),
            }
        }
        let text = String::from_utf8(text).map_err(|_| Stop::OddForm)?;
        Ok(Text::Own(text.into()))
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), Stop> {
        let letter = *self.bytes.get(self.at).ok_or(Stop::OddForm)?;
        self.at += 1;
        let byte = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let letter = self.code_point()?;
                let mut encoded = [0; 4];
                text.extend_from_slice(letter.encode_utf8(&mut encoded).as_bytes());
                return Ok(());
            }
            _ => return Err(Stop::OddForm),
        };
        text.push(byte);
        Ok(())
    }

    fn code_point(&mut self) -> Result<char, Stop> {
        let unit = self.code_unit()?;
        if !(0xd800..0xdc00).contains(&unit) {
            return char::from_u32(unit).ok_or(Stop::OddForm);
        }
        if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(Stop::OddForm);
        }
        self.at += 2;
        let low = self.code_unit()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(Stop::OddForm);
        }
        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)).ok_or(Stop::OddForm)
    }

    fn code_unit(&mut self) -> Result<u32, Stop> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(Stop::OddForm)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, &digit| {
            let digit = char::from(digit).to_digit(16).ok_or(Stop::OddForm)?;
            Ok(unit << 4 | digit)
        })
    }
}

/// Reads a header of any form that Java would take.
pub(super) fn decode_fully(header: &[u8], limits: &Limits) -> Result<Command, FrameError> {
    let value =
        json::parse(header).map_err(|_| Rule::MalformedHeader("the header is no JSON object"))?;
    let Value::Object(members) = value else {
        return Err(Rule::MalformedHeader("the header is no JSON object").into());
    };
    // First what an answer needs, so that a fault in the rest can still be answered.
    let mut found = Found {
        opaque: members.get("opaque").and_then(integer),
        flag: members.get("flag").and_then(integer).unwrap_or(0),
        ..Found::default()
    };
    for (name, value) in &members {
        let step = match name.as_str() {
            "code" => integer(value).map(|code| found.code = code),
            "version" => integer(value).map(|version| found.version = version),
            "opaque" | "flag" => integer(value).map(|_| ()),
            "language" => {
                found.language = value
                    .as_str()
                    .map(|name| Language::from_name(name.as_bytes()));
                Some(())
            }
            "remark" => {
                found.remark = printed(value).map(|text| Text::Own(text.into()));
                Some(())
            }
            "extFields" => match full_fields(value, limits) {
                Ok(fields) => {
                    found.fields = fields;
                    Some(())
                }
                Err(rule) => return Err(found.salvage(rule)),
            },
            _ => Some(()),
        };
        if step.is_none() {
            return Err(found.salvage(Rule::MalformedHeader("a number of the header is none")));
        }
    }
    Ok(found.into_command(Bytes::new()))
}

fn full_fields(value: &Value, limits: &Limits) -> Result<Vec<(Text, Text)>, Rule> {
    let Value::Object(members) = value else {
        return Err(Rule::MalformedHeader("extFields is no object"));
    };
    if members.len() > limits.ext_fields_max {
        return Err(Rule::TooManyExtFields {
            max: limits.ext_fields_max,
        });
    }
    let field = |(name, value): (&String, &Value)| {
        printed(value).map(|text| (Text::Own(name.clone().into()), Text::Own(text.into())))
    };
    Ok(members.iter().filter_map(field).collect())
}

/// A number, also as a text, as Java's parser takes it.
fn integer(value: &Value) -> Option<i32> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .and_then(|number| i32::try_from(number).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A value as a text; none for null.
fn printed(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Appends the header with its keys in Java's order.
pub(super) fn encode(command: &Command, out: &mut BytesMut) {
    out.put_slice(b"{\"code\":");
    put_number(command.code, out);
    if !command.ext.is_empty() {
        out.put_slice(b",\"extFields\":{");
        for (index, (name, value)) in command.ext.iter_bytes().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            put_string(name, out);
            out.put_u8(b':');
            put_string(value, out);
        }
        out.put_u8(b'}');
    }
    out.put_slice(b",\"flag\":");
    put_number(command.flag, out);
    out.put_slice(b",\"language\":\"");
    out.put_slice(command.language.name().as_bytes());
    out.put_slice(b"\",\"opaque\":");
    put_number(command.opaque, out);
    if let Some(remark) = &command.remark {
        out.put_slice(b",\"remark\":");
        put_string(remark.as_bytes(), out);
    }
    out.put_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    put_number(command.version, out);
    out.put_u8(b'}');
}

fn put_number(number: i32, out: &mut BytesMut) {
    put_decimal(i64::from(number), out);
}

/// Appends a text with its quotes.
pub(crate) fn put_string(text: &[u8], out: &mut BytesMut) {
    out.put_u8(b'"');
    let mut rest = text;
    while let Some(at) = find_json_special(rest) {
        let (plain, tail) = rest.split_at(at);
        out.put_slice(plain);
        if let Some((&byte, tail)) = tail.split_first() {
            put_escape(byte, out);
            rest = tail;
        }
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}

fn put_escape(byte: u8, out: &mut BytesMut) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.put_slice(b"\\\""),
        b'\\' => out.put_slice(b"\\\\"),
        b'\n' => out.put_slice(b"\\n"),
        b'\r' => out.put_slice(b"\\r"),
        b'\t' => out.put_slice(b"\\t"),
        _ => {
            out.put_slice(b"\\u00");
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.put_u8(digit(byte >> 4));
            out.put_u8(digit(byte & 0xf));
        }
    }
}
