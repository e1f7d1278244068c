//! The one owner of a replica: its state machine, its files, its log, its timers. Everything that happens comes through
//! [`Actor::step`], one event after the other, on one thread.
//!
//! Answers that the actor gives itself (what was sent, what a stopped log ends with) are taken in before anything that came
//! from outside, because the state machine was promised so.

use std::collections::VecDeque;
use std::sync::Arc;

use rocket_replication::effect::{Halt, Input};
use rocket_replication::master::Phase;
use rocket_replication::messages::{LinkId, RoleName};
use rocket_replication::mutations::Mutations;
use rocket_replication::recovery::CleanMark;
use rocket_replication::replica::{Flush, Recovered, Replica, Settings, Writes};
use rocket_replication::timers::LagWatch;
use rocket_replication::{Epoch, Incarnation, Member, Policy, Replication, Version};

use crate::board::{Answers, Board, GroupView};
use crate::desk::Desk;
use crate::disk::Items;
use crate::election::{Election, SelfElection, is_led};
use crate::handover::Handover;
use crate::lag::Lag;
use crate::ranges::Ranges;
use crate::surroundings::{Coordinator, Event, Log, Net, News, Observer, Pending, RangeReader};
use crate::timers::{Due, Timers, Timing};

/// What does not change while an actor lives.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of the state machine.
    pub settings: Settings,
    /// When things are tried.
    pub timing: Timing,
    /// What answers wait for where the group's object asks for no modes: with [`Answers::Counted`] every cut may take acknowledged
    /// bytes away, and says so.
    pub answers: Answers,
    /// Whether, and how, the replicas elect their master themselves. `None`: an operator does.
    pub self_election: Option<SelfElection>,
    /// About how many bytes of records go into one `Data`.
    pub data_bytes_target: u64,
    /// Rules broken on purpose; none, outside of tests.
    pub mutations: Mutations,
}

/// What surrounds an actor.
pub struct Parts<L, N, C, O> {
    /// The small files.
    pub items: Items,
    /// The log.
    pub log: L,
    /// What reads it for other replicas.
    pub reader: Box<dyn RangeReader + Send>,
    /// The links.
    pub net: N,
    /// The coordinator.
    pub coordinator: C,
    /// Who is told.
    pub observer: O,
    /// What senders and readers go by.
    pub board: Arc<Board>,
}

/// See the module.
pub struct Actor<L, N, C, O> {
    pub(crate) replica: Replica,
    pub(crate) items: Items,
    pub(crate) log: L,
    pub(crate) ranges: Ranges,
    pub(crate) net: N,
    pub(crate) desk: Desk<C>,
    pub(crate) observer: O,
    pub(crate) board: Arc<Board>,
    pub(crate) options: Options,
    pub(crate) recovered: (rocket_replication::DiskId, Incarnation),
    /// The log is ready for sends: between `OpenWrites` and whatever ends it.
    pub(crate) is_open: bool,
    /// The epoch of a mastership that is to take sends, and whose log was not ready for them yet.
    pub(crate) opens_later: Option<Epoch>,
    /// The connection that was asked for last and is not open yet.
    pub(crate) dialing: Option<LinkId>,
    /// The same of a link over which damage is to be repaired.
    pub(crate) dialing_repair: Option<LinkId>,
    /// Only a start can go on.
    pub(crate) needs_restart: bool,
    pub(crate) halted: Option<Halt>,
    pub(crate) election: Option<Election>,
    pub(crate) handover: Handover,
    own: VecDeque<Input>,
    timers: Timers,
    lag: LagWatch,
    pub(crate) behind: Lag,
    /// The time of the present step.
    pub(crate) now_ms: u64,
    told: (RoleName, Epoch, Writes, Option<Member>),
    told_damaged: bool,
    /// What of the log's damage the state machine knows.
    damage_changes: Option<u64>,
    version: Version,
    /// How the log was told to flush.
    flush: Flush,
}

