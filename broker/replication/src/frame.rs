//! The frames of a replication link (§7), byte by byte. Pure encoding and decoding; a bad frame closes the link.
//!
//! All numbers are big-endian. Every frame is
//!
//! ```text
//!  0        4      5        8           12
//!  ┌────────┬──────┬────────┬───────────┬──────────────── … ─┐
//!  │ length │ type │ 0 0 0  │ CRC32C    │ payload             │
//!  └────────┴──────┴────────┴───────────┴──────────────── … ─┘
//!  length   of the payload: at most 64 KiB, for Range 1 MiB, for Data 16 MiB, since it carries whole records
//!  CRC32C   (Castagnoli) over bytes 0..8 and the payload
//! ```
//!
//! A length beyond its bound is refused before memory is reserved for it. Payloads, with `member` = replica id (4) +
//! incarnation (16), `entry` = epoch (8) + start (8), `epochs` = count (4) + entries:
//!
//! ```text
//!  1 Hello    version 2 · group uid 16 · member 20 · disk id 16 · max epoch 8 · log min 8 · log end 8 · confirm 8 · durable 1 · epochs
//!  2 Welcome  member 20 · epoch 8 · start 8 · log min 8 · log end 8 · confirm 8 · epochs
//!  3 Refuse   reason 1 (1 StaleEpoch, 2 NotMaster, 3 WrongGroup, 4 UnknownReplica, 5 BehindRetention, 6 Stopping) · max epoch 8
//!  4 Data     epoch 8 · entry of the bytes 16 · offset 8 · file end 8 · confirm 8 · bytes to the end
//!  5 Ack      epoch 8 · offset 8
//!  6 Beat     epoch 8 · offset 8 · stamp 8
//!  7 Probe    –
//!  8 Report   member 20 · role 1 (1 Booting … 7 Halted) · max epoch 8 · has entry 1 · entry 16 · log end 8 · durable end 8 · confirm 8
//!             · version 8 · state 1 (bit 0 master linked, bit 1 damaged)
//!  9 Nudge    –
//! 10 Fetch    group uid 16 · offset 8 · length 4 · entry of the last byte 16
//! 11 Range    offset 8 · count 4 · count checksums of 4 · bytes to the end
//! 12 Survey   –
//! 13 Holding  disk id 16 · group uid 16 · member 20 · role 1 · max epoch 8 · version 8 · has entry 1 · entry 16 · log end 8
//!             · state 1 (bit 0 it belongs to a group; without it uid and replica id say nothing; bit 1 damaged; bit 2, with bit 0, of
//!             another one before: then) · group uid of that 16 · max epoch of that 8
//! ```
//!
//! A reader that does not know the bit for damage takes the report for none, and so does not elect its sender. One that does not
//! know bit 2 of a `Holding` does the same: its sender counts as not having answered. One of an earlier state, which does not know
//! types 12 and 13, closes the link upon them, as upon every type that it does not know: it counts as not having answered.
//!
//! The version in `Hello` is that of everything after it: a master that does not speak it refuses the link.

use bytes::{BufMut, Bytes, BytesMut};
use rocket_protocol::ids::PhysicalOffset;

use crate::epochs::EpochStart;
use crate::identity::Epoch;
use crate::messages::Message;
use crate::payload::{put_data_fields, put_payload, read_payload};

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 12;
/// The largest payload of a control frame.
pub const CONTROL_BYTES_MAX: usize = 64 << 10;
/// The largest payload of `Range`, its own fields included.
pub const RANGE_BYTES_MAX: usize = 1 << 20;
/// The largest payload of `Data`, its own fields included: no record is larger.
pub const DATA_BYTES_MAX: usize = 16 << 20;
/// The fields before the bytes of a `Data`.
pub const DATA_FIELD_BYTES: usize = 48;

