//! What is damaged in a log.

use rocket_protocol::ids::PhysicalOffset;

/// A part of the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span {
    /// Its first byte.
    pub from: PhysicalOffset,
    /// One behind its last byte.
    pub to: PhysicalOffset,
}

impl Span {
    pub(super) fn lies_in(&self, other: &Self) -> bool {
        other.from <= self.from && self.to <= other.to
    }

    /// What both have.
    pub(super) fn common(&self, other: &Self) -> Option<Self> {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        (from < to).then_some(Self { from, to })
    }
}

/// The same in log order, what meets or touches as one.
pub(super) fn united(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut united: Vec<Span> = Vec::new();
    for span in spans {
        match united.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => united.push(span),
        }
    }
    united
}

/// What is known to be damaged in a log, both in log order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Damage {
    /// The bytes that are not what they should be.
    pub bytes: Vec<Span>,
    /// What is to be had from another replica for them: whole blocks, each part in one file.
    pub blocks: Vec<Span>,
    /// Of the bytes those that nothing can be written over: their file is missing or too short. Nobody is asked for them.
    pub missing: Vec<Span>,
}

impl Damage {
    /// Whether all is sound.
    pub fn is_none(&self) -> bool {
        self.bytes.is_empty() && self.blocks.is_empty()
    }

    /// The first damaged byte that is not below `floor`.
    pub(crate) fn from(&self, floor: PhysicalOffset) -> Option<PhysicalOffset> {
        let first = self.bytes.iter().find(|span| span.to > floor);
        first.map(|span| span.from.max(floor))
    }
}
