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

mod damage;
mod question;

use std::collections::BTreeSet;

use bytes::Bytes;
use rocket_protocol::ids::PhysicalOffset;

use crate::effect::Effect;
#[cfg(doc)]
use crate::effect::Input;
use crate::identity::ReplicaId;
use crate::local::Core;
use crate::messages::{FETCH_BYTES_MAX, Fetch, LinkId, Message};
use damage::united;
pub use damage::{Damage, Span};
pub(crate) use question::fetched;
use question::{fetch_of, is_still_asked, peers};

/// Ticks that an answer may take.
const PATIENCE_TICKS: u32 = 40;
/// Ticks between two walks over what is damaged, when the first one left something.
const REST_TICKS: u32 = 100;
/// Ticks before a piece is fetched again that could not be written yet.
const LATER_TICKS: u32 = 10;

/// What is to be done for a repair.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// Open a connection to another replica's replication listener, to ask it for what is damaged here. Answered with
    /// [`Input::Dialed`] or [`Input::DialFailed`]; one at a time.
    Dial {
        /// Where.
        address: String,
    },
    /// Read what is asked for from the log and send it in a `Range`; an empty one if it is damaged here too, or cannot be read. That
    /// may take a while, beside everything that follows: if the log was cut meanwhile, the question is to be fed in again instead of
    /// being answered, since the bytes of another epoch may lie there now.
    SendRange {
        /// Where to.
        link: LinkId,
        /// What for.
        fetch: Fetch,
    },
    /// Write these bytes over what is damaged, if they are what was written there, and flush them. Answered with
    /// [`Input::Repaired`]; what is damaged then is fed in as [`Input::Damaged`].
    Write {
        /// Where.
        offset: PhysicalOffset,
        /// The bytes.
        bytes: Bytes,
    },
    /// Readers are to pass over what is damaged within these, which are in log order and do not meet, for nobody has it; and to wait
    /// for what is damaged elsewhere, since another replica may have it.
    PassOver(Vec<Span>),
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
    damage: Damage,
    stage: Stage,
    /// The walk has come to here.
    at: PhysicalOffset,
    /// The question for the piece there.
    asked: Option<Fetch>,
    /// Who was asked it in vain,
    passed: BTreeSet<ReplicaId>,
    /// and whether one of them did not answer, or may have it a moment later.
    is_unheard: bool,
    /// What nobody has of this walk: everybody answered.
    missing: Vec<Span>,
    /// What nobody had at some time, as far as it is damaged still, and what is missing. There is no more of it than there is damage.
    given_up: Vec<Span>,
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

    /// Of what is damaged, that of which every other replica said that it has not all of it, and what nothing can be written over:
    /// readers need not wait for it.
    pub fn given_up(&self) -> &[Span] {
        &self.given_up
    }

    /// Whether that is all of it, and there is some.
    pub fn is_given_up(&self) -> bool {
        let is_lost = |damaged: &Span| self.given_up.iter().any(|span| damaged.lies_in(span));
        !self.given_up.is_empty() && self.damage.bytes.iter().all(is_lost)
    }

    /// What is damaged is another.
    pub(crate) fn found(&mut self, damage: &Damage, out: &mut Vec<Effect>) {
        if self.damage == *damage {
            return;
        }
        let known = &self.damage.bytes;
        let is_known = |span: &Span| known.iter().any(|known| span.lies_in(known));
        if !damage.bytes.iter().all(is_known) {
            self.rest = 0;
        }
        self.damage.clone_from(damage);
        if self.damage.blocks.is_empty() {
            self.leave(out);
            *self = Self {
                damage: std::mem::take(&mut self.damage),
                given_up: std::mem::take(&mut self.given_up),
                ..Self::default()
            };
        }
        self.give_up(self.given_up.clone(), out);
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
        if !self.is_asked_already(core, &fetch) {
            self.passed.clear();
            self.is_unheard = false;
        }
        self.asked = Some(fetch);
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
            if !self.is_unheard {
                self.missing.push(piece);
            }
            self.pass(piece.to);
        }
    }

    /// The next piece to be asked for.
    fn piece(&self) -> Option<Span> {
        let mut spans = self.damage.blocks.iter();
        let span = spans.find(|span| span.to > self.at)?;
        let from = span.from.max(self.at);
        let to = span.to.min(from.plus(u64::from(FETCH_BYTES_MAX)));
        Some(Span { from, to })
    }

    /// Whether what others said of the last question holds for this one: it is the same, or the piece has grown at its end. Who
    /// has not all of a part has not all of the whole.
    fn is_asked_already(&self, core: &Core, fetch: &Fetch) -> bool {
        let is_part = |asked: &Fetch| {
            asked.offset == fetch.offset
                && asked.length <= fetch.length
                && is_still_asked(core, asked)
        };
        self.asked.as_ref().is_some_and(is_part)
    }

    /// Goes on behind a piece.
    fn pass(&mut self, to: PhysicalOffset) {
        self.at = to;
        self.asked = None;
        self.passed.clear();
        self.is_unheard = false;
    }

    fn end_walk(&mut self, out: &mut Vec<Effect>) {
        self.leave(out);
        self.pass(PhysicalOffset(0));
        self.rest = REST_TICKS;
        let mut lost = std::mem::take(&mut self.missing);
        lost.extend_from_slice(&self.given_up);
        self.give_up(lost, out);
    }

    /// Readers need not wait for what of `lost` is damaged.
    fn give_up(&mut self, lost: Vec<Span>, out: &mut Vec<Effect>) {
        let blocks = &self.damage.blocks;
        let lost = united(lost);
        let lost = lost
            .iter()
            .flat_map(|span| blocks.iter().filter_map(move |block| block.common(span)));
        let missing = self.damage.missing.iter().copied();
        let given_up = united(lost.chain(missing).collect());
        if given_up != self.given_up {
            self.given_up.clone_from(&given_up);
            out.push(Effect::Repair(Step::PassOver(given_up)));
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
                // What is not committed somebody may not have yet.
                let to = fetch.offset.plus(u64::from(fetch.length));
                self.is_unheard |= to > core.log.confirm;
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

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
