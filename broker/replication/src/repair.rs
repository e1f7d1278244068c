//! How a replica whose log is damaged gets the damaged bytes from another one (§8.15).
//!
//! ```text
//!          tick            Dialed         tick, Fetch        Range            Repaired
//!  Apart ───────▶ Dialing ───────▶ Linked ───────▶ Asking ───────▶ Writing ───────▶ Linked
//!    ▲               │                │  this peer has it not       │
//!    └───────────────┴────────────────┴── link lost, no answer ─────┘   the next peer, or the next piece
//! ```
//!
//! One piece at a time, over a link of its own, one step a tick: ticks come at the pace at which the caller wants to repair.
//! Whoever is asked says himself whether his bytes are the same: two logs of a group that share an entry of `epochs` are equal below the
//! smaller of its two ends (I5), and the question names the entry that its last byte belongs to.

use std::collections::BTreeSet;

use bytes::Bytes;
use rocket_protocol::ids::PhysicalOffset;

use crate::effect::Effect;
#[cfg(doc)]
use crate::effect::Input;
use crate::identity::ReplicaId;
use crate::local::Core;
use crate::messages::{FETCH_BYTES_MAX, Fetch, LinkId, Message, Range};
use crate::mutations::Mutant;
use crate::state::State;

/// Ticks that an answer may take.
const PATIENCE_TICKS: u32 = 40;
/// Ticks between two walks over what is damaged, when the first one left something.
const REST_TICKS: u32 = 100;
/// Ticks before a piece is fetched again that could not be written yet.
const LATER_TICKS: u32 = 10;

/// A part of the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span {
    /// Its first byte.
    pub from: PhysicalOffset,
    /// One behind its last byte.
    pub to: PhysicalOffset,
}

/// What is known to be damaged in a log, both in log order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Damage {
    /// The bytes that are not what they should be.
    pub bytes: Vec<Span>,
    /// What is to be had from another replica for them: whole blocks, each part in one file.
    pub blocks: Vec<Span>,
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

/// What is to be done for a repair.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// Open a connection to another replica's replication listener, to ask it for what is damaged here. Answered with
    /// [`Input::Dialed`] or [`Input::DialFailed`]; one at a time.
    Dial {
        /// Where.
        address: String,
    },
    /// Read this range of the log and send it in a `Range`; an empty one if it is damaged here too, or cannot be read.
    SendRange {
        /// Where to.
        link: LinkId,
        /// First byte.
        offset: PhysicalOffset,
        /// How many.
        length: u32,
    },
    /// Write these bytes over what is damaged, if they are what was written there, and flush them. Answered with
    /// [`Input::Repaired`]; what is damaged then is fed in as [`Input::Damaged`].
    Write {
        /// Where.
        offset: PhysicalOffset,
        /// The bytes.
        bytes: Bytes,
    },
    /// Whether readers are to wait for what is damaged, since another replica may have it, rather than pass it over.
    Hold(bool),
}

