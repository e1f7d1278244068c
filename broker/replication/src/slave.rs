//! A slave: handshake (§8.4), finding the common point and cutting (§8.5), copying and acknowledging (§8.6).

use crate::effect::{Effect, Halt, Input, Report};
use crate::epochs::{Alignment, Extent, align};
use crate::identity::{Epoch, Member};
use crate::local::{Core, Flush};
use crate::messages::{
    Ack, Beat, Data, Hello, LINK_VERSION, LinkId, Message, Reason, Refuse, Welcome,
};
use crate::mutations::Mutant;
use crate::repair::Damage;
use rocket_protocol::ids::PhysicalOffset;

/// Where the link to the master stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// None; one is opened at the next try.
    Apart,
    /// Asked for.
    Connecting,
    /// `Hello` is sent.
    Greeting(LinkId),
    /// The logs agree up to here and bytes flow; `acked` is what was acknowledged on this link.
    Streaming {
        link: LinkId,
        acked: Option<PhysicalOffset>,
    },
}

/// A following of one master in one epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Slave {
    /// Whom it follows.
    pub master: Member,
    /// In which epoch.
    pub epoch: Epoch,
    stage: Stage,
    /// Current reads to be answered before it believes that it is a member of S ∪ E and behind the master's retention: the
    /// first answer may be to a question from before.
    reads_left: Option<u8>,
    pub(crate) halted: Option<Halt>,
}

impl Slave {
    pub(crate) fn new(master: Member, epoch: Epoch) -> Self {
        Self {
            master,
            epoch,
            stage: Stage::Apart,
            reads_left: None,
            halted: None,
        }
    }

