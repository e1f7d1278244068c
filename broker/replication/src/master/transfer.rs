//! The links of a master's slaves: handshake (§8.4), sending and acknowledgements (§8.6).

use rocket_protocol::ids::PhysicalOffset;

use super::{Master, Phase};
use crate::effect::Effect;
use crate::epochs::{Alignment, Extent, align};
use crate::local::Core;
use crate::messages::{Ack, Hello, LINK_VERSION, LinkId, Message, Reason, Refuse, Welcome};
use crate::mutations::Mutant;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Transfer {
    /// The common point: what the first acknowledgement must say.
    point: PhysicalOffset,
    /// What was sent, from the first acknowledgement on.
    sent: PhysicalOffset,
    /// How far the caller may go that is about to send.
    asked: Option<PhysicalOffset>,
}

impl Master {
    /// §8.4.
    pub(super) fn hello(
        &mut self,
        core: &Core,
        link: LinkId,
        hello: &Hello,
        out: &mut Vec<Effect>,
    ) {
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
    pub(super) fn ack(&mut self, core: &mut Core, link: LinkId, ack: Ack, out: &mut Vec<Effect>) {
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
    pub(super) fn sent(
        &mut self,
        core: &Core,
        link: LinkId,
        to: PhysicalOffset,
        out: &mut Vec<Effect>,
    ) {
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
    pub(super) fn send(&mut self, core: &Core, out: &mut Vec<Effect>) {
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

    pub(super) fn close(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        self.forget(link);
        out.push(Effect::Disconnect(link));
    }

    pub(super) fn forget(&mut self, link: LinkId) {
        self.transfers.remove(&link);
        self.commit.link_closed(link);
    }
}
