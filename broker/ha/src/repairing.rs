//! Performing what the state machine asks for when a log is damaged (docs/replication.md §8.15), its own or another replica's.

use bytes::Bytes;
use rocket_replication::PhysicalOffset;
use rocket_replication::effect::Input;
use rocket_replication::master::{Master, Phase};
use rocket_replication::messages::{LinkId, Message, Range};
use rocket_replication::repair::{Outcome, Step};

use crate::actor::Actor;
use crate::perform::Failure;
use crate::surroundings::{Coordinator, Log, Net, Observer, RepairError};

impl<L: Log, N: Net, C: Coordinator, O: Observer> Actor<L, N, C, O> {
    /// Performs one step of a repair; what is to be taken in at once.
    pub(crate) fn mend(&mut self, step: Step) -> Result<Option<Input>, Failure> {
        match step {
            Step::Dial { address } => return Ok(self.dial(&address)),
            Step::SendRange {
                link,
                offset,
                length,
            } => self.send_range(link, offset, length),
            Step::Write { offset, bytes } => {
                let outcome = self.write_over(offset, &bytes)?;
                return Ok(Some(Input::Repaired(outcome)));
            }
            Step::Hold(hold) => {
                self.hold_damage(hold);
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

    /// What another replica lacks. It asks again, or somebody else, when there is nothing.
    fn send_range(&mut self, link: LinkId, offset: PhysicalOffset, length: u32) {
        let bytes = self.log.read_range(offset, length).unwrap_or_else(|error| {
            tracing::warn!(%offset, %error, "a range that another replica lacks cannot be had here");
            Bytes::new()
        });
        self.net
            .send(link, Message::Range(Range::of(offset, bytes)));
    }

    /// Only a master that takes sends passes over what nobody has: what a slave's queues pass over is in none for good, and another replica may
    /// still bring it, or the slave be elected when that was repaired.
    fn hold_damage(&mut self, hold: bool) {
        let leads = |master: &Master| matches!(master.phase(), Phase::Open | Phase::HandingOver);
        let hold = hold || !self.replica.leading().is_some_and(leads);
        if !hold {
            tracing::error!(
                "no other replica has what is damaged here: readers pass it over from now on"
            );
        }
        self.log.hold_damage(hold);
    }

    /// The same for who becomes master, or was one, and did not find anybody who has it.
    pub(crate) fn hold_by_role(&mut self) {
        if self.replica.is_damaged() {
            self.hold_damage(!self.replica.repair().is_given_up());
        }
    }
}
