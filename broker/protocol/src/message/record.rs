//! A message as it lies in the commit log and travels to consumers: the same bytes, written once.
//!
//! ```text
//!  0  total size i32                    40  born timestamp i64 (ms)
//!  4  magic i32: V1, V2 or blank        48  born host: address 4|16 · port i32
//!  8  body CRC32 i32 (& 0x7fffffff)      …  store timestamp i64 (ms)
//! 12  queue id i32                       …  store host: address 4|16 · port i32
//! 16  flag i32 (the user's)              …  reconsume times i32
//! 20  queue offset i64                   …  prepared transaction offset i64
//! 28  physical offset i64                …  body length i32 · body
//! 36  sysFlag i32                        …  topic length u8 (V2: u16) · topic
//!                                        …  properties length i16 · properties
//! ```
//! All numbers are big-endian. The CRC covers the body alone. A blank record (magic `BLANK`) fills the end of a segment:
//! its size and magic are followed by bytes without meaning. Eight zero bytes are space that was never written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use super::properties;
use super::sys_flag::SysFlag;
use crate::ids::{PhysicalOffset, QueueId, QueueOffset, UnixMillis};

/// Magic of a record whose topic length is one byte.
pub const MAGIC_V1: i32 = -626_843_481;
/// Magic of a record whose topic length is two bytes.
pub const MAGIC_V2: i32 = -626_843_477;
/// Magic of the filler at the end of a segment.
pub const MAGIC_BLANK: i32 = -875_286_124;
/// Bytes of a blank record's size and magic: a segment's end always has room for it.
pub const BLANK_HEAD_BYTES: usize = 8;
/// Bytes of a record with empty body, topic and properties, one-byte topic length and IPv4 hosts.
pub const RECORD_BYTES_MIN: usize = 91;

/// Where the fields that are known only at append time lie in a record; those behind a host depend on its kind.
pub mod position {
    /// Queue offset, i64.
    pub const QUEUE_OFFSET: usize = 20;
    /// Physical offset, i64.
    pub const PHYSICAL_OFFSET: usize = 28;
    /// sysFlag, i32.
    pub const SYS_FLAG: usize = 36;
    /// Store timestamp, i64, behind an IPv4 born host.
    pub const STORE_TIMESTAMP_V4: usize = 56;
    /// Store timestamp, i64, behind an IPv6 born host.
    pub const STORE_TIMESTAMP_V6: usize = 68;
}

/// Why bytes are not a whole good record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The filler at the end of a segment: go on `len` bytes further.
    #[error("blank record of {len} bytes")]
    Blank {
        /// Size of the filler.
        len: usize,
    },
    /// Eight zero bytes: nothing was written here yet.
    #[error("nothing was written here")]
    Unwritten,
    /// The bytes end before the record does.
    #[error("the record has {need} bytes, only {have} are here")]
    Torn {
        /// Bytes that the record claims, or the least that can tell.
        need: usize,
        /// Bytes that are here.
        have: usize,
    },
    /// Not the magic of any record.
    #[error("no record begins here: magic {magic:#010x}")]
    BadMagic {
        /// What stands where the magic should.
        magic: i32,
    },
    /// A length that contradicts the record's size.
    #[error("the {field} length contradicts the record's size {total}")]
    BadLength {
        /// Whose length.
        field: &'static str,
        /// The record's size.
        total: i32,
    },
    /// A port, offset or text that cannot be.
    #[error("impossible {field}")]
    BadField {
        /// Which field.
        field: &'static str,
    },
    /// The body is not what was written.
    #[error("body checksum {found:#010x}, the record says {expected:#010x}")]
    BadCrc {
        /// The record's own.
        expected: u32,
        /// That of the bytes here.
        found: u32,
    },
}

/// CRC32 (IEEE) of a body as records carry it, without the sign bit.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7fff_ffff
}

/// A parsed record that borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    bytes: &'a [u8],
    magic: i32,
    body_crc: u32,
    queue_id: QueueId,
    flag: i32,
    queue_offset: QueueOffset,
    physical_offset: PhysicalOffset,
    sys_flag: SysFlag,
    born_timestamp: UnixMillis,
    born_host: SocketAddr,
    store_timestamp: UnixMillis,
    store_host: SocketAddr,
    reconsume_times: i32,
    prepared_transaction_offset: i64,
    body: &'a [u8],
    topic: &'a str,
    properties: &'a [u8],
}

