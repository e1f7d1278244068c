//! What happens next: the dice choose among all that can happen, ordinary things often, and faults of the kinds that the
//! schedule has now and then.

use rocket_replication::replica::Flush;

use super::World;
use crate::fuse::End;
use crate::log::GroupLog;
use crate::plan::Fault;

/// Disks lost in one schedule at most: a group has room for 32 replicas, and every new disk is one.
const DISKS_LOST_MAX: u128 = 5;

impl<L: GroupLog> World<L> {
    /// One thing happens.
    pub(super) fn act(&mut self) {
        self.trace.turn();
        let n = self.dice.below(self.machines.len() as u64) as usize;
        match self.dice.below(100) {
            0..20 => {
                for _ in 0..self.dice.within(1, 5) {
                    let found = self.deliverable();
                    if !found.is_empty() {
                        let which = *self.dice.pick(&found);
                        self.deliver(which);
                    }
                }
            }
            20..24 => drop(self.dial()),
            24..36 => {
                if self.request(n, true) && self.dice.once_in(2) {
                    self.answer(n);
                }
            }
            36..42 => drop(self.answer(n)),
            42..54 => {
                let is_astray = self.dice.once_in(5);
                let to = self.open_master().filter(|_| !is_astray);
                self.send(to.unwrap_or(n));
            }
            54..62 => {
                self.flush(n);
                if self.dice.once_in(2) {
                    self.wake(n);
                }
            }
            62..67 => drop(self.wake(n)),
            67..71 => self.pass_some(n),
            71..73 => drop(self.show(n)),
            73..76 => self.consume(n),
            76..78 => {
                let kind = self.dice.below(8);
                self.keep_house(n, kind);
            }
            78..87 => {
                if !self.plan.elects_itself {
                    let which = self.dice.below(2) as usize;
                    self.elector(which);
                }
            }
            87 if self.dice.once_in(3) => self.rest(),
            87..95 => self.mend(n),
            _ => self.fault(n),
        }
    }

    /// Clocks run as they like.
    fn pass_some(&mut self, n: usize) {
        let ms = self.dice.within(1, 400);
        if self.dice.once_in(3) {
            self.machines[n].clock_ms += ms;
            self.step(n, None);
        } else {
            self.pass(ms);
        }
    }

    /// Now and then all is well for a moment, as far as it can be.
    fn rest(&mut self) {
        self.say(format_args!("a moment of rest"));
        self.calm();
    }

    /// Something that was wrong with `n` is over.
    fn mend(&mut self, n: usize) {
        let is_done = self.process(n).is_some_and(|process| {
            process.needs_restart || process.halted.is_some() && !process.is_paused
        });
        if is_done && self.dice.once_in(2) {
            self.crash(n, End::Kill);
            return;
        }
        if !self.is_up(n) {
            let is_short = self.plan.weather.has(Fault::MidStep) && self.dice.once_in(6);
            let fuse = is_short.then(|| (self.dice.below(25), self.end()));
            self.start(n, fuse);
            return;
        }
        match self.dice.below(5) {
            0 if !self.stalled.is_empty() => {
                let at = self.dice.below(self.stalled.len() as u64) as usize;
                self.stalled.remove(at);
            }
            1 => self.machines[n].is_cut_off = false,
            2 => {
                if let Some(process) = self.machines[n].process.as_mut() {
                    process.dir.memory().set_capacity(u64::MAX);
                }
            }
            3 => drop(self.arrive(n as u64)),
            _ if self.dice.once_in(3) => self.remember(),
            _ => {
                if let Some(process) = self.machines[n].process.as_mut()
                    && process.is_paused
                {
                    process.is_paused = false;
                    self.say(format_args!("{n} goes on"));
                    self.step(n, None);
                }
            }
        }
    }

    /// How a machine ends, as far as the schedule has it.
    fn end(&mut self) -> End {
        let power = self.plan.weather.has(Fault::Power) && self.dice.once_in(2);
        if power {
            End::Power(self.dice.roll() >> 8)
        } else {
            End::Kill
        }
    }

