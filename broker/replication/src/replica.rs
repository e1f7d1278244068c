//! One replica (§6): registers, obeys the newest state that it knows, and is slave or master accordingly.
//!
//! ```text
//!            format            register ok            master named, epoch >= mine
//!  Empty ─────────────▶ Booting ──────────▶ Idle ───────────────────────────────▶ Following
//!                         ▲  ▲               │  named master with my incarnation      │  ▲
//!                         │  │               ▼                                         │  │ link lost
//!                    restart │           Activating ──── barrier committed ──▶ Master  │  │
//!                         │  └──────────────┴───── higher epoch / step down ─────┴─────┘
//!                       Halted
//! ```
//!
//! Who finds that the coordinator forgot (§8.16) is `Booting` again, unless it leads or copies from who leads.
//!
//! There is no time in here: suspicion and pauses are inputs ([`crate::timers`] makes them), and every rule would hold if
//! they came at any moment.

mod obey;

use rocket_protocol::ids::PhysicalOffset;

use crate::coordinator::{Conclusion, ReadAnswer, Tracker};
use crate::effect::{Effect, Halt, Input};
use crate::identity::Proposals;
use crate::local::Core;
pub use crate::local::{Flush, Log, Recovered, Settings};
use crate::master::Master;
use crate::messages::{LinkId, Message};
use crate::mutations::Mutations;
use crate::repair::{Damage, Repair, fetched};
use crate::slave::Slave;
use crate::state::State;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Role {
    Booting,
    Idle,
    Following(Slave),
    Leading(Box<Master>),
    Halted(Halt),
}

/// The state machine of one replica.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica {
    pub(crate) core: Core,
    pub(crate) role: Role,
    pub(crate) repair: Repair,
    /// [`Effect::Forgot`] was given out and no usable object was seen since.
    is_forgetting_told: bool,
}

/// Whether a send may be appended now (§9).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Writes {
    /// Yes.
    Open,
    /// No: another replica is master, or none.
    NotMaster,
    /// No: the master is opening or handing over; try again.
    Busy,
    /// No: |S| < m.
    TooFewInSync,
}

impl Replica {
    /// A process that has recovered its log and knows nothing of the group yet.
    pub fn new(settings: Settings, recovered: Recovered, mutations: Mutations) -> Self {
        let log = Log {
            min: recovered.log_min,
            end: recovered.log_end,
            durable_end: recovered.durable_end,
            confirm: recovered.confirm.min(recovered.log_end),
            epochs: recovered.epochs,
        };
        let core = Core {
            flush: settings.flush,
            unflushed_to: PhysicalOffset(0),
            settings,
            disk_id: recovered.disk_id,
            incarnation: recovered.incarnation,
            meta: recovered.meta,
            former: recovered.former,
            damaged: recovered.evidence.damaged,
            damage: Damage::default(),
            evidence: recovered.evidence,
            log,
            max_epoch: recovered.max_epoch,
            max_version: recovered.max_version,
            tracker: Tracker::new(mutations),
            proposals: Proposals::new(recovered.incarnation.0),
            mutations,
        };
        Self {
            core,
            role: Role::Booting,
            repair: Repair::default(),
            is_forgetting_told: false,
        }
    }

