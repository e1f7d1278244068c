//! The payloads of frames, as [`crate::frame`] draws them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rocket_protocol::ids::PhysicalOffset;

use crate::epochs::{EPOCHS_MAX, EpochStart, Epochs};
use crate::frame::DataHead;
use crate::identity::{DiskId, Epoch, Former, GroupUid, Incarnation, Member, ReplicaId, Version};
use crate::messages::{
    Ack, Beat, Data, Fetch, Hello, Holding, Message, Range, Reason, Refuse, Report, RoleName,
    Welcome,
};

/// Appends the payload of `message`; returns its type.
pub(crate) fn put_payload(message: &Message, out: &mut BytesMut) -> u8 {
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
            out.put_u128(m.group_uid.0);
            out.put_u64(m.offset.0);
            out.put_u32(m.length);
            put_entry(m.bytes_epoch, out);
            10
        }
        Message::Range(m) => {
            out.put_u64(m.offset.0);
            out.put_u32(u32::try_from(m.checksums.len()).unwrap_or(u32::MAX));
            m.checksums.iter().for_each(|c| out.put_u32(*c));
            out.put_slice(&m.bytes);
            11
        }
        Message::Survey => 12,
        Message::Holding(m) => {
            put_holding(m, out);
            13
        }
    }
}

fn put_report(report: &Report, out: &mut BytesMut) {
    put_member(report.member, out);
    out.put_u8(role_number(report.role));
    out.put_u64(report.max_epoch.0);
    put_last(report.last, out);
    put_offsets(&[report.log_end, report.durable_end, report.confirm], out);
    out.put_u64(report.version.0);
    out.put_u8(u8::from(report.master_linked) | u8::from(report.damaged) << 1);
}

fn put_holding(holding: &Holding, out: &mut BytesMut) {
    let (group_uid, replica_id) = holding.group.unwrap_or((GroupUid(0), ReplicaId(0)));
    out.put_u128(holding.disk_id.0);
    out.put_u128(group_uid.0);
    let incarnation = holding.incarnation;
    put_member(
        Member {
            replica_id,
            incarnation,
        },
        out,
    );
    out.put_u8(role_number(holding.role));
    out.put_u64(holding.max_epoch.0);
    out.put_u64(holding.version.0);
    put_last(holding.last, out);
    out.put_u64(holding.log_end.0);
    let former = holding.former.filter(|_| holding.group.is_some());
    let state = u8::from(holding.group.is_some()) | u8::from(holding.damaged) << 1;
    out.put_u8(state | u8::from(former.is_some()) << 2);
    if let Some(former) = former {
        out.put_u128(former.group_uid.0);
        out.put_u64(former.max_epoch.0);
    }
}

fn role_number(role: RoleName) -> u8 {
    match role {
        RoleName::Booting => 1,
        RoleName::Idle => 2,
        RoleName::CatchUp => 3,
        RoleName::InSync => 4,
        RoleName::Activating => 5,
        RoleName::Master => 6,
        RoleName::Halted => 7,
    }
}

fn put_last(last: Option<EpochStart>, out: &mut BytesMut) {
    out.put_u8(u8::from(last.is_some()));
    put_entry(
        last.unwrap_or(EpochStart {
            epoch: Epoch(0),
            start: PhysicalOffset(0),
        }),
        out,
    );
}

/// Appends the fields of a `Data` before its bytes.
pub(crate) fn put_data_fields(data: &DataHead, out: &mut BytesMut) {
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

/// The message of this type whose payload is exactly this; `None` when it is none.
pub(crate) fn read_payload(kind: u8, payload: Bytes) -> Option<Message> {
    let mut payload = Reader(payload);
    payload.message(kind).filter(|_| payload.0.is_empty())
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
                group_uid: GroupUid(self.u128()?),
                offset: self.offset()?,
                length: self.u32()?,
                bytes_epoch: self.entry()?,
            }),
            11 => Message::Range(self.range()?),
            12 => Message::Survey,
            13 => Message::Holding(Box::new(self.holding()?)),
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
        let role = self.role()?;
        let max_epoch = self.epoch()?;
        let (has_last, entry) = (self.flag()?, self.entry()?);
        let (log_end, durable_end, confirm) = (self.offset()?, self.offset()?, self.offset()?);
        let version = Version(self.u64()?);
        let last = has_last.then_some(entry);
        let (master_linked, damaged) = match self.0.try_get_u8().ok()? {
            bits @ 0..4 => (bits & 1 != 0, bits & 2 != 0),
            _ => return None,
        };
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
            damaged,
        })
    }

    fn holding(&mut self) -> Option<Holding> {
        let disk_id = DiskId(self.u128()?);
        let group_uid = GroupUid(self.u128()?);
        let member = self.member()?;
        let role = self.role()?;
        let (max_epoch, version) = (self.epoch()?, Version(self.u64()?));
        let (has_last, entry, log_end) = (self.flag()?, self.entry()?, self.offset()?);
        let (is_of_group, damaged, had_another) = match self.0.try_get_u8().ok()? {
            bits @ (0..=3 | 5 | 7) => (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0),
            // Who is of no group was of none before.
            _ => return None,
        };
        let former = if had_another {
            Some(Former {
                group_uid: GroupUid(self.u128()?),
                max_epoch: self.epoch()?,
            })
        } else {
            None
        };
        Some(Holding {
            disk_id,
            group: is_of_group.then_some((group_uid, member.replica_id)),
            former,
            incarnation: member.incarnation,
            role,
            max_epoch,
            version,
            last: has_last.then_some(entry),
            log_end,
            damaged,
        })
    }

    fn role(&mut self) -> Option<RoleName> {
        Some(match self.0.try_get_u8().ok()? {
            1 => RoleName::Booting,
            2 => RoleName::Idle,
            3 => RoleName::CatchUp,
            4 => RoleName::InSync,
            5 => RoleName::Activating,
            6 => RoleName::Master,
            7 => RoleName::Halted,
            _ => return None,
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
