//! What the index must know beside its files.
//!
//! ```text
//! rocket/index/state: 0 magic "RKIS" · 4 version u32 = 1 · 8 base u64 · 16 slots u32 · 20 entries u32 · 24 CRC32 of 0..24
//! ```

use std::io;

use rocket_mapped_file::Directory;

use super::FOLDER;
use super::fields::Fields;
use crate::checksums::is_damage;

const MAGIC: [u8; 4] = *b"RKIS";
const VERSION: u32 = 1;
const BYTES: usize = 24;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// Keys of messages before are in the files that Apache's broker wrote, or in none.
    pub(crate) base: u64,
    /// Hash slots of an index file of Apache's broker, as last set; an export makes such files.
    pub(crate) slots: u32,
    /// Entries of one.
    pub(crate) entries: u32,
}

/// What a note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    State(State),
    /// There is none.
    Nothing,
    /// It is not what was written.
    Damaged,
}

fn path() -> String {
    format!("{FOLDER}/state")
}

impl State {
    /// What was noted.
    pub(crate) fn read(dir: &dyn Directory) -> io::Result<Noted> {
        match dir.read(&path()) {
            Ok(Some(bytes)) => Ok(Self::decode(&bytes).map_or(Noted::Damaged, Noted::State)),
            Ok(None) => Ok(Noted::Nothing),
            Err(error) if is_damage(&error) => Ok(Noted::Damaged),
            Err(error) => Err(error),
        }
    }

    /// Notes it; durable on return.
    pub(crate) fn write(self, dir: &dyn Directory) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(BYTES + 4);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.base.to_be_bytes());
        bytes.extend_from_slice(&self.slots.to_be_bytes());
        bytes.extend_from_slice(&self.entries.to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        dir.replace(&path(), &bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, rest) = bytes.split_at_checked(BYTES)?;
        if crc32fast::hash(covered).to_be_bytes() != *rest {
            return None;
        }
        let mut fields = Fields(covered.strip_prefix(&MAGIC)?);
        if fields.u32()? != VERSION {
            return None;
        }
        Some(Self {
            base: fields.u64()?,
            slots: fields.u32()?,
            entries: fields.u32()?,
        })
    }
}