    fn fault(&mut self, n: usize) {
        if self.plan.changes_modes() && self.dice.once_in(4) {
            self.ask_for_modes();
            return;
        }
        let fault = *self.dice.pick(self.plan.weather.choices());
        if !self.plan.weather.has(fault) {
            return;
        }
        match fault {
            Fault::Kill => self.crash(n, End::Kill),
            Fault::Stop => self.stop(n),
            Fault::Power => self.cut_power(n),
            Fault::MidStep => self.light(n),
            Fault::LostDisk => self.lose(n),
            Fault::DiskError => self.fail_disk(n),
            Fault::FullDisk => self.fill_disk(n),
            Fault::Pause => {
                if let Some(process) = self.machines[n].process.as_mut() {
                    process.is_paused = true;
                    self.say(format_args!("{n} stands still"));
                }
            }
            Fault::LinkCut => {
                let (which, half) = (self.dice.roll() >> 8, self.dice.once_in(2));
                self.cut_wire(which, half);
            }
            Fault::Stall => self.stall(n),
            Fault::StrangeWrite => drop(self.arrive(n as u64)),
            Fault::Unreachable => {
                self.say(format_args!("{n} does not reach the coordinator"));
                self.machines[n].is_cut_off = true;
            }
            Fault::StaleHint => self.show_old(n),
            Fault::Suspicion => {}
            Fault::Handover => self.ask_handover(n),
            Fault::ChangeM => {
                let m = self.dice.within(1, self.machines.len() as u64 + 1) as u8;
                let mutations = self.plan.mutations;
                self.write_as_human(|state, proposal| {
                    state.with_min_in_sync(proposal, m, mutations)
                });
            }
            Fault::Retention | Fault::Expiry => self.retain(n),
            Fault::FlushMode => {
                let flush = &mut self.machines[n].flush;
                *flush = match *flush {
                    Flush::Sync => Flush::Async,
                    Flush::Async => Flush::Sync,
                };
                self.crash(n, End::Kill);
            }
            Fault::Forgetting => self.forget(),
            Fault::ChangeModes => self.ask_for_modes(),
            Fault::Rot => self.rot(n),
        }
    }

    /// Whether somebody may have been promised what power takes.
    fn may_be_unflushed(&self) -> bool {
        self.plan.column.flush() == Flush::Async || self.plan.changes_modes()
    }

    fn cut_power(&mut self, n: usize) {
        // Where only this machine has what was committed, and power would take it, a schedule mostly spares it.
        let is_bare = self.may_be_unflushed() && !self.is_spare(n);
        if is_bare && !self.dice.once_in(6) {
            return;
        }
        let seed = self.dice.roll() >> 8;
        if self.is_up(n) {
            self.crash(n, End::Power(seed));
        } else {
            self.say(format_args!("{n} loses power while nobody runs there"));
            let machine = &mut self.machines[n];
            let image = std::mem::take(&mut machine.image);
            let dir = machine.dir.clone();
            let left = End::Power(seed).left_of(&dir, image);
            self.bury(n, End::Power(seed), left, None);
        }
    }

    fn light(&mut self, n: usize) {
        let (left, end) = (self.dice.below(12), self.end());
        if let Some(process) = self.process(n) {
            process.dir.light(left, end);
            self.say(format_args!("{n} is to end after {left} changes"));
        }
    }

    fn lose(&mut self, n: usize) {
        let lost = self.disks - self.machines.len() as u128;
        if lost >= DISKS_LOST_MAX || self.forgotten.is_some() {
            return;
        }
        if !self.is_spare(n) && !self.dice.once_in(6) {
            return;
        }
        self.lose_disk(n);
    }

