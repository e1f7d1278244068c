//! What goes into a replica's state machine and what comes out.
//!
//! Effects are performed **in their order, one after the other**. An effect that saves or cuts has reached the disk before
//! the next one begins; when it fails, the rest is dropped and [`Input::DiskFailed`] is fed in, and then, for a write of the
//! object that was dropped, that it was never sent. That order is what makes "durable before acting" (§4.1) hold, so a shell must not reorder or overlap them. `Flush` alone only asks: its end comes
//! back as [`Input::Flushed`].

use std::sync::Arc;

use bytes::Bytes;
use rocket_protocol::ids::PhysicalOffset;

use crate::coordinator::{Cas, CasAnswer, ReadAnswer};
use crate::epochs::{EpochStart, Epochs};
use crate::identity::{Epoch, Former, GroupUid, Incarnation, Member, Proposal, ReplicaId, Version};
use crate::messages::{LinkId, Message};
use crate::repair::{Damage, Outcome, Step};
use crate::state::State;

/// Something happened.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// Local recovery is over (§8.2): register.
    Start,
    /// The answer to [`Effect::Read`].
    Read(ReadAnswer),
    /// The answer to an [`Effect::Cas`].
    Cas {
        /// Which write.
        proposal: Proposal,
        /// What was answered.
        answer: CasAnswer,
    },
    /// An [`Effect::Cas`] was dropped with what else followed an effect that failed.
    CasDropped(Proposal),
    /// A watch or a cached read showed this: a hint (C4).
    Watched(Arc<State>),
    /// The caller's pause between tries is over: whatever waits for another try gets one.
    Retry,
    /// The store appended for the master; its log ends here now.
    Appended(PhysicalOffset),
    /// [`Effect::Append`] was refused and the effects after it were dropped: the log still ends here.
    NotAppended(PhysicalOffset),
    /// [`Effect::Append`] was refused, and so will be whatever the master sends: the file of the log that holds the place ends
    /// elsewhere than the master's. The effects after it were dropped.
    OtherFile {
        /// The log still ends here.
        end: PhysicalOffset,
        /// Where the file ends here.
        ours: PhysicalOffset,
        /// Where it ends at the master.
        theirs: PhysicalOffset,
    },
    /// Everything below is flushed.
    Flushed(PhysicalOffset),
    /// Retention moved the first byte of the log.
    Retained(PhysicalOffset),
    /// A write, sync or cut of the disk failed. Final (§8.15).
    DiskFailed,
    /// This is what is known to be damaged in the log now; nothing, when it is sound.
    Damaged(Damage),
    /// It is time to go on with repairing, if something is damaged.
    RepairDue,
    /// The connection that [`Step::Dial`] asked for is open.
    Dialed(LinkId),
    /// It could not be opened.
    DialFailed,
    /// What became of [`Step::Write`].
    Repaired(Outcome),
    /// The connection that [`Effect::Connect`] asked for is open.
    Connected(LinkId),
    /// It could not be opened.
    ConnectFailed,
    /// A link is gone, in either role.
    Disconnected(LinkId),
    /// [`Effect::SendData`] sends everything to here.
    Sent(LinkId, PhysicalOffset),
    /// A message came. On a link that this replica did not open, the first one makes it known.
    Received(LinkId, Message),
    /// The timers say that a member of S does not keep up (§8.9).
    Lagging(Member),
    /// It is time for a sign of life on every link.
    Beat {
        /// The caller's monotonic milliseconds, for lag only.
        stamp_ms: u64,
    },
    /// [`Effect::PauseWrites`] is done: every append that had begun was fed in as [`Input::Appended`].
    Paused,
    /// `handover_wait` is over (§8.12).
    HandoverWaited,
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// Read the object, current; answer with [`Input::Read`].
    Read,
    /// Write the object; answer with [`Input::Cas`].
    Cas(Cas),
    /// Save in `replica.meta` which replica of which group this is.
    SaveMeta {
        /// The group.
        group_uid: GroupUid,
        /// The replica.
        replica_id: ReplicaId,
        /// What it was before, while another one may be that still.
        former: Option<Former>,
    },
    /// Save the runs that this disk knows (§8.3).
    SaveRuns(Vec<Incarnation>),
    /// Save the highest epoch and version seen.
    SaveSeen {
        /// `max_epoch`.
        epoch: Epoch,
        /// `max_version`.
        version: Version,
    },
    /// Save the epoch list.
    SaveEpochs(Epochs),
    /// Append records copied from the master, at the log's end.
    Append {
        /// Where: the log's end.
        offset: PhysicalOffset,
        /// Where the file of the log that holds them ends; one that has to be made gets this end.
        file_end: PhysicalOffset,
        /// Whole records. What is not is a broken link: nothing of it is appended, the effects that follow are dropped, and the
        /// log's end is fed in as [`Input::NotAppended`].
        bytes: Bytes,
    },
    /// Flush the log through its end when convenient; answer with [`Input::Flushed`].
    Flush,
    /// Cut the log: quarantine, intent, derived state, zeroing, then the epoch list (§8.5, steps 2–5).
    Cut {
        /// The common point.
        to: PhysicalOffset,
        /// The epoch of the master that caused it, for the `cut` file.
        epoch: Epoch,
        /// The list to save as part of it.
        epochs: Epochs,
        /// The bytes may hold what was acknowledged: raise an event and count them (P4).
        report: Report,
    },
    /// Empty the log and start it anew (`BehindRetention`, §8.5).
    StartAnew {
        /// Its first byte.
        at: PhysicalOffset,
        /// The list to save as part of it.
        epochs: Epochs,
    },
    /// Open a connection to the master's replication listener.
    Connect {
        /// Who should answer there.
        master: Member,
        /// Where.
        address: String,
    },
    /// A step of a repair, of this log or of another replica's (§8.15).
    Repair(Step),
    /// Close a link. No [`Input::Disconnected`] is expected for it.
    Disconnect(LinkId),
    /// Send a message.
    Send(LinkId, Message),
    /// Read records of the log and send them in one `Data` with these heads: whole ones of one file, at least one, as many as
    /// fit. Answered with [`Input::Sent`] before the first byte leaves; until then no other is asked for on this link.
    SendData {
        /// Where to.
        link: LinkId,
        /// The master's epoch.
        epoch: Epoch,
        /// The epoch of the bytes.
        bytes_epoch: EpochStart,
        /// First byte.
        from: PhysicalOffset,
        /// Not beyond this, which is the end of a record.
        to: PhysicalOffset,
        /// What is committed.
        confirm: PhysicalOffset,
    },
    /// What is known to be committed moved here. On a master, sends that end at or below it may be answered.
    Confirmed(PhysicalOffset),
    /// The barrier is committed: rebuild what depends on the log's end, register as master, take sends (§8.11.5).
    OpenWrites(Epoch),
    /// Begin no more appends (answer: busy, try again); those under way may still be answered (§8.12). Answered with
    /// [`Input::Paused`] when the last begun one was fed in.
    PauseWrites,
    /// Take sends again.
    ResumeWrites,
    /// No longer master. Begin no more appends; those that had begun are finished and fed in before anything else. Sends not
    /// yet answered get "outcome unknown", never "failed" (§8.13).
    StepDown,
    /// Acknowledge nothing, serve no writes, until a restart or a human.
    Halt(Halt),
    /// §8.16: the object is gone, another one, or older than what this replica durably saw. Nothing to do but to tell people: the
    /// process stays, says what it holds, and looks again at each [`Input::Retry`].
    Forgot,
}

/// Whether a cut may take away acknowledged bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Report {
    /// Nothing that was committed.
    Quiet,
    /// After an unclean election, or below what was known to be committed.
    Event,
}

/// Why a replica halted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Halt {
    /// §8.5.1: the master's log parts from ours below what we know to be committed.
    CommittedCutRefused {
        /// Where it parts.
        common: PhysicalOffset,
        /// What we know to be committed.
        confirm: PhysicalOffset,
    },
    /// A member of S ∪ E is behind the master's retention: it must not start anew (§8.5).
    BehindRetention,
    /// The object records another run of this replica, or none: it was started twice, or removed.
    Superseded,
    /// §8.15.
    DiskFailed,
    /// The group has all the replicas that it may have.
    GroupFull,
    /// The master's epoch list cannot be continued here: a broken rule, not a fault.
    Disorder,
    /// The file that the log ends in ends elsewhere than the master's (§8.6): one of them was not made by this group.
    OtherFile {
        /// Where it ends here.
        ours: PhysicalOffset,
        /// Where it ends at the master.
        theirs: PhysicalOffset,
    },
}
