//! The invariants of docs/replication.md §12, judged after every step of a process and every change of the object.

use std::sync::Arc;

use rocket_ha::{Items, News};
use rocket_replication::Epoch;
use rocket_replication::effect::{Halt, Report as CutReport};
use rocket_replication::master::Phase;
use rocket_replication::messages::Ack;
use rocket_replication::replica::{Flush, Replica};
use rocket_replication::state::Unclean;

use super::{Process, World};
use crate::fuse::End;
use crate::log::{GroupLog, Mirror};
use crate::plan::Fault;

impl<L: GroupLog> World<L> {
    /// What the step of `n` that told `news` came to.
    pub(super) fn judge_step(&mut self, n: usize, news: &[News]) {
        let is_reshaped = news
            .iter()
            .any(|news| matches!(news, News::Cut { .. } | News::StartedAnew { .. }));
        self.note_cuts(n, news);
        for item in news {
            match item {
                News::Cut {
                    to, epoch, report, ..
                } => self.judge_cut(n, (to.0, to.0), *epoch, *report),
                News::StartedAnew {
                    at,
                    from,
                    epoch,
                    report,
                    ..
                } => self.judge_cut(n, (at.0, from.0), *epoch, *report),
                News::Halted(why) => self.judge_halt(n, *why),
                // §8.16.
                News::Forgot if self.plan.weather.has(Fault::Forgetting) => {}
                News::Forgot => self.fail(format!("{n} finds that the coordinator forgot")),
                News::Role { .. } | News::Damaged(_) | News::NeedsRestart => {}
            }
        }
        if let Some(process) = self.machines[n].process.as_mut() {
            if is_reshaped {
                process.mirror = Mirror::default();
            }
            process.log.refresh(&mut process.mirror);
        }
        self.judge_progress(n, is_reshaped);
        let committed = self.ledger.committed.len();
        self.judge_confirm(n, is_reshaped);
        self.judge_mastership(n);
        if committed == self.ledger.committed.len() {
            self.judge_complete(n);
        } else {
            self.judge_electable();
        }
        self.judge_logs(n);
        self.judge_visible(n);
        self.judge_flushed(n);
        let machine = &mut self.machines[n];
        if let Some(process) = machine.process.as_mut() {
            let replica = process.actor.replica();
            process.has_led = replica.leading().is_some();
            machine.knew = (process.known.3, replica.log().epochs.last_epoch());
        }
    }

    /// I9: nothing that a process knows goes back.
    fn judge_progress(&mut self, n: usize, is_reshaped: bool) {
        let Some(process) = self.machines[n].process.as_mut() else {
            return;
        };
        let replica = process.actor.replica();
        let (epoch, version) = replica.seen();
        let known = (
            epoch,
            version,
            replica.tracker().version(),
            process.board.committed().0,
        );
        let before = process.known;
        // The confirm of this step is judged next.
        process.known = (known.0, known.1, known.2, before.3);
        let fell = known.0 < before.0
            || known.1 < before.1
            || known.2 < before.2
            || known.3 < before.3 && !is_reshaped;
        if fell {
            self.fail(format!("I9: {n} went back from {before:?} to {known:?}"));
        }
    }

    /// P2, I7, I8: what a process takes for committed is what everybody took for committed.
    fn judge_confirm(&mut self, n: usize, is_reshaped: bool) {
        let Some(process) = self.process(n) else {
            return;
        };
        let (confirm, checked) = (process.board.committed().0, process.known.3);
        if process.mirror.is_damaged {
            // What it knows to be committed it cannot read. It counts for nothing (I2), and leads nobody.
            if let Some(process) = self.machines[n].process.as_mut() {
                process.known.3 = confirm;
            }
            return;
        }
        if confirm > process.mirror.end() {
            self.fail(format!("{n} takes for committed what it does not have"));
            return;
        }
        // After an election that gave something up a master may bring it back: it is committed anew.
        let is_back = confirm > self.ledger.committed.len() as u64
            && process.actor.replica().leading().is_some();
        if confirm == checked && !is_reshaped && !is_back {
            return;
        }
        if let Some(process) = self.machines[n].process.as_mut() {
            process.known.3 = confirm;
        }
        if self.is_given_up(n) {
            return;
        }
        let Some(process) = self.process(n) else {
            return;
        };
        let (mirror, committed) = (&process.mirror, &self.ledger.committed);
        let known = confirm.min(committed.len() as u64);
        let ours = mirror.slice(mirror.min, known);
        let min = (mirror.min as usize).min(known as usize);
        if ours != &committed[min..known as usize] {
            self.fail(format!(
                "P2: below {known} {n} takes other bytes for committed than others did"
            ));
            return;
        }
        if confirm <= committed.len() as u64 {
            return;
        }
        let state = self.state();
        let mut wrong = None;
        let mut is_late = false;
        if let Some(master) = process.actor.replica().leading() {
            is_late = state.epoch > master.epoch;
        } else if !process.has_led {
            wrong = Some(format!(
                "a slave, {n}, takes {confirm} for committed, and no master did"
            ));
        }
        if let Some(master) = process.actor.replica().leading()
            && state.epoch == master.epoch
        {
            let waited_for = master
                .commit()
                .possible()
                .iter()
                .flat_map(|quorum| &quorum.members);
            let waited_for: Vec<_> = waited_for.map(|m| m.replica_id).collect();
            let is_covered = |m: &rocket_replication::Member| waited_for.contains(&m.replica_id);
            if !state.in_sync.iter().all(is_covered) {
                wrong = Some(format!("I7: {n} committed {confirm} without a member of S"));
            }
        }
        let begin = mirror.min.max(committed.len() as u64);
        let retained = self.ledger.once.get(committed.len()..begin as usize);
        if retained.is_none() && begin > committed.len() as u64 {
            wrong = Some(format!("{n} lost what was not committed to retention"));
        }
        let bytes = [retained.unwrap_or_default(), mirror.slice(begin, confirm)].concat();
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
        self.ledger.committed.extend(bytes);
        if is_late {
            self.ledger.reached.committed_late += 1;
            self.count_what_is_left();
        }
    }