    /// Its link to the master, open or not yet welcome.
    pub fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Greeting(link) | Stage::Streaming { link, .. } => Some(link),
            Stage::Apart | Stage::Connecting => None,
        }
    }

    /// Whether bytes flow from the master.
    pub fn is_streaming(&self) -> bool {
        matches!(self.stage, Stage::Streaming { .. })
    }

    /// Asks for a link, once the object says that the master opened.
    pub(crate) fn connect(&mut self, core: &Core, out: &mut Vec<Effect>) {
        let Some(state) = core.tracker.seen() else {
            return;
        };
        let open = state.master == Some(self.master)
            && state.activated.is_some_and(|a| a.epoch == self.epoch);
        if self.stage != Stage::Apart || !open {
            return;
        }
        if let Some(replica) = state.replicas.get(&self.master.replica_id) {
            self.stage = Stage::Connecting;
            out.push(Effect::Connect {
                master: self.master,
                address: replica.address.clone(),
            });
        }
    }

    pub(crate) fn take(&mut self, core: &mut Core, input: &Input, out: &mut Vec<Effect>) {
        match *input {
            Input::Connected(link) if self.stage == Stage::Connecting => {
                self.greet(core, link, out);
            }
            Input::Connected(link) => out.push(Effect::Disconnect(link)),
            Input::ConnectFailed if self.stage == Stage::Connecting => self.stage = Stage::Apart,
            Input::Disconnected(link) if self.link() == Some(link) => self.stage = Stage::Apart,
            Input::Beat { stamp_ms } => {
                if let Stage::Streaming {
                    link,
                    acked: Some(offset),
                } = self.stage
                {
                    let beat = Beat {
                        epoch: self.epoch,
                        offset,
                        stamp_ms,
                    };
                    out.push(Effect::Send(link, Message::Beat(beat)));
                }
            }
            _ => {}
        }
    }

    fn greet(&mut self, core: &Core, link: LinkId, out: &mut Vec<Effect>) {
        let (Some((group_uid, _)), Some(member)) = (core.meta, core.me()) else {
            return;
        };
        self.stage = Stage::Greeting(link);
        let hello = Hello {
            version: LINK_VERSION,
            group_uid,
            member,
            disk_id: core.disk_id,
            max_epoch: core.max_epoch,
            log_min: core.log.min,
            log_end: core.log.end,
            epochs: core.log.epochs.clone(),
            confirm: core.log.confirm,
            durable: core.flush == Flush::Sync,
        };
        out.push(Effect::Send(link, Message::Hello(hello)));
    }

    pub(crate) fn received(
        &mut self,
        core: &mut Core,
        link: LinkId,
        message: Message,
        out: &mut Vec<Effect>,
    ) {
        match (message, self.stage) {
            (Message::Welcome(welcome), Stage::Greeting(_)) => {
                self.welcome(core, link, &welcome, out);
            }
            (Message::Data(data), Stage::Streaming { .. }) => self.data(core, link, &data, out),
            (Message::Beat(beat), Stage::Streaming { .. }) if beat.epoch == self.epoch => {
                core.confirm(beat.offset, out);
            }
            (Message::Refuse(refuse), _) => {
                self.close(link, out);
                if refuse.max_epoch > self.epoch || refuse.reason != Reason::NotMaster {
                    out.push(Effect::Read);
                }
            }
            _ => self.close(link, out),
        }
    }

    /// §8.4 and §8.5.
    fn welcome(&mut self, core: &mut Core, link: LinkId, welcome: &Welcome, out: &mut Vec<Effect>) {
        if welcome.epoch < core.max_epoch || welcome.member != self.master {
            let refuse = Refuse {
                reason: Reason::StaleEpoch,
                max_epoch: core.max_epoch,
            };
            out.push(Effect::Send(link, Message::Refuse(refuse)));
            self.close(link, out);
            return;
        }
        core.saw(welcome.epoch, core.max_version, out);
        self.epoch = welcome.epoch;
        let theirs = Extent {
            epochs: &welcome.epochs,
            log_min: welcome.log_min,
            log_end: welcome.log_end,
        };
        match align(core.log.extent(), theirs) {
            Alignment::Keep => {
                // Epochs that began at our end and left no byte here: what the master sends next may be of an older one.
                let before = core.log.epochs.clone();
                core.log.epochs.cut(core.log.end, &welcome.epochs);
                if core.log.epochs != before {
                    out.push(Effect::SaveEpochs(core.log.epochs.clone()));
                }
            }
            Alignment::Cut { to } => {
                let Some(report) = self.may_cut(core, to, out) else {
                    return;
                };
                core.log.epochs.cut(to, &welcome.epochs);
                cut_to(core, to);
                let epochs = core.log.epochs.clone();
                out.push(Effect::Cut {
                    to,
                    epoch: self.epoch,
                    epochs,
                    report,
                });
            }
            Alignment::Restart { at } => {
                let complete = core
                    .me()
                    .zip(core.tracker.seen())
                    .is_some_and(|(me, s)| s.is_complete(me));
                if complete && self.reads_left != Some(0) {
                    // The master may have taken it out of S ∪ E since the state that we know: look before the next try.
                    self.reads_left.get_or_insert(2);
                    out.push(Effect::Read);
                    self.close(link, out);
                    return;
                }
                if complete {
                    self.halted = Some(Halt::BehindRetention);
                    return;
                }
                if self.may_cut(core, at, out).is_none() {
                    return;
                }
                core.log.epochs = welcome.epochs.up_to(at);
                core.log.min = at;
                core.log.end = at;
                core.log.durable_end = at;
                core.log.confirm = at;
                core.evidence.damaged = false;
                core.damaged = false;
                core.damage = Damage::default();
                out.push(Effect::StartAnew {
                    at,
                    epochs: core.log.epochs.clone(),
                });
            }
        }
        self.stage = Stage::Streaming { link, acked: None };
        self.acknowledge(core, out);
    }

    /// §8.5.1: never below what is known to be committed, unless an unclean election gave it up.
    fn may_cut(
        &mut self,
        core: &Core,
        to: PhysicalOffset,
        out: &mut Vec<Effect>,
    ) -> Option<Report> {
        if to >= core.log.confirm {
            return Some(if core.may_have_promised(to) {
                Report::Event
            } else {
                Report::Quiet
            });
        }
        let Some(state) = core.tracker.seen().filter(|s| s.epoch >= self.epoch) else {
            // The list of unclean elections that we know may be too old for this master: look again first.
            out.push(Effect::Read);
            out.extend(self.link().map(Effect::Disconnect));
            self.stage = Stage::Apart;
            return None;
        };
        let mine = core.log.epochs.last_epoch();
        let given_up = state
            .unclean
            .iter()
            // Every mastership from that election on descends from it, also when its own master never opened.
            .any(|u| mine < u.epoch && u.epoch <= self.epoch);
        if given_up || core.mutations.has(Mutant::M15) {
            return Some(Report::Event);
        }
        self.halted = Some(Halt::CommittedCutRefused {
            common: to,
            confirm: core.log.confirm,
        });
        None
    }

    /// §8.6.
    fn data(&mut self, core: &mut Core, link: LinkId, data: &Data, out: &mut Vec<Effect>) {
        let stale = data.epoch != self.epoch || data.epoch < core.max_epoch;
        let end = data.offset.plus(data.bytes.len() as u64);
        if stale || data.offset != core.log.end || data.bytes.is_empty() || data.file_end < end {
            self.close(link, out);
            return;
        }
        let last = core.log.epochs.last();
        let append = Effect::Append {
            offset: data.offset,
            file_end: data.file_end,
            bytes: data.bytes.clone(),
        };
        if last == Some(data.bytes_epoch) {
            out.push(append);
        } else {
            // The entry is durable before the first byte of its epoch can be acknowledged.
            let begins =
                data.bytes_epoch.start == data.offset && data.bytes_epoch.epoch <= self.epoch;
            if !begins || core.log.epochs.push(data.bytes_epoch).is_err() {
                self.close(link, out);
                return;
            }
            let save = Effect::SaveEpochs(core.log.epochs.clone());
            out.extend(if core.mutations.has(Mutant::M11) {
                [append, save]
            } else {
                [save, append]
            });
        }
        core.log.end = end;
        core.confirm(data.confirm, out);
        self.acknowledge(core, out);
    }

    /// Acknowledges what counts here and was not acknowledged on this link (I12).
    pub(crate) fn acknowledge(&mut self, core: &mut Core, out: &mut Vec<Effect>) {
        let Stage::Streaming { link, acked } = &mut self.stage else {
            return;
        };
        // §8.15: what is damaged is not here, and a master would take it for copied.
        if core.damaged && !core.mutations.has(Mutant::M43) {
            return;
        }
        let broken = core.mutations.has(Mutant::M10);
        let counts = if broken { core.log.end } else { core.counts() };
        if counts < core.log.end {
            out.push(Effect::Flush);
        }
        // The first one says that the log ends at the common point, so it waits for a flush of all of it.
        let due = match *acked {
            None => counts == core.log.end,
            Some(before) => counts > before,
        };
        if due {
            *acked = Some(counts);
            out.push(Effect::Send(
                *link,
                Message::Ack(Ack {
                    epoch: self.epoch,
                    offset: counts,
                }),
            ));
        }
    }

    fn close(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        out.push(Effect::Disconnect(link));
        self.stage = Stage::Apart;
    }

    /// §8.15: what was acknowledged on this link is not all here any more. The master need not find out by itself; on another
    /// link nothing is acknowledged until it is.
    pub(crate) fn withdraw(&mut self, core: &Core, out: &mut Vec<Effect>) {
        if let Stage::Streaming { link, .. } = self.stage {
            let refuse = Refuse {
                reason: Reason::Stopping,
                max_epoch: core.max_epoch,
            };
            out.push(Effect::Send(link, Message::Refuse(refuse)));
        }
        self.leave_link(out);
    }

    /// A current read was answered.
    pub(crate) fn looked(&mut self) {
        self.reads_left = self.reads_left.map(|left| left.saturating_sub(1));
    }

    /// Gives the link up, if there is one; the next try opens another.
    pub(crate) fn leave_link(&mut self, out: &mut Vec<Effect>) {
        if let Some(link) = self.link() {
            self.close(link, out);
        }
    }
}

fn cut_to(core: &mut Core, to: PhysicalOffset) {
    core.log.end = to;
    core.log.durable_end = core.log.durable_end.min(to);
    core.log.confirm = core.log.confirm.min(to);
}