/// What was read is not a frame of this protocol; the link is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is beyond the bound of its type.
    #[error("frame of type {kind} with {length} bytes is over its bound")]
    TooLong {
        /// The type byte.
        kind: u8,
        /// The payload's length.
        length: usize,
    },
    /// The checksum does not match.
    #[error("checksum of a frame of type {kind} does not match")]
    Checksum {
        /// The type byte.
        kind: u8,
    },
    /// No such type, or the reserved bytes are not zero.
    #[error("no such frame type: {kind}")]
    Type {
        /// The type byte.
        kind: u8,
    },
    /// The payload is not laid out as its type says.
    #[error("payload of a frame of type {kind} is malformed")]
    Payload {
        /// The type byte.
        kind: u8,
    },
}

/// Appends the frame of `message`.
///
/// # Errors
/// [`FrameError::TooLong`] when the payload is over its bound; nothing is appended then.
pub fn encode(message: &Message, out: &mut BytesMut) -> Result<(), FrameError> {
    let at = out.len();
    out.put_bytes(0, HEAD_BYTES);
    let kind = put_payload(message, out);
    let length = out.len() - at - HEAD_BYTES;
    if length > bound(kind) {
        out.truncate(at);
        return Err(FrameError::TooLong { kind, length });
    }
    let mut head = [0; 8];
    head[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    head[4] = kind;
    let payload = out.get(at + HEAD_BYTES..).unwrap_or_default();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), payload);
    if let Some((front, back)) = out
        .get_mut(at..at + HEAD_BYTES)
        .and_then(|head| head.split_at_mut_checked(8))
    {
        front.copy_from_slice(&head);
        back.copy_from_slice(&checksum.to_be_bytes());
    }
    Ok(())
}

/// The fields of a `Data` beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataHead {
    /// The master's epoch: that of the link.
    pub epoch: Epoch,
    /// The epoch that the bytes belong to, and its start.
    pub bytes_epoch: EpochStart,
    /// Where the first of them lies.
    pub offset: PhysicalOffset,
    /// Where the master's file that holds them ends.
    pub file_end: PhysicalOffset,
    /// What the master knows to be committed.
    pub confirm: PhysicalOffset,
}

/// Appends what precedes the bytes of a `Data` frame. The bytes themselves, `pieces` in order, are to follow it.
///
/// # Errors
/// [`FrameError::TooLong`] when they are over the bound; nothing is appended then.
pub fn encode_data_head(
    data: &DataHead,
    pieces: &[Bytes],
    out: &mut BytesMut,
) -> Result<(), FrameError> {
    let length = DATA_FIELD_BYTES + pieces.iter().map(Bytes::len).sum::<usize>();
    if length > DATA_BYTES_MAX {
        return Err(FrameError::TooLong { kind: 4, length });
    }
    let mut fields = BytesMut::with_capacity(DATA_FIELD_BYTES);
    put_data_fields(data, &mut fields);
    let [l0, l1, l2, l3] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let head = [l0, l1, l2, l3, 4, 0, 0, 0];
    let before = crc32c::crc32c_append(crc32c::crc32c(&head), &fields);
    let checksum = pieces
        .iter()
        .fold(before, |sum, piece| crc32c::crc32c_append(sum, piece));
    out.put_slice(&head);
    out.put_u32(checksum);
    out.put_slice(&fields);
    Ok(())
}

/// Takes the next whole frame off the front of `input`; `None` until there is one.
///
/// # Errors
/// [`FrameError`]: the link is to be closed; what `input` holds then is of no use.
pub fn decode(input: &mut BytesMut) -> Result<Option<Message>, FrameError> {
    let Some(head) = input.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let [l0, l1, l2, l3, kind, zeros @ .., c0, c1, c2, c3] = *head;
    if !(1..=13).contains(&kind) || zeros != [0; 3] {
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
    let checksum =
        crc32c::crc32c_append(crc32c::crc32c(head.get(..8).unwrap_or_default()), &payload);
    if checksum != u32::from_be_bytes([c0, c1, c2, c3]) {
        return Err(FrameError::Checksum { kind });
    }
    let message = read_payload(kind, payload);
    message.map(Some).ok_or(FrameError::Payload { kind })
}

fn bound(kind: u8) -> usize {
    match kind {
        4 => DATA_BYTES_MAX,
        11 => RANGE_BYTES_MAX,
        _ => CONTROL_BYTES_MAX,
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
