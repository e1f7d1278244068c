//! Just enough of a remoting frame to name it: length, header encoding, code, opaque, flag and header fields.
//!
//! Written apart from our protocol room on purpose: what judges must not share its mistakes. Layout, big-endian:
//! `[4 total][1 encoding: 0 JSON, 1 ROCKETMQ][3 header length][header][body]`, total not counting itself.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

const FRAME_MAX: usize = 16 * 1024 * 1024;

/// The encoding of a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// A JSON object.
    Json,
    /// RocketMQ's compact binary form.
    Compact,
}

/// A frame's header, decoded.
#[derive(Debug, Clone)]
pub struct Header {
    /// How it was written.
    pub encoding: Encoding,
    /// Request or response code.
    pub code: i64,
    /// Matches a response to its request within one connection and direction.
    pub opaque: i64,
    /// Bit 0: response; bit 1: one-way.
    pub flag: i64,
    /// Sender's version ordinal.
    pub version: i64,
    /// Free text, mostly of refusals.
    pub remark: Option<String>,
    /// Header fields.
    pub ext: BTreeMap<String, String>,
    /// Bytes after the header.
    pub body_len: usize,
}

impl Header {
    /// Whether this frame answers another one.
    pub fn is_response(&self) -> bool {
        self.flag & 1 != 0
    }

    /// Whether no answer may come.
    pub fn is_oneway(&self) -> bool {
        self.flag & 2 != 0
    }
}

/// Reads one whole frame with its length word; none at the orderly end of the stream.
pub fn read(from: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut word = [0; 4];
    match from.read_exact(&mut word) {
        Ok(()) => {}
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e.into()),
    }
    let total = usize::try_from(u32::from_be_bytes(word))?;
    if !(4..=FRAME_MAX).contains(&total) {
        bail!("frame of {total} bytes");
    }
    let mut frame = word.to_vec();
    frame.resize(4 + total, 0);
    from.read_exact(frame.get_mut(4..).unwrap_or_default())?;
    Ok(Some(frame))
}

/// Decodes the header of a whole frame.
pub fn header(frame: &[u8]) -> Result<Header> {
    let mut at = Cursor { rest: frame };
    at.take(4)?;
    let word = at.u32()?;
    let header = at.take(usize::try_from(word & 0x00ff_ffff)?)?;
    let body_len = at.rest.len();
    match word >> 24 {
        0 => json_header(header, body_len),
        1 => compact_header(Cursor { rest: header }, body_len),
        other => bail!("header encoding {other}"),
    }
}

fn json_header(bytes: &[u8], body_len: usize) -> Result<Header> {
    let v: Value = serde_json::from_slice(bytes).context("JSON header")?;
    let number = |name: &str| v.get(name).and_then(Value::as_i64).unwrap_or(0);
    let ext = v
        .get("extFields")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    Ok(Header {
        encoding: Encoding::Json,
        code: number("code"),
        opaque: number("opaque"),
        flag: number("flag"),
        version: number("version"),
        remark: v.get("remark").and_then(Value::as_str).map(str::to_owned),
        ext: ext
            .map(|(k, v)| {
                (
                    k.clone(),
                    v.as_str().map_or_else(|| v.to_string(), str::to_owned),
                )
            })
            .collect(),
        body_len,
    })
}

fn compact_header(mut at: Cursor<'_>, body_len: usize) -> Result<Header> {
    let code = i64::from(at.u16()?.cast_signed());
    at.take(1)?;
    let version = i64::from(at.u16()?.cast_signed());
    let opaque = i64::from(at.u32()?.cast_signed());
    let flag = i64::from(at.u32()?.cast_signed());
    let remark_len = usize::try_from(at.u32()?)?;
    let remark = String::from_utf8(at.take(remark_len)?.to_vec())?;
    let ext_len = usize::try_from(at.u32()?)?;
    let mut pairs = Cursor {
        rest: at.take(ext_len)?,
    };
    let mut ext = BTreeMap::new();
    while !pairs.rest.is_empty() {
        let key_len = usize::from(pairs.u16()?);
        let key = String::from_utf8(pairs.take(key_len)?.to_vec())?;
        let value_len = usize::try_from(pairs.u32()?)?;
        ext.insert(key, String::from_utf8(pairs.take(value_len)?.to_vec())?);
    }
    Ok(Header {
        encoding: Encoding::Compact,
        code,
        opaque,
        flag,
        version,
        remark: Some(remark).filter(|r| !r.is_empty()),
        ext,
        body_len,
    })
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .context("frame ends too early")?;
        self.rest = rest;
        Ok(head)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }
}

/// Asks a name server on `stream` whether it has a route for `topic` (code 105).
pub fn route_known<S: Read + Write>(stream: &mut S, topic: &str) -> Result<bool> {
    let header = json!({"code": 105, "language": "JAVA", "version": 493, "opaque": 1, "flag": 0, "extFields": {"topic": topic}}).to_string();
    let header_len = u32::try_from(header.len())?;
    let mut frame = (header_len + 4).to_be_bytes().to_vec();
    frame.extend(header_len.to_be_bytes());
    frame.extend(header.as_bytes());
    stream.write_all(&frame)?;
    let answer = read(stream)?.context("the name server closed the connection")?;
    Ok(self::header(&answer)?.code == 0)
}
