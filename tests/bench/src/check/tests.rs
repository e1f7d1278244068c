//! A broken history of each kind is caught.

use super::*;

fn history() -> Vec<Event> {
    let mut events = Vec::new();
    for n in 0..4_u32 {
        let key = format!("k{n}");
        events.push(Event::Sent {
            key: key.clone(),
            producer: 0,
            sequence: u64::from(n),
            queue: 0,
            crc: n,
            batch: None,
        });
        match n {
            0..=2 => events.push(Event::Acked {
                key,
                queue: 0,
                offset: u64::from(n),
                physical: None,
                at_us: None,
            }),
            _ => events.push(Event::Unknown {
                key,
                why: "connection lost".into(),
            }),
        }
    }
    events.push(Event::Sent {
        key: "r".into(),
        producer: 0,
        sequence: 4,
        queue: 0,
        crc: 9,
        batch: None,
    });
    events.push(Event::Refused {
        key: "r".into(),
        why: "2 busy".into(),
    });
    events
}

fn stored(offsets: &[(u32, u64)]) -> Vec<Found> {
    offsets
        .iter()
        .map(|(n, offset)| Found {
            key: format!("k{n}"),
            queue: 0,
            offset: *offset,
            crc: *n,
        })
        .collect()
}

fn violations(found: &[Found]) -> Vec<Violation> {
    check(&history(), found, &BTreeMap::new()).violations
}

#[test]
fn a_whole_history_passes_with_and_without_the_unknown_message() {
    assert_eq!(violations(&stored(&[(0, 0), (1, 1), (2, 2)])), []);
    let verdict = check(
        &history(),
        &stored(&[(0, 0), (1, 1), (2, 2), (3, 3)]),
        &BTreeMap::new(),
    );
    assert!(verdict.violations.is_empty());
    assert_eq!(
        (verdict.acked, verdict.unknown, verdict.unknown_stored),
        (3, 1, 1)
    );
}

#[test]
fn a_missing_acknowledged_message_is_lost() {
    let found = stored(&[(0, 0), (1, 1)]);
    assert_eq!(
        violations(&found),
        [Violation::Lost {
            key: "k2".into(),
            queue: 0,
            offset: 2
        }]
    );
}

#[test]
fn an_acknowledged_message_at_another_offset_is_lost_and_leaves_a_gap() {
    let found = stored(&[(0, 0), (1, 1), (2, 3)]);
    assert!(violations(&found).contains(&Violation::Lost {
        key: "k2".into(),
        queue: 0,
        offset: 2
    }));
    assert!(violations(&found).contains(&Violation::Gap {
        queue: 0,
        expected: 2,
        found: 3
    }));
}

#[test]
fn a_key_that_stands_twice_is_duplicated() {
    let found = stored(&[(0, 0), (1, 1), (2, 2), (2, 3)]);
    assert!(
        violations(&found)
            .iter()
            .any(|v| matches!(v, Violation::Duplicated { key, .. } if key == "k2"))
    );
}

#[test]
fn swapped_messages_are_reordered() {
    let found = stored(&[(1, 0), (0, 1), (2, 2)]);
    assert!(violations(&found).contains(&Violation::Reordered {
        earlier: "k0".into(),
        later: "k1".into()
    }));
}

#[test]
fn another_body_is_changed() {
    let mut found = stored(&[(0, 0), (1, 1), (2, 2)]);
    found[1].crc = 77;
    assert_eq!(
        violations(&found),
        [Violation::Changed { key: "k1".into() }]
    );
}

#[test]
fn a_refused_or_unknown_key_is_invented() {
    let mut found = stored(&[(0, 0), (1, 1), (2, 2)]);
    found.push(Found {
        key: "r".into(),
        queue: 0,
        offset: 3,
        crc: 9,
    });
    assert_eq!(
        violations(&found),
        [Violation::Invented { key: "r".into() }]
    );
}

#[test]
fn what_retention_removed_is_not_lost() {
    let found = stored(&[(1, 1), (2, 2)]);
    assert_eq!(
        check(&history(), &found, &BTreeMap::from([(0, 1)])).violations,
        []
    );
}

