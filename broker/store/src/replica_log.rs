//! The log as replication needs it (replication protocol §8.6, §8.11, §8.13): a master hands out whole records and, when it
//! is none any more, leaves nobody waiting; a slave appends what it was handed, byte for byte at the same offsets; a slave
//! that becomes master gives places to messages behind all records that it has.
//!
//! What must stay true:
//! - What is copied is whole records of one file, each at its own offset; anything else is refused, and nothing of it is
//!   written. Bodies are not looked at: links have their checksum, and recovery has the records'.
//! - Files end where the master's do, so that files and their blocks of checksums are the same everywhere.
//! - While records are copied nobody gets a place here: [`crate::Engine::become_writer`] first follows all there is (D1).
//! - Bytes that are not visible are read by `pread`, never lent nor looked at through the map: a cut may take them back.

mod copying;
mod records;
mod roles;

pub use copying::CopyError;
pub(crate) use records::read_plain;
pub use records::{Records, RecordsError};
pub use roles::Opening;
pub(crate) use roles::answer_unknown;
