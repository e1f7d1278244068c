//! Wires between machines: what was sent arrives in order, late, or not at all.

use std::collections::VecDeque;

use rocket_ha::Event;
use rocket_ha::memory::Wish;
use rocket_replication::messages::{LinkId, Message};

use super::World;
use crate::log::GroupLog;

/// One connection, seen from both sides.
pub(super) struct Wire {
    ends: [(usize, LinkId); 2],
    is_open: [bool; 2],
    to: [VecDeque<Message>; 2],
}

/// Short, for traces.
fn show(message: &Message) -> String {
    match message {
        Message::Hello(hello) => format!(
            "Hello end {} epochs {:?} confirm {}",
            hello.log_end,
            hello.epochs.entries(),
            hello.confirm
        ),
        Message::Welcome(welcome) => format!(
            "Welcome e{} end {} epochs {:?} confirm {}",
            welcome.epoch,
            welcome.log_end,
            welcome.epochs.entries(),
            welcome.confirm
        ),
        Message::Data(data) => format!(
            "Data e{} {}+{} of e{} confirm {}",
            data.epoch,
            data.offset,
            data.bytes.len(),
            data.bytes_epoch.epoch,
            data.confirm
        ),
        other => format!("{other:?}"),
    }
}

impl<L: GroupLog> World<L> {
    pub(super) fn carry(&mut self, n: usize, wish: Wish) {
        match wish {
            Wish::Connect(link, address) => {
                // Addresses are the numbers of machines.
                let target = address.parse().unwrap_or(usize::MAX);
                self.dials.push_back((n, link, target));
            }
            Wish::Close(link) => {
                self.dials.retain(|(from, id, _)| (*from, *id) != (n, link));
                if let Some((wire, side)) = self.wire(n, link) {
                    self.wires[wire].is_open[side] = false;
                    self.wires[wire].to[side].clear();
                    self.drop_dead_wires();
                }
            }
            Wish::Send(link, message) => {
                let Some((wire, side)) = self.wire(n, link) else {
                    return;
                };
                let (other, _) = self.wires[wire].ends[1 - side];
                if self.trace.is_kept() && !matches!(message, Message::Beat(_)) {
                    let line = show(&message);
                    self.say(format_args!("  {n}>{other} {line}"));
                }
                if let Message::Ack(ack) = &message {
                    self.judge_ack(n, other, ack);
                }
                if self.wires[wire].is_open[1 - side] {
                    self.wires[wire].to[1 - side].push_back(message);
                }
            }
        }
    }

    fn wire(&self, n: usize, link: LinkId) -> Option<(usize, usize)> {
        self.wires.iter().enumerate().find_map(|(at, wire)| {
            let side = wire.ends.iter().position(|end| *end == (n, link))?;
            wire.is_open[side].then_some((at, side))
        })
    }

    fn drop_dead_wires(&mut self) {
        self.wires.retain(|wire| wire.is_open != [false, false]);
    }

    /// A process ended: its ends of wires are gone.
    pub(super) fn hang_up(&mut self, n: usize) {
        for wire in &mut self.wires {
            for side in 0..2 {
                if wire.ends[side].0 == n {
                    wire.is_open[side] = false;
                    wire.to[side].clear();
                }
            }
        }
        self.drop_dead_wires();
    }

    fn is_stalled(&self, from: usize, to: usize) -> bool {
        self.stalled.contains(&(from, to))
    }

    /// The oldest dial comes through, or fails because nobody is there. Returns whether there was one.
    pub(super) fn dial(&mut self) -> bool {
        let Some((n, link, target)) = self.dials.pop_front() else {
            return false;
        };
        if !self.is_awake(n) {
            // Told later.
            self.dials.push_back((n, link, target));
            return false;
        }
        let is_reached = target < self.machines.len()
            && !self.is_stalled(n, target)
            && !self.is_stalled(target, n);
        let other = self
            .process(target.min(self.machines.len() - 1))
            .filter(|_| is_reached)
            .map(|process| process.net.fresh());
        let Some(other) = other else {
            self.say(format_args!("{n} does not reach {target}"));
            self.step(n, Some(Event::ConnectFailed(link)));
            return true;
        };
        self.say(format_args!("{n} reaches {target}"));
        self.wires.push(Wire {
            ends: [(n, link), (target, other)],
            is_open: [true, true],
            to: [VecDeque::new(), VecDeque::new()],
        });
        self.step(n, Some(Event::Connected(link)));
        true
    }

    /// Ends of wires at which something can be told now.
    pub(super) fn deliverable(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (at, wire) in self.wires.iter().enumerate() {
            for side in 0..2 {
                let (here, there) = (wire.ends[side].0, wire.ends[1 - side].0);
                let has_news = !wire.to[side].is_empty() || !wire.is_open[1 - side];
                if wire.is_open[side]
                    && has_news
                    && self.is_awake(here)
                    && !self.is_stalled(there, here)
                {
                    found.push((at, side));
                }
            }
        }
        found
    }

    pub(super) fn deliver(&mut self, (at, side): (usize, usize)) {
        let wire = &mut self.wires[at];
        let (n, link) = wire.ends[side];
        let event = if let Some(message) = wire.to[side].pop_front() {
            if self.trace.is_kept() && !matches!(message, Message::Beat(_)) {
                let line = show(&message);
                let from = self.wires[at].ends[1 - side].0;
                self.say(format_args!("{n} receives of {from}: {line}"));
            }
            Event::Received(link, message)
        } else {
            wire.is_open[side] = false;
            self.say(format_args!("{n} sees {link:?} closed"));
            Event::Disconnected(link)
        };
        self.drop_dead_wires();
        self.step(n, Some(event));
    }

    /// A wire breaks. What was on its way is lost; each end notices later, with `half` only one of them does soon.
    pub(super) fn cut_wire(&mut self, which: u64, half: bool) {
        if self.wires.is_empty() {
            return;
        }
        let at = which as usize % self.wires.len();
        let late = which as usize / 7 % 2;
        let (early, _) = self.wires[at].ends[1 - late];
        if half && !self.is_awake(early) {
            return;
        }
        let mut wire = self.wires.remove(at);
        self.say(format_args!(
            "the link {}-{} breaks{}",
            wire.ends[0].0,
            wire.ends[1].0,
            if half { ", one end notices later" } else { "" }
        ));
        for side in 0..2 {
            wire.to[side].clear();
        }
        if half && wire.is_open == [true, true] {
            // The early end is told now; the late one finds the other closed when it looks.
            let (n, link) = wire.ends[1 - late];
            wire.is_open[1 - late] = false;
            self.wires.push(wire);
            self.step(n, Some(Event::Disconnected(link)));
            return;
        }
        for side in 0..2 {
            let (n, link) = wire.ends[side];
            if wire.is_open[side] && self.is_awake(n) {
                self.step(n, Some(Event::Disconnected(link)));
            } else if wire.is_open[side] {
                // It stands still, and finds out when it goes on.
                let mut is_open = [false, false];
                is_open[side] = true;
                self.wires.push(Wire {
                    ends: wire.ends,
                    is_open,
                    to: [VecDeque::new(), VecDeque::new()],
                });
            }
        }
    }
}
