//! Performing what the state machine asks for when a log is damaged (docs/replication.md §8.15), its own or another replica's.

use bytes::Bytes;
use rocket_replication::PhysicalOffset;
use rocket_replication::effect::Input;
use rocket_replication::master::{Master, Phase};
use rocket_replication::messages::{Fetch, LinkId, Message, Range};
use rocket_replication::repair::{Outcome, Span, Step};

use crate::actor::Actor;
use crate::perform::Failure;
use crate::ranges::Asked;
use crate::surroundings::{Coordinator, Log, Net, Observer, RepairError};

impl<L: Log, N: Net, C: Coordinator, O: Observer> Actor<L, N, C, O> {
    /// Performs one step of a repair; what is to be taken in at once.
    pub(crate) fn mend(&mut self, step: Step) -> Result<Option<Input>, Failure> {
        match step {
            Step::Dial { address } => return Ok(self.dial(&address)),
            Step::SendRange { link, fetch } => return Ok(self.send_range(link, fetch)),
            Step::Write { offset, bytes } => {
                let outcome = self.write_over(offset, &bytes)?;
                return Ok(Some(Input::Repaired(outcome)));
            }
            Step::PassOver(given_up) => {
                self.pass_over(&given_up);
                self.open_if_due()?;
            }
        }
        Ok(None)
    }

    /// Opens a link to whoever is to be asked. What is to be taken in at once, if it is not even tried.
    fn dial(&mut self, address: &str) -> Option<Input> {
        if self.handover.has_left {
            return Some(Input::DialFailed);
        }
        if let Some(unwanted) = self.dialing_repair.take() {
            self.net.close(unwanted);
        }
        self.dialing_repair = Some(self.net.connect(address));
        None
    }

    /// Writes what came over the damage.
    fn write_over(&mut self, offset: PhysicalOffset, bytes: &Bytes) -> Result<Outcome, Failure> {
        match self.log.repair(offset, bytes) {
            Ok(()) => Ok(Outcome::Done),
            Err(RepairError::Refused(reason)) => {
                tracing::warn!(%offset, reason, "what another replica has for the damage here was refused");
                Ok(Outcome::Refused)
            }
            Err(RepairError::Later(reason)) => {
                tracing::info!(%offset, reason, "damage is repaired later");
                Ok(Outcome::Later)
            }
            Err(RepairError::Io(error)) => Err(Failure::Log(error)),
        }
    }

    /// Has read what another replica lacks. What is to be taken in at once, if it asks for more than it may.
    fn send_range(&mut self, link: LinkId, fetch: Fetch) -> Option<Input> {
        if self.ranges.ask(link, fetch) {
            return None;
        }
        // Nothing would say that it is not to be had here, and that is not known.
        tracing::warn!(
            link = link.0,
            "closed a replication link: what it asked for before was not given yet, or too many ask"
        );
        self.hang_up(link);
        Some(Input::Disconnected(link))
    }

    /// What another replica lacks was read, or cannot be. It asks again, or somebody else, when there is nothing.
    pub(crate) fn range_read(&mut self, read: Result<Range, String>) {
        match self.ranges.read() {
            Some(asked) if asked.is_stale => {
                self.feed(Input::Received(asked.link, Message::Fetch(asked.fetch)));
            }
            Some(Asked { link, fetch, .. }) => {
                let offset = fetch.offset;
                let range = read.unwrap_or_else(|reason| {
                    tracing::warn!(%offset, reason, "a range that another replica lacks cannot be had here");
                    Range::of(offset, Bytes::new())
                });
                self.net.send(link, Message::Range(range));
            }
            None => {}
        }
        self.ranges.next();
    }

    /// Only a master that takes sends passes over what nobody has: what a slave's queues pass over is in none for good, and another replica may
    /// still bring it, or the slave be elected when that was repaired.
    fn pass_over(&mut self, given_up: &[Span]) {
        let leads = |master: &Master| matches!(master.phase(), Phase::Open | Phase::HandingOver);
        if !self.replica.leading().is_some_and(leads) {
            self.log.pass_over(&[]);
            return;
        }
        for Span { from, to } in given_up {
            tracing::error!(%from, %to, "no other replica has what is damaged here: readers pass it over from now on");
        }
        self.log.pass_over(given_up);
    }

    /// The same for who becomes master, or was one, and did not find anybody who has it.
    pub(crate) fn pass_over_by_role(&mut self) {
        let given_up = self.replica.repair().given_up().to_vec();
        self.pass_over(&given_up);
    }
}
