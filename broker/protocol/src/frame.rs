//! Frames: how commands are cut out of a stream of bytes and put into it.
//!
//! ```text
//! total i32 · header type u8, header length u24 · header · body        total = 4 + header length + body length
//! ```
//! Type 0 is a JSON object, type 1 RocketMQ's compact form. A frame is decoded in place: header fields and body are slices
//! of the received bytes. Every length is compared with [`Limits`] before anything is sized by it.

mod compact;
mod json_header;

pub(crate) use json_header::put_string as put_json_string;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::command::{Body, Command, HeaderFormat};

/// Bounds of what is accepted from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame behind its length field, in bytes. RocketMQ's default is 16 MiB.
    pub frame_bytes_max: usize,
    /// Longest header in bytes. Properties of 32767 bytes with every byte escaped are 192 KiB.
    pub header_bytes_max: usize,
    /// Most ext fields of one command.
    pub ext_fields_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 16 << 20,
            header_bytes_max: 512 << 10,
            ext_fields_max: 256,
        }
    }
}

/// Which rule a frame breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rule {
    /// A length that cannot hold a header's own length, or is negative.
    #[error("frame length {0} is below the least possible")]
    FrameTooShort(i32),
    /// A length beyond the bound. Also what TLS or HTTP look like.
    #[error("frame length {len} exceeds {max}")]
    FrameTooLong {
        /// The frame's claim.
        len: i32,
        /// The bound.
        max: usize,
    },
    /// A header that does not fit in its frame.
    #[error("header length {header} exceeds the frame's {frame}")]
    HeaderBeyondFrame {
        /// The header's claim.
        header: usize,
        /// Room behind the two length words.
        frame: usize,
    },
    /// A header beyond the bound.
    #[error("header length {len} exceeds {max}")]
    HeaderTooLong {
        /// The header's claim.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// Neither of the two known types.
    #[error("unknown header type {0}")]
    UnknownHeaderType(u8),
    /// More ext fields than the bound.
    #[error("more than {max} ext fields")]
    TooManyExtFields {
        /// The bound.
        max: usize,
    },
    /// A header whose inside is broken.
    #[error("malformed header: {0}")]
    MalformedHeader(&'static str),
}

/// What of a broken header could still be read: enough to answer before the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salvage {
    /// What matches a response to its request.
    pub opaque: i32,
    /// The flag, 0 when it could not be read.
    pub flag: i32,
    /// The header's form.
    pub format: HeaderFormat,
}

/// A stream that is not RocketMQ's protocol any more: where the next frame begins is not known, close the connection.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{rule}")]
pub struct FrameError {
    /// The broken rule.
    pub rule: Rule,
    /// Known when the header was whole and its opaque readable.
    pub salvage: Option<Salvage>,
}

impl FrameError {
    /// The opaque of the broken command, if it could be read.
    pub fn opaque(&self) -> Option<i32> {
        self.salvage.map(|salvage| salvage.opaque)
    }
}

impl From<Rule> for FrameError {
    fn from(rule: Rule) -> Self {
        Self {
            rule,
            salvage: None,
        }
    }
}

/// Bytes of the word that holds header type and length.
const HEADER_WORD: usize = 4;
const LENGTH_WORD: usize = 4;

/// A whole frame as it lies in a buffer. Its lengths are checked, its header has not been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameView<'a> {
    /// The form of the header.
    pub format: HeaderFormat,
    header_len: usize,
    /// Header and body.
    content: &'a [u8],
}

impl<'a> FrameView<'a> {
    /// The header.
    pub fn header(&self) -> &'a [u8] {
        self.content.get(..self.header_len).unwrap_or_default()
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        self.content.get(self.header_len..).unwrap_or_default()
    }

    /// Bytes of the whole frame, its length field included.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a frame has at least its two words"
    )]
    pub const fn len(&self) -> usize {
        LENGTH_WORD + HEADER_WORD + self.content.len()
    }

    /// The command, which shares nothing with the buffer: one copy of the frame holds its header and body.
    ///
    /// # Errors
    /// When the header is broken.
    pub fn to_command(&self, limits: &Limits) -> Result<Command, FrameError> {
        command(
            self.format,
            self.header_len,
            Bytes::copy_from_slice(self.content),
            limits,
        )
    }
}

