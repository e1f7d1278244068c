//! What needs a person, the gravest first. All of it is told at once: what was there first, and may stay for ever, must not hide
//! what comes later and matters more.

use std::fmt::Write as _;

use rocket_api::Reason;

use super::facts::{Facts, Problem};

/// Bytes of one message, at most: as many as an event keeps.
const MESSAGE: usize = 1000;
/// Bytes of all messages in one condition. What finds no room is counted.
const ROOM: usize = 8 * MESSAGE;
/// Place of pods that do not start: behind what stops a group or everything, before what leaves brokers as they are.
const FAILING: u8 = 5;

/// One thing that needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Why, in one word.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
    gravity: u8,
}

impl Trouble {
    fn new((gravity, reason, message): (u8, Reason, &str)) -> Self {
        let mut message = message.to_owned();
        message.truncate(message.floor_char_boundary(MESSAGE));
        Self {
            reason,
            message,
            gravity,
        }
    }
}

/// Everything that needs a person.
pub fn troubles(facts: &Facts) -> Vec<Trouble> {
    let failing = facts.failing.iter();
    let failing = failing.map(|pod| (FAILING, Reason::PodFailing, pod.as_str()));
    sorted(facts.problems.iter().map(described).chain(failing))
}

/// These problems alone.
pub(super) fn of<'a>(problems: impl Iterator<Item = &'a Problem>) -> Vec<Trouble> {
    sorted(problems.map(described))
}

fn sorted<'a>(troubles: impl Iterator<Item = (u8, Reason, &'a str)>) -> Vec<Trouble> {
    let mut troubles: Vec<Trouble> = troubles.map(Trouble::new).collect();
    troubles.sort_by_key(|trouble| trouble.gravity);
    troubles
}

/// The word and the sentence of a condition that tells all of them; nothing when there are none.
pub(super) fn told(troubles: &[Trouble]) -> Option<(Reason, String)> {
    let reason = troubles.first()?.reason;
    let mut sentence = String::new();
    for (place, trouble) in troubles.iter().enumerate() {
        if place > 0 {
            sentence.push_str("; ");
        }
        if sentence.len() + trouble.message.len() > ROOM {
            let rest = troubles.len() - place;
            let _ = write!(sentence, "and {rest} more");
            break;
        }
        sentence.push_str(&trouble.message);
    }
    Some((reason, sentence))
}

fn described(problem: &Problem) -> (u8, Reason, &str) {
    match problem {
        Problem::RecordUnusable(message) => (0, Reason::RecordUnusable, message),
        Problem::NoElectableReplica(message) => (1, Reason::NoElectableReplica, message),
        Problem::VolumeTerminating(message) => (2, Reason::VolumeTerminating, message),
        Problem::Refused(message) => (3, Reason::SpecRefused, message),
        Problem::NameTaken(message) => (4, Reason::NameTaken, message),
        Problem::ApplyRefused(message) => (FAILING + 1, Reason::ApplyRefused, message),
        Problem::VolumeResizeRefused(message) => {
            (FAILING + 2, Reason::VolumeResizeRefused, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_is_told_first_and_nothing_is_hidden() {
        let facts = Facts {
            problems: vec![
                Problem::VolumeResizeRefused("the volume stays".into()),
                Problem::ApplyRefused("no quota".into()),
                Problem::NoElectableReplica("group 1 waits".into()),
                Problem::RecordUnusable("group 0 has no record".into()),
            ],
            failing: vec!["orders-0-0: CrashLoopBackOff".into()],
            ..Facts::default()
        };
        let all = told(&troubles(&facts)).unwrap();
        let sentence = "group 0 has no record; group 1 waits; orders-0-0: CrashLoopBackOff; no quota; the volume stays";
        assert_eq!(all, (Reason::RecordUnusable, sentence.to_owned()));
        assert_eq!(told(&of([].iter())), None);
    }

    #[test]
    fn a_sentence_has_a_bound_and_says_how_much_is_left_out() {
        let long = Problem::ApplyRefused("ä".repeat(600));
        let many = vec![long; 12];
        let (_, sentence) = told(&of(many.iter())).unwrap();
        assert!(sentence.len() < ROOM + 50, "{}", sentence.len());
        assert!(sentence.ends_with("; and 5 more"), "{sentence}");
    }
}