/// What became of bytes that were to be written over damage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// They are on the disk.
    Done,
    /// They are not what was written here.
    Refused,
    /// Not now.
    Later,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Stage {
    #[default]
    Apart,
    Dialing {
        peer: ReplicaId,
    },
    Linked {
        peer: ReplicaId,
        link: LinkId,
    },
    Asking {
        peer: ReplicaId,
        link: LinkId,
        fetch: Fetch,
        ticks: u32,
    },
    Writing {
        peer: ReplicaId,
        link: LinkId,
        to: PhysicalOffset,
    },
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Repair {
    /// What is damaged, in log order; parts within one file each.
    spans: Vec<Span>,
    stage: Stage,
    /// The walk has come to here.
    at: PhysicalOffset,
    /// Who was asked for the piece there in vain,
    passed: BTreeSet<ReplicaId>,
    /// and whether one of them did not answer.
    is_unheard: bool,
    /// Nobody has some piece of this walk: everybody answered.
    is_missing: bool,
    /// Readers need not wait for what nobody has.
    is_given_up: bool,
    rest: u32,
}

impl Repair {
    /// The link to whoever is asked.
    pub(crate) fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Linked { link, .. }
            | Stage::Asking { link, .. }
            | Stage::Writing { link, .. } => Some(link),
            Stage::Apart | Stage::Dialing { .. } => None,
        }
    }

    /// What is damaged now.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether every other replica said that it has not all of what is damaged here.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// What is damaged is another.
    pub(crate) fn found(&mut self, spans: Vec<Span>, out: &mut Vec<Effect>) {
        if self.spans == spans {
            return;
        }
        self.spans = spans;
        self.rest = 0;
        if self.spans.is_empty() {
            self.leave(out);
            *self = Self {
                is_given_up: self.is_given_up,
                ..Self::default()
            };
            self.give_up(false, out);
        }
    }

    /// One step of the work.
    pub(crate) fn tick(&mut self, core: &Core, out: &mut Vec<Effect>) {
        match &mut self.stage {
            Stage::Asking { ticks, .. } => {
                *ticks += 1;
                if *ticks >= PATIENCE_TICKS {
                    self.lose(out);
                }
            }
            Stage::Dialing { .. } | Stage::Writing { .. } => {}
            Stage::Apart | Stage::Linked { .. } if self.rest > 0 => self.rest -= 1,
            Stage::Apart | Stage::Linked { .. } => self.go_on(core, out),
        }
    }

    fn go_on(&mut self, core: &Core, out: &mut Vec<Effect>) {
        let (Some(state), Some(me)) = (core.tracker.seen(), core.me()) else {
            return;
        };
        let Some(piece) = self.piece() else {
            self.end_walk(out);
            return;
        };
        let Some(fetch) = fetch_of(core, piece) else {
            // Of no epoch that this log has: nobody could say that his bytes are the same.
            self.pass(piece.to);
            return;
        };
        match self.stage {
            Stage::Linked { peer, link } if !self.passed.contains(&peer) => {
                out.push(Effect::Send(link, Message::Fetch(fetch)));
                self.stage = Stage::Asking {
                    peer,
                    link,
                    fetch,
                    ticks: 0,
                };
                return;
            }
            _ => self.leave(out),
        }
        let others = peers(state, me.replica_id);
        let next = others.into_iter().find(|id| !self.passed.contains(id));
        let next = next.and_then(|peer| Some((peer, state.replicas.get(&peer)?)));
        if let Some((peer, replica)) = next {
            self.stage = Stage::Dialing { peer };
            out.push(Effect::Repair(Step::Dial {
                address: replica.address.clone(),
            }));
        } else {
            self.is_missing |= !self.is_unheard;
            self.pass(piece.to);
        }
    }

    /// The next piece to be asked for.
    fn piece(&self) -> Option<Span> {
        let span = self.spans.iter().find(|span| span.to > self.at)?;
        let from = span.from.max(self.at);
        let to = span.to.min(from.plus(u64::from(FETCH_BYTES_MAX)));
        Some(Span { from, to })
    }

    /// Goes on behind a piece.
    fn pass(&mut self, to: PhysicalOffset) {
        self.at = to;
        self.passed.clear();
        self.is_unheard = false;
    }

    fn end_walk(&mut self, out: &mut Vec<Effect>) {
        self.leave(out);
        self.pass(PhysicalOffset(0));
        self.rest = REST_TICKS;
        let is_missing = std::mem::take(&mut self.is_missing);
        self.give_up(is_missing, out);
    }

    fn give_up(&mut self, is_given_up: bool, out: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.is_given_up, is_given_up) != is_given_up {
            out.push(Effect::Repair(Step::Hold(!is_given_up)));
        }
    }

    /// The link that [`Step::Dial`] asked for.
    pub(crate) fn dialed(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        if let Stage::Dialing { peer } = self.stage {
            self.stage = Stage::Linked { peer, link };
        } else {
            out.push(Effect::Disconnect(link));
        }
    }

    /// There is none.
    pub(crate) fn dial_failed(&mut self) {
        if let Stage::Dialing { peer } = self.stage {
            self.unheard(peer);
        }
    }

    /// It is gone.
    pub(crate) fn disconnected(&mut self) {
        if let Stage::Linked { peer, .. }
        | Stage::Asking { peer, .. }
        | Stage::Writing { peer, .. } = self.stage
        {
            self.unheard(peer);
        }
    }

    fn unheard(&mut self, peer: ReplicaId) {
        self.stage = Stage::Apart;
        self.passed.insert(peer);
        self.is_unheard = true;
    }

    /// Gives the link up, and the peer for this piece.
    fn lose(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.link().map(Effect::Disconnect));
        self.disconnected();
    }

    fn leave(&mut self, out: &mut Vec<Effect>) {
        out.extend(self.link().map(Effect::Disconnect));
        self.stage = Stage::Apart;
    }

    /// A message came on its link.
    pub(crate) fn received(&mut self, core: &Core, message: Message, out: &mut Vec<Effect>) {
        let Stage::Asking {
            peer, link, fetch, ..
        } = self.stage
        else {
            self.lose(out);
            return;
        };
        match message {
            Message::Range(range) if range.offset == fetch.offset && range.bytes.is_empty() => {
                self.passed.insert(peer);
                self.stage = Stage::Linked { peer, link };
            }
            Message::Range(range) if range.answers(&fetch) && !is_still_asked(core, &fetch) => {
                // A cut came between: what lies there now is another epoch's.
                self.stage = Stage::Linked { peer, link };
            }
            Message::Range(range) if range.answers(&fetch) => {
                let to = fetch.offset.plus(u64::from(fetch.length));
                self.stage = Stage::Writing { peer, link, to };
                out.push(Effect::Repair(Step::Write {
                    offset: range.offset,
                    bytes: range.bytes,
                }));
            }
            _ => self.lose(out),
        }
    }

    /// What became of [`Step::Write`].
    pub(crate) fn repaired(&mut self, outcome: Outcome) {
        let Stage::Writing { peer, link, to } = self.stage else {
            return;
        };
        self.stage = Stage::Linked { peer, link };
        match outcome {
            Outcome::Done => self.pass(to),
            Outcome::Refused => {
                self.passed.insert(peer);
            }
            Outcome::Later => self.rest = LATER_TICKS,
        }
    }
}

