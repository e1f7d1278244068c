//! A master: handshake (§8.4), sending (§8.6), committing (§8.7), growing and shrinking S (§8.8, §8.9), activation and its
//! barrier (§8.11), planned handover (§8.12), fencing (§8.13).

use std::collections::{BTreeMap, BTreeSet};

use rocket_protocol::ids::PhysicalOffset;

use crate::commit::Commit;
use crate::effect::{Effect, Input};
use crate::epochs::{Alignment, EpochStart, Extent, align};
use crate::identity::{Epoch, Member};
use crate::local::{Core, Flush};
use crate::messages::{Ack, Beat, Hello, LINK_VERSION, LinkId, Message, Reason, Refuse, Welcome};
use crate::mutations::Mutant;
use crate::replica::Writes;
use crate::state::{Activation, State};

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

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Transfer {
    /// The common point: what the first acknowledgement must say.
    point: PhysicalOffset,
    /// What was sent, from the first acknowledgement on.
    sent: PhysicalOffset,
    /// How far the caller may go that is about to send.
    asked: Option<PhysicalOffset>,
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

    /// The next write to the object, if one is due and none is open.
    fn pursue(&mut self, core: &mut Core, out: &mut Vec<Effect>) {
        if !core.tracker.is_free() || self.phase == Phase::Fenced {
            return;
        }
        let Some(state) = core.tracker.seen().cloned() else {
            return;
        };
        let new = match self.phase {
            Phase::Opening => self.wants_activation(core, &state),
            Phase::HandingOver => self.wants_handover(core, &state),
            _ => None,
        };
        let new = new
            .or_else(|| self.wants_shrink(core, &state))
            .or_else(|| core.wants_durable())
            .or_else(|| self.wants_policy(core, &state))
            .or_else(|| self.wants_growth(core, &state));
        if let Some(new) = new {
            core.propose(new, out);
        }
    }

    fn wants_activation(&self, core: &mut Core, state: &State) -> Option<State> {
        let flushed = core.flush == Flush::Async || core.log.durable_end >= self.start;
        let activation = Activation {
            epoch: self.epoch,
            start_offset: self.start,
        };
        flushed.then(|| state.opened(core.proposals.fresh(), activation))
    }

    fn wants_handover(&self, core: &mut Core, state: &State) -> Option<State> {
        if self.handover_over {
            return Some(state.handover_asked(core.proposals.fresh(), None));
        }
        let successor = state.member(state.handover?)?;
        let end = core.log.end;
        let ready = self.paused
            && successor != self.member
            && state.in_sync.contains(&successor)
            && self.commit.confirm() == end
            && self.commit.acked_by(successor) == Some(end);
        ready.then(|| state.handed_over(core.proposals.fresh(), successor))
    }

    /// §8.9.
    fn wants_shrink(&mut self, core: &mut Core, state: &State) -> Option<State> {
        if self.phase == Phase::Opening {
            return None;
        }
        let wanted = std::mem::take(&mut self.lagging);
        let member = wanted
            .iter()
            .find(|m| **m != self.member && state.in_sync.contains(m))
            .copied();
        self.lagging = wanted
            .into_iter()
            .filter(|m| Some(*m) != member && state.in_sync.contains(m))
            .collect();
        let member = member?;
        Some(state.shrunk(core.proposals.fresh(), member, core.mutations))
    }

    /// §8.8: a learner with everything committed, and everything below the start of this epoch.
    fn wants_growth(&self, core: &mut Core, state: &State) -> Option<State> {
        if matches!(self.phase, Phase::Opening | Phase::Fenced) {
            return None;
        }
        let start = if core.mutations.has(Mutant::M36) {
            PhysicalOffset(0)
        } else {
            self.start
        };
        let learner = self.commit.links().find_map(|(_, member, acked)| {
            let replica = state.replicas.get(&member.replica_id)?;
            let has_all = acked? >= self.commit.confirm() && acked? >= start;
            // It declares itself durable first, whatever is in force now (§5.1, A3). One of E lacks nothing that was promised.
            let is_trusted = state.eligible.contains(&member) || core.mutations.has(Mutant::M45);
            let keeps = replica.durable
                || state.policy.is_none()
                || is_trusted && !state.promises_flushed();
            let may = state.is_current(member) && !replica.cordoned && !replica.lost && keeps;
            (may && has_all && !state.in_sync.contains(&member)).then_some(member)
        })?;
        Some(state.grown(core.proposals.fresh(), learner, core.mutations))
    }

    /// §8.4.
    fn hello(&mut self, core: &Core, link: LinkId, hello: &Hello, out: &mut Vec<Effect>) {
        let Some(state) = core.tracker.seen() else {
            return;
        };
        let refusal = if hello.version != LINK_VERSION || hello.group_uid != state.group_uid {
            Some(Reason::WrongGroup)
        } else if hello.max_epoch > self.epoch {
            self.heard(hello.max_epoch, out);
            Some(Reason::StaleEpoch)
        } else if matches!(self.phase, Phase::Opening | Phase::Fenced) {
            Some(Reason::NotMaster)
        } else if !state.is_current(hello.member) {
            out.push(Effect::Read);
            Some(Reason::UnknownReplica)
        } else {
            None
        };
        if let Some(reason) = refusal {
            let refuse = Refuse {
                reason,
                max_epoch: core.max_epoch,
            };
            out.push(Effect::Send(link, Message::Refuse(refuse)));
            self.close(link, out);
            return;
        }
        for old in self.commit.link_opened(link, hello.member) {
            self.transfers.remove(&old);
            out.push(Effect::Disconnect(old));
        }
        let theirs = Extent {
            epochs: &hello.epochs,
            log_min: hello.log_min,
            log_end: hello.log_end,
        };
        let point = match align(theirs, core.log.extent()) {
            Alignment::Keep => hello.log_end,
            Alignment::Cut { to } => to,
            Alignment::Restart { at } => at,
        };
        let transfer = Transfer {
            point,
            sent: point,
            asked: None,
        };
        self.transfers.insert(link, transfer);
        let welcome = Welcome {
            member: self.member,
            epoch: self.epoch,
            start: self.start,
            epochs: core.log.epochs.clone(),
            log_min: core.log.min,
            log_end: core.log.end,
            confirm: core.log.confirm,
        };
        out.push(Effect::Send(link, Message::Welcome(welcome)));
    }

    /// §8.6. The first acknowledgement of a link says that the slave's log ends at the common point.
    fn ack(&mut self, core: &mut Core, link: LinkId, ack: Ack, out: &mut Vec<Effect>) {
        let first = self
            .commit
            .links()
            .any(|(id, _, acked)| id == link && acked.is_none());
        let sent = self.transfers.get(&link).map(|t| {
            if first {
                (t.point, t.point)
            } else {
                (t.point, t.sent)
            }
        });
        let believable = sent.is_some_and(|(from, to)| (from..=to).contains(&ack.offset))
            && ack.epoch == self.epoch;
        let believable = believable || core.mutations.has(Mutant::M30);
        if !believable || self.commit.acked(link, ack.offset, core.log.end).is_err() {
            self.close(link, out);
            return;
        }
        self.look(core, out);
    }

    /// §8.6: the caller, who knows where records end, says how far it goes.
    fn sent(&mut self, core: &Core, link: LinkId, to: PhysicalOffset, out: &mut Vec<Effect>) {
        if let Some(transfer) = self.transfers.get_mut(&link)
            && let Some(limit) = transfer.asked.take()
        {
            debug_assert!(
                transfer.sent < to && to <= limit,
                "sent what nobody asked for"
            );
            transfer.sent = to.clamp(transfer.sent, limit);
        }
        self.send(core, out);
    }

    /// §8.6: nothing ahead of what was appended, never across an epoch boundary, bounded by the window.
    fn send(&mut self, core: &Core, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Opening | Phase::Fenced) {
            return;
        }
        // Retention has passed what they need next: at the next handshake they hear so.
        let passed = self.transfers.iter().filter(|(_, t)| t.sent < core.log.min);
        let passed: Vec<LinkId> = passed.map(|(link, _)| *link).collect();
        for link in passed {
            self.close(link, out);
        }
        for (link, _, acked) in self.commit.links() {
            let (Some(acked), Some(transfer)) = (acked, self.transfers.get_mut(&link)) else {
                continue;
            };
            let is_due = transfer.asked.is_none()
                && transfer.sent < core.log.end
                && transfer.sent.since(acked) < core.settings.window_bytes_max;
            let Some((bytes_epoch, epoch_end)) =
                core.log.epochs.at(transfer.sent).filter(|_| is_due)
            else {
                continue;
            };
            let boundary = epoch_end
                .filter(|_| !core.mutations.has(Mutant::M12))
                .unwrap_or(core.log.end);
            let to = core.log.end.min(boundary);
            out.push(Effect::SendData {
                link,
                epoch: self.epoch,
                bytes_epoch,
                from: transfer.sent,
                to,
                confirm: core.log.confirm,
            });
            transfer.asked = Some(to);
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

    fn close(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        self.forget(link);
        out.push(Effect::Disconnect(link));
    }

    fn forget(&mut self, link: LinkId) {
        self.transfers.remove(&link);
        self.commit.link_closed(link);
    }
}