    /// A process that ended in the middle of a step had let others know this.
    pub(super) fn committed_by_dying(&mut self, n: usize, confirm: u64) {
        if self.is_given_up(n) || self.replica(n).and_then(Replica::leading).is_none() {
            return;
        }
        let committed = self.ledger.committed.len() as u64;
        let new = self.held_by(n).slice(committed, confirm).to_vec();
        self.ledger.committed.extend(new);
    }

    /// I3, I4: a mastership has one member and one start, and an activated one holds everything.
    fn judge_mastership(&mut self, n: usize) {
        let state = self.state();
        let Some(replica) = self.replica(n) else {
            return;
        };
        let Some(master) = replica.leading() else {
            return;
        };
        let begun = (master.member, master.start);
        let (epoch, phase, last) = (
            master.epoch,
            master.phase(),
            replica.log().epochs.last_epoch(),
        );
        if *self.ledger.epochs.entry(epoch).or_insert(begun) != begun {
            self.fail(format!("I4: epoch {epoch} was begun twice"));
        }
        if epoch == state.epoch && phase != Phase::Opening && phase != Phase::Fenced {
            if last != epoch {
                self.fail(format!("I3: master {n} of epoch {epoch} has not its entry"));
            }
            if !self.has_committed(n) {
                self.fail(format!("I3: master {n} lacks committed bytes"));
            }
        }
    }

    fn has_committed(&self, n: usize) -> bool {
        let (mirror, committed) = (self.held_by(n), &self.ledger.committed);
        let end = committed.len() as u64;
        mirror.min >= end || mirror.slice(mirror.min, end) == &committed[mirror.min as usize..]
    }

    /// I2: every live member of S ∪ E holds all that was committed.
    pub(super) fn judge_electable(&mut self) {
        for n in 0..self.machines.len() {
            self.judge_complete(n);
        }
    }

    fn judge_complete(&mut self, n: usize) {
        let member = self.replica(n).and_then(Replica::member);
        let Some(member) = member.filter(|m| self.state().is_complete(*m)) else {
            return;
        };
        if self.has_committed(n) {
            self.ledger.hurt.remove(&member.replica_id);
            self.look_for_the_gone();
        } else {
            self.fail(format!(
                "I2: {n} is electable and lacks bytes of the {} committed",
                self.ledger.committed.len()
            ));
        }
    }

    /// I5: logs that share an epoch are the same below the smaller of its two ends.
    fn judge_logs(&mut self, n: usize) {
        for other in 0..self.machines.len() {
            if other == n {
                continue;
            }
            let (Some(a), Some(b)) = (self.process(n), self.process(other)) else {
                continue;
            };
            let (mine, theirs) = (a.actor.replica(), b.actor.replica());
            let mut newest_first = mine.log().epochs.entries().iter().rev();
            let others = theirs.log().epochs.entries();
            let Some(entry) = newest_first.find(|entry| others.contains(entry)) else {
                continue;
            };
            let end = |process: &Process<L>| {
                let (log, mirror) = (process.actor.replica().log(), &process.mirror);
                let next = log.epochs.entries().iter().find(|e| e.epoch > entry.epoch);
                // A cut that failed has changed the list and not the log, and a write that failed may have left anything.
                let known = mirror.end().min(log.end.0);
                let known = if process.log.has_failed() {
                    known.min(mirror.durable)
                } else {
                    known
                };
                next.map_or(known, |e| e.start.0.min(known))
            };
            let end = end(a).min(end(b));
            let from = a.mirror.min.max(b.mirror.min).min(end);
            if a.mirror.slice(from, end) != b.mirror.slice(from, end) {
                let epoch = entry.epoch;
                self.fail(format!(
                    "I5: {n} and {other} share epoch {epoch} and differ below {end}"
                ));
            }
        }
    }