/// Whom to ask: the master, members of S, the others.
fn peers(state: &State, me: ReplicaId) -> Vec<ReplicaId> {
    let others = state.replicas.iter();
    let mut others: Vec<ReplicaId> = others
        .filter(|(id, replica)| **id != me && !replica.lost)
        .map(|(id, _)| *id)
        .collect();
    let master = state.master.map(|master| master.replica_id);
    let is_in_sync = |id: &ReplicaId| state.in_sync.iter().any(|member| member.replica_id == *id);
    others.sort_by_key(|id| (Some(*id) != master, !is_in_sync(id), *id));
    others
}

/// The question for a piece; `None` when this log does not say what its bytes are.
fn fetch_of(core: &Core, piece: Span) -> Option<Fetch> {
    let (group_uid, _) = core.meta?;
    let last = PhysicalOffset(piece.to.0.checked_sub(1)?);
    let (bytes_epoch, _) = core.log.epochs.at(last)?;
    let length = u32::try_from(piece.to.since(piece.from)).ok()?;
    (piece.to <= core.log.end).then_some(Fetch {
        group_uid,
        offset: piece.from,
        length,
        bytes_epoch,
    })
}

/// Whether this log still has what was asked for, by its own epochs.
fn is_still_asked(core: &Core, fetch: &Fetch) -> bool {
    let piece = Span {
        from: fetch.offset,
        to: fetch.offset.plus(u64::from(fetch.length)),
    };
    fetch_of(core, piece).as_ref() == Some(fetch) && fetch.offset >= core.log.min
}

/// §8.15, of whoever is asked: what he answers, or has read to answer.
pub(crate) fn fetched(core: &Core, link: LinkId, fetch: &Fetch) -> Effect {
    let last = u64::from(fetch.length)
        .checked_sub(1)
        .map(|behind| fetch.offset.plus(behind));
    let is_here = last.is_some_and(|last| {
        let entry = core.log.epochs.at(last).map(|(entry, _)| entry);
        let is_same = entry == Some(fetch.bytes_epoch) || core.mutations.has(Mutant::M46);
        core.meta
            .is_some_and(|(group_uid, _)| group_uid == fetch.group_uid)
            && fetch.length <= FETCH_BYTES_MAX
            && fetch.offset >= core.log.min
            && last < core.log.end
            && is_same
    });
    if is_here {
        Effect::Repair(Step::SendRange {
            link,
            offset: fetch.offset,
            length: fetch.length,
        })
    } else {
        let nothing = Range::of(fetch.offset, Bytes::new());
        Effect::Send(link, Message::Range(nothing))
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