impl<L: Log, N: Net, C: Coordinator, O: Observer> Actor<L, N, C, O> {
    /// A replica that has recovered; it registers at the first [`Actor::step`]. `now_ms` are milliseconds of a monotonic
    /// clock, the same in every call.
    pub fn new(
        options: Options,
        recovered: Recovered,
        mut parts: Parts<L, N, C, O>,
        now_ms: u64,
    ) -> Self {
        let known = (recovered.disk_id, recovered.incarnation);
        let replica = Replica::new(options.settings.clone(), recovered, options.mutations);
        // What is known to be committed may be read before there is any master.
        parts.board.set_committed(replica.log().confirm);
        parts.log.re_evaluate();
        let election = options.self_election;
        Self {
            election: election.map(|rules| Election::new(rules, known.1)),
            handover: Handover::new(known.1),
            timers: Timers::new(options.timing, now_ms),
            lag: LagWatch::new(options.timing.limits),
            behind: Lag::new(now_ms),
            now_ms,
            told: (replica.role(), replica.seen().0, Writes::NotMaster, None),
            told_damaged: false,
            damage_changes: None,
            version: Version(0),
            flush: options.settings.flush,
            replica,
            items: parts.items,
            log: parts.log,
            ranges: Ranges::new(parts.reader),
            net: parts.net,
            desk: Desk::new(parts.coordinator),
            observer: parts.observer,
            board: parts.board,
            options,
            recovered: known,
            is_open: false,
            opens_later: None,
            dialing: None,
            dialing_repair: None,
            needs_restart: false,
            halted: None,
            own: VecDeque::from([Input::Start]),
        }
    }

