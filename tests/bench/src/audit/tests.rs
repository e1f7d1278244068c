//! Every rule over several restarts is seen to fail.

use super::*;

fn sent(n: u32) -> Event {
    Event::Sent {
        key: format!("k{n}"),
        producer: 0,
        sequence: u64::from(n),
        queue: 0,
        crc: n,
        batch: None,
    }
}

/// Acknowledged at offset `at`, byte `100 * at` of the log, and `n` microseconds after the epoch.
fn acked(n: u32, at: u32) -> Event {
    Event::Acked {
        key: format!("k{n}"),
        queue: 0,
        offset: u64::from(at),
        physical: Some(u64::from(at) * 100),
        at_us: Some(u64::from(n)),
    }
}

fn found(at: &[(u32, u64)]) -> Vec<Found> {
    at.iter()
        .map(|(n, offset)| Found {
            key: format!("k{n}"),
            queue: 0,
            offset: *offset,
            crc: *n,
        })
        .collect()
}

/// Messages 0 to 3 acknowledged in order, 4 open.
fn audit() -> Audit {
    let mut audit = Audit::default();
    audit.add(
        (0..4)
            .flat_map(|n| [sent(n), acked(n, n)])
            .chain([sent(4)])
            .collect(),
    );
    audit
}

fn look(audit: &mut Audit, at: &[(u32, u64)], loss: Loss) -> Outcome {
    audit.look(&found(at), &BTreeMap::new(), loss)
}

#[test]
fn an_end_that_may_be_lost_is_counted_with_its_time_and_no_more() {
    let outcome = look(&mut audit(), &[(0, 0), (1, 1)], Loss::EndSince(2));
    assert_eq!(outcome.verdict.violations, []);
    assert_eq!((outcome.lost, outcome.lost_since_us), (2, Some(2)));
}

#[test]
fn what_was_acknowledged_before_the_window_must_not_be_lost() {
    let outcome = look(&mut audit(), &[(0, 0), (1, 1)], Loss::EndSince(3));
    let expected = Violation::Lost {
        key: "k2".into(),
        queue: 0,
        offset: 2,
    };
    assert_eq!(outcome.verdict.violations, [expected]);
    let strict = look(&mut audit(), &[(0, 0), (1, 1), (2, 2)], Loss::Nothing);
    assert_eq!(strict.verdict.violations.len(), 1);
}

#[test]
fn a_loss_before_something_kept_is_a_hole() {
    let outcome = look(&mut audit(), &[(0, 0), (1, 1), (3, 3)], Loss::EndSince(2));
    assert!(outcome.verdict.violations.contains(&Violation::Hole {
        lost: "k2".into(),
        kept: "k3".into()
    }));
}

#[test]
fn offsets_of_lost_messages_may_be_given_again_and_others_not() {
    let mut lossy = audit();
    look(&mut lossy, &[(0, 0), (1, 1)], Loss::EndSince(2));
    lossy.add(vec![sent(9), acked(9, 2)]);
    let again = look(&mut lossy, &[(0, 0), (1, 1), (9, 2)], Loss::Nothing);
    assert_eq!(again.verdict.violations, []);

    let mut strict = audit();
    look(
        &mut strict,
        &[(0, 0), (1, 1), (2, 2), (3, 3)],
        Loss::Nothing,
    );
    strict.add(vec![sent(9), acked(9, 3)]);
    let again = look(
        &mut strict,
        &[(0, 0), (1, 1), (2, 2), (9, 3)],
        Loss::Nothing,
    );
    assert!(
        again
            .verdict
            .violations
            .iter()
            .any(|v| matches!(v, Violation::Reused { .. }))
    );
}

#[test]
fn an_open_message_that_was_given_back_must_stay() {
    let mut audit = audit();
    let all = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)];
    assert_eq!(look(&mut audit, &all, Loss::Nothing).verdict.violations, []);
    let later = look(
        &mut audit,
        &[(0, 0), (1, 1), (2, 2), (3, 3)],
        Loss::EndSince(0),
    );
    assert_eq!(
        later.verdict.violations,
        [Violation::Vanished { key: "k4".into() }]
    );
}

#[test]
fn a_message_that_was_gone_must_stay_gone() {
    let mut audit = audit();
    look(&mut audit, &[(0, 0), (1, 1), (2, 2), (3, 3)], Loss::Nothing);
    let later = look(
        &mut audit,
        &[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)],
        Loss::Nothing,
    );
    assert_eq!(
        later.verdict.violations,
        [Violation::Returned { key: "k4".into() }]
    );
}
