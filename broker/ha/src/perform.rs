//! Performing effects, one after the other (see `rocket_replication::effect`). What saves or cuts has reached the disk before
//! the next one begins; when it fails, the rest is dropped and the failure is taken in instead.

use std::io;

use bytes::Bytes;
use rocket_replication::effect::{Effect, Halt, Input, Report};
use rocket_replication::epochs::Epochs;
use rocket_replication::frame::DataHead;
use rocket_replication::master::Phase;
use rocket_replication::messages::{LinkId, Message};
use rocket_replication::{Epoch, PhysicalOffset, Replication};
use rocket_store::Opening;

use crate::actor::Actor;
use crate::board::Answers;
use crate::disk::{ItemError, Meta};
use crate::intent::{Intent, Then};
use crate::surroundings::{AppendError, Coordinator, CutError, Log, Net, News, Observer, Pending};

/// Why the effects after this one are dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Item(#[from] ItemError),
    #[error("the log: {0}")]
    Log(#[from] io::Error),
    #[error("what a master sent: {0}")]
    Refused(String),
    #[error(
        "the file of the log that the master goes on with ends at {theirs}, and here at {ours}"
    )]
    OtherFile {
        ours: PhysicalOffset,
        theirs: PhysicalOffset,
    },
    #[error("a cut is finished by the next start")]
    NeedsRestart,
    #[error("{0}")]
    NoRoom(String),
}

impl From<CutError> for Failure {
    fn from(error: CutError) -> Self {
        match error {
            CutError::NeedsRestart => Self::NeedsRestart,
            CutError::NoRoom(why) => Self::NoRoom(why),
            CutError::Io(error) => Self::Log(error),
        }
    }
}

impl<L: Log, N: Net, C: Coordinator, O: Observer> Actor<L, N, C, O> {
    /// Performs `effects` in their order. Returns what is to be taken in before anything else.
    pub(crate) fn perform_all(&mut self, effects: Vec<Effect>) -> Vec<Input> {
        let mut answers = Vec::new();
        let mut effects = effects.into_iter();
        while let Some(effect) = effects.next() {
            let Err(failure) = self.perform(effect, &mut answers) else {
                continue;
            };
            self.failed(failure, &mut answers);
            // The rest is dropped. A write of the object that was to be sent then certainly was not.
            answers.extend(effects.filter_map(|effect| match effect {
                Effect::Cas(cas) => Some(Input::CasDropped(cas.new.proposal)),
                _ => None,
            }));
            break;
        }
        answers
    }

    pub(crate) fn failed(&mut self, failure: Failure, answers: &mut Vec<Input>) {
        match failure {
            Failure::Refused(reason) => {
                tracing::error!(reason, "bytes of a master were refused");
                answers.push(Input::NotAppended(self.log.ends().appended));
            }
            Failure::OtherFile { ours, theirs } => {
                tracing::error!(%ours, %theirs, "the file of this log ends elsewhere than the master's");
                let end = self.log.ends().appended;
                answers.push(Input::OtherFile { end, ours, theirs });
            }
            Failure::NeedsRestart => self.leave(),
            Failure::NoRoom(why) => {
                // What this cut would come to is assumed by now; a start begins with the log as it is.
                tracing::error!(why, "the end of the log is not cut off");
                self.leave();
            }
            error @ (Failure::Item(_) | Failure::Log(_)) => {
                tracing::error!(%error, "the disk of this replica failed; it acknowledges nothing any more");
                self.log.condemn(&error.to_string());
                answers.push(Input::DiskFailed);
            }
        }
    }

    /// Only the next start can go on.
    fn leave(&mut self) {
        self.needs_restart = true;
        self.is_open = false;
        self.opens_later = None;
        self.observer.tell(News::NeedsRestart);
    }

