//! What a generator needs of an answer, taken from the header where it lies.

use rocket_protocol::ids::PhysicalOffset;

use super::COMPACT;

/// Numbers of an answer. A field that is not there or not a number is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answer {
    /// Response code; 0 is success.
    pub code: i32,
    /// The request's number.
    pub opaque: i32,
    /// `queueId` of a send.
    pub queue: Option<u32>,
    /// `queueOffset` of a send.
    pub offset: Option<u64>,
    /// `nextBeginOffset` of a pull.
    pub next_begin: Option<u64>,
    /// `maxOffset` of a pull.
    pub max: Option<u64>,
}

impl Answer {
    /// Reads a header of the type `kind`; `None` when it is not one.
    pub fn scan(kind: u8, header: &[u8]) -> Option<Self> {
        if kind == COMPACT {
            scan_compact(header)
        } else {
            scan_json(header)
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) {
        let number = || number(value);
        match name {
            b"queueId" => self.queue = number().and_then(|id| u32::try_from(id).ok()),
            b"queueOffset" => self.offset = number(),
            b"nextBeginOffset" => self.next_begin = number(),
            b"maxOffset" => self.max = number(),
            _ => {}
        }
    }
}

/// What ends up in one line of a message about a bad answer.
pub fn readable(header: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(header)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.chars().take(200).collect()
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn signed(digits: &[u8]) -> Option<i32> {
    let (negative, digits) = match digits.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, digits),
    };
    let number = i64::try_from(number(digits)?).ok()?;
    i32::try_from(if negative { -number } else { number }).ok()
}

fn scan_compact(header: &[u8]) -> Option<Answer> {
    let mut answer = Answer {
        code: i32::from(i16::from_be_bytes(*header.first_chunk()?)),
        opaque: i32::from_be_bytes(*header.get(5..)?.first_chunk()?),
        ..Answer::default()
    };
    let rest = header.get(13..)?;
    let remark = u32::from_be_bytes(*rest.first_chunk()?) as usize;
    let rest = rest.get(4 + remark..)?;
    let len = u32::from_be_bytes(*rest.first_chunk()?) as usize;
    let mut fields = rest.get(4..4 + len)?;
    while !fields.is_empty() {
        let name_len = usize::from(u16::from_be_bytes(*fields.first_chunk()?));
        let name = fields.get(2..2 + name_len)?;
        let rest = fields.get(2 + name_len..)?;
        let len = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        answer.take(name, rest.get(4..4 + len)?);
        fields = rest.get(4 + len..)?;
    }
    Some(answer)
}

/// One pass: every string that a colon follows is a key; its value is a number, or a string of digits.
fn scan_json(header: &[u8]) -> Option<Answer> {
    let mut answer = Answer::default();
    let mut seen_opaque = false;
    let mut at = 0;
    while let Some(start) = quote(header, at) {
        let end = string_end(header, start + 1)?;
        at = end + 1;
        if header.get(at) != Some(&b':') {
            continue;
        }
        let name = header.get(start + 1..end)?;
        let value = if header.get(at + 1)? == &b'"' {
            let from = at + 2;
            let end = string_end(header, from)?;
            at = end + 1;
            header.get(from..end)?
        } else {
            let from = at + 1;
            let number = |byte: &&u8| byte.is_ascii_digit() || **byte == b'-';
            at = from + header.get(from..)?.iter().take_while(number).count();
            header.get(from..at)?
        };
        match name {
            b"code" => answer.code = signed(value)?,
            b"opaque" => {
                answer.opaque = signed(value)?;
                seen_opaque = true;
            }
            _ => answer.take(name, value),
        }
    }
    seen_opaque.then_some(answer)
}

fn quote(bytes: &[u8], from: usize) -> Option<usize> {
    Some(from + bytes.get(from..)?.iter().position(|byte| *byte == b'"')?)
}

fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A record of a pull's body, as far as a consumer checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset in its queue.
    pub queue_offset: u64,
    /// Place in the log.
    pub physical_offset: PhysicalOffset,
    /// Body.
    pub body: &'a [u8],
    /// Bytes of the whole record.
    pub len: usize,
}