/// The whole frame at the start of `buffer`. `None`: more bytes are needed. Lengths are checked as soon as they are there, so
/// a peer that claims a giant frame is refused at its eighth byte.
///
/// # Errors
/// When no frame begins here.
pub fn view<'a>(buffer: &'a [u8], limits: &Limits) -> Result<Option<FrameView<'a>>, FrameError> {
    let Some((total, rest)) = buffer.split_first_chunk::<LENGTH_WORD>() else {
        return Ok(None);
    };
    let claimed = i32::from_be_bytes(*total);
    let total = match usize::try_from(claimed) {
        Ok(total) if total >= HEADER_WORD => total,
        _ => return Err(Rule::FrameTooShort(claimed).into()),
    };
    if total > limits.frame_bytes_max {
        let max = limits.frame_bytes_max;
        return Err(Rule::FrameTooLong { len: claimed, max }.into());
    }
    let Some((&[kind, h0, h1, h2], rest)) = rest.split_first_chunk::<HEADER_WORD>() else {
        return Ok(None);
    };
    let header_len = u32::from_be_bytes([0, h0, h1, h2]) as usize;
    let format = match kind {
        0 => HeaderFormat::Json,
        1 => HeaderFormat::Compact,
        other => return Err(Rule::UnknownHeaderType(other).into()),
    };
    let room = total - HEADER_WORD;
    if header_len > room {
        let rule = Rule::HeaderBeyondFrame {
            header: header_len,
            frame: room,
        };
        return Err(rule.into());
    }
    if header_len > limits.header_bytes_max {
        let max = limits.header_bytes_max;
        return Err(Rule::HeaderTooLong {
            len: header_len,
            max,
        }
        .into());
    }
    Ok(rest.get(..room).map(|content| FrameView {
        format,
        header_len,
        content,
    }))
}

/// Takes the next whole frame out of `buffer`, as [`view`] finds it; the command shares its bytes.
///
/// # Errors
/// When no frame begins here, or its header is broken.
pub fn decode(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Command>, FrameError> {
    let Some(frame) = view(buffer, limits)? else {
        return Ok(None);
    };
    let (format, header_len, len) = (frame.format, frame.header_len, frame.len());
    let mut content = buffer.split_to(len).freeze();
    content.advance(LENGTH_WORD + HEADER_WORD);
    command(format, header_len, content, limits).map(Some)
}

fn command(
    format: HeaderFormat,
    header_len: usize,
    mut content: Bytes,
    limits: &Limits,
) -> Result<Command, FrameError> {
    let header = content.split_to(header_len);
    let mut command = match format {
        HeaderFormat::Json => json_header::decode(header, limits),
        HeaderFormat::Compact => compact::decode(header, limits),
    }?;
    command.body = Body::from(content);
    Ok(command)
}

/// How many more bytes the frame at the start of `buffer` needs, as far as its length field is there and within bounds.
pub fn missing_bytes(buffer: &[u8], limits: &Limits) -> Option<usize> {
    let total = i32::from_be_bytes(*buffer.first_chunk::<LENGTH_WORD>()?);
    let total = usize::try_from(total)
        .ok()
        .filter(|&total| total <= limits.frame_bytes_max)?;
    Some((LENGTH_WORD + total).saturating_sub(buffer.len()))
}

/// Appends the whole frame of `command`.
pub fn encode(command: &Command, out: &mut BytesMut) {
    out.reserve(command.body.len());
    encode_head(command, out);
    for chunk in command.body.chunks() {
        out.put_slice(chunk);
    }
}

/// Appends the frame of `command` without its body, which the caller sends behind it.
///
/// A compact header cannot carry a code or version beyond 16 bits; such a command takes the JSON form, which every peer
/// can read as each frame names its own.
///
/// # Panics
/// When header or frame are longer than their length fields can say (16 MiB and 2 GiB): a command of our own that no peer
/// could take.
pub fn encode_head(command: &Command, out: &mut BytesMut) {
    let start = out.len();
    out.put_bytes(0, LENGTH_WORD + HEADER_WORD);
    let format = if command.format == HeaderFormat::Compact && compact::encode(command, out) {
        HeaderFormat::Compact
    } else {
        json_header::encode(command, out);
        HeaderFormat::Json
    };
    put_frame_words(start, format, command.body.len(), out);
}

/// Fills in the two words of the frame that begins at `start` and whose header ends the buffer.
///
/// # Panics
/// As [`encode_head`].
#[expect(
    clippy::expect_used,
    reason = "documented: a command of our own beyond every peer's bounds is our bug"
)]
pub(crate) fn put_frame_words(
    start: usize,
    format: HeaderFormat,
    body_len: usize,
    out: &mut BytesMut,
) {
    let kind = match format {
        HeaderFormat::Json => 0_u32,
        HeaderFormat::Compact => 1,
    };
    let header = out.len() - start - LENGTH_WORD - HEADER_WORD;
    let total = HEADER_WORD + header + body_len;
    let total = i32::try_from(total).expect("a frame below 2 GiB");
    let header = u32::try_from(header)
        .ok()
        .filter(|&len| len < 1 << 24)
        .expect("a header below 16 MiB");
    let mut head = out
        .get_mut(start..)
        .expect("the words lie before the header");
    head.put_i32(total);
    head.put_u32(kind << 24 | header);
}

#[cfg(test)]
mod tests;
