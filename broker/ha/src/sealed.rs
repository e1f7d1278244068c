//! The form of the small files of a replica: which there are, and the 16 bytes with which each begins; all numbers are big-endian.
//!
//! ```text
//!  0        4      6         8        12        16
//!  ┌────────┬──────┬─────────┬────────┬─────────┬─── … ─┐
//!  │ "RKHA" │ kind │ version │ length │ CRC32C  │ body  │
//!  └────────┴──────┴─────────┴────────┴─────────┴─── … ─┘
//!  kind     1 replica.meta, 2 seen, 3 epochs, 4 clean, 5 cut, 6 failed, 7 runs
//!  version  1; of cut 2, and 1 is read; of replica.meta 2 if there is more to it than 1 holds
//!  length   of the body, which ends the file
//!  CRC32C   (Castagnoli) over bytes 0..12 and the body
//! ```

use bytes::{Buf, BufMut};

/// The folder of these files, relative to the store's.
pub const FOLDER: &str = "rocket/replica";
const MAGIC: [u8; 4] = *b"RKHA";
const HEAD_BYTES: usize = 16;

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Meta = 1,
    Seen = 2,
    Epochs = 3,
    Clean = 4,
    Cut = 5,
    Failed = 6,
    Runs = 7,
}

impl Kind {
    pub(crate) fn path(self) -> String {
        let name = match self {
            Self::Meta => "replica.meta",
            Self::Seen => "seen",
            Self::Epochs => "epochs",
            Self::Clean => "clean",
            Self::Cut => "cut",
            Self::Failed => "failed",
            Self::Runs => "runs",
        };
        format!("{FOLDER}/{name}")
    }

    /// The newest that is written; everything from 1 on is read.
    pub(crate) const fn version(self) -> u16 {
        match self {
            Self::Meta | Self::Cut => 2,
            Self::Seen | Self::Epochs | Self::Clean | Self::Failed | Self::Runs => 1,
        }
    }
}

/// Why a file is not what was written.
pub(crate) enum Fault {
    Damaged(&'static str),
    Format(u16),
}

pub(crate) fn seal(kind: Kind, version: u16, body: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEAD_BYTES + body.len());
    file.put_slice(&MAGIC);
    file.put_u16(kind as u16);
    file.put_u16(version);
    file.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&file), body);
    file.put_u32(checksum);
    file.put_slice(body);
    file
}

/// The version and the body.
pub(crate) fn unseal(kind: Kind, file: &[u8]) -> Result<(u16, &[u8]), Fault> {
    let Some((head, body)) = file.split_at_checked(HEAD_BYTES) else {
        return Err(Fault::Damaged("it is too short"));
    };
    let (checked, mut rest) = head.split_at(HEAD_BYTES - 4);
    let mut fields = checked;
    let mut magic = [0; MAGIC.len()];
    fields.copy_to_slice(&mut magic);
    if magic != MAGIC {
        return Err(Fault::Damaged("it does not begin as such a file does"));
    }
    if crc32c::crc32c_append(crc32c::crc32c(checked), body) != rest.get_u32() {
        return Err(Fault::Damaged("its checksum does not match"));
    }
    let (found_kind, version, length) = (fields.get_u16(), fields.get_u16(), fields.get_u32());
    if found_kind != kind as u16 || length as usize != body.len() {
        return Err(Fault::Damaged("it is another file, or longer than it was"));
    }
    if !(1..=kind.version()).contains(&version) {
        return Err(Fault::Format(version));
    }
    Ok((version, body))
}