impl<'a> Record<'a> {
    /// Reads the head of the first record in `bytes`; `None` when it is none.
    pub fn first(bytes: &'a [u8]) -> Option<Self> {
        let len = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let record = bytes.get(..len)?;
        let long = |at: usize| Some(u64::from_be_bytes(*record.get(at..)?.first_chunk()?));
        let sys_flag = u32::from_be_bytes(*record.get(36..)?.first_chunk()?);
        // Hosts of 8 bytes, or of 20 with IPv6 (`MessageSysFlag.java`: 0x10 born, 0x20 store).
        let host = |flag: u32| if sys_flag & flag == 0 { 8 } else { 20 };
        let body_at = 48 + host(0x10) + 8 + host(0x20) + 4 + 8;
        let body_len = u32::from_be_bytes(*record.get(body_at..)?.first_chunk()?) as usize;
        Some(Self {
            queue_offset: long(20)?,
            physical_offset: PhysicalOffset(long(28)?),
            body: record.get(body_at + 4..body_at + 4 + body_len)?,
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rocket_protocol::code::ResponseCode;
    use rocket_protocol::command::{Command, HeaderFormat};
    use rocket_protocol::frame;
    use rstest::rstest;

    use super::*;

    fn header(format: HeaderFormat) -> (u8, Vec<u8>) {
        let mut command = Command::response(ResponseCode::SUCCESS)
            .with_remark("a \"remark\": \\ \"code\":7")
            .with_ext("msgId", "7F0000010000000000000000\"opaque\":3")
            .with_ext("queueId", "17")
            .with_ext("queueOffset", "18446744073709551615")
            .with_ext("nextBeginOffset", "32")
            .with_ext("maxOffset", "none");
        command.set_response_to(1_999_999_999, format);
        let mut out = BytesMut::new();
        frame::encode(&command, &mut out);
        (out[4], out[8..].to_vec())
    }

    #[rstest]
    #[case(HeaderFormat::Json)]
    #[case(HeaderFormat::Compact)]
    fn an_answer_is_read_as_the_protocol_writes_it(#[case] format: HeaderFormat) {
        let (kind, header) = header(format);
        let answer = Answer::scan(kind, &header).unwrap();
        assert_eq!(
            answer,
            Answer {
                code: 0,
                opaque: 1_999_999_999,
                queue: Some(17),
                offset: Some(u64::MAX),
                next_begin: Some(32),
                max: None,
            }
        );
    }

    #[rstest]
    #[case(HeaderFormat::Json)]
    #[case(HeaderFormat::Compact)]
    fn a_header_cut_anywhere_is_no_answer_or_misses_fields_and_never_panics(
        #[case] format: HeaderFormat,
    ) {
        let (kind, header) = header(format);
        let whole = Answer::scan(kind, &header);
        for len in 0..header.len() {
            let cut = Answer::scan(kind, &header[..len]);
            assert!(format == HeaderFormat::Json || cut != whole, "cut at {len}");
        }
    }

    #[test]
    fn the_captured_answer_of_apaches_broker_is_read() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../fixtures/wire/java-5.4.0/014-s2c-0.bin"
        );
        let bytes = std::fs::read(path).unwrap();
        let answer = Answer::scan(bytes[4], &bytes[8..]).unwrap();
        assert_eq!((answer.code, answer.opaque), (0, 46));
        assert_eq!((answer.queue, answer.offset), (Some(1), Some(0)));
    }

    #[test]
    fn records_of_a_captured_pull_are_walked_to_the_last_byte() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../fixtures/wire/java-5.4.0/045-s2c-0.bin"
        );
        let bytes = std::fs::read(path).unwrap();
        let header = u32::from_be_bytes([0, bytes[5], bytes[6], bytes[7]]) as usize;
        let mut rest = &bytes[8 + header..];
        let mut offsets = Vec::new();
        while !rest.is_empty() {
            let record = Record::first(rest).unwrap();
            offsets.push(record.queue_offset);
            assert!(
                record.body.starts_with(b"sync-")
                    || record.body.starts_with(b"async-")
                    || !record.body.is_empty()
            );
            rest = &rest[record.len..];
        }
        assert_eq!(offsets, [0, 1, 2, 3, 4]);
    }
}
