//! When the next request of a connection may leave, and what its answer means: pure, time is an argument.
//!
//! **Closed loop:** a request leaves as soon as fewer than `in_flight` are open; its latency counts from that moment. A broker
//! that stalls is asked less while it stalls, so its stall is one slow answer (coordinated omission).
//! **Open loop:** request *k* is intended at *begin + k / rate*, whatever the broker does; its latency counts from there, also
//! when it left later because all slots were taken or never left at all. A stall is as many slow answers as there would have
//! been customers.

use hdrhistogram::Histogram;

use super::{Window, latency};
use crate::wire::OPAQUE_BASE;

/// How requests follow one another on one connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as answers come.
    Closed,
    /// At fixed moments.
    Open {
        /// Nanoseconds from one request to the next.
        interval: f64,
        /// Nanoseconds after the run's begin of the first one.
        first: f64,
    },
}

/// A request that may leave now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Number for the request.
    pub opaque: i32,
    /// Its place in the order of this connection.
    pub index: u64,
    /// The moment that its latency counts from.
    pub intended: u64,
}

/// An answer that belongs to an open request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// What was noted with the request.
    pub note: u64,
    /// Whether the answer falls into the measured window.
    pub measured: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    intended: u64,
    note: u64,
    /// Odd while a request is open.
    turn: u32,
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Flow {
    pace: Pace,
    window: Window,
    slots: Vec<Slot>,
    free: Vec<u32>,
    bits: u32,
    index: u64,
    left: u64,
}

impl Flow {
    /// `in_flight` bounds the open requests, `left` all of them.
    pub fn new(pace: Pace, window: Window, in_flight: u32, left: u64) -> Self {
        let in_flight = in_flight.clamp(1, 1 << 20);
        Self {
            pace,
            window,
            slots: vec![Slot::default(); in_flight as usize],
            free: (0..in_flight).rev().collect(),
            bits: in_flight.next_power_of_two().trailing_zeros(),
            index: 0,
            left,
        }
    }

    fn intended(&self) -> u64 {
        match self.pace {
            Pace::Closed => 0,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "moments of a run are below 2^53 nanoseconds and not negative"
            )]
            Pace::Open { interval, first } => (first + self.index as f64 * interval) as u64,
        }
    }

    /// The next request if it may leave at `now`. What `note` says is given back with its answer.
    pub fn start(&mut self, now: u64, note: impl FnOnce() -> u64) -> Option<Start> {
        if self.is_out(now) {
            return None;
        }
        let intended = match self.pace {
            Pace::Closed => now,
            Pace::Open { .. } => Some(self.intended()).filter(|intended| *intended <= now)?,
        };
        let number = self.free.pop()?;
        let slot = self.slots.get_mut(number as usize)?;
        *slot = Slot {
            intended,
            note: note(),
            turn: slot.turn.wrapping_add(1),
        };
        let turn = slot.turn;
        let index = self.index;
        self.index += 1;
        self.left -= 1;
        Some(Start {
            opaque: self.opaque(number, turn),
            index,
            intended,
        })
    }

    fn opaque(&self, number: u32, turn: u32) -> i32 {
        let low = (turn << self.bits | number) & ((1 << 30) - 1);
        OPAQUE_BASE + i32::try_from(low).unwrap_or_default()
    }

    /// Whether no further request will leave: their number is used up, or the window is over.
    pub fn is_out(&self, now: u64) -> bool {
        self.left == 0
            || match self.pace {
                Pace::Closed => now >= self.window.to,
                Pace::Open { .. } => self.intended() >= self.window.to,
            }
    }

    /// When to look again without an answer; `None` when only an answer helps.
    pub fn wake_at(&self, now: u64) -> Option<u64> {
        match self.pace {
            Pace::Open { .. } if !self.free.is_empty() && !self.is_out(now) => {
                Some(self.intended())
            }
            _ => None,
        }
    }

    /// Requests without an answer.
    pub fn open(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes an answer; `None` when no open request has this number.
    pub fn finish(&mut self, now: u64, opaque: i32) -> Option<(Finished, u64)> {
        let low = u32::try_from(opaque.checked_sub(OPAQUE_BASE)?).ok()?;
        let number = low & ((1 << self.bits) - 1);
        let turn = self.slots.get(number as usize)?.turn;
        if turn.is_multiple_of(2) || self.opaque(number, turn) != opaque {
            return None;
        }
        let slot = self.slots.get_mut(number as usize)?;
        slot.turn = turn.wrapping_add(1);
        let (intended, note) = (slot.intended, slot.note);
        self.free.push(number);
        let moment = match self.pace {
            Pace::Closed => now,
            Pace::Open { .. } => intended,
        };
        let finished = Finished {
            note,
            measured: self.window.measures(moment),
        };
        Some((finished, now.saturating_sub(intended)))
    }

    /// Ends the run at `now`: what is open and, in an open loop, what was intended by then and never left counts with the latency
    /// that it has reached. Returns how many requests that are.
    pub fn give_up(&mut self, now: u64, latencies: &mut Histogram<u64>) -> u64 {
        let mut lost = 0;
        let slots = std::mem::take(&mut self.slots);
        for slot in slots.iter().filter(|slot| !slot.turn.is_multiple_of(2)) {
            lost += 1;
            if self.window.measures(slot.intended) {
                latency::record(latencies, now.saturating_sub(slot.intended));
            }
        }
        while matches!(self.pace, Pace::Open { .. }) && !self.is_out(now) {
            let intended = self.intended();
            if intended > now {
                break;
            }
            self.index += 1;
            self.left -= 1;
            lost += 1;
            if self.window.measures(intended) {
                latency::record(latencies, now.saturating_sub(intended));
            }
        }
        lost
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
