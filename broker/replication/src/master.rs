//! A master: handshake (§8.4), sending (§8.6), committing (§8.7), growing and shrinking S (§8.8, §8.9), activation and its
//! barrier (§8.11), planned handover (§8.12), fencing (§8.13).

mod proposals;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};

use rocket_protocol::ids::PhysicalOffset;

use crate::commit::Commit;
use crate::effect::{Effect, Input};
use crate::epochs::EpochStart;
use crate::identity::{Epoch, Member};
use crate::local::{Core, Flush};
use crate::messages::{Beat, LinkId, Message, Reason};
use crate::mutations::Mutant;
use crate::replica::Writes;
use crate::state::{Activation, State};
use transfer::Transfer;

/// How far a mastership has come (§8.11, §8.12).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Its own write in this epoch is not known to be applied; it serves nobody.
    Opening,
    /// Slaves are accepted; the bytes below its start are not all committed under it.
    Barrier,
    /// It takes sends.
    Open,
    /// It takes none and waits to name its successor.
    HandingOver,
    /// It heard of a higher epoch and answers nothing more (§8.13).
    Fenced,
}

/// One mastership.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Master {
    /// Its epoch.
    pub epoch: Epoch,
    /// Where its bytes start.
    pub start: PhysicalOffset,
    /// Who it is.
    pub member: Member,
    phase: Phase,
    commit: Commit,
    transfers: BTreeMap<LinkId, Transfer>,
    /// Members that the timers want out of S, asked once each.
    lagging: BTreeSet<Member>,
    /// The store has no append under way that could still move the end (§8.12).
    paused: bool,
    handover_over: bool,
    /// Who appended below this may have been promised flushed bytes (§5.1).
    pub(crate) loosened: Option<PhysicalOffset>,
}

impl Master {
    /// §8.11, steps 1 and 2: the epoch and its entry are durable before anything is done in it.
    pub(crate) fn begin(
        core: &mut Core,
        state: &State,
        me: Member,
        out: &mut Vec<Effect>,
    ) -> Option<Self> {
        let start = core.log.end;
        let entry = EpochStart {
            epoch: state.epoch,
            start,
        };
        if core.mutations.has(Mutant::M2) && core.log.epochs.last_epoch() == state.epoch {
            // The broken rule: the epoch goes on where the log ends now.
        } else {
            core.log.epochs.push(entry).ok()?;
        }
        out.push(Effect::SaveEpochs(core.log.epochs.clone()));
        if core.flush == Flush::Sync && core.log.durable_end < start {
            out.push(Effect::Flush);
        }
        let commit = Commit::new(me, core.log.confirm).with_mutations(core.mutations);
        let (transfers, lagging) = (BTreeMap::new(), BTreeSet::new());
        let phase = if core.mutations.has(Mutant::M33) {
            Phase::Barrier
        } else {
            Phase::Opening
        };
        Some(Self {
            epoch: state.epoch,
            start,
            member: me,
            phase,
            commit,
            transfers,
            lagging,
            paused: false,
            handover_over: false,
            loosened: None,
        })
    }