    fn fail_disk(&mut self, n: usize) {
        let kind = self.dice.roll() >> 8;
        let is_bare = self.may_be_unflushed() && !self.is_spare(n);
        if is_bare && !self.dice.once_in(6) {
            return;
        }
        if let Some(process) = self.process(n) {
            process.log.fail(&process.dir, kind);
            self.ledger.reached.disk_errors += 1;
            self.say(format_args!("the disk of {n} begins to fail"));
        }
    }

    /// Bits flip on the disk of `n`, below what is flushed; the scrubber finds it, and the process ends. Only where another replica
    /// has everything, and none is damaged: that the same bytes rot everywhere is outside of all promises (§2).
    fn rot(&mut self, n: usize) {
        let number = self.dice.roll() >> 8;
        let is_any = (0..self.machines.len()).any(|n| self.held_by(n).is_damaged);
        if !is_any && self.is_spare(n) && self.is_awake(n) && self.forgotten.is_none() {
            self.rot_disk(n, number);
        }
    }

    fn fill_disk(&mut self, n: usize) {
        let room = self.dice.below(12_000);
        if let Some(process) = self.process(n) {
            let dir = process.dir.memory();
            let Ok(space) = rocket_mapped_file::Directory::space(dir) else {
                return;
            };
            dir.set_capacity(space.capacity - space.available + room);
            self.say(format_args!("the disk of {n} has room for {room} bytes"));
        }
    }

    fn stall(&mut self, n: usize) {
        let count = self.machines.len() as u64;
        let other = (n + 1 + self.dice.below(count - 1) as usize) % count as usize;
        let mut ways = vec![(n, other)];
        if self.dice.once_in(2) {
            ways.push((other, n));
        }
        for way in ways {
            if !self.stalled.contains(&way) {
                self.stalled.push(way);
                self.say(format_args!("nothing arrives from {} at {}", way.0, way.1));
            }
        }
    }

    fn ask_handover(&mut self, n: usize) {
        let Some(id) = self.id_of(n) else { return };
        self.write_as_human(|state, proposal| state.handover_asked(proposal, Some(id)));
    }

    pub(super) fn retain(&mut self, n: usize) {
        let Some(process) = self.process(n) else {
            return;
        };
        let confirm = process.log.visible();
        let ends = process.log.boundaries();
        let ends: Vec<u64> = ends.into_iter().filter(|end| *end <= confirm).collect();
        if ends.is_empty() || !self.is_awake(n) {
            return;
        }
        let below = *self.dice.pick(&ends);
        self.say(format_args!("retention on {n} takes what is below {below}"));
        if let Some(process) = self.machines[n].process.as_mut() {
            process.log.retain(below);
            if let Some(frozen) = process.dir.take_frozen() {
                self.froze(n, frozen);
                return;
            }
            process.log.refresh(&mut process.mirror);
        }
        self.ledger.reached.retained += 1;
        self.tell_failure(n);
        self.step(n, None);
    }

    /// The object is an old copy of itself from now on (§8.16), at a moment when everybody knows better.
    fn forget(&mut self) {
        let state = self.state();
        let everybody_knows = (0..self.machines.len()).all(|n| {
            let replica = self.replica(n);
            replica.is_some_and(|r| r.seen().1 == state.version && r.member().is_some())
        });
        // One that was made from what the object was before would be applied to the old copy: outside of what C2 can tell.
        let writes_wait = (0..self.machines.len())
            .filter_map(|n| self.process(n))
            .any(|process| process.actor.has_writes_waiting() || process.requests.is_write());
        if !everybody_knows || writes_wait || self.forgotten.is_some() {
            return;
        }
        let old = self.dice.pick(&self.history).clone();
        if old.version == state.version {
            return;
        }
        self.say(format_args!(
            "the object is the old version {} again",
            old.version
        ));
        self.forgotten = Some(state);
        self.memory.replace(Some((*old).clone()));
    }

    /// The object is itself again.
    pub(super) fn remember(&mut self) {
        if let Some(state) = self.forgotten.take() {
            self.say(format_args!("the object is itself again"));
            self.memory.replace(Some((*state).clone()));
            self.object_changed();
        }
    }
}