    fn perform(&mut self, effect: Effect, answers: &mut Vec<Input>) -> Result<(), Failure> {
        match effect {
            Effect::Read => self.desk.read(),
            Effect::Cas(cas) => self.desk.cas(cas),
            Effect::SaveMeta {
                group_uid,
                replica_id,
                former,
            } => self.items.save_meta(&Meta {
                disk_id: self.recovered.0,
                replica: Some((group_uid, replica_id)),
                former,
            })?,
            Effect::SaveRuns(runs) => self.items.save_runs(&runs)?,
            Effect::SaveSeen { epoch, version } => self.items.save_seen(epoch, version)?,
            Effect::SaveEpochs(epochs) => self.items.save_epochs(&epochs)?,
            Effect::Append {
                offset,
                file_end,
                bytes,
            } => self.append(offset, file_end, &bytes)?,
            Effect::Flush => self.log.flush_soon(),
            Effect::Cut {
                to,
                epoch,
                epochs,
                report,
            } => {
                let intent = Intent {
                    then: Then::Cut,
                    to,
                    epoch,
                    from: to,
                    end: self.log.ends().appended,
                    report: self.reported(report),
                    epochs,
                };
                self.cut(&intent)?;
            }
            Effect::StartAnew { at, epochs } => {
                let intent = self.starting_anew(at, epochs);
                self.cut(&intent)?;
            }
            Effect::Connect { .. } if self.handover.has_left => answers.push(Input::ConnectFailed),
            Effect::Connect { address, .. } => {
                if let Some(unwanted) = self.dialing.take() {
                    self.net.close(unwanted);
                }
                self.dialing = Some(self.net.connect(&address));
            }
            Effect::Repair(step) => answers.extend(self.mend(step)?),
            Effect::Disconnect(link) => self.hang_up(link),
            Effect::Send(link, message) => {
                let message = self.as_heard(message);
                self.net.send(link, message);
            }
            Effect::SendData {
                link,
                epoch,
                bytes_epoch,
                from,
                to,
                confirm,
            } => {
                let head = DataHead {
                    epoch,
                    bytes_epoch,
                    offset: from,
                    file_end: to,
                    confirm,
                };
                answers.push(self.send_data(link, head, to));
            }
            Effect::Confirmed(offset) => {
                self.board.set_committed(offset);
                let durable = self.replica.held().committed_durable;
                self.board.set_committed_durable(durable);
                self.log.re_evaluate();
            }
            Effect::OpenWrites(epoch) => {
                self.pass_over_by_role();
                self.open(epoch)?;
            }
            Effect::PauseWrites => {
                self.stop_writes(Pending::GoOn, answers);
                answers.push(Input::Paused);
            }
            // What was stopped was the commit policy.
            Effect::ResumeWrites => self.is_open = self.opens_later.is_none(),
            Effect::StepDown => {
                self.opens_later = None;
                self.stop_writes(Pending::Unknown, answers);
                self.pass_over_by_role();
            }
            Effect::Halt(why) => self.halt(why),
            Effect::Forgot => self.forgot(),
        }
        Ok(())
    }

    fn forgot(&mut self) {
        tracing::error!(
            "the state of this group is gone, another one's, or older than what this replica saw: it changes nothing there, and waits for one that goes on where the former ended"
        );
        self.observer.tell(News::Forgot);
    }

    fn halt(&mut self, why: Halt) {
        tracing::error!(?why, "this replica is halted");
        self.halted = Some(why);
        self.is_open = false;
        self.opens_later = None;
        if why == Halt::DiskFailed {
            self.items.residence().lost();
        }
        self.observer.tell(News::Halted(why));
    }

    /// Has the log take sends, now or later.
    fn open(&mut self, epoch: Epoch) -> Result<(), Failure> {
        match self.log.become_writer(epoch)? {
            Opening::Open => {
                self.opens_later = None;
                self.is_open = true;
            }
            Opening::Later(reason) => {
                if self.opens_later.replace(epoch) != Some(epoch) {
                    tracing::warn!(%epoch, reason, "this master takes no sends yet");
                }
            }
        }
        Ok(())
    }

    /// The same for a log that was not ready, as long as its mastership lasts.
    pub(crate) fn open_if_due(&mut self) -> Result<(), Failure> {
        let Some(epoch) = self.opens_later else {
            return Ok(());
        };
        match self.replica.leading() {
            Some(master) if master.epoch == epoch && master.phase() == Phase::Open => {
                self.open(epoch)
            }
            // It may resume.
            Some(master) if master.epoch == epoch => Ok(()),
            _ => {
                self.opens_later = None;
                Ok(())
            }
        }
    }

    /// Nobody is told of a link to a master that has fallen silent: another one could be elected by now.
    fn as_heard(&self, message: Message) -> Message {
        match message {
            Message::Report(mut report) => {
                report.master_linked &= self.behind.hears_master(self.now_ms);
                Message::Report(report)
            }
            other => other,
        }
    }