    /// Takes in one event, or none, with all that follows from it and from the time. Returns when it wants to be called
    /// again at the latest.
    pub fn step(&mut self, now_ms: u64, event: Option<Event>) -> u64 {
        if self.needs_restart {
            return u64::MAX;
        }
        self.now_ms = now_ms;
        if let Some(event) = &event {
            self.behind.hears(now_ms, event, &self.replica);
        }
        self.settle();
        self.look_at_log();
        let event = event.and_then(|event| self.elector_happened(event));
        if let Some(event) = event.and_then(|event| self.handover_happened(event)) {
            self.happened(event);
        }
        while let Some(due) = self.timers.due(now_ms) {
            self.timed(due, now_ms);
        }
        self.elect(now_ms);
        self.desk.next();
        self.notice(now_ms);
        let election = self.election.as_ref().map_or(u64::MAX, Election::next_ms);
        self.timers.next_ms().min(election)
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Read(answer) => {
                self.desk.read_answered(&answer);
                self.feed(Input::Read(answer));
                self.desk.next();
            }
            Event::Cas { proposal, answer } => {
                self.desk.answered();
                self.feed(Input::Cas { proposal, answer });
                self.desk.next();
            }
            Event::Watched(state) => self.feed(Input::Watched(state)),
            Event::Connected(link) if self.dialing == Some(link) => {
                self.dialing = None;
                self.feed(Input::Connected(link));
            }
            Event::Connected(link) if self.dialing_repair == Some(link) => {
                self.dialing_repair = None;
                self.feed(Input::Dialed(link));
            }
            // Of a connection that nobody wants any more.
            Event::Connected(link) => self.net.close(link),
            Event::ConnectFailed(link) if self.dialing == Some(link) => {
                self.dialing = None;
                self.feed(Input::ConnectFailed);
            }
            Event::ConnectFailed(link) if self.dialing_repair == Some(link) => {
                self.dialing_repair = None;
                self.feed(Input::DialFailed);
            }
            Event::ConnectFailed(_) | Event::LogMoved => {}
            Event::Received(link, message) => self.feed(Input::Received(link, message)),
            Event::RangeRead(read) => self.range_read(read),
            Event::Disconnected(link) => {
                self.ranges.left(link);
                let was_led = is_led(&self.replica);
                self.feed(Input::Disconnected(link));
                // A master that has handed over closes its links: the object names the next one already.
                if was_led && !is_led(&self.replica) && self.halted.is_none() {
                    self.desk.read();
                }
            }
            Event::LogFailed => self.feed(Input::DiskFailed),
        }
    }

    /// Feeds what the log says by itself: what senders appended, what was flushed, what retention removed.
    fn look_at_log(&mut self) {
        self.board.looks();
        let ends = self.log.ends();
        if ends.min > self.replica.log().min {
            self.feed(Input::Retained(ends.min));
        }
        // Nobody else's log grows by itself; and what was begun before a mastership ended was fed in when it ended.
        if self.replica.leading().is_some() && ends.appended > self.replica.log().end {
            self.feed(Input::Appended(ends.appended));
        }
        let log = self.replica.log();
        if ends.durable.min(log.end) > log.durable_end {
            self.feed(Input::Flushed(ends.durable));
        }
        self.look_at_damage();
    }

    /// Found by whoever read there, the scrubber too; repaired here, or sound again by itself.
    fn look_at_damage(&mut self) {
        let changes = self.log.damage_changes();
        if self.damage_changes.replace(changes) != Some(changes) {
            let damage = self.log.damage();
            self.feed(Input::Damaged(damage));
            self.open_again();
        }
    }

    fn timed(&mut self, due: Due, now_ms: u64) {
        match due {
            Due::Beat => {
                self.feed(Input::Beat { stamp_ms: now_ms });
                for input in self.lag.look(now_ms, &self.replica) {
                    self.feed(input);
                }
                self.open_again();
            }
            Due::Retry => {
                let asked = self.desk.asked();
                self.feed(Input::Retry);
                self.desk.retry();
                // Whoever has no master to talk to may have missed an election: hints can be lost, and so can this read.
                let is_lost = !is_led(&self.replica) && self.halted.is_none();
                if is_lost {
                    self.desk.read();
                }
                self.timers
                    .tried(now_ms, is_lost || self.desk.asked() > asked);
            }
            Due::HandoverWaited => self.feed(Input::HandoverWaited),
            Due::Repair => {
                // The last block of a log grows with it.
                self.damage_changes = None;
                self.look_at_damage();
                self.feed(Input::RepairDue);
            }
        }
    }

    /// Feeds one input and all that the actor answers itself.
    pub(crate) fn feed(&mut self, input: Input) {
        self.own.push_back(input);
        self.settle();
    }

    /// Opens the log for sends if it was not ready for them when that was due.
    fn open_again(&mut self) {
        if self.opens_later.is_none() || self.needs_restart {
            return;
        }
        let mut answers = Vec::new();
        if let Err(failure) = self.open_if_due() {
            self.failed(failure, &mut answers);
        }
        self.own.extend(answers);
        self.settle();
        self.give();
    }

    fn settle(&mut self) {
        while let Some(input) = self.own.pop_front() {
            if self.needs_restart {
                return;
            }
            let effects = self.replica.step(input);
            self.take_away();
            for answer in self.perform_all(effects).into_iter().rev() {
                self.own.push_front(answer);
            }
            self.give();
        }
    }

    /// What is not allowed any more is over before anything else is done.
    fn take_away(&mut self) {
        let writes = self.replica.writes();
        if writes != Writes::Open {
            self.board.set_writes(writes);
        }
        if self.replica.role() != RoleName::Master {
            self.board.set_answers(false);
        }
        // What a master is about to say binds its answers before that is written.
        let now = self.modes();
        let before = self.board.modes();
        self.board.set_modes(match (before, now) {
            (Some(before), Some(now)) => Some(before.stronger(now)),
            _ => now,
        });
    }

    /// What is allowed now, and the log is ready for.
    fn give(&mut self) {
        let writes = match self.replica.writes() {
            Writes::Open | Writes::TooFewInSync if !self.is_open => Writes::Busy,
            writes => writes,
        };
        self.board.set_writes(writes);
        self.board
            .set_answers(self.replica.role() == RoleName::Master && !self.needs_restart);
        let modes = self.modes();
        let binds_otherwise = modes != self.board.modes();
        if binds_otherwise {
            tracing::info!(?modes, "what answers wait for in this group");
        }
        self.board.set_modes(modes);
        let flush = self.replica.flush();
        if std::mem::replace(&mut self.flush, flush) != flush {
            self.log.set_flush(flush);
        }
        let durable = self.replica.held().committed_durable;
        if self.board.set_committed_durable(durable) || binds_otherwise {
            self.log.re_evaluate();
        }
    }

    /// The modes that bind answers (§5.1).
    fn modes(&self) -> Option<Policy> {
        self.replica.modes(Policy {
            flush: self.options.settings.flush,
            replication: match self.options.answers {
                Answers::Committed => Replication::Sync,
                Answers::Counted => Replication::Async,
            },
        })
    }

    fn notice(&mut self, now_ms: u64) {
        let is_handing_over = self
            .replica
            .leading()
            .is_some_and(|master| master.phase() == Phase::HandingOver);
        self.timers.handing_over(now_ms, is_handing_over);
        let is_damaged = self.replica.is_damaged();
        self.timers.repairing(now_ms, is_damaged);
        if std::mem::replace(&mut self.told_damaged, is_damaged) != is_damaged {
            self.observer.tell(News::Damaged(is_damaged));
        }
        let version = self.replica.tracker().version();
        let writes = self.board.writes();
        let seen = self.replica.tracker().seen();
        let master = seen.and_then(|state| state.master);
        let now = (self.replica.role(), self.replica.seen().0, writes, master);
        let view = self.view(now_ms);
        self.board.set_group(view);
        if version != self.version || now != self.told {
            self.timers.hope(now_ms);
            self.version = version;
        }
        if now != self.told {
            self.told = now;
            let master = self.address_of(master);
            self.observer.tell(News::Role {
                role: now.0,
                epoch: now.1,
                writes,
                master,
            });
        }
    }

    fn address_of(&self, member: Option<Member>) -> Option<Arc<str>> {
        let state = self.replica.tracker().seen()?;
        let replica = state.replicas.get(&member?.replica_id)?;
        Some(replica.address.as_str().into())
    }

    fn view(&mut self, now_ms: u64) -> GroupView {
        let behind = self.behind.look(now_ms, &self.replica);
        let state = self.replica.tracker().seen();
        let in_sync = state.map_or(0, |state| state.in_sync.len());
        GroupView {
            in_sync: u32::try_from(in_sync).unwrap_or(u32::MAX),
            min_in_sync: state.map_or(0, |state| u32::from(state.min_in_sync)),
            lag_bytes: behind.bytes,
            lag_ms: behind.ms,
        }
    }

    /// The state machine, to be looked at.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether writes to the coordinator wait until an earlier request is answered.
    pub fn has_writes_waiting(&self) -> bool {
        self.desk.has_writes()
    }

    /// Ends in order: no send is appended from here on, and those not answered yet are told that their outcome is unknown. The
    /// log is then to be flushed and closed, and what comes back to be saved as the very last thing, if that went well
    /// ([`Items::save_clean`]). `None` when this run can vouch for nothing.
    pub fn end(mut self) -> Option<CleanMark> {
        self.board.set_answers(false);
        self.board.set_writes(Writes::NotMaster);
        let stopped = self.log.stop_appends(Pending::Unknown);
        let failed = stopped.is_err() || matches!(self.halted, Some(Halt::DiskFailed));
        (!failed && !self.needs_restart).then(|| CleanMark {
            incarnation: self.recovered.1,
            log_end: self.log.ends().appended,
            last_epoch: self.replica.log().epochs.last_epoch(),
        })
    }
}

/// Whatever ends it, a panic too: nothing is answered or taken in its name any more.
impl<L, N, C, O> Drop for Actor<L, N, C, O> {
    fn drop(&mut self) {
        self.board.set_answers(false);
        self.board.set_writes(Writes::NotMaster);
    }
}