#[test]
fn two_answers_for_one_place_are_a_reused_offset() {
    let mut events = history();
    events.push(Event::Acked {
        key: "k3".into(),
        queue: 0,
        offset: 2,
        physical: None,
        at_us: None,
    });
    let found = stored(&[(0, 0), (1, 1), (3, 2)]);
    let violations = check(&events, &found, &BTreeMap::new()).violations;
    assert!(violations.contains(&Violation::Reused {
        queue: 0,
        offset: 2,
        keys: ["k2".into(), "k3".into()]
    }));
    assert!(
        violations
            .iter()
            .any(|v| matches!(v, Violation::Lost { key, .. } if key == "k2"))
    );
}

#[test]
fn two_answers_for_one_place_in_the_log_are_reused_too() {
    let acked = |key: &str, offset| Event::Acked {
        key: key.into(),
        queue: 0,
        offset,
        physical: Some(4096),
        at_us: None,
    };
    let mut events: Vec<Event> = history()
        .into_iter()
        .filter(|event| !matches!(event, Event::Acked { .. }))
        .collect();
    events.extend([acked("k0", 0), acked("k1", 1)]);
    let violations = check(&events, &stored(&[(0, 0), (1, 1)]), &BTreeMap::new()).violations;
    assert_eq!(
        violations,
        [Violation::ReusedPlace {
            physical: 4096,
            keys: ["k0".into(), "k1".into()]
        }]
    );
}

/// One batch of three messages, not answered.
fn batch() -> Vec<Event> {
    (0..3_u32)
        .map(|n| Event::Sent {
            key: format!("k{n}"),
            producer: 0,
            sequence: u64::from(n),
            queue: 0,
            crc: n,
            batch: Some(0),
        })
        .collect()
}

#[test]
fn of_an_open_batch_a_beginning_may_be_there() {
    for there in 0..=3_u32 {
        let places: Vec<_> = (0..there).map(|n| (n, u64::from(n))).collect();
        assert_eq!(
            check(&batch(), &stored(&places), &BTreeMap::new()).violations,
            []
        );
    }
}

#[test]
fn a_batch_without_its_beginning_or_its_middle_is_torn() {
    for places in [&[(1, 0), (2, 1)][..], &[(0, 0), (2, 1)], &[(2, 0)]] {
        let violations = check(&batch(), &stored(places), &BTreeMap::new()).violations;
        assert!(
            violations
                .iter()
                .any(|v| matches!(v, Violation::Torn { .. })),
            "{places:?}: {violations:?}"
        );
    }
}

#[test]
fn a_batch_with_a_stranger_in_it_is_torn() {
    let mut events = batch();
    events.push(Event::Sent {
        key: "k9".into(),
        producer: 1,
        sequence: 0,
        queue: 0,
        crc: 9,
        batch: None,
    });
    let found = stored(&[(0, 0), (9, 1), (1, 2), (2, 3)]);
    assert_eq!(
        check(&events, &found, &BTreeMap::new()).violations,
        [Violation::Torn {
            first: "k0".into(),
            key: "k1".into()
        }]
    );
}

#[test]
fn every_rule_holds_for_the_messages_of_an_acknowledged_batch() {
    let mut events = batch();
    events.extend((0..3_u32).map(|n| Event::Acked {
        key: format!("k{n}"),
        queue: 0,
        offset: u64::from(n),
        physical: Some(u64::from(n) * 100),
        at_us: None,
    }));
    let broken = |found: &[Found]| check(&events, found, &BTreeMap::new()).violations;
    assert_eq!(broken(&stored(&[(0, 0), (1, 1), (2, 2)])), []);
    let has = |found: &[Found], rule: fn(&Violation) -> bool| broken(found).iter().any(rule);
    assert!(has(&stored(&[(0, 0), (1, 1)]), |v| matches!(
        v,
        Violation::Lost { .. }
    )));
    assert!(has(&stored(&[(0, 0), (1, 1), (2, 2), (1, 3)]), |v| {
        matches!(v, Violation::Duplicated { .. })
    }));
    assert!(has(&stored(&[(1, 0), (0, 1), (2, 2)]), |v| matches!(
        v,
        Violation::Reordered { .. }
    )));
    assert!(has(&stored(&[(0, 0), (1, 1), (2, 3)]), |v| matches!(
        v,
        Violation::Gap { .. }
    )));
    let mut changed = stored(&[(0, 0), (1, 1), (2, 2)]);
    changed[1].crc = 77;
    assert!(has(&changed, |v| matches!(v, Violation::Changed { .. })));
}
