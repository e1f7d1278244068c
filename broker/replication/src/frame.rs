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
//!             · version 8 · master linked 1
//!  9 Nudge    –
//! 10 Fetch    offset 8 · length 4
//! 11 Range    offset 8 · count 4 · count checksums of 4 · bytes to the end
//! ```
//!
//! The version in `Hello` is that of everything after it: a master that does not speak it refuses the link.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rocket_protocol::ids::PhysicalOffset;

use crate::epochs::{EPOCHS_MAX, EpochStart, Epochs};
use crate::identity::{DiskId, Epoch, GroupUid, Incarnation, Member, ReplicaId, Version};
use crate::messages::{
    Ack, Beat, Data, Fetch, Hello, Message, Range, Reason, Refuse, Report, RoleName, Welcome,
};

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
    if !(1..=11).contains(&kind) || zeros != [0; 3] {
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
    let mut payload = Reader(payload);
    let message = payload.message(kind).filter(|_| payload.0.is_empty());
    message.map(Some).ok_or(FrameError::Payload { kind })
}

fn bound(kind: u8) -> usize {
    match kind {
        4 => DATA_BYTES_MAX,
        11 => RANGE_BYTES_MAX,
        _ => CONTROL_BYTES_MAX,
    }
}

fn put_payload(message: &Message, out: &mut BytesMut) -> u8 {
    match message {
        Message::Hello(m) => {
            out.put_u16(m.version);
            out.put_u128(m.group_uid.0);
            put_member(m.member, out);
            out.put_u128(m.disk_id.0);
            out.put_u64(m.max_epoch.0);
            put_offsets(&[m.log_min, m.log_end, m.confirm], out);
            out.put_u8(u8::from(m.durable));
            put_epochs(&m.epochs, out);
            1
        }
        Message::Welcome(m) => {
            put_member(m.member, out);
            out.put_u64(m.epoch.0);
            put_offsets(&[m.start, m.log_min, m.log_end, m.confirm], out);
            put_epochs(&m.epochs, out);
            2
        }
        Message::Refuse(m) => {
            out.put_u8(match m.reason {
                Reason::StaleEpoch => 1,
                Reason::NotMaster => 2,
                Reason::WrongGroup => 3,
                Reason::UnknownReplica => 4,
                Reason::BehindRetention => 5,
                Reason::Stopping => 6,
            });
            out.put_u64(m.max_epoch.0);
            3
        }
        Message::Data(m) => {
            let head = DataHead {
                epoch: m.epoch,
                bytes_epoch: m.bytes_epoch,
                offset: m.offset,
                file_end: m.file_end,
                confirm: m.confirm,
            };
            put_data_fields(&head, out);
            out.put_slice(&m.bytes);
            4
        }
        Message::Ack(m) => {
            out.put_u64(m.epoch.0);
            out.put_u64(m.offset.0);
            5
        }
        Message::Beat(m) => {
            out.put_u64(m.epoch.0);
            out.put_u64(m.offset.0);
            out.put_u64(m.stamp_ms);
            6
        }
        Message::Probe => 7,
        Message::Report(m) => {
            put_report(m, out);
            8
        }
        Message::Nudge => 9,
        Message::Fetch(m) => {
            out.put_u64(m.offset.0);
            out.put_u32(m.length);
            10
        }
        Message::Range(m) => {
            out.put_u64(m.offset.0);
            out.put_u32(u32::try_from(m.checksums.len()).unwrap_or(u32::MAX));
            m.checksums.iter().for_each(|c| out.put_u32(*c));
            out.put_slice(&m.bytes);
            11
        }
    }
}

fn put_report(report: &Report, out: &mut BytesMut) {
    put_member(report.member, out);
    out.put_u8(match report.role {
        RoleName::Booting => 1,
        RoleName::Idle => 2,
        RoleName::CatchUp => 3,
        RoleName::InSync => 4,
        RoleName::Activating => 5,
        RoleName::Master => 6,
        RoleName::Halted => 7,
    });
    out.put_u64(report.max_epoch.0);
    out.put_u8(u8::from(report.last.is_some()));
    put_entry(
        report.last.unwrap_or(EpochStart {
            epoch: Epoch(0),
            start: PhysicalOffset(0),
        }),
        out,
    );
    put_offsets(&[report.log_end, report.durable_end, report.confirm], out);
    out.put_u64(report.version.0);
    out.put_u8(u8::from(report.master_linked));
}

fn put_data_fields(data: &DataHead, out: &mut BytesMut) {
    out.put_u64(data.epoch.0);
    put_entry(data.bytes_epoch, out);
    put_offsets(&[data.offset, data.file_end, data.confirm], out);
}

fn put_member(member: Member, out: &mut BytesMut) {
    out.put_u32(member.replica_id.0);
    out.put_u128(member.incarnation.0);
}

fn put_entry(entry: EpochStart, out: &mut BytesMut) {
    out.put_u64(entry.epoch.0);
    out.put_u64(entry.start.0);
}

fn put_offsets(offsets: &[PhysicalOffset], out: &mut BytesMut) {
    for offset in offsets {
        out.put_u64(offset.0);
    }
}

fn put_epochs(epochs: &Epochs, out: &mut BytesMut) {
    out.put_u32(u32::try_from(epochs.entries().len()).unwrap_or(u32::MAX));
    epochs.entries().iter().for_each(|e| put_entry(*e, out));
}