    /// Consumers see nothing beyond what is committed.
    pub(super) fn judge_visible(&mut self, n: usize) {
        let Some(process) = self.process(n) else {
            return;
        };
        let (visible, confirm) = (process.log.visible(), process.board.committed().0);
        if visible > confirm {
            self.fail(format!("{n} shows {visible}, and {confirm} is committed"));
        }
    }

    /// What `n` told that it gave up.
    pub(super) fn note_cuts(&mut self, n: usize, news: &[News]) {
        for item in news {
            match item {
                News::Cut { to, from_end, .. } => {
                    self.ledger.reached.cuts += 1;
                    self.ledger.cut.push((n, to.0, from_end.0));
                }
                News::StartedAnew { from, from_end, .. } => {
                    self.ledger.reached.started_anew += 1;
                    self.ledger.cut.push((n, from.0, from_end.0));
                }
                News::Damaged(true) => {
                    self.ledger.damaged.insert(self.run_of(n));
                }
                News::Damaged(false) => self.ledger.reached.repaired += 1,
                News::Halted(_) | News::Forgot | News::Role { .. } | News::NeedsRestart => {}
            }
        }
    }

    /// I6, P4. A cut that a start finished is judged by what the process knew that began it. The log goes on at `to`, and what
    /// lies from `gone` on is given up.
    fn judge_cut(&mut self, n: usize, (to, gone): (u64, u64), epoch: Epoch, report: CutReport) {
        let state = self.state();
        let (own, last) = self.machines[n].knew;
        let is_given_up = |unclean: &Unclean| last < unclean.epoch && unclean.epoch <= epoch;
        let is_given_up = state.unclean.iter().any(is_given_up);
        let Some(process) = self.process(n) else {
            return;
        };
        let held = process.mirror.same_until(&self.ledger.committed);
        let member = process.actor.replica().member();
        let is_complete = member.is_some_and(|m| state.is_complete(m));
        if to < held && is_complete {
            self.fail(format!(
                "I6: {n}, a member of S or E, cuts to {to}, below {held}, which was committed"
            ));
        }
        if to < own && !is_given_up {
            self.fail(format!(
                "I6: {n} cuts to {to}, below {own}, which it knew to be committed"
            ));
        }
        let is_promised = if self.plan.changes_modes() {
            self.holds_promised(n, gone)
        } else {
            self.plan.column.answers() == rocket_ha::Answers::Counted
        };
        if is_promised && report == CutReport::Quiet {
            self.fail(format!("P4: the cut of {n} to {to} is not reported"));
        }
    }

    fn judge_halt(&mut self, n: usize, why: Halt) {
        let is_expected = match why {
            Halt::DiskFailed => true,
            Halt::CommittedCutRefused { .. }
            | Halt::BehindRetention
            | Halt::Superseded
            | Halt::GroupFull
            | Halt::OtherFile { .. }
            | Halt::Disorder => false,
        };
        if !is_expected {
            self.fail(format!("{n} halts: {why:?}"));
        }
    }

    /// What must be left of a process that ended: all of its log, or where power went or the log had failed what was flushed,
    /// but for what a cut was about to take. `before`: what it had.
    pub(super) fn judge_end(&mut self, n: usize, end: End, has_failed: bool, before: &Mirror) {
        let machine = &self.machines[n];
        let items = Items::new(Arc::new(machine.dir.clone()));
        let saved = items.load().ok().flatten();
        if saved.is_some_and(|saved| saved.cut.is_some()) {
            return;
        }
        let promised = if end == End::Kill && !has_failed {
            before.end()
        } else {
            before.durable
        };
        let (left, from) = (&machine.last, before.min.max(machine.last.min));
        if left.slice(from, promised) != before.slice(from, promised) {
            let left = left.end();
            self.fail(format!(
                "{n} had {promised} bytes that nothing may take, and {left} are left"
            ));
        }
    }

    /// I12: an acknowledgement says what is true at this instant.
    pub(super) fn judge_ack(&mut self, n: usize, other: usize, ack: &Ack) {
        let (Some(slave), Some(master)) = (self.process(n), self.process(other)) else {
            return;
        };
        // Where modes change the record says what an acknowledgement means (§5).
        let recorded = slave.actor.replica().member();
        let is_durable = recorded.is_some_and(|member| self.state().is_durable(member))
            || !self.plan.changes_modes() && slave.flush == Flush::Sync;
        let promise = if is_durable {
            slave.mirror.durable
        } else {
            slave.mirror.end()
        };
        let is_leading = master
            .actor
            .replica()
            .leading()
            .is_some_and(|m| m.epoch == ack.epoch);
        let (end, ends) = (ack.offset.0, (slave.mirror.end(), master.mirror.end()));
        let from = slave.mirror.min.max(master.mirror.min);
        let differs = is_leading && slave.mirror.slice(from, end) != master.mirror.slice(from, end);
        if promise < end {
            self.fail(format!(
                "I12: {n} acknowledges {end} and has {promise} that would survive"
            ));
        } else if differs {
            self.fail(format!(
                "I12: {n} acknowledges {end} with other bytes than the master's; what can be read ends at {ends:?}"
            ));
        }
    }
}
