//! Files as a store needs them: segments of a fixed size, written by `pwritev`, read through read-only maps, flushed by
//! `fdatasync`; folders whose changes are flushed too. One seam ([`Directory`], [`Segment`]) with two implementations:
//! [`disk`] and its twin in memory ([`memory`]), which keeps apart what was flushed and what was not.
//!
//! Why not write through maps: stores into clean mapped pages fault page by page and a full disk becomes SIGBUS; one
//! `pwritev` of a batch is an order of magnitude faster and fails with an error.
//!
//! This is the only crate with unsafe code. Its outside is safe for one reason, kept here and nowhere else: **bytes
//! below the published position of a segment never change** while anybody may look at them. [`Segment::write_at`] refuses them,
//! [`Segment::replace_at`] waits until no lease shows them, readers get nothing
//! else, files get their whole length before they are mapped and are never shortened, and the folder is locked
//! against other processes. A file can be opened twice: whoever writes through one segment what another one has published
//! (a store that cuts its log) must know that nobody looks there, nor was lent it.
#![allow(
    unsafe_code,
    reason = "the one crate that maps files; every block says why it is sound"
)]

pub mod disk;
pub mod memory;
mod published;
mod segment;
mod sync;

pub use segment::{
    Advice, Directory, Entry, FILL_PIECE_BYTES, Fill, Lock, Pace, Segment, SegmentOptions, Space,
};
