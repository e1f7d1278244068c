//! How a replica leaves that is about to stop. A master asks the group's object for a successor itself and goes on as for a
//! handover that anybody else asked for (docs/replication.md §8.12); a slave tells its master, so that no send waits for it
//! (§8.9).

use std::cmp::Reverse;
use std::sync::Arc;

use rocket_replication::coordinator::Cas;
use rocket_replication::identity::{Member, Proposals};
use rocket_replication::master::{Master, Phase};
use rocket_replication::messages::{Message, Reason, Refuse, RoleName};
use rocket_replication::state::State;
use rocket_replication::{Incarnation, Proposal, ReplicaId};

use crate::actor::Actor;
use crate::surroundings::{Coordinator, Event, Log, Net, Observer};

/// Far from every proposal that the state machine and the elector of the same process make: those count up from elsewhere.
const PROPOSALS_OF_HANDOVER: u128 = 1 << 126;

/// Where the asking stands.
enum Asking {
    /// Nothing is out.
    No,
    /// The write is out.
    Writing(Proposal),
    /// It was answered; what came of it is being read.
    Reading,
}

/// See the module.
pub(crate) struct Handover {
    proposals: Proposals,
    asking: Asking,
    /// The master was told; no other link is opened.
    pub(crate) has_left: bool,
}

impl Handover {
    pub(crate) fn new(incarnation: Incarnation) -> Self {
        Self {
            proposals: Proposals::new(incarnation.0 ^ PROPOSALS_OF_HANDOVER),
            asking: Asking::No,
            has_left: false,
        }
    }
}

impl<L: Log, N: Net, C: Coordinator, O: Observer> Actor<L, N, C, O> {
    /// Has another replica take over, if this one is master and another one can; and then, or if it is a slave, tells the
    /// master that it will not be there. To be called again after each step while it says `true`: something is still to come
    /// of it. The replica is to be ended then. A fixed master has nobody take over. No safety hangs on how often, or whether.
    pub fn take_leave(&mut self) -> bool {
        if self.replica.leading().is_some() {
            return !self.is_fixed() && self.hand_over();
        }
        let Some(slave) = self.replica.following() else {
            return false;
        };
        match slave.link().filter(|_| slave.is_streaming()) {
            Some(link) if !self.handover.has_left => {
                self.handover.has_left = true;
                let refuse = Refuse {
                    reason: Reason::Stopping,
                    max_epoch: self.replica.seen().0,
                };
                self.net.send(link, Message::Refuse(refuse));
                true
            }
            // The master closes the link when it has heard.
            Some(_) => true,
            // While it is in S the master waits for it: also one that has just taken over from here.
            None => !self.handover.has_left && self.replica.role() == RoleName::InSync,
        }
    }

    fn hand_over(&mut self) -> bool {
        let (Some(master), Some(state)) = (self.replica.leading(), self.replica.tracker().seen())
        else {
            return false;
        };
        if !matches!(self.handover.asking, Asking::No) || master.phase() == Phase::HandingOver {
            return true;
        }
        let successor = successor(master, state).filter(|_| master.phase() == Phase::Open);
        let Some(successor) = successor else {
            return false;
        };
        tracing::info!(%successor, "asks to be replaced as master");
        let proposal = self.handover.proposals.fresh();
        let new = state.handover_asked(proposal, Some(successor));
        let cas = Cas {
            expected: state.version,
            new: Arc::new(new),
        };
        self.handover.asking = Asking::Writing(proposal);
        self.desk.cas(cas);
        true
    }

    /// Takes the answer to what [`Actor::take_leave`] wrote; gives back every other event.
    pub(crate) fn handover_happened(&mut self, event: Event) -> Option<Event> {
        match (&event, &self.handover.asking) {
            (Event::Cas { proposal, .. }, Asking::Writing(ours)) if proposal == ours => {
                self.handover.asking = Asking::Reading;
                self.desk.answered();
                // Whatever was answered, the object shows what came of it (C2).
                self.desk.read();
                None
            }
            (Event::Read(_), Asking::Reading) => {
                self.handover.asking = Asking::No;
                Some(event)
            }
            _ => Some(event),
        }
    }
}

/// The member of S that has the most of the log, of those that may be master and have a link.
fn successor(master: &Master, state: &State) -> Option<ReplicaId> {
    let may_lead = |member: &&Member| {
        let replica = state.replicas.get(&member.replica_id);
        **member != master.member && replica.is_some_and(|r| !r.cordoned && !r.lost)
    };
    let linked = state.in_sync.iter().filter(may_lead).filter_map(|member| {
        let acked = master.commit().acked_by(*member)?;
        Some((acked, Reverse(member.replica_id)))
    });
    linked.max().map(|(_, Reverse(id))| id)
}
