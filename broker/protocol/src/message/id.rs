//! Message ids: where a message lies (offset id) and what its producer called it (unique key). Both are upper-case hex.
//!
//! ```text
//! offset id    store address 4|16 · port i32 · physical offset i64                        32 | 56 letters
//! unique key   address 4|16 · process id i16 · class loader hash i32 ·
//!              milliseconds since the start of the month i32 · counter i16                32 | 56 letters
//! ```
//! Administration tools connect to the address inside the offset id, so it has to be the advertised one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::ids::PhysicalOffset;

const V4_LETTERS: usize = 32;
const V6_LETTERS: usize = 56;
const ID_BYTES_MAX: usize = V6_LETTERS / 2;

/// Why a text is not a message id. Give up: the id was not made by RocketMQ.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Neither 32 nor 56 letters.
    #[error("a message id has 32 or 56 letters, this has {0}")]
    Length(usize),
    /// A letter that is not a hexadecimal digit.
    #[error("a message id is hexadecimal")]
    NotHex,
    /// A port beyond 65535 or an offset below zero.
    #[error("the message id names no possible place")]
    Range,
}

/// Where a message lies: the broker's address and the physical offset there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OffsetMessageId {
    /// The broker's advertised address.
    pub store_host: SocketAddr,
    /// Where the record begins.
    pub offset: PhysicalOffset,
}

impl fmt::Display for OffsetMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ip(f, self.store_host.ip())?;
        write!(
            f,
            "{:08X}{:016X}",
            u32::from(self.store_host.port()),
            self.offset.0
        )
    }
}

/// The letters that all offset ids of one store host begin with; sixteen for the offset follow.
pub fn host_letters(store_host: SocketAddr) -> String {
    let offset = PhysicalOffset::ZERO;
    let mut letters = OffsetMessageId { store_host, offset }.to_string();
    letters.truncate(letters.len().saturating_sub(16));
    letters
}

impl FromStr for OffsetMessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (ip, tail) = split(text)?;
        let [a, b, c, d, offset @ ..] = tail;
        let port = u32::from_be_bytes([a, b, c, d]);
        let port = u16::try_from(port).map_err(|_| IdError::Range)?;
        let offset = PhysicalOffset::from_wire(i64::from_be_bytes(offset)).ok_or(IdError::Range)?;
        Ok(Self {
            store_host: SocketAddr::new(ip, port),
            offset,
        })
    }
}

/// What a producer calls its message (`MessageClientIDSetter.java`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UniqueKey {
    /// The producer's address.
    pub ip: IpAddr,
    /// Low 16 bits of the process id.
    pub process_id: u16,
    /// Sets two class loaders (here: two brokers or runs) of one process apart.
    pub class_loader_hash: u32,
    /// Milliseconds since the first of the month in which the counter's epoch lies.
    pub month_millis: u32,
    /// Counts the keys of one process, wrapping.
    pub counter: u16,
}

impl fmt::Display for UniqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ip(f, self.ip)?;
        write!(
            f,
            "{:04X}{:08X}{:08X}{:04X}",
            self.process_id, self.class_loader_hash, self.month_millis, self.counter
        )
    }
}

impl FromStr for UniqueKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (ip, [p0, p1, h0, h1, h2, h3, m0, m1, m2, m3, c0, c1]) = split(text)?;
        Ok(Self {
            ip,
            process_id: u16::from_be_bytes([p0, p1]),
            class_loader_hash: u32::from_be_bytes([h0, h1, h2, h3]),
            month_millis: u32::from_be_bytes([m0, m1, m2, m3]),
            counter: u16::from_be_bytes([c0, c1]),
        })
    }
}

fn write_ip(f: &mut fmt::Formatter<'_>, ip: IpAddr) -> fmt::Result {
    match ip {
        IpAddr::V4(ip) => write!(f, "{:08X}", u32::from(ip)),
        IpAddr::V6(ip) => write!(f, "{:032X}", u128::from(ip)),
    }
}

/// The address and the twelve bytes behind it, as both kinds of id have them.
fn split(text: &str) -> Result<(IpAddr, [u8; 12]), IdError> {
    let letters = text.as_bytes();
    if letters.len() != V4_LETTERS && letters.len() != V6_LETTERS {
        return Err(IdError::Length(letters.len()));
    }
    let mut bytes = [0; ID_BYTES_MAX];
    for (byte, pair) in bytes.iter_mut().zip(letters.chunks_exact(2)) {
        let [high, low] = pair else {
            return Err(IdError::NotHex);
        };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    let length = IdError::Length(letters.len());
    if letters.len() == V4_LETTERS {
        let (ip, rest) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| length.clone())?;
        let tail = rest.first_chunk::<12>().ok_or(length)?;
        Ok((Ipv4Addr::from(*ip).into(), *tail))
    } else {
        let (ip, rest) = bytes
            .split_first_chunk::<16>()
            .ok_or_else(|| length.clone())?;
        let tail = rest.first_chunk::<12>().ok_or(length)?;
        Ok((Ipv6Addr::from(*ip).into(), *tail))
    }
}

fn nibble(letter: u8) -> Result<u8, IdError> {
    match letter {
        b'0'..=b'9' => Ok(letter - b'0'),
        b'A'..=b'F' => Ok(letter - b'A' + 10),
        b'a'..=b'f' => Ok(letter - b'a' + 10),
        _ => Err(IdError::NotHex),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn offset_ids_look_like_rocketmqs() {
        let id = OffsetMessageId {
            store_host: "127.0.0.1:10911".parse().unwrap(),
            offset: PhysicalOffset(1024),
        };
        assert_eq!(id.to_string(), "7F00000100002A9F0000000000000400");
        assert_eq!("7f00000100002a9f0000000000000400".parse(), Ok(id));
    }

    #[rstest]
    #[case("", IdError::Length(0))]
    #[case("7F00000100002A9F00000000000004", IdError::Length(30))]
    #[case("7F00000100002A9F000000000000040G", IdError::NotHex)]
    #[case("7F00000100012A9F0000000000000400", IdError::Range)]
    #[case("7F00000100002A9FF000000000000400", IdError::Range)]
    #[case("7F00000100002A9F00000000000004ü", IdError::NotHex)]
    fn other_texts_are_not_offset_ids(#[case] text: &str, #[case] error: IdError) {
        assert_eq!(text.parse::<OffsetMessageId>(), Err(error));
    }

    proptest! {
        #[test]
        fn ids_come_back(ip: IpAddr, port: u16, offset in 0..=i64::MAX, process_id: u16, hash: u32, millis: u32, counter: u16) {
            let offset = PhysicalOffset::from_wire(offset).unwrap();
            let id = OffsetMessageId { store_host: SocketAddr::new(ip, port), offset };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            let key = UniqueKey { ip, process_id, class_loader_hash: hash, month_millis: millis, counter };
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