    /// The links of its slaves.
    pub(crate) fn links(&self) -> impl Iterator<Item = LinkId> {
        self.transfers.keys().copied()
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What it waits for and has.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::HandingOver)
    }

    pub(crate) fn writes(&self) -> Writes {
        match self.phase {
            Phase::Open if self.commit.is_enough() => Writes::Open,
            Phase::Open => Writes::TooFewInSync,
            Phase::Opening | Phase::Barrier | Phase::HandingOver => Writes::Busy,
            Phase::Fenced => Writes::NotMaster,
        }
    }

    pub(crate) fn take(&mut self, core: &mut Core, input: &Input, out: &mut Vec<Effect>) {
        match *input {
            Input::Disconnected(link) => self.forget(link),
            Input::Sent(link, to) => self.sent(core, link, to, out),
            Input::Lagging(member) => {
                self.lagging.insert(member);
                self.look(core, out);
            }
            Input::Beat { stamp_ms } => {
                let beat = Beat {
                    epoch: self.epoch,
                    offset: core.log.confirm,
                    stamp_ms,
                };
                out.extend(
                    self.links()
                        .map(|link| Effect::Send(link, Message::Beat(beat))),
                );
                self.loosen(core, out);
            }
            Input::Paused => {
                self.paused = self.phase == Phase::HandingOver;
                self.look(core, out);
            }
            Input::HandoverWaited => {
                self.handover_over = self.phase == Phase::HandingOver;
                self.look(core, out);
            }
            Input::Connected(link) => out.push(Effect::Disconnect(link)),
            _ => {}
        }
    }

    pub(crate) fn received(
        &mut self,
        core: &mut Core,
        link: LinkId,
        message: Message,
        out: &mut Vec<Effect>,
    ) {
        match message {
            Message::Hello(hello) => self.hello(core, link, &hello, out),
            Message::Ack(ack) => self.ack(core, link, ack, out),
            Message::Refuse(refuse) => {
                self.heard(refuse.max_epoch, out);
                let member = self.commit.links().find(|(id, ..)| *id == link);
                self.close(link, out);
                if let Some((_, member, _)) = member
                    && refuse.reason == Reason::Stopping
                {
                    self.lagging.insert(member);
                    self.look(core, out);
                }
            }
            Message::Beat(_) => {}
            _ => self.close(link, out),
        }
    }

    /// Everything that may follow from what changed: what is committed, what the object shall say, what to send.
    pub(crate) fn look(&mut self, core: &mut Core, out: &mut Vec<Effect>) {
        if core.tracker.seen().is_none_or(|s| s.epoch != self.epoch) {
            return;
        }
        self.bind(core);
        self.tighten(core);
        self.opened(core);
        self.advance(core, out);
        self.handover(core, out);
        self.pursue(core, out);
        // A write that was just sent binds already.
        self.bind(core);
        self.send(core, out);
    }

    fn bind(&mut self, core: &Core) {
        self.commit.set_possible(core.tracker.possible());
        self.commit
            .set_counts_flushed(core.tracker.counts_flushed());
    }

    /// §8.11.3: a write of our own in this epoch is known to be applied.
    fn opened(&mut self, core: &Core) {
        let mine = Activation {
            epoch: self.epoch,
            start_offset: self.start,
        };
        let applied = core
            .tracker
            .seen()
            .is_some_and(|s| s.activated == Some(mine) && s.master == Some(self.member));
        if self.phase == Phase::Opening && applied {
            self.phase = Phase::Barrier;
        }
    }

    /// §8.7, and the barrier of §8.11.5.
    fn advance(&mut self, core: &mut Core, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Opening | Phase::Fenced) {
            return;
        }
        if let Some(confirm) = self.commit.advance(core.counts_from(self.start)) {
            core.confirm(confirm, out);
        }
        let committed = self.commit.confirm() >= self.start || core.mutations.has(Mutant::M19);
        if self.phase == Phase::Barrier && committed {
            self.phase = Phase::Open;
            out.push(Effect::OpenWrites(self.epoch));
        }
    }

    /// §8.12: stops taking sends when a handover is asked for, and takes them again when it is off.
    fn handover(&mut self, core: &Core, out: &mut Vec<Effect>) {
        let Some(state) = core.tracker.seen() else {
            return;
        };
        let asked = state.handover.is_some();
        // Once sent, the write that names the successor must be known dead before sends are taken again.
        let sent = core.tracker.open().is_some_and(|s| s.epoch > self.epoch);
        match self.phase {
            Phase::Open if asked => {
                self.phase = Phase::HandingOver;
                (self.paused, self.handover_over) = (false, false);
                out.push(Effect::PauseWrites);
            }
            Phase::HandingOver if !asked && !sent => {
                self.phase = Phase::Open;
                out.push(Effect::ResumeWrites);
            }
            _ => {}
        }
    }

    /// §8.13: on any sight of a higher epoch, nothing more is answered; the read that follows shows whom to obey.
    fn heard(&mut self, epoch: Epoch, out: &mut Vec<Effect>) {
        if epoch > self.epoch {
            if self.phase != Phase::Fenced {
                out.push(Effect::PauseWrites);
            }
            self.phase = Phase::Fenced;
            out.push(Effect::Read);
        }
    }
}
