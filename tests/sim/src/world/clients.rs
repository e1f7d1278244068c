//! Senders and consumers, and what they may say afterwards: nothing acknowledged is gone (P1), nothing that was seen became
//! something else (P2), and the order that was is the order that is (P3).

use std::collections::{BTreeMap, BTreeSet};

use rocket_ha::memory::Told;
use rocket_replication::mutations::Mutant;
use rocket_replication::policy::Flush;
use rocket_replication::replica::Replica;
use rocket_replication::{Policy, Replication};

use super::World;
use super::ledger::Loss;
use crate::log::{GroupLog, Seen, payload};

/// A message that a log took.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// Who took it, and in which of its runs.
    by: (usize, u128),
    queue: u64,
    /// Where its bytes begin in the log, and where its record ends; `None` if the log failed while it was written.
    pub(super) at: Option<(u64, u64)>,
    pub(super) len: usize,
    /// What its master took for in force when it was appended; once it is answered, what its answer promises.
    pub(super) promise: Policy,
}

/// See the module.
pub(super) struct Clients {
    tickets: u64,
    pub(super) sent: BTreeMap<u64, Sent>,
    pub(super) acked: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
    /// Acknowledged, and lost by an election that says so.
    given_up: BTreeSet<u64>,
    /// Told that they were not sent.
    refused: BTreeSet<u64>,
    /// End of what was acknowledged: what is sent afterwards lies behind it.
    pub(super) acked_end: u64,
    /// What was ever seen: by queue and offset, which message, and where the next one is.
    seen: BTreeMap<(u64, u64), (u64, u64)>,
    /// Where each consumer goes on, by consumer and queue.
    positions: BTreeMap<(u64, u64), u64>,
}

impl Clients {
    pub(super) fn new() -> Self {
        Self {
            tickets: 0,
            sent: BTreeMap::new(),
            acked: BTreeSet::new(),
            unknown: BTreeSet::new(),
            given_up: BTreeSet::new(),
            refused: BTreeSet::new(),
            acked_end: 0,
            seen: BTreeMap::new(),
            positions: BTreeMap::new(),
        }
    }
}

impl<L: GroupLog> World<L> {
    /// Who takes sends.
    pub(super) fn open_master(&self) -> Option<usize> {
        let n = self.machine_of(self.state().master?)?;
        self.process(n)
            .is_some_and(|process| process.log.takes_sends())
            .then_some(n)
    }

    /// A message for `n`. Returns whether it was taken.
    pub(super) fn send(&mut self, n: usize) -> bool {
        let queue = self.queue();
        self.send_to(n, queue)
    }

    pub(super) fn send_to(&mut self, n: usize, queue: u64) -> bool {
        let len = self.dice.below(40) as usize;
        let len = if self.dice.once_in(12) { len * 4 } else { len };
        let starts = self.machines[n].starts;
        if !self.is_awake(n) || !self.serves(n) {
            return false;
        }
        let promise = self.modes_of(n);
        let Some(process) = self.machines[n].process.as_mut() else {
            return false;
        };
        if !process.log.takes_sends() {
            return false;
        }
        let ticket = self.clients.tickets + 1;
        let bytes = payload(ticket, len);
        let taken = process.log.send(queue, &bytes, ticket);
        let (from, durable) = (process.mirror.end(), process.mirror.durable);
        process.log.refresh(&mut process.mirror);
        let end = process.mirror.end();
        let new = process.mirror.slice(from, end);
        let place = new.windows(bytes.len()).position(|w| w == bytes);
        let at = place.map(|place| (from + place as u64, end));
        let frozen = process.dir.take_frozen();
        let told = process.log.take_told();
        if taken.is_ok() {
            self.clients.tickets = ticket;
            self.say(format_args!("{n} takes message {ticket} at {at:?}"));
            let by = (n, starts);
            let sent = Sent {
                by,
                queue,
                at,
                len,
                promise,
            };
            self.clients.sent.insert(ticket, sent);
            self.judge_send(n, at, promise);
        }
        if let Some(frozen) = frozen {
            // What it did after its end nobody has.
            if let Some(process) = self.machines[n].process.as_mut() {
                process.mirror.keep_below(from);
                process.mirror.durable = durable.min(from);
            }
            self.froze(n, frozen);
            return true;
        }
        self.hear(n, told);
        self.tell_failure(n);
        taken.is_ok()
    }

    /// I16, §8.11.5, I4, P3.
    fn judge_send(&mut self, n: usize, at: Option<(u64, u64)>, promise: Policy) {
        let Some(replica) = self.replica(n) else {
            return;
        };
        let Some(master) = replica.leading() else {
            self.fail(format!("{n} took a send and is no master"));
            return;
        };
        let (epoch, start, confirm) = (master.epoch, master.start, replica.log().confirm);
        let member = replica.member();
        if !self.ledger.activated.contains(&epoch) {
            self.fail(format!(
                "I16: {n} took a send before a write of its own was applied"
            ));
        }
        if confirm < start {
            self.fail(format!("§8.11.5: {n} took a send before the barrier"));
        }
        if self.ledger.epochs.get(&epoch).map(|(m, _)| *m) != member {
            self.fail(format!(
                "I4: {n} appends in epoch {epoch}, which another one began"
            ));
        }
        let acked_end = self.clients.acked_end;
        let is_before = at.is_some_and(|(at, _)| at < acked_end);
        if is_before && promise.replication == Replication::Sync && !self.is_given_up(n) {
            // Nobody may be told that it was sent; that it lies there is no harm.
            self.say(format_args!(
                "  {n} appends before {acked_end}, which was acknowledged"
            ));
        }
    }

