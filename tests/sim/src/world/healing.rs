//! Faults have stopped: the group must come to rest with a master that takes sends, everybody in S, and everything that was
//! sent committed, answered and read (L1 to L4), in the modes that are asked for (L6). A replica whose log is damaged is repaired,
//! or stays outside where no other one has the bytes (§8.15).

use rocket_mapped_file::memory::Faults;
use rocket_replication::effect::Halt;
use rocket_replication::elector::Decision;
use rocket_replication::replica::Replica;
use rocket_replication::slave::Slave;

use super::World;
use crate::fuse::End;
use crate::log::GroupLog;

/// Rounds of 100 ms before the group is given up.
const ROUNDS: u32 = 400;
/// A group that does not heal by itself for so many rounds gets a human's help.
const PATIENCE: u32 = 60;

impl<L: GroupLog> World<L> {
    /// Time passes everywhere.
    pub(super) fn pass(&mut self, ms: u64) {
        for n in 0..self.machines.len() {
            self.machines[n].clock_ms += ms;
            self.step(n, None);
        }
    }

    /// Everything that is under way arrives, again and again until there is nothing more. Time stands still.
    pub(super) fn calm(&mut self) {
        for _ in 0..10_000 {
            if self.ledger.broken.is_some() {
                return;
            }
            let mut any = false;
            while self.dial() {
                any = true;
            }
            while let Some(first) = self.deliverable().first().copied() {
                self.deliver(first);
                any = true;
                if self.ledger.broken.is_some() {
                    return;
                }
            }
            for n in 0..self.machines.len() {
                any |= self.request(n, false);
                any |= self.answer(n);
                any |= self.show(n);
                if self
                    .process(n)
                    .is_some_and(|process| process.log.is_flush_wanted())
                {
                    self.flush(n);
                }
                any |= self.wake(n);
                // It tried to leave S, and goes (§8.15).
                let halted = self.process(n).and_then(|process| process.halted);
                if halted == Some(Halt::DiskFailed) {
                    self.crash(n, End::Kill);
                    any = true;
                }
            }
            if !any {
                return;
            }
        }
        self.fail("it never comes to rest".to_owned());
    }

    /// Nothing is wrong any more with what surrounds the processes.
    fn end_faults(&mut self) {
        self.stalled.clear();
        self.remember();
        for n in 0..self.machines.len() {
            let machine = &mut self.machines[n];
            machine.is_cut_off = false;
            machine.flush = self.plan.column.flush();
            machine.dir.set_capacity(u64::MAX);
            if let Some(process) = machine.process.as_mut() {
                process.is_paused = false;
                process.dir.put_out();
                process.dir.memory().set_faults(Faults::default());
                process.dir.memory().set_capacity(u64::MAX);
            }
        }
        while self.arrive(0) {}
        let m = self.plan.column.min_in_sync();
        if self.state().min_in_sync != m {
            let mutations = self.plan.mutations;
            self.write_as_human(|state, proposal| state.with_min_in_sync(proposal, m, mutations));
        }
    }

    /// What ended is started again, and what can do no more by itself is ended first.
    fn tend(&mut self) {
        for n in 0..self.machines.len() {
            let is_done = self
                .process(n)
                .is_some_and(|process| process.needs_restart || process.halted.is_some());
            if is_done {
                self.crash(n, End::Kill);
            }
            if !self.is_up(n) && self.ledger.broken.is_none() {
                self.start(n, None);
            }
        }
    }

    /// Everybody runs and reaches everybody until the group is whole.
    pub(super) fn heal(&mut self) {
        self.trace.turn();
        self.say(format_args!("faults stop"));
        self.end_faults();
        let mut why = String::new();
        for round in 0..ROUNDS {
            self.tend();
            self.calm();
            for n in 0..self.machines.len() {
                self.keep_house(n, 0);
            }
            if self.ledger.broken.is_some() {
                return;
            }
            match self.is_whole() {
                Ok(()) => return,
                Err(reason) => why = reason,
            }
            self.look_for_a_master(round);
            self.pass(100);
        }
        self.fail(format!("the group does not heal: {why}"));
    }

    fn look_for_a_master(&mut self, round: u32) {
        let state = self.state();
        let is_lost = state.master.is_none_or(|m| self.machine_of(m).is_none());
        if !is_lost || round % 4 != 3 {
            return;
        }
        let is_stuck = if self.plan.elects_itself {
            round > PATIENCE
        } else {
            !matches!(self.elect_now(), Some(Decision::Elect(_)))
        };
        if is_stuck && round > PATIENCE / 2 {
            self.help_by_hand();
        }
    }

    /// L1, L2, L3, L4, L6.
    fn is_whole(&self) -> Result<(), String> {
        let count = self.machines.len();
        let Some(master) = self.open_master().filter(|n| self.leads(*n)) else {
            return Err("L1: no master takes sends".to_owned());
        };
        let state = self.state();
        for n in 0..count {
            let member = self.replica(n).and_then(Replica::member);
            if self.held_by(n).is_damaged && member.is_some_and(|m| state.is_current(m)) {
                // It gave up, and what of its log goes is cut off already.
                let is_linked = |r: &Replica| r.following().is_some_and(Slave::is_streaming);
                if self
                    .replica(n)
                    .is_some_and(|r| r.repair().is_given_up() && is_linked(r))
                {
                    continue;
                }
                return Err(format!("§8.15: {n} is not repaired"));
            }
            if member.is_none_or(|m| !state.in_sync.contains(&m)) {
                return Err(format!("L2: {n} is not in S"));
            }
            if !self.is_all_committed(n) {
                return Err(format!("L4: not all of {n} is committed"));
            }
            let (mine, theirs) = (self.held_by(n), self.held_by(master));
            let from = mine.min.max(theirs.min);
            if mine.slice(from, mine.end()) != theirs.slice(from, theirs.end()) {
                return Err(format!("{n} and {master} differ"));
            }
        }
        self.is_in_force()?;
        match self.unanswered() {
            Some(ticket) => Err(format!("L3: message {ticket} is not answered")),
            None => Ok(()),
        }
    }
}
