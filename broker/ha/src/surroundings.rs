//! What surrounds a replica: its log, its links, its coordinator, and who wants to know how it fares. One trait each, with the
//! true thing in the broker and a twin in [`crate::memory`]. The small files are behind `rocket_mapped_file::Directory`.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rocket_replication::coordinator::{Cas, CasAnswer, ReadAnswer};
use rocket_replication::effect::{Halt, Report};
use rocket_replication::frame::DataHead;
use rocket_replication::messages::{LinkId, Message, Range, RoleName};
use rocket_replication::repair::{Damage, Span};
use rocket_replication::replica::{Flush, Writes};
use rocket_replication::state::State;
use rocket_replication::{Epoch, PhysicalOffset, Proposal};
use rocket_store::Opening;

/// Something happened outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// The answer to [`Coordinator::read`].
    Read(ReadAnswer),
    /// The answer to [`Coordinator::cas`].
    Cas {
        /// Which write.
        proposal: Proposal,
        /// What was answered.
        answer: CasAnswer,
    },
    /// A watch showed this.
    Watched(Arc<State>),
    /// The link that [`Net::connect`] promised is open.
    Connected(LinkId),
    /// It could not be opened.
    ConnectFailed(LinkId),
    /// A message came. On a link that the other side opened, the first one makes it known.
    Received(LinkId, Message),
    /// A link is gone that [`Net::close`] did not close.
    Disconnected(LinkId),
    /// [`Log::ends`] may say something new ([`crate::Board`] tells when).
    LogMoved,
    /// What [`RangeReader::read_range`] was asked for is read; or why it cannot be had.
    RangeRead(Result<Range, String>),
    /// A write or flush of the log failed. Final.
    LogFailed,
}

/// How far a log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// First byte.
    pub min: PhysicalOffset,
    /// End of what is in the page cache.
    pub appended: PhysicalOffset,
    /// End of what a finished flush covers.
    pub durable: PhysicalOffset,
}

/// Why copied bytes were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// They are not whole records that belong there, or there is no room for them now; nothing was written. The link that
    /// brought them is given up, and another one may bring them again.
    #[error("{0}")]
    Refused(String),
    /// The file that the log ends in has another end than the master's. Nothing that the master sends can ever go on here.
    #[error("the file of the log ends at {ours}")]
    OtherFile {
        /// Where it ends.
        ours: PhysicalOffset,
    },
    /// A write failed: final.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a log was not cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// What is derived from the log reaches beyond; only a start can finish the cut. The process must leave in order.
    #[error("the cut is finished by the next start of this process")]
    NeedsRestart,
    /// There is no room to keep aside what goes: nothing was cut. To be tried again by a start.
    #[error(
        "{0}. They may be the only copy of something, so nothing is cut. Make room on the disk, or take away what else is in that folder, and start again"
    )]
    NoRoom(String),
    /// A read, write or flush failed: final.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why what is damaged was not written again.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// What came is not what was written there.
    #[error("{0}")]
    Refused(String),
    /// Somebody reads there still, say: it may be tried again.
    #[error("{0}")]
    Later(String),
    /// A write or flush failed: final.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whole records of one file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Their bytes, in order.
    pub pieces: Vec<Bytes>,
    /// Where they end.
    pub to: PhysicalOffset,
    /// Where the file that holds them ends.
    pub file_end: PhysicalOffset,
}

/// What becomes of sends that were appended and not answered yet, when no more are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// They are answered when their promise is kept, or when it takes too long.
    GoOn,
    /// They are told now that their outcome is unknown (§8.13).
    Unknown,
}

/// The log of one replica. Only the actor calls this; senders append beside it while the commit policy lets them, which is
/// asked under the same lock that gives them their place.
pub trait Log {
    /// How far it reaches now.
    fn ends(&self) -> Ends;

    /// Appends records copied from a master at `at`, the log's end, into the file that ends at `file_end`. They are in the
    /// page cache on return, and [`Log::ends`] says so.
    ///
    /// # Errors
    /// [`AppendError`]. Nothing of what is refused is appended.
    fn append_copied(
        &mut self,
        at: PhysicalOffset,
        file_end: PhysicalOffset,
        bytes: &Bytes,
    ) -> Result<(), AppendError>;

    /// Whole records from `from` on, all below `to` and of one file: at least one, and beyond that at most `bytes_target`.
    /// Never any that are known to be damaged.
    ///
    /// # Errors
    /// They cannot be read; the log goes on.
    fn read_records(
        &mut self,
        from: PhysicalOffset,
        to: PhysicalOffset,
        bytes_target: u64,
    ) -> io::Result<Chunk>;

    /// Asks for a flush of everything appended. Does not wait.
    fn flush_soon(&mut self);

    /// Cuts everything from `to` on away (§8.5, steps 2 and 4): copies it to the quarantine, cuts what is derived from it,
    /// makes it zero, all of it flushed on return. `epoch` is that of the master that caused it. The commit policy refuses
    /// sends. Nothing is done when the log ends there or before. May be repeated after a crash at any moment.
    ///
    /// # Errors
    /// [`CutError`].
    fn cut(&mut self, to: PhysicalOffset, epoch: Epoch) -> Result<(), CutError>;

    /// Empties the log; it begins at `at` from now on. What is not known to be committed is copied to the quarantine. The
    /// commit policy refuses sends. May be repeated as [`Log::cut`].
    ///
    /// # Errors
    /// As [`Log::cut`].
    fn start_anew(&mut self, at: PhysicalOffset, epoch: Epoch) -> Result<(), CutError>;

