//! The compact header (`RocketMQSerializable.java`).
//!
//! ```text
//! code i16 · language u8 · version i16 · opaque i32 · flag i32 · remark: length i32, bytes · ext fields: length i32, bytes
//! one ext field: key length i16, key, value length i32, value
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::{FrameError, Limits, Rule, Salvage};
use crate::byte_str::ByteStr;
use crate::command::{Body, Command, HeaderFormat, Language};
use crate::ext_fields::{ExtFields, Text};

pub(super) fn decode(header: Bytes, limits: &Limits) -> Result<Command, FrameError> {
    let mut reader = Reader {
        bytes: &header,
        at: 0,
    };
    let fixed =
        Fixed::read(&mut reader).ok_or(Rule::MalformedHeader("the fixed part is cut off"))?;
    let salvaged = |rule: Rule| FrameError {
        rule,
        salvage: Some(Salvage {
            opaque: fixed.opaque,
            flag: fixed.flag,
            format: HeaderFormat::Compact,
        }),
    };
    let malformed = |why: &'static str| salvaged(Rule::MalformedHeader(why));
    let remark = reader
        .block()
        .ok_or_else(|| malformed("the remark does not fit"))?;
    let remark = header
        .get(remark.0..remark.1)
        .filter(|remark| !remark.is_empty());
    let remark = remark
        .map(|remark| ByteStr::new(header.slice_ref(remark)))
        .transpose();
    let remark = remark.map_err(|_| malformed("the remark is no UTF-8"))?;
    let (start, end) = reader
        .block()
        .ok_or_else(|| malformed("the ext fields do not fit"))?;
    let bytes = header.get(..end).unwrap_or_default();
    let entries = ext_fields(Reader { bytes, at: start }, limits).map_err(salvaged)?;
    Ok(Command {
        code: i32::from(fixed.code),
        language: fixed.language,
        version: i32::from(fixed.version),
        opaque: fixed.opaque,
        flag: fixed.flag,
        remark,
        ext: ExtFields::received(header, entries),
        body: Body::EMPTY,
        format: HeaderFormat::Compact,
    })
}

fn ext_fields(mut reader: Reader<'_>, limits: &Limits) -> Result<Vec<(Text, Text)>, Rule> {
    let mut entries = Vec::new();
    while reader.at < reader.bytes.len() {
        let cut = Rule::MalformedHeader("an ext field is cut off");
        let key = reader.short_block().ok_or_else(|| cut.clone())?;
        let value = reader.block().ok_or(cut)?;
        if entries.len() == limits.ext_fields_max {
            return Err(Rule::TooManyExtFields {
                max: limits.ext_fields_max,
            });
        }
        let is_text = |(start, end): (usize, usize)| {
            std::str::from_utf8(reader.bytes.get(start..end).unwrap_or_default()).is_ok()
        };
        if !is_text(key) || !is_text(value) {
            return Err(Rule::MalformedHeader("an ext field is no UTF-8"));
        }
        // Java reads an empty key as null and cannot find the entry again.
        if key.0 < key.1 {
            let text = |(start, end)| Text::Source { start, end };
            entries.push((text(key), text(value)));
        }
    }
    Ok(entries)
}

struct Fixed {
    code: i16,
    language: Language,
    version: i16,
    opaque: i32,
    flag: i32,
}

impl Fixed {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            code: i16::from_be_bytes(reader.array()?),
            language: Language(i8::from_be_bytes(reader.array()?)),
            version: i16::from_be_bytes(reader.array()?),
            opaque: i32::from_be_bytes(reader.array()?),
            flag: i32::from_be_bytes(reader.array()?),
        })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(array)
    }

    /// Where the bytes lie that follow an i32 length.
    fn block(&mut self) -> Option<(usize, usize)> {
        let len = i32::from_be_bytes(self.array()?);
        self.span(usize::try_from(len).ok()?)
    }

    /// Where the bytes lie that follow an i16 length.
    fn short_block(&mut self) -> Option<(usize, usize)> {
        let len = i16::from_be_bytes(self.array()?);
        self.span(usize::try_from(len).ok()?)
    }

    fn span(&mut self, len: usize) -> Option<(usize, usize)> {
        let start = self.at;
        let end = start
            .checked_add(len)
            .filter(|&end| end <= self.bytes.len())?;
        self.at = end;
        Some((start, end))
    }
}

/// Appends the header; `false`, and nothing appended, when a field does not fit in this form.
pub(super) fn encode(command: &Command, out: &mut BytesMut) -> bool {
    let start = out.len();
    let written = try_encode(command, out).is_some();
    if !written {
        out.truncate(start);
    }
    written
}

fn try_encode(command: &Command, out: &mut BytesMut) -> Option<()> {
    out.put_i16(i16::try_from(command.code).ok()?);
    out.put_i8(command.language.0);
    out.put_i16(i16::try_from(command.version).ok()?);
    out.put_i32(command.opaque);
    out.put_i32(command.flag);
    let remark = command
        .remark
        .as_ref()
        .map(ByteStr::as_bytes)
        .unwrap_or_default();
    out.put_i32(i32::try_from(remark.len()).ok()?);
    out.put_slice(remark);
    let at = out.len();
    out.put_i32(0);
    for (key, value) in command.ext.iter_bytes() {
        out.put_i16(i16::try_from(key.len()).ok()?);
        out.put_slice(key);
        out.put_i32(i32::try_from(value.len()).ok()?);
        out.put_slice(value);
    }
    let len = i32::try_from(out.len() - at - 4).ok()?;
    out.get_mut(at..)?.put_i32(len);
    Some(())
}
