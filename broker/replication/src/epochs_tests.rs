use super::*;

fn list(entries: &[(u64, u64)]) -> Epochs {
    Epochs::new(
        entries
            .iter()
            .map(|(e, s)| EpochStart {
                epoch: Epoch(*e),
                start: PhysicalOffset(*s),
            })
            .collect(),
    )
    .unwrap()
}

fn aligned(
    slave: &[(u64, u64)],
    slave_end: u64,
    master: &[(u64, u64)],
    master_min: u64,
    master_end: u64,
) -> Alignment {
    let (slave, master) = (list(slave), list(master));
    align(
        Extent {
            epochs: &slave,
            log_min: PhysicalOffset(0),
            log_end: PhysicalOffset(slave_end),
        },
        Extent {
            epochs: &master,
            log_min: PhysicalOffset(master_min),
            log_end: PhysicalOffset(master_end),
        },
    )
}

const fn cut(to: u64) -> Alignment {
    Alignment::Cut {
        to: PhysicalOffset(to),
    }
}

#[test]
fn list_keeps_its_order() {
    let mut epochs = list(&[(1, 0), (3, 5)]);
    let entry = |e, s| EpochStart {
        epoch: Epoch(e),
        start: PhysicalOffset(s),
    };
    assert_eq!(epochs.push(entry(3, 6)), Err(Disorder::Epoch(Epoch(3))));
    assert_eq!(epochs.push(entry(4, 4)), Err(Disorder::Start(Epoch(4))));
    assert_eq!(epochs.push(entry(4, 5)), Ok(()));
}

#[test]
fn common_point_is_the_smaller_end_of_the_newest_shared_epoch() {
    assert_eq!(
        aligned(&[(1, 0)], 5, &[(1, 0), (2, 5)], 0, 9),
        Alignment::Keep
    );
    assert_eq!(aligned(&[(1, 0)], 7, &[(1, 0), (2, 5)], 0, 9), cut(5));
    assert_eq!(
        aligned(&[(1, 0), (2, 5)], 8, &[(1, 0), (3, 7)], 0, 9),
        cut(5)
    );
    assert_eq!(
        aligned(&[(1, 0), (2, 5)], 5, &[(1, 0), (3, 7)], 0, 9),
        Alignment::Keep
    );
    assert_eq!(
        aligned(
            &[(1, 0), (2, 5), (4, 6)],
            9,
            &[(1, 0), (2, 5), (3, 6), (5, 8)],
            0,
            9
        ),
        cut(6)
    );
}

#[test]
fn same_epoch_with_another_start_is_not_shared() {
    assert_eq!(
        aligned(&[(1, 0), (2, 4)], 8, &[(1, 0), (2, 5)], 0, 9),
        cut(4)
    );
}

#[test]
fn nothing_shared_empties_the_slave() {
    assert_eq!(aligned(&[(7, 0)], 5, &[(1, 0)], 0, 9), cut(0));
    assert_eq!(aligned(&[], 0, &[(1, 0)], 0, 9), Alignment::Keep);
    assert_eq!(
        aligned(&[], 0, &[(1, 0)], 4, 9),
        Alignment::Restart {
            at: PhysicalOffset(4)
        }
    );
}

/// The counterexample to the first text of §8.5: an epoch is shared, but the master's retention has passed the common point.
#[test]
fn shared_epoch_below_the_masters_retention_restarts_the_slave() {
    assert_eq!(
        aligned(&[(1, 0)], 3, &[(1, 0), (2, 8)], 4, 9),
        Alignment::Restart {
            at: PhysicalOffset(4)
        }
    );
}

/// Begun at the common point it might lack the snapshot that tells what lay before.
#[test]
fn slave_whose_retention_passed_the_common_point_begins_where_the_master_does() {
    let (slave, master) = (list(&[(1, 0), (2, 5)]), list(&[(1, 0), (3, 5)]));
    let extent = |epochs, log_min, log_end| Extent {
        epochs,
        log_min: PhysicalOffset(log_min),
        log_end: PhysicalOffset(log_end),
    };
    assert_eq!(
        align(extent(&slave, 7, 9), extent(&master, 2, 8)),
        Alignment::Restart {
            at: PhysicalOffset(2)
        }
    );
}

#[test]
fn cut_drops_an_entry_at_the_point_unless_the_master_has_it() {
    let mut epochs = list(&[(1, 0), (2, 5), (3, 7)]);
    epochs.cut(PhysicalOffset(5), &list(&[(1, 0), (4, 5)]));
    assert_eq!(epochs, list(&[(1, 0)]));
    let mut epochs = list(&[(1, 0), (2, 5), (3, 7)]);
    epochs.cut(PhysicalOffset(5), &list(&[(1, 0), (2, 5)]));
    assert_eq!(epochs, list(&[(1, 0), (2, 5)]));
}

#[test]
fn byte_belongs_to_the_last_entry_that_starts_at_or_before_it() {
    let epochs = list(&[(1, 0), (2, 5), (3, 5)]);
    let (entry, end) = epochs.at(PhysicalOffset(4)).unwrap();
    assert_eq!((entry.epoch, end), (Epoch(1), Some(PhysicalOffset(5))));
    let (entry, end) = epochs.at(PhysicalOffset(5)).unwrap();
    assert_eq!((entry.epoch, end), (Epoch(3), None));
}

#[test]
fn recovery_drops_entries_beyond_the_end_but_not_at_it() {
    let mut epochs = list(&[(1, 0), (2, 5), (3, 7)]);
    epochs.drop_beyond(PhysicalOffset(5));
    assert_eq!(epochs, list(&[(1, 0), (2, 5)]));
}

#[test]
fn retention_drops_epochs_without_a_byte_left() {
    let mut epochs = list(&[(1, 0), (2, 5), (3, 7)]);
    epochs.forget_before(PhysicalOffset(4));
    assert_eq!(epochs, list(&[(1, 0), (2, 5), (3, 7)]));
    epochs.forget_before(PhysicalOffset(6));
    assert_eq!(epochs, list(&[(2, 5), (3, 7)]));
    epochs.forget_before(PhysicalOffset(100));
    assert_eq!(epochs, list(&[(3, 7)]));
}

/// Counterexample to a list that forgot every epoch without a byte: a member of S that ends just where the master's log
/// begins now shared none of its epochs any more, and halted as one behind the master's retention.
#[test]
fn log_that_ends_where_the_masters_begins_goes_on_from_there() {
    let slave = list(&[(1, 0)]);
    let mut master = list(&[(1, 0), (3, 316)]);
    master.forget_before(PhysicalOffset(316));
    let slave = Extent {
        epochs: &slave,
        log_min: PhysicalOffset(0),
        log_end: PhysicalOffset(316),
    };
    let master = Extent {
        epochs: &master,
        log_min: PhysicalOffset(316),
        log_end: PhysicalOffset(400),
    };
    assert_eq!(align(slave, master), Alignment::Keep);
}
