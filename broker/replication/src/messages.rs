//! The messages of a replication link (§7) as types. Their bytes are drawn in [`crate::frame`].

use bytes::Bytes;
use rocket_protocol::ids::PhysicalOffset;

use crate::epochs::{EpochStart, Epochs};
use crate::identity::{DiskId, Epoch, Former, GroupUid, Incarnation, Member, ReplicaId, Version};

/// One connection between two replicas, as the process that has it numbers it; never reused within a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// Version of the link protocol that this code speaks.
pub const LINK_VERSION: u16 = 1;

/// A message of §7.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Slave to master: who I am and what I have.
    Hello(Hello),
    /// Master to slave: who I am and what I have.
    Welcome(Welcome),
    /// Either way: no, and the highest epoch that I know.
    Refuse(Refuse),
    /// Master to slave: bytes of one epoch.
    Data(Data),
    /// Slave to master: everything below counts here.
    Ack(Ack),
    /// Either way: alive.
    Beat(Beat),
    /// Elector to replica: report.
    Probe,
    /// Replica to elector.
    Report(Report),
    /// Elector to replica: the object changed, read it. Carries no authority.
    Nudge,
    /// Replica to replica: send me this range (repair, §8.15).
    Fetch(Fetch),
    /// The answer to a `Fetch`.
    Range(Range),
    /// Operator to replica: say what you hold, whatever became of your group's object (§8.16).
    Survey,
    /// The answer to a `Survey`.
    Holding(Box<Holding>),
}

/// First message of a slave on a link.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Hello {
    /// [`LINK_VERSION`] of the sender.
    pub version: u16,
    /// The group that it belongs to.
    pub group_uid: GroupUid,
    /// Who it is.
    pub member: Member,
    /// Its data directory.
    pub disk_id: DiskId,
    /// The highest epoch it ever saw.
    pub max_epoch: Epoch,
    /// Its first byte.
    pub log_min: PhysicalOffset,
    /// Its end.
    pub log_end: PhysicalOffset,
    /// Its epoch list.
    pub epochs: Epochs,
    /// What it knows to be committed.
    pub confirm: PhysicalOffset,
    /// Its acknowledgements mean flushed bytes.
    pub durable: bool,
}

/// The master's answer to a `Hello`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Welcome {
    /// Who the master is.
    pub member: Member,
    /// Its epoch.
    pub epoch: Epoch,
    /// Where that epoch starts.
    pub start: PhysicalOffset,
    /// Its epoch list.
    pub epochs: Epochs,
    /// Its first byte.
    pub log_min: PhysicalOffset,
    /// Its end.
    pub log_end: PhysicalOffset,
    /// What it knows to be committed.
    pub confirm: PhysicalOffset,
}

/// Why a link is refused, or given up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The other side is of a lower epoch than this one has seen.
    StaleEpoch,
    /// This replica is not an open master.
    NotMaster,
    /// Another group.
    WrongGroup,
    /// The object does not record that member.
    UnknownReplica,
    /// Retention has passed what the slave would need and the slave may not start anew.
    BehindRetention,
    /// The slave is about to stop: it acknowledges nothing more, and no send should wait for it (§8.9).
    Stopping,
}

/// No.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Refuse {
    /// Why.
    pub reason: Reason,
    /// The highest epoch that the refusing side knows.
    pub max_epoch: Epoch,
}

/// Whole records of the log, all of one epoch and one file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Data {
    /// The master's epoch: that of the link.
    pub epoch: Epoch,
    /// The epoch that these bytes belong to, and its start.
    pub bytes_epoch: EpochStart,
    /// Where the first of them lies.
    pub offset: PhysicalOffset,
    /// Where the master's file that holds them ends, so that the slave's files are the same.
    pub file_end: PhysicalOffset,
    /// What the master knows to be committed.
    pub confirm: PhysicalOffset,
    /// The bytes.
    pub bytes: Bytes,
}

/// Everything below `offset` counts at the slave: it is in the page cache, or flushed if the slave is durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ack {
    /// The master's epoch: that of the link.
    pub epoch: Epoch,
    /// The end of what counts.
    pub offset: PhysicalOffset,
}

/// Sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Beat {
    /// The epoch of the link.
    pub epoch: Epoch,
    /// From the master: confirm. From the slave: what it acknowledged last, for people only.
    pub offset: PhysicalOffset,
    /// The sender's own monotonic milliseconds, or those of the other side sent back. For lag only.
    pub stamp_ms: u64,
}

/// The role of a replica (§6) as reports name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RoleName {
    /// Started, not registered.
    Booting,
    /// Registered, no master to follow.
    Idle,
    /// Follows a master, not caught up or not in S.
    CatchUp,
    /// Follows a master as a member of S.
    InSync,
    /// Named master, not open yet.
    Activating,
    /// Master.
    Master,
    /// Needs a restart or a human.
    Halted,
}

/// What a replica tells the elector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Report {
    /// Who.
    pub member: Member,
    /// Its role.
    pub role: RoleName,
    /// The highest epoch it ever saw.
    pub max_epoch: Epoch,
    /// The last entry of its epoch list.
    pub last: Option<EpochStart>,
    /// Its end.
    pub log_end: PhysicalOffset,
    /// What is flushed.
    pub durable_end: PhysicalOffset,
    /// What it knows to be committed.
    pub confirm: PhysicalOffset,
    /// The highest version of the object that it acted on.
    pub version: Version,
    /// Whether its link to the master is up.
    pub master_linked: bool,
    /// Whether a part of its log is damaged: it holds less than it says until that is repaired (§8.15).
    pub damaged: bool,
}

/// What a replica holds, told without regard to any object: from such answers of all replicas a lost one is made anew (§8.16).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Holding {
    /// Its data directory.
    pub disk_id: DiskId,
    /// The group that the directory belongs to and its id in it; `None` if it never registered, and so never acknowledged anything.
    pub group: Option<(GroupUid, ReplicaId)>,
    /// What it belonged to before, if it adopted an object that was made anew and had not seen yet that all had.
    pub former: Option<Former>,
    /// This run of its process.
    pub incarnation: Incarnation,
    /// Its role.
    pub role: RoleName,
    /// The highest epoch it durably saw.
    pub max_epoch: Epoch,
    /// The highest version it durably saw.
    pub version: Version,
    /// The last entry of its epoch list.
    pub last: Option<EpochStart>,
    /// Its end.
    pub log_end: PhysicalOffset,
    /// Whether a part of its log is damaged (§8.15).
    pub damaged: bool,
}

/// The most bytes that one [`Fetch`] asks for: four blocks.
pub const FETCH_BYTES_MAX: u32 = 256 << 10;
/// Bytes of a `Range` that have a checksum of their own.
const PIECE_BYTES: usize = 64 << 10;

/// Asks for a range of the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fetch {
    /// The group whose log it is: an address may have become another group's.
    pub group_uid: GroupUid,
    /// First byte.
    pub offset: PhysicalOffset,
    /// How many, at most [`FETCH_BYTES_MAX`].
    pub length: u32,
    /// The epoch that the last of them belongs to here, and its start: who has the same entry there has the same bytes.
    pub bytes_epoch: EpochStart,
}

/// A range of the log, all that was asked for; or nothing of it, when it is not here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    /// First byte.
    pub offset: PhysicalOffset,
    /// CRC32C of each 64 KiB of the bytes, in order; the last may be shorter.
    pub checksums: Vec<u32>,
    /// The bytes.
    pub bytes: Bytes,
}

impl Range {
    /// `bytes`, which lie at `offset`, with their checksums.
    pub fn of(offset: PhysicalOffset, bytes: Bytes) -> Self {
        Self {
            offset,
            checksums: sums_of(&bytes),
            bytes,
        }
    }

    /// Whether it is all that `fetch` asked for, as it was when it was summed.
    pub fn answers(&self, fetch: &Fetch) -> bool {
        self.offset == fetch.offset
            && u32::try_from(self.bytes.len()) == Ok(fetch.length)
            && self.checksums == sums_of(&self.bytes)
    }
}

fn sums_of(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(PIECE_BYTES).map(crc32c::crc32c).collect()
}
