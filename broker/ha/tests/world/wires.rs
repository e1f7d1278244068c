//! Wires between machines: what was sent arrives in order, late, or not at all.

use std::collections::VecDeque;

use rocket_ha::Event;
use rocket_ha::memory::Wish;
use rocket_replication::messages::{LinkId, Message};

use super::World;

pub(crate) struct Wire {
    pub(crate) ends: [(usize, LinkId); 2],
    pub(crate) is_open: [bool; 2],
    pub(crate) to: [VecDeque<Message>; 2],
}

impl World {
    pub(crate) fn carry(&mut self, n: usize, wish: Wish) {
        match wish {
            Wish::Connect(link, address) => {
                let target = address.parse().unwrap();
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
                if let Some((wire, side)) = self.wire(n, link)
                    && self.wires[wire].is_open[1 - side]
                {
                    self.wires[wire].to[1 - side].push_back(message);
                }
            }
        }
    }

    pub(crate) fn wire(&self, n: usize, link: LinkId) -> Option<(usize, usize)> {
        self.wires.iter().enumerate().find_map(|(at, wire)| {
            let side = wire.ends.iter().position(|end| *end == (n, link))?;
            wire.is_open[side].then_some((at, side))
        })
    }

    pub(crate) fn drop_dead_wires(&mut self) {
        self.wires.retain(|wire| wire.is_open != [false, false]);
    }

    pub(crate) fn dials(&self) -> usize {
        self.dials.len()
    }

    /// The oldest dial comes through, or fails because nobody is there.
    pub(crate) fn dial(&mut self) {
        let Some((n, link, target)) = self.dials.pop_front() else {
            return;
        };
        if !self.is_up(target) || !self.is_up(n) {
            self.step(n, Some(Event::ConnectFailed(link)));
            return;
        }
        let other = self.process(target).net.fresh();
        self.wires.push(Wire {
            ends: [(n, link), (target, other)],
            is_open: [true, true],
            to: [VecDeque::new(), VecDeque::new()],
        });
        self.step(n, Some(Event::Connected(link)));
    }

    /// Ends of wires at which something is to be told.
    pub(crate) fn deliverable(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (at, wire) in self.wires.iter().enumerate() {
            for side in 0..2 {
                let news = !wire.to[side].is_empty() || !wire.is_open[1 - side];
                if wire.is_open[side] && news {
                    found.push((at, side));
                }
            }
        }
        found
    }

    pub(crate) fn deliver(&mut self, (at, side): (usize, usize)) {
        let wire = &mut self.wires[at];
        let (n, link) = wire.ends[side];
        let event = if let Some(message) = wire.to[side].pop_front() {
            Event::Received(link, message)
        } else {
            wire.is_open[side] = false;
            Event::Disconnected(link)
        };
        self.drop_dead_wires();
        self.step(n, Some(event));
    }

    /// A wire is cut: both sides will notice.
    pub(crate) fn cut_wire(&mut self, which: u64) {
        if self.wires.is_empty() {
            return;
        }
        let at = usize::try_from(which).unwrap() % self.wires.len();
        let wire = self.wires.remove(at);
        for (side, (n, link)) in wire.ends.into_iter().enumerate() {
            if wire.is_open[side] {
                self.step(n, Some(Event::Disconnected(link)));
            }
        }
    }

    /// Bytes of a record's head are wrong in the next `Data` for `n`. Returns whether there is one.
    pub(crate) fn spoil_data_for(&mut self, n: usize) -> bool {
        for wire in &mut self.wires {
            for side in 0..2 {
                if wire.ends[side].0 == n
                    && let Some(Message::Data(data)) = wire.to[side].front_mut()
                {
                    let mut bytes = data.bytes.to_vec();
                    bytes[0] = 0xff;
                    data.bytes = bytes.into();
                    return true;
                }
            }
        }
        false
    }

    /// The next message for `n` arrives.
    pub(crate) fn deliver_to(&mut self, n: usize) {
        let found = self.deliverable();
        let at = found
            .into_iter()
            .find(|(at, side)| self.wires[*at].ends[*side].0 == n);
        self.deliver(at.expect("something for it"));
    }
}