    /// One step: what happened goes in, what to do comes out.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.take(input, &mut out);
        debug_assert!(
            self.core.log.confirm <= self.core.log.end,
            "confirm beyond the log's end"
        );
        out
    }

    fn take(&mut self, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Start => out.push(Effect::Read),
            Input::Read(answer) => self.read(answer, out),
            Input::Cas { proposal, answer } => {
                let conclusion = self.core.tracker.answered(proposal, answer);
                self.conclude(conclusion, out);
            }
            Input::CasDropped(proposal) => {
                let conclusion = self.core.tracker.dropped(proposal);
                self.conclude(conclusion, out);
            }
            Input::Watched(state) => {
                let conclusion = self.core.tracker.watched(&state);
                self.conclude(conclusion, out);
            }
            Input::Retry => self.retry(out),
            Input::DiskFailed => self.disk_failed(out),
            Input::Appended(end) => {
                self.core.log.end = end.max(self.core.log.end);
                self.work(out);
            }
            Input::NotAppended(end) => self.not_appended(end, out),
            Input::OtherFile { end, ours, theirs } => {
                self.not_appended(end, out);
                self.halt(Halt::OtherFile { ours, theirs }, out);
            }
            Input::Flushed(end) => {
                self.core.log.durable_end =
                    end.min(self.core.log.end).max(self.core.log.durable_end);
                if matches!(self.role, Role::Booting) && self.core.tracker.is_free() {
                    self.settle(out);
                }
                self.work(out);
                self.declare(out);
            }
            Input::Retained(min) => {
                self.core.log.min = min.max(self.core.log.min).min(self.core.log.end);
                let entries = self.core.log.epochs.entries().len();
                self.core.log.epochs.forget_before(self.core.log.min);
                if self.core.log.epochs.entries().len() < entries {
                    out.push(Effect::SaveEpochs(self.core.log.epochs.clone()));
                }
            }
            Input::Received(link, message) => self.received(link, message, out),
            Input::Damaged(damage) => self.damaged(damage, out),
            Input::RepairDue => self.repair.tick(&self.core, out),
            Input::Dialed(link) => self.repair.dialed(link, out),
            Input::DialFailed => self.repair.dial_failed(),
            Input::Repaired(outcome) => self.repair.repaired(outcome),
            Input::Disconnected(link) if self.repair.link() == Some(link) => {
                self.repair.disconnected();
            }
            other => match &mut self.role {
                Role::Following(slave) => slave.take(&mut self.core, &other, out),
                Role::Leading(master) => master.take(&mut self.core, &other, out),
                Role::Booting | Role::Idle | Role::Halted(_) => {
                    if let Input::Connected(link) = other {
                        out.push(Effect::Disconnect(link));
                    }
                }
            },
        }
        if let Role::Following(Slave {
            halted: Some(why), ..
        }) = &self.role
        {
            self.halt(*why, out);
        }
    }

    /// What was taken for appended is not there: nothing of it may be acknowledged, and the next link begins at the true end.
    fn not_appended(&mut self, end: PhysicalOffset, out: &mut Vec<Effect>) {
        let log = &mut self.core.log;
        log.end = log.end.min(end);
        log.durable_end = log.durable_end.min(end);
        log.confirm = log.confirm.min(end);
        // What was dropped may have said so.
        out.push(Effect::Confirmed(log.confirm));
        if let Role::Following(slave) = &mut self.role {
            slave.leave_link(out);
        }
    }

    fn read(&mut self, answer: ReadAnswer, out: &mut Vec<Effect>) {
        match answer {
            ReadAnswer::Unreachable => {}
            ReadAnswer::Gone => {
                let conclusion = self.core.tracker.gone();
                self.conclude(conclusion, out);
            }
            ReadAnswer::State(state) => {
                if self.is_successor(&state) {
                    self.begin_anew(out);
                }
                let known = self.core.tracker.seen().map(|s| s.group_uid);
                let conclusion = self.core.tracker.read(known, state);
                self.conclude(conclusion, out);
                if let Role::Following(slave) = &mut self.role {
                    slave.looked();
                }
            }
        }
    }

    fn conclude(&mut self, conclusion: Conclusion, out: &mut Vec<Effect>) {
        let counts_otherwise = self.core.obey_policy(out);
        match conclusion {
            Conclusion::Nothing | Conclusion::Open => {}
            Conclusion::Read => out.push(Effect::Read),
            Conclusion::News => self.settle(out),
            Conclusion::Forgot => self.forgot(out),
        }
        match &mut self.role {
            Role::Leading(master) => master.look(&mut self.core, out),
            Role::Halted(Halt::DiskFailed) => self.leave(out),
            Role::Following(slave) if counts_otherwise => slave.acknowledge(&mut self.core, out),
            _ => {}
        }
        self.declare(out);
    }

    /// §8.16: a running master goes on under the S that it knows, and so do those who copy from it; nobody else does anything but
    /// look again. Nobody registers, elects, grows or shrinks: the tracker gives out no write.
    fn forgot(&mut self, out: &mut Vec<Effect>) {
        let goes_on = match &self.role {
            Role::Leading(_) => true,
            Role::Following(slave) => slave.is_streaming(),
            Role::Booting | Role::Idle => false,
            Role::Halted(_) => return,
        };
        if !goes_on {
            self.leave_master(out);
            self.role = Role::Booting;
        }
        if !std::mem::replace(&mut self.is_forgetting_told, true) {
            out.push(Effect::Forgot);
        }
    }

    /// §8.16: whether `state` is of an object that was made after the one that this replica knows was lost, and takes up where that
    /// ended.
    fn is_successor(&self, state: &State) -> bool {
        let seen = self.core.tracker.seen();
        let is_other = seen.is_some_and(|seen| seen.group_uid != state.group_uid);
        let is_halted = matches!(self.role, Role::Halted(_));
        is_other && !is_halted && !state.has_forgotten(&self.registration())
    }

    /// §8.16: what was known of the former object is over, a mastership too, as upon every higher epoch (§8.13). A write of it that is
    /// still open expects a version below every one of the new object.
    fn begin_anew(&mut self, out: &mut Vec<Effect>) {
        self.step_down(out);
        self.leave_master(out);
        self.core.tracker = Tracker::new(self.core.mutations);
        self.role = Role::Booting;
    }

    /// §5.1: a replica that leads nobody says itself what its acknowledgements mean; a master among its other writes.
    fn declare(&mut self, out: &mut Vec<Effect>) {
        let leads_nobody = matches!(self.role, Role::Idle | Role::Following(_));
        if leads_nobody
            && self.core.tracker.is_free()
            && let Some(new) = self.core.wants_durable()
        {
            self.core.propose(new, out);
        }
    }

    /// §8.15: nothing is acknowledged from here on; one try to leave S.
    fn disk_failed(&mut self, out: &mut Vec<Effect>) {
        if matches!(self.role, Role::Halted(_)) {
            return;
        }
        self.halt(Halt::DiskFailed, out);
        self.leave(out);
    }

    /// Takes this replica out of S ∪ E, once its former write is known to have an end.
    fn leave(&mut self, out: &mut Vec<Effect>) {
        let (Some(me), true, Some(state)) = (
            self.core.me(),
            self.core.tracker.is_free(),
            self.core.tracker.seen().cloned(),
        ) else {
            return;
        };
        if state.is_complete(me) {
            let proposal = self.core.proposals.fresh();
            self.core.propose(state.left(proposal, me), out);
        }
    }

    fn retry(&mut self, out: &mut Vec<Effect>) {
        self.core.tracker.pause_over();
        if self.core.tracker.has_forgotten() {
            // Also a master: it learns here that there is another object.
            out.push(Effect::Read);
        }
        match self.core.tracker.again() {
            // C2: the same write again; whichever try lands, it is the same proposal.
            Some(cas) => out.push(Effect::Cas(cas)),
            None if matches!(self.role, Role::Halted(Halt::DiskFailed)) => self.leave(out),
            None if matches!(self.role, Role::Halted(_)) => {}
            None => match &mut self.role {
                Role::Following(slave) => slave.connect(&self.core, out),
                Role::Leading(master) => master.look(&mut self.core, out),
                Role::Booting if self.core.tracker.is_free() => self.settle(out),
                Role::Booting if self.core.tracker.has_forgotten() => {}
                _ => out.push(Effect::Read),
            },
        }
        self.declare(out);
    }

    fn work(&mut self, out: &mut Vec<Effect>) {
        match &mut self.role {
            Role::Following(slave) => slave.acknowledge(&mut self.core, out),
            Role::Leading(master) => master.look(&mut self.core, out),
            Role::Booting | Role::Idle | Role::Halted(_) => {}
        }
    }

    /// §8.15: acknowledges nothing from here on, or again. A master goes on: others hold what was committed, and of the rest it
    /// counts only for what it has.
    fn damaged(&mut self, damage: Damage, out: &mut Vec<Effect>) {
        let is_damaged = !damage.is_none();
        let was_damaged = std::mem::replace(&mut self.core.damaged, is_damaged);
        self.repair.found(&damage, out);
        self.core.damage = damage;
        match &mut self.role {
            // It registers as one that lacks something.
            Role::Booting => self.core.evidence.damaged |= is_damaged,
            Role::Following(slave) if is_damaged && !was_damaged => slave.withdraw(&self.core, out),
            Role::Following(slave) if was_damaged && !is_damaged => {
                slave.acknowledge(&mut self.core, out);
            }
            Role::Leading(master) => master.look(&mut self.core, out),
            Role::Idle | Role::Following(_) | Role::Halted(_) => {}
        }
    }

    fn received(&mut self, link: LinkId, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::Fetch(fetch) => out.push(fetched(&self.core, link, &fetch)),
            message if self.repair.link() == Some(link) => {
                self.repair.received(&self.core, message, out);
            }
            Message::Probe => out.extend(
                self.report()
                    .map(|r| Effect::Send(link, Message::Report(r))),
            ),
            Message::Survey => out.push(Effect::Send(
                link,
                Message::Holding(Box::new(self.holding())),
            )),
            Message::Nudge => out.push(Effect::Read),
            message => match &mut self.role {
                Role::Following(slave) if slave.link() == Some(link) => {
                    slave.received(&mut self.core, link, message, out);
                }
                Role::Leading(master) => master.received(&mut self.core, link, message, out),
                _ => {
                    if let Message::Hello(_) = message {
                        out.push(self.not_master(link));
                    }
                    out.push(Effect::Disconnect(link));
                }
            },
        }
    }

    fn not_master(&self, link: LinkId) -> Effect {
        let reason = crate::messages::Reason::NotMaster;
        Effect::Send(
            link,
            Message::Refuse(crate::messages::Refuse {
                reason,
                max_epoch: self.core.max_epoch,
            }),
        )
    }
}