macro_rules! accessors {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        $($(#[$doc])* pub const fn $field(&self) -> $type { self.$field })*
    };
}

impl<'a> RecordView<'a> {
    /// Parses the record at the start of `source`, body checksum included; the second value is its size.
    pub fn parse(source: &'a [u8]) -> Result<(Self, usize), RecordError> {
        let (view, len) = Self::parse_trusting(source)?;
        if !view.body.is_empty() {
            let found = body_crc(view.body);
            if found != view.body_crc {
                return Err(RecordError::BadCrc {
                    expected: view.body_crc,
                    found,
                });
            }
        }
        Ok((view, len))
    }

    /// As [`RecordView::parse`] but the body's checksum is not computed: for bytes that this process wrote or checked.
    pub fn parse_trusting(source: &'a [u8]) -> Result<(Self, usize), RecordError> {
        let (total, magic) = head(source)?;
        let bytes = usize::try_from(total)
            .ok()
            .and_then(|total| source.get(..total));
        let Some(bytes) = bytes else {
            return Err(RecordError::Torn {
                need: usize::try_from(total).unwrap_or(usize::MAX),
                have: source.len(),
            });
        };
        let mut fields = Fields { rest: bytes, total };
        fields.take("head", BLANK_HEAD_BYTES)?;
        let body_crc = u32::from_be_bytes(fields.array("head")?);
        let queue_id =
            QueueId::from_wire(fields.i32()?).ok_or(RecordError::BadField { field: "queue id" })?;
        let flag = fields.i32()?;
        let queue_offset = fields.i64()?;
        let physical_offset = fields.i64()?;
        let sys_flag = SysFlag(fields.i32()?);
        let born_timestamp = UnixMillis(fields.i64()?);
        let born_host = fields.host("born host", sys_flag.has(SysFlag::BORN_HOST_V6))?;
        let store_timestamp = UnixMillis(fields.i64()?);
        let store_host = fields.host("store host", sys_flag.has(SysFlag::STORE_HOST_V6))?;
        let reconsume_times = fields.i32()?;
        let prepared_transaction_offset = fields.i64()?;
        let body_len = usize::try_from(fields.i32()?).unwrap_or(usize::MAX);
        let body = fields.take("body", body_len)?;
        let topic_len = if magic == MAGIC_V1 {
            usize::from(u8::from_be_bytes(fields.array("topic")?))
        } else {
            usize::from(u16::from_be_bytes(fields.array("topic")?))
        };
        let topic = fields.take("topic", topic_len)?;
        let properties_len = i16::from_be_bytes(fields.array("properties")?);
        let properties = fields.take(
            "properties",
            usize::try_from(properties_len).unwrap_or(usize::MAX),
        )?;
        if !fields.rest.is_empty() {
            return Err(RecordError::BadLength {
                field: "total",
                total,
            });
        }
        let view = Self {
            bytes,
            magic,
            body_crc,
            queue_id,
            flag,
            queue_offset: QueueOffset::from_wire(queue_offset).ok_or(RecordError::BadField {
                field: "queue offset",
            })?,
            physical_offset: PhysicalOffset::from_wire(physical_offset).ok_or(
                RecordError::BadField {
                    field: "physical offset",
                },
            )?,
            sys_flag,
            born_timestamp,
            born_host,
            store_timestamp,
            store_host,
            reconsume_times,
            prepared_transaction_offset,
            body,
            topic: std::str::from_utf8(topic)
                .map_err(|_| RecordError::BadField { field: "topic" })?,
            properties,
        };
        Ok((view, bytes.len()))
    }

    accessors! {
        /// The whole record.
        bytes: &'a [u8],
        /// [`MAGIC_V1`] or [`MAGIC_V2`].
        magic: i32,
        /// The checksum of the body as the record says it.
        body_crc: u32,
        /// The queue.
        queue_id: QueueId,
        /// The user's own number.
        flag: i32,
        /// The message's index in its queue.
        queue_offset: QueueOffset,
        /// Where the record says that it lies in the commit log.
        physical_offset: PhysicalOffset,
        /// See [`SysFlag`].
        sys_flag: SysFlag,
        /// When the producer made the message.
        born_timestamp: UnixMillis,
        /// The producer's address.
        born_host: SocketAddr,
        /// When the broker appended the message.
        store_timestamp: UnixMillis,
        /// The broker's address.
        store_host: SocketAddr,
        /// How often the message was delivered in vain.
        reconsume_times: i32,
        /// Queue or physical offset of the prepared message, in transactions.
        prepared_transaction_offset: i64,
        /// The body as the producer sent it, compressed or not.
        body: &'a [u8],
        /// The topic.
        topic: &'a str,
        /// The properties string.
        properties: &'a [u8],
    }

    /// The size of the record in bytes.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a record has at least its fixed part.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The value of one property.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        properties::scan(self.properties, name)
    }
}

/// Size and magic of what begins at `source`, where the size is at least that of the smallest record.
fn head(source: &[u8]) -> Result<(i32, i32), RecordError> {
    let torn = RecordError::Torn {
        need: BLANK_HEAD_BYTES,
        have: source.len(),
    };
    let (total, rest) = source
        .split_first_chunk::<4>()
        .ok_or_else(|| torn.clone())?;
    let total = i32::from_be_bytes(*total);
    let magic = i32::from_be_bytes(*rest.first_chunk::<4>().ok_or(torn)?);
    match magic {
        MAGIC_V1 | MAGIC_V2 => {
            let least = usize::try_from(total).is_ok_and(|total| total >= RECORD_BYTES_MIN);
            if least {
                Ok((total, magic))
            } else {
                Err(RecordError::BadLength {
                    field: "total",
                    total,
                })
            }
        }
        MAGIC_BLANK => match usize::try_from(total) {
            Ok(len) if len >= BLANK_HEAD_BYTES => Err(RecordError::Blank { len }),
            _ => Err(RecordError::BadLength {
                field: "total",
                total,
            }),
        },
        0 if total == 0 => Err(RecordError::Unwritten),
        magic => Err(RecordError::BadMagic { magic }),
    }
}

/// What of a record is not read yet.
struct Fields<'a> {
    rest: &'a [u8],
    total: i32,
}

impl<'a> Fields<'a> {
    fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], RecordError> {
        let error = RecordError::BadLength {
            field,
            total: self.total,
        };
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(error)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let error = RecordError::BadLength {
            field,
            total: self.total,
        };
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(error)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        self.array("fixed part").map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        self.array("fixed part").map(i64::from_be_bytes)
    }

    fn host(&mut self, field: &'static str, v6: bool) -> Result<SocketAddr, RecordError> {
        let ip: IpAddr = if v6 {
            Ipv6Addr::from(self.array::<16>(field)?).into()
        } else {
            Ipv4Addr::from(self.array::<4>(field)?).into()
        };
        let port = u16::try_from(self.i32()?).map_err(|_| RecordError::BadField { field })?;
        Ok(SocketAddr::new(ip, port))
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