    /// A sender of `n` is told what became of its message.
    pub(super) fn told(&mut self, n: usize, ticket: u64, told: Told) {
        let Some(sent) = self.clients.sent.get(&ticket).cloned() else {
            self.fail(format!("message {ticket} was answered and never taken"));
            return;
        };
        self.say(format_args!("message {ticket} is answered {told:?} by {n}"));
        let clients = &mut self.clients;
        if clients.acked.contains(&ticket) || clients.unknown.contains(&ticket) {
            self.fail(format!("message {ticket} is answered twice"));
            return;
        }
        if told == Told::Unknown {
            if self.plan.mutations.has(Mutant::M34) {
                clients.refused.insert(ticket);
            }
            clients.unknown.insert(ticket);
            return;
        }
        clients.acked.insert(ticket);
        self.ledger.reached.acked += 1;
        self.judge_answer(n, ticket, &sent);
    }

    /// Whether it lies among what was committed.
    pub(super) fn is_committed(&self, ticket: u64) -> bool {
        let committed = &self.ledger.committed;
        self.clients.sent.get(&ticket).is_some_and(|sent| {
            let bytes = payload(ticket, sent.len);
            let Some((at, end)) = sent.at else {
                // All of it may have been written before the write failed.
                return committed.windows(bytes.len()).any(|w| w == bytes);
            };
            let range = at as usize..at as usize + bytes.len();
            end <= committed.len() as u64 && committed.get(range) == Some(&bytes[..])
        })
    }

    /// An election that says so gave up everything from `from` on: it may be something else now.
    pub(super) fn clients_lose_from(&mut self, from: u64) {
        let clients = &mut self.clients;
        let sent = &clients.sent;
        let is_kept = |ticket: &u64| {
            let place = sent.get(ticket).and_then(|sent| sent.at);
            place.is_some_and(|(_, end)| end <= from)
        };
        clients.seen.retain(|_, (ticket, _)| is_kept(ticket));
        let lost = clients.acked.iter().filter(|ticket| !is_kept(ticket));
        let lost: Vec<u64> = lost.copied().collect();
        self.ledger.reached.lost += lost.len() as u64;
        for ticket in lost {
            clients.acked.remove(&ticket);
            clients.given_up.insert(ticket);
        }
        clients.acked_end = clients.acked_end.min(from);
        // A consumer that was beyond the end is held there (§9); positions are not kept in the log yet.
        clients.positions.clear();
    }

    /// A consumer asks `n`.
    pub(super) fn consume(&mut self, n: usize) {
        let (consumer, queue) = (self.dice.below(2), self.dice.below(L::QUEUES));
        if !self.is_awake(n) || self.is_given_up(n) {
            return;
        }
        let from = self.clients.positions.get(&(consumer, queue)).copied();
        let from = from.unwrap_or(0);
        let next = self.read(n, queue, from);
        // What is damaged there the consumer gets of another replica.
        if !self.held_by(n).is_damaged {
            self.clients.positions.insert((consumer, queue), next);
        }
    }

    /// Reads once, judges what came, and returns where to go on.
    fn read(&mut self, n: usize, queue: u64, from: u64) -> u64 {
        let Some(process) = self.process(n) else {
            return from;
        };
        // Whoever asks for something before is told where the queue begins.
        let from = from.max(process.log.first(queue));
        let seen = process.log.read(queue, from);
        let mut next = from;
        for seen in seen {
            self.judge_read(n, queue, next, seen);
            next = seen.next;
        }
        next
    }

    /// I10, I11.
    fn judge_read(&mut self, n: usize, queue: u64, asked: u64, seen: Seen) {
        self.ledger.reached.read += 1;
        let found = (seen.ticket, seen.next);
        let before = *self
            .clients
            .seen
            .entry((queue, seen.offset))
            .or_insert(found);
        let is_sent_there = self
            .clients
            .sent
            .get(&seen.ticket)
            .is_some_and(|sent| sent.queue == queue);
        let is_blind = self.ledger.is_blind;
        let is_dense = L::QUEUES > 1 && !self.held_by(n).is_damaged && !is_blind;
        if before != found && !is_blind {
            self.fail(format!(
                "I10: {n} shows message {} at offset {} of queue {queue}, and {} was seen there",
                seen.ticket, seen.offset, before.0
            ));
        } else if !self.is_committed(seen.ticket) {
            self.fail(format!(
                "I10: {n} shows message {}, which is not committed",
                seen.ticket
            ));
        } else if !is_sent_there || seen.offset < asked || is_dense && seen.offset != asked {
            self.fail(format!(
                "I11: {n} shows offset {} of queue {queue} to who asked for {asked}",
                seen.offset
            ));
        } else if self.clients.refused.contains(&seen.ticket) {
            self.fail(format!(
                "message {} is there, and its sender was told that it failed",
                seen.ticket
            ));
        } else if before != found {
            // Its offset was given again.
            self.clients.seen.insert((queue, seen.offset), found);
        }
    }

