//! Whether a restarted replica still holds what its former runs acknowledged (§8.2.7).
//!
//! Every proof names the runs that it speaks for, and counts only when the run that the coordinator object records is among
//! them. A run that started, never registered, and ended in between has proofs of its own, made after the loss.

use rocket_protocol::ids::PhysicalOffset;

use crate::epochs::Epochs;
use crate::identity::{Epoch, Incarnation};
use crate::mutations::{Mutant, Mutations};

/// What an orderly stop left behind, after the log was flushed (§4.1, `clean`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CleanMark {
    /// The run that stopped.
    pub incarnation: Incarnation,
    /// The log end then.
    pub log_end: PhysicalOffset,
    /// The last epoch then.
    pub last_epoch: Epoch,
}

/// What the start found. The fourth proof, that all former acknowledgements were durable, is in the coordinator object.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Evidence {
    /// There is damage below what was known to be flushed.
    pub damaged: bool,
    /// The run whose `clean` mark matches the log as it was found.
    pub clean: Option<Incarnation>,
    /// The runs that a valid residence proof lists: same disk, same kernel boot, no flush under way or failed. What any of
    /// them had in the page cache is still there.
    pub resident: Vec<Incarnation>,
}

impl Evidence {
    /// The run whose orderly stop explains the log as it was found.
    pub fn clean_run(
        mark: Option<CleanMark>,
        log_end: PhysicalOffset,
        epochs: &Epochs,
    ) -> Option<Incarnation> {
        mark.filter(|m| m.log_end == log_end && m.last_epoch == epochs.last_epoch())
            .map(|m| m.incarnation)
    }

    /// §8.2.7, for the run that the object records. `acknowledged_durably`: the object recorded it as durable, so every
    /// acknowledgement it ever made, and everything it inherited, was flushed.
    pub fn is_entitled(
        &self,
        recorded: Incarnation,
        acknowledged_durably: bool,
        mutations: Mutations,
    ) -> bool {
        let any_run = mutations.has(Mutant::M37);
        let clean = self.clean.is_some_and(|run| any_run || run == recorded);
        let resident = if any_run {
            !self.resident.is_empty()
        } else {
            self.resident.contains(&recorded)
        };
        !self.damaged && (acknowledged_durably || clean || resident)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: Incarnation = Incarnation(1);
    const OTHER: Incarnation = Incarnation(2);

    fn entitled(evidence: &Evidence, durably: bool) -> bool {
        evidence.is_entitled(RECORDED, durably, Mutations::default())
    }

    #[test]
    fn each_proof_alone_entitles_and_damage_takes_it_away() {
        let none = Evidence::default();
        assert!(!entitled(&none, false));
        assert!(entitled(&none, true));
        assert!(entitled(
            &Evidence {
                clean: Some(RECORDED),
                ..Evidence::default()
            },
            false
        ));
        assert!(entitled(
            &Evidence {
                resident: vec![RECORDED, OTHER],
                ..Evidence::default()
            },
            false
        ));
        assert!(!entitled(
            &Evidence {
                damaged: true,
                clean: Some(RECORDED),
                resident: vec![RECORDED]
            },
            true
        ));
    }

    /// Counterexample to the first text of §8.2.7: the machine lost power under the recorded run; another run started, left
    /// its own proofs, and ended before it registered.
    #[test]
    fn proofs_of_a_run_that_never_registered_do_not_entitle() {
        let evidence = Evidence {
            damaged: false,
            clean: Some(OTHER),
            resident: vec![OTHER],
        };
        assert!(!entitled(&evidence, false));
    }

    #[test]
    fn mark_of_an_orderly_stop_must_match_the_log() {
        let epochs = Epochs::default();
        let mark = CleanMark {
            incarnation: RECORDED,
            log_end: PhysicalOffset(5),
            last_epoch: Epoch(0),
        };
        assert_eq!(
            Evidence::clean_run(Some(mark), PhysicalOffset(5), &epochs),
            Some(RECORDED)
        );
        assert_eq!(
            Evidence::clean_run(Some(mark), PhysicalOffset(4), &epochs),
            None
        );
        assert_eq!(Evidence::clean_run(None, PhysicalOffset(0), &epochs), None);
    }
}
