//! The frames by which slaves read and write the object that their fixed master keeps (§14, static), byte by byte. Pure encoding and
//! decoding; a bad frame closes the connection.
//!
//! All numbers are big-endian. Head and checksum are those of a replication link ([`crate::frame`]), the types are others:
//!
//! ```text
//! slave to master
//!  32 Read         –
//!  33 Watch        –
//!  34 Cas          disk id of the writer 16 · expected version 8 · state in JSON to the end
//! master to slave
//!  48 State        state in JSON, to the end
//!  49 Gone         –
//!  50 Unreachable  –
//!  51 Written      answer 1 (1 Applied, 2 Conflict, 3 Unknown, 4 Unsent) · version 8 (0 unless Applied)
//!  52 Beat         –
//! ```
//!
//! `Read` is answered by `State`, `Gone` or `Unreachable`, `Cas` by `Written`, and `Watch` by any number of `State` and `Beat`.
//! A payload is bounded ([`PAYLOAD_BYTES_MAX`]), and a length beyond is refused before memory is reserved for it.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::coordinator::CasAnswer;
use crate::frame::{FrameError, HEAD_BYTES};
use crate::identity::{DiskId, Version};

/// The largest object that is kept in a file or sent. One is a few kilobytes.
pub const STATE_BYTES_MAX: usize = 4 << 20;
/// The largest payload of a frame.
pub const PAYLOAD_BYTES_MAX: usize = STATE_BYTES_MAX + CAS_FIELD_BYTES;
const CAS_FIELD_BYTES: usize = 24;

/// A request or an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Asks for the object as it is.
    Read,
    /// Asks for hints from now on.
    Watch,
    /// Asks for a write.
    Cas {
        /// Whose data directory writes.
        writer: DiskId,
        /// The version that it replaces.
        expected: Version,
        /// The new object in JSON.
        state: Bytes,
    },
    /// The object in JSON.
    State(Bytes),
    /// There is none.
    Gone,
    /// It cannot be read.
    Unreachable,
    /// What became of a write.
    Written(CasAnswer),
    /// Nothing new; the watch is alive.
    Beat,
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Read => 32,
            Self::Watch => 33,
            Self::Cas { .. } => 34,
            Self::State(_) => 48,
            Self::Gone => 49,
            Self::Unreachable => 50,
            Self::Written(_) => 51,
            Self::Beat => 52,
        }
    }
}

/// The bytes of a frame.
///
/// # Errors
/// [`FrameError::TooLong`] when its object is larger than [`STATE_BYTES_MAX`].
pub fn encode(frame: &Frame) -> Result<Bytes, FrameError> {
    let kind = frame.kind();
    let mut payload = BytesMut::new();
    match frame {
        Frame::Cas {
            writer,
            expected,
            state,
        } => {
            payload.put_u128(writer.0);
            payload.put_u64(expected.0);
            payload.put_slice(state);
        }
        Frame::State(state) => payload.put_slice(state),
        Frame::Written(answer) => {
            let (code, version) = match answer {
                CasAnswer::Applied(version) => (1, version.0),
                CasAnswer::Conflict => (2, 0),
                CasAnswer::Unknown => (3, 0),
                CasAnswer::Unsent => (4, 0),
            };
            payload.put_u8(code);
            payload.put_u64(version);
        }
        Frame::Read | Frame::Watch | Frame::Gone | Frame::Unreachable | Frame::Beat => {}
    }
    let length = payload.len();
    if length > bound(kind) {
        return Err(FrameError::TooLong { kind, length });
    }
    let [l0, l1, l2, l3] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let head = [l0, l1, l2, l3, kind, 0, 0, 0];
    let mut out = BytesMut::with_capacity(HEAD_BYTES + length);
    out.put_slice(&head);
    out.put_u32(crc32c::crc32c_append(crc32c::crc32c(&head), &payload));
    out.put_slice(&payload);
    Ok(out.freeze())
}

/// Takes the next whole frame off the front of `input`; `None` until there is one.
///
/// # Errors
/// [`FrameError`]: the connection is to be closed; what `input` holds then is of no use.
pub fn decode(input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(head) = input.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let [l0, l1, l2, l3, kind, zeros @ .., c0, c1, c2, c3] = *head;
    if !matches!(kind, 32..=34 | 48..=52) || zeros != [0; 3] {
        return Err(FrameError::Type { kind });
    }
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if length > bound(kind) {
        return Err(FrameError::TooLong { kind, length });
    }
    if input.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    let head = input.split_to(HEAD_BYTES);
    let payload = input.split_to(length).freeze();
    let head = head.get(..8).unwrap_or_default();
    if crc32c::crc32c_append(crc32c::crc32c(head), &payload) != u32::from_be_bytes([c0, c1, c2, c3])
    {
        return Err(FrameError::Checksum { kind });
    }
    let frame = read_payload(kind, payload);
    frame.map(Some).ok_or(FrameError::Payload { kind })
}

fn read_payload(kind: u8, mut payload: Bytes) -> Option<Frame> {
    let plain = |frame: Frame| payload.is_empty().then_some(frame);
    match kind {
        32 => plain(Frame::Read),
        33 => plain(Frame::Watch),
        34 => Some(Frame::Cas {
            writer: DiskId(payload.try_get_u128().ok()?),
            expected: Version(payload.try_get_u64().ok()?),
            state: payload,
        }),
        48 => Some(Frame::State(payload)),
        49 => plain(Frame::Gone),
        50 => plain(Frame::Unreachable),
        51 => {
            let code = payload.try_get_u8().ok()?;
            let version = payload.try_get_u64().ok()?;
            let answer = match (code, version) {
                (1, version) => CasAnswer::Applied(Version(version)),
                (2, 0) => CasAnswer::Conflict,
                (3, 0) => CasAnswer::Unknown,
                (4, 0) => CasAnswer::Unsent,
                _ => return None,
            };
            payload.is_empty().then_some(Frame::Written(answer))
        }
        52 => plain(Frame::Beat),
        _ => None,
    }
}

fn bound(kind: u8) -> usize {
    match kind {
        34 => PAYLOAD_BYTES_MAX,
        48 => STATE_BYTES_MAX,
        51 => 9,
        _ => 0,
    }
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