    /// L3: whoever waits at a process that runs was answered.
    pub(super) fn unanswered(&self) -> Option<u64> {
        let is_waiting = |ticket: &u64, sent: &Sent| {
            let (n, starts) = sent.by;
            let is_running = self.is_up(n) && self.machines[n].starts == starts;
            let clients = &self.clients;
            let told = [&clients.acked, &clients.unknown, &clients.given_up];
            is_running && !told.iter().any(|told| told.contains(ticket))
        };
        let mut sent = self.clients.sent.iter();
        sent.find(|(ticket, sent)| is_waiting(ticket, sent))
            .map(|(ticket, _)| *ticket)
    }

    /// When all is at rest: what was acknowledged is on every replica, where it was put, and consumers read all of it in
    /// order, the same everywhere.
    pub(super) fn judge_history(&mut self) {
        for n in 0..self.machines.len() {
            if self.held_by(n).is_damaged {
                continue;
            }
            self.judge_acked(n);
            let committed = &self.ledger.committed;
            let judged = self.process(n).map(|process| {
                let places = process.log.places(committed);
                places.and_then(|()| process.log.derived())
            });
            if let Some(Err(wrong)) = judged.filter(|_| !self.ledger.is_blind) {
                self.fail(format!("on {n}: {wrong}"));
            }
            for queue in 0..L::QUEUES {
                let mut at = 0;
                loop {
                    let next = self.read(n, queue, at);
                    if next == at || self.ledger.broken.is_some() {
                        break;
                    }
                    at = next;
                }
            }
        }
        let mut all = 0..self.machines.len();
        let whole = all.find(|n| !self.held_by(*n).is_damaged).unwrap_or(0);
        let unseen = self.clients.acked.iter().find(|ticket| {
            let mut seen = self.clients.seen.values();
            let min = self.held_by(whole).min;
            let is_there = self.clients.sent[*ticket]
                .at
                .is_some_and(|(at, _)| at >= min);
            is_there && self.is_committed(**ticket) && !seen.any(|(t, _)| t == *ticket)
        });
        if let Some(ticket) = unseen.copied() {
            self.fail(format!("message {ticket} is there and nobody can read it"));
        }
    }

    fn judge_acked(&mut self, n: usize) {
        let mirror = self.held_by(n);
        let mut lost = Vec::new();
        for ticket in &self.clients.acked {
            let sent = &self.clients.sent[ticket];
            let Some((at, end)) = sent.at else {
                continue;
            };
            let bytes = payload(*ticket, sent.len);
            if at >= mirror.min && mirror.slice(at, end).get(..bytes.len()) != Some(&bytes[..]) {
                lost.push((*ticket, sent.clone()));
            }
        }
        for (ticket, sent) in lost {
            if sent.promise.replication == Replication::Async && self.is_explained(&sent) {
                self.ledger.reached.lost += u64::from(n == 0);
            } else {
                self.fail(format!(
                    "P1: message {ticket} was acknowledged and is lost on {n}"
                ));
            }
        }
    }

    /// Replication async: a tail may be lost that was cut off and is kept aside, or went down with its machine.
    fn is_explained(&self, sent: &Sent) -> bool {
        let ((by, _), Some((at, end))) = (sent.by, sent.at) else {
            return false;
        };
        let holds = |from: u64, to: u64| from <= at && end <= to;
        let is_cut = self
            .ledger
            .cut
            .iter()
            .any(|(n, from, to)| *n == by && holds(*from, *to));
        let is_aside = self.process(by).is_some_and(|process| {
            let pieces = process.log.quarantine();
            pieces.iter().any(|(from, to)| holds(*from, *to))
        });
        // What was promised flushed goes with a disk alone.
        let may_take = |what: Loss| what == Loss::Disk || sent.promise.flush == Flush::Async;
        let mut harmed = self.ledger.harmed.iter();
        let is_harmed = harmed.any(|(n, from, what)| *n == by && *from < end && may_take(*what));
        is_cut || is_aside || is_harmed
    }

    /// Whether `n` leads and takes sends, and everything that it has is committed and visible.
    pub(super) fn is_all_committed(&self, n: usize) -> bool {
        let Some(process) = self.process(n) else {
            return false;
        };
        let end = process.mirror.end();
        process.log.ends().appended.0 == end
            && process.board.committed().0 == end
            && process.log.visible() == end
    }

    /// The role of `n` allows it to answer.
    pub(super) fn leads(&self, n: usize) -> bool {
        self.replica(n).and_then(Replica::leading).is_some()
    }
}
