//! The message store of one broker: RocketMQ's CommitLog, consume queues and index, in RocketMQ's own formats and
//! layout, so that a folder written by Apache's broker opens here and ours opens there.
//!
//! What must stay true:
//! - *appended*, *durable*, *committed* and *dispatched* are four positions, never one; an answer waits for the one that
//!   the mode promises.
//! - A failed write or flush is final: nothing is acknowledged after it.
//! - Recovery cuts a torn tail and never more; damage below what was flushed is told, never cut.
//! - Queues and index follow from the log; they may be behind it after a crash, never ahead.
//!
//! [`Engine`] is everything but the threads; [`Store`] is the engine with threads.
//!
//! ```text
//! commitlog/ index/ checkpoint abort lock      as Apache's broker has them
//! rocket/checkpoint rocket/deleted-topics.json rocket/queue-offsets.json rocket/flush-failed rocket/damage.json
//!                        ours, bounds and notes
//! rocket/checksums/      CRC32C of the log's blocks
//! rocket/queues/         the consume queues
//! rocket/index/          the index by key
//! rocket/cut             a cut of the log that is not finished
//! quarantine/            what cuts took away
//! ```
#![forbid(unsafe_code)]

mod ages;
mod agree;
mod answer;
mod apache_queue;
mod api;
mod append;
mod appender;
mod by_time;
mod carried;
mod ceiling;
mod checkpoint;
mod checksums;
mod cohort;
mod cold_blocks;
mod commit_log;
mod config;
mod cut;
mod damage;
mod deleted;
mod dispatch;
mod dispatcher;
mod engine;
mod error;
pub mod export;
mod export_index;
mod failure;
mod flush;
mod flush_mode;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gather;
mod heat;
mod import;
mod index;
mod index_upkeep;
mod intent;
mod lost;
mod pace;
mod prepare;
mod progress;
mod quarantine;
mod queues;
mod reach;
mod read;
mod readers;
mod recovery;
mod relay;
mod repair;
mod replica_log;
mod retain;
mod retention;
mod room;
mod scrub;
mod search;
mod sound;
mod store;
mod sync;
mod tail;
mod unfinished;
mod unit;
mod upkeep;
mod waiters;

#[cfg(test)]
#[cfg(feature = "loom")]
mod interleavings;
#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod model_tests;
mod mutant;
#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod replica_tests;
#[cfg(test)]
mod test_support;

pub use api::*;
pub use config::*;
pub use cut::{Aside, CutError};
pub use engine::{Engine, Step};
pub use error::{CloseError, OpenError, RecoveryReport};
pub use failure::{FailureKind, PastFailure, past_failure};
pub use flush::FlushJob;
pub use readers::{Reader, Readers};
pub use repair::{RepairError, Span};
pub use replica_log::{CopyError, Opening, Records, RecordsError};
pub use store::Store;
pub use unfinished::{Unfinished, unfinished};

#[cfg(feature = "mutants")]
pub use mutant::switch::choose as choose_mutant;