/// Reads fields off the front; `None` as soon as one is missing or impossible.
struct Reader(Bytes);

impl Reader {
    fn message(&mut self, kind: u8) -> Option<Message> {
        Some(match kind {
            1 => Message::Hello(self.hello()?),
            2 => Message::Welcome(self.welcome()?),
            3 => Message::Refuse(Refuse {
                reason: self.reason()?,
                max_epoch: self.epoch()?,
            }),
            4 => Message::Data(Data {
                epoch: self.epoch()?,
                bytes_epoch: self.entry()?,
                offset: self.offset()?,
                file_end: self.offset()?,
                confirm: self.offset()?,
                bytes: self.rest(),
            }),
            5 => Message::Ack(Ack {
                epoch: self.epoch()?,
                offset: self.offset()?,
            }),
            6 => Message::Beat(Beat {
                epoch: self.epoch()?,
                offset: self.offset()?,
                stamp_ms: self.u64()?,
            }),
            7 => Message::Probe,
            8 => Message::Report(self.report()?),
            9 => Message::Nudge,
            10 => Message::Fetch(Fetch {
                offset: self.offset()?,
                length: self.u32()?,
            }),
            11 => Message::Range(self.range()?),
            _ => return None,
        })
    }

    fn hello(&mut self) -> Option<Hello> {
        let version = self.0.try_get_u16().ok()?;
        let group_uid = GroupUid(self.u128()?);
        let member = self.member()?;
        let disk_id = DiskId(self.u128()?);
        let max_epoch = self.epoch()?;
        let (log_min, log_end, confirm) = (self.offset()?, self.offset()?, self.offset()?);
        let durable = self.flag()?;
        let epochs = self.epochs()?;
        Some(Hello {
            version,
            group_uid,
            member,
            disk_id,
            max_epoch,
            log_min,
            log_end,
            epochs,
            confirm,
            durable,
        })
    }

    fn welcome(&mut self) -> Option<Welcome> {
        let (member, epoch) = (self.member()?, self.epoch()?);
        let (start, log_min, log_end, confirm) = (
            self.offset()?,
            self.offset()?,
            self.offset()?,
            self.offset()?,
        );
        let epochs = self.epochs()?;
        Some(Welcome {
            member,
            epoch,
            start,
            epochs,
            log_min,
            log_end,
            confirm,
        })
    }

    fn report(&mut self) -> Option<Report> {
        let member = self.member()?;
        let role = match self.0.try_get_u8().ok()? {
            1 => RoleName::Booting,
            2 => RoleName::Idle,
            3 => RoleName::CatchUp,
            4 => RoleName::InSync,
            5 => RoleName::Activating,
            6 => RoleName::Master,
            7 => RoleName::Halted,
            _ => return None,
        };
        let max_epoch = self.epoch()?;
        let (has_last, entry) = (self.flag()?, self.entry()?);
        let (log_end, durable_end, confirm) = (self.offset()?, self.offset()?, self.offset()?);
        let version = Version(self.u64()?);
        let (last, master_linked) = (has_last.then_some(entry), self.flag()?);
        Some(Report {
            member,
            role,
            max_epoch,
            last,
            log_end,
            durable_end,
            confirm,
            version,
            master_linked,
        })
    }

    fn range(&mut self) -> Option<Range> {
        let (offset, count) = (self.offset()?, self.u32()? as usize);
        // The count is bounded by what is there before anything is reserved for it.
        if count > self.0.len() / 4 {
            return None;
        }
        let checksums = (0..count).map(|_| self.u32()).collect::<Option<_>>()?;
        Some(Range {
            offset,
            checksums,
            bytes: self.rest(),
        })
    }

    fn epochs(&mut self) -> Option<Epochs> {
        let count = self.u32()? as usize;
        if count > EPOCHS_MAX || count > self.0.len() / 16 {
            return None;
        }
        let entries = (0..count).map(|_| self.entry()).collect::<Option<_>>()?;
        Epochs::new(entries).ok()
    }

    fn reason(&mut self) -> Option<Reason> {
        Some(match self.0.try_get_u8().ok()? {
            1 => Reason::StaleEpoch,
            2 => Reason::NotMaster,
            3 => Reason::WrongGroup,
            4 => Reason::UnknownReplica,
            5 => Reason::BehindRetention,
            6 => Reason::Stopping,
            _ => return None,
        })
    }

    fn member(&mut self) -> Option<Member> {
        let (replica_id, incarnation) = (ReplicaId(self.u32()?), Incarnation(self.u128()?));
        Some(Member {
            replica_id,
            incarnation,
        })
    }

    fn entry(&mut self) -> Option<EpochStart> {
        Some(EpochStart {
            epoch: self.epoch()?,
            start: self.offset()?,
        })
    }

    fn epoch(&mut self) -> Option<Epoch> {
        self.u64().map(Epoch)
    }

    /// Offsets go into signed numbers elsewhere, so one beyond their range is refused here.
    fn offset(&mut self) -> Option<PhysicalOffset> {
        self.u64()
            .filter(|o| i64::try_from(*o).is_ok())
            .map(PhysicalOffset)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.0.try_get_u8().ok()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u32(&mut self) -> Option<u32> {
        self.0.try_get_u32().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    fn u128(&mut self) -> Option<u128> {
        self.0.try_get_u128().ok()
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
