//! Whether a restarted replica still holds what its former runs acknowledged (§8.2.7).
//!
//! Every proof names the runs that it speaks for, and counts only when the run that the coordinator object records is among
//! them. A run that started, never registered, and ended in between has proofs of its own, made after the loss.
//!
//! That a run flushed whatever it acknowledged, or left it in the page cache, is no proof where the disk is not the one that it wrote to: put
//! back from an image, or a copy. So a disk knows its runs: a run notes itself there before it asks to be recorded, and whoever
//! finds that the object records a run that its disk does not know has an older one before it.

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

/// The most runs that a disk notes. Those that were recorded since the last one that registered are among them, unless more than
/// so many asked to be, and ended before they knew.
pub const RUNS_MAX: usize = 64;

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
    /// The runs that the disk knows, in the order in which they began: the last one of which it knew that it was recorded, and those
    /// that asked to be since. `None`: no run on this disk noted itself yet, as before there were such notes.
    pub noted: Option<Vec<Incarnation>>,
}

impl Evidence {
    /// §8.3: what the disk must know before `run` asks to be recorded in the place of `recorded`. `None`: it knows it already.
    ///
    /// A run before the recorded one is never recorded again (its write expects a version that is gone), one after it may still be.
    pub(crate) fn note(
        &mut self,
        recorded: Option<Incarnation>,
        run: Incarnation,
    ) -> Option<Vec<Incarnation>> {
        // A disk without notes is taken for the one that the recorded run wrote; so it is by the next start too.
        let noted = self.noted.clone();
        let mut runs = noted.unwrap_or_else(|| recorded.into_iter().collect());
        if runs.contains(&run) {
            return None;
        }
        let last = runs.iter().position(|known| Some(*known) == recorded);
        runs.drain(..last.unwrap_or(0));
        if runs.len() >= RUNS_MAX {
            // The recorded one stays. A run that is forgotten here is one whose write is lost almost for certain; if it is not,
            // the disk is taken for an older one, which costs its place and no message.
            runs.remove(1);
        }
        runs.push(run);
        self.noted = Some(runs.clone());
        Some(runs)
    }

    /// Whether the disk is the one that `recorded` wrote, as far as it can tell.
    fn knows(&self, recorded: Incarnation) -> bool {
        let noted = self.noted.as_ref();
        noted.is_none_or(|runs| runs.contains(&recorded))
    }

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
        let is_the_disk = self.knows(recorded) || mutations.has(Mutant::M50);
        !self.damaged && (clean || is_the_disk && (acknowledged_durably || resident))
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
                resident: vec![RECORDED],
                noted: Some(vec![RECORDED]),
            },
            true
        ));
    }

    /// It was flushed, but on another disk: this one was put back from an image, or is a copy.
    #[test]
    fn disk_that_does_not_know_the_recorded_run_has_not_what_that_flushed() {
        let knowing = |runs: &[Incarnation]| Evidence {
            noted: Some(runs.to_vec()),
            ..Evidence::default()
        };
        assert!(!entitled(&knowing(&[OTHER]), true));
        assert!(!entitled(&knowing(&[]), true));
        assert!(entitled(&knowing(&[RECORDED]), true));
        // The write of another run may have come to the object or not.
        assert!(entitled(&knowing(&[RECORDED, OTHER]), true));
        assert!(entitled(&knowing(&[OTHER, RECORDED]), true));
        assert!(!entitled(&knowing(&[RECORDED]), false), "not flushed");
        // Nor what that had in the page cache of the folder which somebody wrote an older one over.
        let resident = Evidence {
            resident: vec![RECORDED],
            ..knowing(&[OTHER])
        };
        assert!(!entitled(&resident, true));
        // The mark of an orderly stop is on the disk too, and names the run.
        let clean = Evidence {
            clean: Some(RECORDED),
            ..knowing(&[OTHER])
        };
        assert!(entitled(&clean, false));
    }

    /// The first start of a program that notes: what it writes must not condemn the disk at the next start, should it end before its
    /// write is applied.
    #[test]
    fn disk_without_notes_is_trusted_now_and_by_the_next_start() {
        let mut evidence = Evidence::default();
        assert!(entitled(&evidence, true));
        let (first, second) = (Incarnation(11), Incarnation(12));
        let noted = evidence.note(Some(RECORDED), first);
        assert_eq!(noted, Some(vec![RECORDED, first]));
        assert!(entitled(&evidence, true));
        let noted = evidence.note(Some(RECORDED), second);
        assert_eq!(noted, Some(vec![RECORDED, first, second]));
        // One that nobody recorded yet has nothing to lose.
        let noted = Evidence::default().note(None, first);
        assert_eq!(noted, Some(vec![first]));
    }

    #[test]
    fn runs_before_the_recorded_one_are_forgotten_and_those_after_it_kept() {
        let run = |number: u128| Incarnation(100 + number);
        let mut evidence = Evidence {
            noted: Some(vec![run(1), run(2), run(3)]),
            ..Evidence::default()
        };
        assert_eq!(
            evidence.note(Some(run(2)), run(4)),
            Some(vec![run(2), run(3), run(4)])
        );
        assert_eq!(evidence.note(Some(run(3)), run(4)), None, "it is noted");
        // Of a disk that is not the one, nothing is known to be over.
        let noted = evidence.note(Some(RECORDED), run(5));
        assert_eq!(noted, Some(vec![run(2), run(3), run(4), run(5)]));
    }

    #[test]
    fn notes_are_bounded_and_keep_the_recorded_run_and_the_latest() {
        let mut evidence = Evidence::default();
        let runs = 3 * RUNS_MAX as u128;
        for number in 0..runs {
            evidence.note(Some(RECORDED), Incarnation(100 + number));
        }
        let noted = evidence.noted.clone().unwrap();
        assert_eq!(noted.len(), RUNS_MAX);
        assert_eq!(noted.first(), Some(&RECORDED));
        assert_eq!(noted.last(), Some(&Incarnation(99 + runs)));
        assert!(entitled(&evidence, true));
    }

    /// Counterexample to the first text of §8.2.7: the machine lost power under the recorded run; another run started, left
    /// its own proofs, and ended before it registered.
    #[test]
    fn proofs_of_a_run_that_never_registered_do_not_entitle() {
        let evidence = Evidence {
            clean: Some(OTHER),
            resident: vec![OTHER],
            ..Evidence::default()
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
