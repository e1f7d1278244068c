//! Whether a restarted replica still holds what its former run acknowledged (§8.2.7).

use rocket_protocol::ids::PhysicalOffset;

use crate::epochs::Epochs;
use crate::identity::Epoch;

/// What an orderly stop left behind, after the log was flushed (§4.1, `clean`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CleanMark {
    /// The log end then.
    pub log_end: PhysicalOffset,
    /// The last epoch then.
    pub last_epoch: Epoch,
}

/// What the start found. The fourth proof, that all former acknowledgements were durable, is in the coordinator object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Evidence {
    /// There is damage below what was known to be flushed.
    pub damaged: bool,
    /// `clean` exists and matches the log as it was found.
    pub clean: bool,
    /// The residence proof is valid: same disk, same kernel boot, no flush was under way or failed.
    pub resident: bool,
}

impl Evidence {
    /// Compares the mark of an orderly stop with the log as it was found.
    pub fn clean_matches(
        mark: Option<CleanMark>,
        log_end: PhysicalOffset,
        epochs: &Epochs,
    ) -> bool {
        mark.is_some_and(|m| m.log_end == log_end && m.last_epoch == epochs.last_epoch())
    }

    /// §8.2.7. `acknowledged_durably`: the object recorded the former run as durable, so every acknowledgement it ever
    /// made, and everything it inherited, was flushed.
    pub fn is_entitled(self, acknowledged_durably: bool) -> bool {
        !self.damaged && (acknowledged_durably || self.clean || self.resident)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_proof_alone_entitles_and_damage_takes_it_away() {
        let none = Evidence::default();
        assert!(!none.is_entitled(false));
        assert!(none.is_entitled(true));
        assert!(
            Evidence {
                clean: true,
                ..none
            }
            .is_entitled(false)
        );
        assert!(
            Evidence {
                resident: true,
                ..none
            }
            .is_entitled(false)
        );
        assert!(
            !Evidence {
                damaged: true,
                clean: true,
                resident: true
            }
            .is_entitled(true)
        );
    }

    #[test]
    fn mark_of_an_orderly_stop_must_match_the_log() {
        let epochs = Epochs::default();
        let mark = CleanMark {
            log_end: PhysicalOffset(5),
            last_epoch: Epoch(0),
        };
        assert!(Evidence::clean_matches(
            Some(mark),
            PhysicalOffset(5),
            &epochs
        ));
        assert!(!Evidence::clean_matches(
            Some(mark),
            PhysicalOffset(4),
            &epochs
        ));
        assert!(!Evidence::clean_matches(None, PhysicalOffset(0), &epochs));
    }
}
