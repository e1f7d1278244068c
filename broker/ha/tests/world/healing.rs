//! Letting everything come to rest, and what must be true then and always.

use rocket_ha::Log;
use rocket_ha::memory::MemoryLog;
use rocket_replication::memory::Fate;

use super::{End, Process, World};

impl World {
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for n in 0..self.machines.len() {
            self.step(n, None);
        }
    }

    /// Everything that is under way arrives, again and again until there is nothing more. Time stands still.
    pub(crate) fn calm(&mut self) {
        for _ in 0..10_000 {
            let mut any = false;
            while self.dials() > 0 {
                self.dial();
                any = true;
            }
            while let Some(first) = self.deliverable().first().copied() {
                self.deliver(first);
                any = true;
            }
            for n in 0..self.machines.len() {
                any |= self.request(n, Fate::Answered);
                any |= self.answer(n);
                any |= self.show(n);
                let wants = |process: &Process| process.log.is_flush_wanted();
                if self.machines[n].process.as_ref().is_some_and(wants) {
                    self.flush(n);
                }
                any |= self.wake(n);
            }
            if !any {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// As [`World::calm`], but no flush ends.
    pub(crate) fn settle_without_flush(&mut self) {
        loop {
            let mut any = false;
            while let Some(first) = self.deliverable().first().copied() {
                self.deliver(first);
                any = true;
            }
            for n in 0..self.machines.len() {
                any |= self.wake(n);
            }
            if !any {
                return;
            }
        }
    }

    /// As [`World::calm`], but only flushes of these end.
    pub(crate) fn settle_flushing(&mut self, flushing: &[usize]) {
        loop {
            let mut any = false;
            while let Some(first) = self.deliverable().first().copied() {
                self.deliver(first);
                any = true;
            }
            for n in 0..self.machines.len() {
                any |= self.request(n, Fate::Answered);
                any |= self.answer(n);
                any |= self.show(n);
                if flushing.contains(&n) && self.process(n).log.is_flush_wanted() {
                    self.flush(n);
                }
                any |= self.wake(n);
            }
            if !any {
                return;
            }
        }
    }

    /// Everybody runs and reaches everybody until the group is whole.
    pub(crate) fn heal(&mut self) {
        for round in 0..400 {
            for n in 0..self.machines.len() {
                if self.is_up(n) && self.process(n).needs_restart {
                    self.crash(n, End::Kill);
                }
                if !self.is_up(n) {
                    self.start(n);
                }
            }
            self.calm();
            if self.is_whole() {
                return;
            }
            let state = self.state();
            let is_lost = state.master.is_none_or(|m| self.machine_of(m).is_none());
            if is_lost && round % 4 == 3 && !self.plan.elects_itself {
                self.elect(&self.reports(), true);
            }
            self.pass(100);
        }
        let roles: Vec<_> = (0..self.machines.len())
            .filter(|n| self.is_up(*n))
            .map(|n| (self.replica(n).role(), self.replica(n).log().clone()))
            .collect();
        panic!(
            "the group does not heal: {:#?} {roles:#?} {:?}",
            self.state(),
            self.news
        );
    }

    pub(crate) fn is_whole(&self) -> bool {
        if !(0..self.machines.len()).all(|n| self.is_up(n)) {
            return false;
        }
        let Some(master) = self.open_master() else {
            return false;
        };
        let log = &self.process(master).log;
        let (end, state) = (log.ends().appended, self.state());
        let has_all = |n| {
            let process = self.process(n);
            process.log.ends().appended == end && process.board.committed() == end
        };
        state.in_sync.len() == self.machines.len()
            && (0..self.machines.len()).all(has_all)
            && (0..self.machines.len()).all(|n| is_same(bytes(&self.process(n).log), bytes(log)))
    }

    /// What must be true at every moment.
    pub(crate) fn check(&mut self, n: usize) {
        let process = self.process(n);
        let (ends, confirm) = (process.log.ends(), process.board.committed().0);
        assert!(confirm <= ends.appended.0, "confirm beyond the log");
        assert!(process.log.visible() <= confirm, "visible beyond confirm");
        if confirm == process.checked {
            return;
        }
        let (min, bytes) = bytes(&process.log);
        let (min, below) = (min as usize, confirm as usize);
        let common = below.min(self.committed.len()).max(min);
        let known = self.committed.get(min..common).unwrap_or_default();
        assert!(
            bytes[..known.len()] == *known,
            "P2: two things were committed at one place"
        );
        if below > self.committed.len() {
            assert!(min <= self.committed.len(), "retention before the commit");
            self.committed.truncate(min);
            self.committed.extend(&bytes[..below - min]);
        }
        if let Some(process) = &mut self.machines[n].process {
            process.checked = confirm;
        }
    }

    /// I1: what was acknowledged is where it was put, on every replica.
    pub(crate) fn check_acked(&self) {
        for n in 0..self.machines.len() {
            let log = &self.process(n).log;
            let min = log.ends().min.0;
            for ticket in &self.acked {
                let (at, payload) = &self.sent[ticket];
                if *at >= min {
                    let image = log.image();
                    let found = image.record_at(*at).map(|(_, payload)| payload);
                    assert_eq!(found, Some(&payload[..]), "message {ticket} is lost on {n}");
                }
            }
        }
    }
}

/// First byte, and all bytes from there on.
fn bytes(log: &MemoryLog) -> (u64, Vec<u8>) {
    let image = log.image();
    (image.min, image.bytes)
}

/// Whether two logs are the same from where both have bytes.
fn is_same((a_min, a): (u64, Vec<u8>), (b_min, b): (u64, Vec<u8>)) -> bool {
    let min = a_min.max(b_min);
    let from = |first: u64, bytes: &[u8]| bytes.get((min - first) as usize..).map(<[u8]>::to_vec);
    from(a_min, &a).is_some_and(|a| Some(a) == from(b_min, &b))
}