    fn append(
        &mut self,
        at: PhysicalOffset,
        file_end: PhysicalOffset,
        bytes: &Bytes,
    ) -> Result<(), Failure> {
        match self.log.append_copied(at, file_end, bytes) {
            Ok(()) => Ok(()),
            Err(AppendError::Refused(reason)) => Err(Failure::Refused(reason)),
            Err(AppendError::OtherFile { ours }) => Err(Failure::OtherFile {
                ours,
                theirs: file_end,
            }),
            Err(AppendError::Io(error)) => Err(Failure::Log(error)),
        }
    }

    /// Every append that had begun is taken in before anything else; none begins after it. When the log fails at that, what
    /// else there is to do is done all the same: nothing of it acknowledges anything, and the failure is taken in next.
    fn stop_writes(&mut self, pending: Pending, answers: &mut Vec<Input>) {
        self.is_open = false;
        let stopped = self.log.stop_appends(pending);
        answers.push(Input::Appended(self.log.ends().appended));
        if let Err(error) = stopped {
            tracing::error!(%error, "the log failed while appends were stopped");
            answers.push(Input::DiskFailed);
        }
    }

    /// Where answers do not wait for the commit, any byte beyond it may have been acknowledged. Once a master has said what is in
    /// force the report says so already.
    fn reported(&self, report: Report) -> Report {
        let state = self.replica.tracker().seen();
        let is_said = state.is_some_and(|state| state.in_force.is_some());
        match self.options.answers {
            Answers::Counted if !is_said => Report::Event,
            Answers::Counted | Answers::Committed => report,
        }
    }

    /// What is given up where the log is emptied. Bytes that are known to be committed are everywhere, unless an unclean election
    /// gave them up.
    fn starting_anew(&self, at: PhysicalOffset, epochs: Epochs) -> Intent {
        let (ends, committed) = (self.log.ends(), self.board.committed());
        let said = self.replica.tracker().seen().and_then(|s| s.in_force);
        let was_async = said
            .is_some_and(|said| said.replication == Replication::Async || said.since > Epoch(0));
        let report = if at < committed || was_async {
            Report::Event
        } else {
            Report::Quiet
        };
        Intent {
            then: Then::StartAnew,
            to: at,
            epoch: self.replica.seen().0,
            from: committed.max(ends.min).min(ends.appended),
            end: ends.appended,
            report: self.reported(report),
            epochs,
        }
    }

    /// §8.5, steps 2 to 5. Whatever ends the process in between, the next start finds the intent and does it again.
    fn cut(&mut self, intent: &Intent) -> Result<(), Failure> {
        self.ranges.cut();
        self.items.save_cut(intent)?;
        match intent.then {
            Then::Cut => {
                self.log.cut(intent.to, intent.epoch)?;
                let committed = self.board.committed().min(intent.to);
                self.board.set_committed(committed);
            }
            Then::StartAnew => {
                self.log.start_anew(intent.to, intent.epoch)?;
                self.board.set_committed(intent.to);
            }
        }
        self.items.save_epochs(&intent.epochs)?;
        self.log.re_evaluate();
        self.observer.tell(intent.told(intent.end));
        Ok(self.items.remove_cut()?)
    }

    /// Sends what there is from `head.offset` on, and says how far that goes.
    fn send_data(&mut self, link: LinkId, mut head: DataHead, to: PhysicalOffset) -> Input {
        let target = self.options.data_bytes_target;
        let error = match self.log.read_records(head.offset, to, target) {
            Ok(chunk) if head.offset < chunk.to && chunk.to <= to => {
                head.file_end = chunk.file_end;
                self.net.send_data(link, head, chunk.pieces);
                return Input::Sent(link, chunk.to);
            }
            Ok(chunk) => format!("no whole record before {to}, but up to {}", chunk.to),
            Err(error) => error.to_string(),
        };
        // The slave tries again, and leaves S if this goes on. What is damaged here is never sent (I18).
        tracing::error!(from = %head.offset, error, "the log cannot be sent to a slave");
        self.hang_up(link);
        Input::Disconnected(link)
    }

    /// Closes a link; nothing is read for it any more.
    pub(crate) fn hang_up(&mut self, link: LinkId) {
        self.ranges.left(link);
        self.net.close(link);
    }
}
