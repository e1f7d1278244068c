//! Power cuts, kills and disk faults under a real broker process.
//!
//! `tests/powercut/run --rounds 100 --seed 1 --flush sync` mounts a file system of this project (FUSE; root and
//! `/dev/fuse` are needed, nothing stays mounted), starts the built `rocket-broker standalone` on it, loads it with
//! rocket-bench's lanes, and lets the power go at a planned write or sync: the process is killed, and of everything that
//! no sync has covered any subset of 512-byte sectors, lengths and names is there afterwards. Then the broker starts
//! again and all that it gives back is held against the histories. A round does so several times on one store; other runs in it
//! end by a kill, an orderly stop, EIO on a sync or a write, a read-only or a full medium.
//!
//! What must hold: with `SYNC_FLUSH` nothing acknowledged is lost, nothing stands twice, in another order, at an offset
//! that was another's, nothing comes back that was gone and nothing goes that was there. With `ASYNC_FLUSH` an
//! end of what was written after the last flush may be lost, and the restarted broker says so. A failed flush or write ends the
//! process with status 3.
//!
//! The same seed gives the same plan and the same choice of survivors for the same state; the process's threads are its own, so a
//! failing seed is run several times (`--times`). What this cannot show: the kernel's FUSE holds a file's lock during a sync of it,
//! so no write meets a running sync of the same file; the model tests of `rocket-store` do that over the twin in memory.
//!
//! | module | |
//! |---|---|
//! | [`image`], [`names`], [`disk`] | the medium: pure, one lock, a seed |
//! | [`mount`], [`namespace`] | the medium as a file system |
//! | [`plan`] | what a seed says |
//! | [`broker`], [`load`], [`watch`], [`round`] | the process, the load, a reader, the verdict |
#![forbid(unsafe_code)]

pub mod broker;
pub mod disk;
pub mod image;
pub mod load;
pub mod mount;
pub mod names;
pub mod namespace;
pub mod plan;
pub mod round;
pub mod selftest;
pub mod survival;
pub mod watch;