    /// To be called when the commit policy refuses sends: those that had begun are in the page cache on return, and none is
    /// appended until the policy takes some again; after [`Pending::Unknown`] none before [`Log::become_writer`] either.
    ///
    /// # Errors
    /// A write failed: final.
    fn stop_appends(&mut self, pending: Pending) -> io::Result<()>;

    /// Opens for sends as the master of `epoch` (§8.11.5): the next offset of every queue is computed from all records up to
    /// the log's end (D1), and store times do not go back. Where that is [`Opening::Later`] (what that must be computed from is
    /// damaged, and readers are to wait for it, or cannot be read at the moment) nothing is taken, and it is to be asked again.
    ///
    /// # Errors
    /// A write failed: final.
    fn become_writer(&mut self, epoch: Epoch) -> io::Result<Opening>;

    /// The commit policy says something new: answer who waits, show what is visible.
    fn re_evaluate(&mut self);

    /// Another number whenever [`Log::damage`] has other bytes.
    fn damage_changes(&self) -> u64 {
        0
    }

    /// What is known to be damaged. Nothing, in a log that never is.
    fn damage(&self) -> Damage {
        Damage::default()
    }

    /// Writes bytes of another replica over what is damaged at `offset`, if they are what was written there. Flushed on return,
    /// and [`Log::damage`] says so.
    ///
    /// # Errors
    /// [`RepairError`].
    fn repair(&mut self, _offset: PhysicalOffset, _bytes: &Bytes) -> Result<(), RepairError> {
        Err(RepairError::Refused("nothing is damaged".to_owned()))
    }

    /// From here on readers pass over what is damaged within `given_up`, and wait for what is damaged elsewhere.
    fn pass_over(&mut self, _given_up: &[Span]) {}

    /// The disk failed, be it elsewhere than in the log: the log takes nothing from here on, and the next start is to know.
    fn condemn(&mut self, _reason: &str) {}

    /// Flushes by itself as `flush` says from here on (§5.1). What was appended before is flushed as what comes after.
    fn set_flush(&mut self, _flush: Flush) {}
}

/// Reads of the log what another replica lacks, beside the actor: a disk that is slow to give it holds up nothing else.
pub trait RangeReader {
    /// Has `length` bytes at `offset` read, never any that are known to be damaged. Does not wait; [`Event::RangeRead`] follows, once.
    /// There is never more than one read out.
    fn read_range(&mut self, offset: PhysicalOffset, length: u32);
}

/// The links of one replica. None of its methods waits; what waits to be written is bounded, and a link whose peer does not
/// read is closed and told as [`Event::Disconnected`].
pub trait Net {
    /// Opens a link to `address`. [`Event::Connected`] or [`Event::ConnectFailed`] follows. Ids are never used again.
    fn connect(&mut self, address: &str) -> LinkId;

    /// Closes a link. What was sent before may still arrive. Messages that had come may still be told.
    fn close(&mut self, link: LinkId);

    /// Sends a message.
    fn send(&mut self, link: LinkId, message: Message);

    /// Sends a `Data` whose bytes are `pieces` in order.
    fn send_data(&mut self, link: LinkId, head: DataHead, pieces: Vec<Bytes>);
}

/// The coordinator, as far as a replica asks it (§14). There is never more than one request out, and every request is
/// answered once, be it with [`ReadAnswer::Unreachable`] or [`CasAnswer::Unknown`] after a while.
pub trait Coordinator {
    /// Asks for a current read; [`Event::Read`] follows.
    fn read(&mut self);

    /// Asks for a write; [`Event::Cas`] follows.
    fn cas(&mut self, cas: Cas);
}

/// What others may want to know of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Its role, the epoch that it knows, whether it takes sends, or who is master, is another one now.
    Role {
        /// The role.
        role: RoleName,
        /// The highest epoch seen.
        epoch: Epoch,
        /// Whether it takes sends.
        writes: Writes,
        /// Where the replication listener of the master is, if there is one.
        master: Option<Arc<str>>,
    },
    /// Its log was cut (P4). Told at least once, by the run that cut or by the start that finished it.
    Cut {
        /// What is kept ends here.
        to: PhysicalOffset,
        /// What was cut away ended here.
        from_end: PhysicalOffset,
        /// The epoch of the master that caused it.
        epoch: Epoch,
        /// Whether it may have held acknowledged bytes.
        report: Report,
    },
    /// Its log was emptied: what it held cannot be continued (P4).
    StartedAnew {
        /// The new first byte.
        at: PhysicalOffset,
        /// What was held and not known to be committed began here,
        from: PhysicalOffset,
        /// and ended here.
        from_end: PhysicalOffset,
        /// The epoch of the master that caused it.
        epoch: Epoch,
        /// Whether it may have held acknowledged bytes.
        report: Report,
    },
    /// It acknowledges nothing and takes no sends until a restart or a human. After [`Halt::DiskFailed`] the process has to
    /// leave, with a status of its own (§8.15).
    Halted(Halt),
    /// A part of its log is damaged, or is not any more (§8.15).
    Damaged(bool),
    /// The coordinator forgot (§8.16). It goes on as far as it may, and joins again by itself when there is an object to join.
    Forgot,
    /// The process has to leave in order and start again: only a start can finish a cut.
    NeedsRestart,
}

/// Who is told.
pub trait Observer {
    /// Something is different now. Must not block.
    fn tell(&mut self, news: News);
}

impl<F: FnMut(News)> Observer for F {
    fn tell(&mut self, news: News) {
        self(news);
    }
}
