use std::sync::Arc;

use super::*;
use crate::coordinator::ReadAnswer;
use crate::effect::Input;
use crate::epochs::{EpochStart, Epochs};
use crate::identity::{DiskId, Epoch, GroupUid, Incarnation, Version};
use crate::local::{Flush, Recovered, Settings};
use crate::memory;
use crate::messages::{Range, Reason, RoleName};
use crate::mutations::Mutations;
use crate::recovery::Evidence;
use crate::replica::Replica;
use crate::state::Activation;

const END: u64 = 1 << 20;
const LINK: LinkId = LinkId(70);

fn epochs(entries: &[(u64, u64)]) -> Epochs {
    let entry = |(epoch, start): &(u64, u64)| EpochStart {
        epoch: Epoch(*epoch),
        start: PhysicalOffset(*start),
    };
    Epochs::new(entries.iter().map(entry).collect()).unwrap()
}

/// Replica 2 of three, which follows replica 1.
fn slave_of(entries: &[(u64, u64)]) -> Replica {
    let settings = Settings {
        flush: Flush::Sync,
        address: "two".to_owned(),
        window_bytes_max: 1 << 20,
    };
    let recovered = Recovered {
        disk_id: DiskId(2),
        meta: Some((GroupUid(9), ReplicaId(2))),
        former: None,
        incarnation: Incarnation(2),
        max_epoch: Epoch(1),
        max_version: Version(0),
        epochs: epochs(entries),
        log_min: PhysicalOffset(0),
        log_end: PhysicalOffset(END),
        durable_end: PhysicalOffset(END),
        confirm: PhysicalOffset(END),
        evidence: Evidence::default(),
    };
    let mut replica = Replica::new(settings, recovered, Mutations::default());
    replica.step(Input::Start);
    let mut state = memory::group(3);
    state.activated = Some(Activation {
        epoch: Epoch(1),
        start_offset: PhysicalOffset(0),
    });
    replica.step(Input::Read(ReadAnswer::State(Arc::new(state))));
    assert_eq!(replica.role(), RoleName::CatchUp);
    replica
}

fn slave() -> Replica {
    slave_of(&[(1, 0)])
}

fn span(from: u64, to: u64) -> Span {
    Span {
        from: PhysicalOffset(from),
        to: PhysicalOffset(to),
    }
}

fn damaged(replica: &mut Replica, spans: &[Span]) -> Vec<Effect> {
    replica.step(Input::Damaged(Damage {
        bytes: spans.to_vec(),
        blocks: spans.to_vec(),
        missing: Vec::new(),
    }))
}

/// Ticks until something is to be done.
fn tick(replica: &mut Replica) -> Vec<Effect> {
    for _ in 0..2 * REST_TICKS {
        let effects = replica.step(Input::RepairDue);
        if !effects.is_empty() {
            return effects;
        }
    }
    Vec::new()
}

fn dials(effects: &[Effect], id: u32) -> bool {
    let address = &memory::group(3).replicas[&ReplicaId(id)].address;
    matches!(effects.last(), Some(Effect::Repair(Step::Dial { address: dialed })) if dialed == address)
}

/// The next question; the link is made if there is none.
fn asked(replica: &mut Replica) -> Fetch {
    let mut effects = tick(replica);
    if let Some(Effect::Repair(Step::Dial { .. })) = effects.last() {
        assert_eq!(replica.step(Input::Dialed(LINK)), []);
        effects = tick(replica);
    }
    match effects[..] {
        [Effect::Send(LINK, Message::Fetch(fetch))] => fetch,
        ref other => panic!("{other:?}"),
    }
}

fn range(fetch: &Fetch) -> Range {
    let bytes = vec![7; fetch.length as usize];
    Range::of(fetch.offset, bytes.into())
}

fn answer(replica: &mut Replica, range: Range) -> Vec<Effect> {
    replica.step(Input::Received(LINK, Message::Range(range)))
}

fn nothing(fetch: &Fetch) -> Range {
    Range::of(fetch.offset, Bytes::new())
}

#[test]
fn pieces_are_fetched_one_by_one_from_the_master_and_the_link_goes_with_the_damage() {
    let mut replica = slave();
    let max = u64::from(FETCH_BYTES_MAX);
    damaged(
        &mut replica,
        &[span(0, max + 5), span(2 * max, 2 * max + 9)],
    );
    assert!(replica.is_damaged() && replica.report().unwrap().damaged);
    let mut left = vec![(0, max), (max, max + 5), (2 * max, 2 * max + 9)];
    while let Some((from, to)) = left.first().copied() {
        let fetch = asked(&mut replica);
        assert_eq!((fetch.offset.0, u64::from(fetch.length)), (from, to - from));
        assert_eq!(replica.step(Input::RepairDue), [], "one at a time");
        let range = range(&fetch);
        let repair = Effect::Repair(Step::Write {
            offset: fetch.offset,
            bytes: range.bytes.clone(),
        });
        assert_eq!(answer(&mut replica, range), [repair]);
        assert_eq!(replica.step(Input::Repaired(Outcome::Done)), []);
        left.remove(0);
        let spans: Vec<Span> = left.iter().map(|(from, to)| span(*from, *to)).collect();
        let effects = damaged(&mut replica, &spans);
        let is_last = left.is_empty();
        assert_eq!(effects.contains(&Effect::Disconnect(LINK)), is_last);
    }
    assert!(!replica.is_damaged());
    assert_eq!(tick(&mut replica), []);
}

#[test]
fn every_other_replica_is_asked_and_what_nobody_has_is_passed_over_for_a_while() {
    let mut replica = slave();
    damaged(&mut replica, &[span(0, 10)]);
    assert!(dials(&tick(&mut replica), 1), "the master first");
    replica.step(Input::Dialed(LINK));
    let fetch = asked(&mut replica);
    assert_eq!(answer(&mut replica, nothing(&fetch)), []);
    let effects = tick(&mut replica);
    assert_eq!(effects[0], Effect::Disconnect(LINK));
    assert!(dials(&effects, 3));
    replica.step(Input::Dialed(LINK));
    let fetch = asked(&mut replica);
    answer(&mut replica, nothing(&fetch));
    assert_eq!(tick(&mut replica), [Effect::Disconnect(LINK)]);
    let lost = vec![span(0, 10)];
    assert_eq!(tick(&mut replica), [Effect::Repair(Step::PassOver(lost))]);
    assert!(replica.repair().is_given_up());
    for _ in 0..REST_TICKS {
        assert_eq!(replica.step(Input::RepairDue), []);
    }
    assert!(dials(&tick(&mut replica), 1), "it begins again");
    assert_eq!(
        damaged(&mut replica, &[]),
        [Effect::Repair(Step::PassOver(Vec::new()))]
    );
    let late = replica.step(Input::Dialed(LINK));
    assert_eq!(late, [Effect::Disconnect(LINK)]);
}

/// Asks everybody for what comes next, who have it not, and says what it was.
fn nobody_has(replica: &mut Replica) -> Fetch {
    let fetch = asked(replica);
    answer(replica, nothing(&fetch));
    assert_eq!(asked(replica), fetch, "the other one");
    answer(replica, nothing(&fetch));
    assert_eq!(tick(replica), [Effect::Disconnect(LINK)]);
    fetch
}

/// Counterexample: one piece that nobody had let readers pass over everything that was found damaged later.
#[test]
fn only_what_nobody_has_is_given_up() {
    let mut replica = slave();
    let (first, second, later) = (span(0, 10), span(100, 110), span(200, 210));
    damaged(&mut replica, &[first, second]);
    assert_eq!(nobody_has(&mut replica).offset, first.from);
    let fetch = asked(&mut replica);
    assert_eq!(fetch.offset, second.from);
    answer(&mut replica, range(&fetch));
    replica.step(Input::Repaired(Outcome::Done));
    assert_eq!(damaged(&mut replica, &[first]), []);
    let effects = tick(&mut replica);
    assert_eq!(
        effects,
        [
            Effect::Disconnect(LINK),
            Effect::Repair(Step::PassOver(vec![first]))
        ]
    );
    assert!(replica.repair().is_given_up());
    assert_eq!(damaged(&mut replica, &[first, later]), []);
    assert!(!replica.repair().is_given_up());
    assert_eq!(replica.repair().given_up(), [first]);
    // Pieces that touch are one, and what is sound again is none.
    let wide = span(0, 2 * u64::from(FETCH_BYTES_MAX));
    damaged(&mut replica, &[wide]);
    for from in [0, u64::from(FETCH_BYTES_MAX)] {
        assert_eq!(nobody_has(&mut replica).offset.0, from);
    }
    assert_eq!(
        tick(&mut replica),
        [Effect::Repair(Step::PassOver(vec![wide]))]
    );
    assert_eq!(
        damaged(&mut replica, &[later]),
        [Effect::Repair(Step::PassOver(vec![later]))]
    );
}

/// Counterexample: what one had been asked for was repaired, and for what came in its place only the other one was asked.
#[test]
fn everybody_is_asked_for_what_comes_in_the_place_of_another_piece() {
    let mut replica = slave();
    damaged(&mut replica, &[span(0, 10), span(100, 110)]);
    let fetch = asked(&mut replica);
    answer(&mut replica, nothing(&fetch));
    damaged(&mut replica, &[span(100, 110)]);
    let second = asked(&mut replica);
    assert_eq!(second.offset.0, 100);
    assert_eq!(replica.step(Input::RepairDue), [], "the master is asked");
    answer(&mut replica, nothing(&second));
    // It grows with the log, and who has not all of a part is not asked for more.
    damaged(&mut replica, &[span(100, 120)]);
    let grown = tick(&mut replica);
    assert!(dials(&grown, 3), "{grown:?}");
    // Another epoch's bytes are another piece.
    replica.core.log.epochs = epochs(&[(1, 0), (5, 90)]);
    replica.step(Input::DialFailed);
    assert!(dials(&tick(&mut replica), 1));
}

/// Counterexample: the last piece ended at this replica's end, where a slave was not yet, and was taken for lost.
#[test]
fn who_may_be_behind_is_asked_again_for_what_is_not_committed() {
    let mut replica = slave();
    replica.core.log.confirm = PhysicalOffset(END - 1);
    damaged(&mut replica, &[span(END - 10, END)]);
    nobody_has(&mut replica);
    assert!(dials(&tick(&mut replica), 1), "the next walk");
    assert!(!replica.repair().is_given_up());
    replica.step(Input::DialFailed);
    replica.core.log.confirm = PhysicalOffset(END);
    assert!(dials(&tick(&mut replica), 3));
    replica.step(Input::DialFailed);
    nobody_has(&mut replica);
    let lost = vec![span(END - 10, END)];
    assert_eq!(tick(&mut replica), [Effect::Repair(Step::PassOver(lost))]);
}

#[test]
fn what_nothing_can_be_written_over_is_given_up_at_once_and_nobody_is_asked() {
    let mut replica = slave();
    let missing = span(500, 700);
    let told = replica.step(Input::Damaged(Damage {
        bytes: vec![missing],
        missing: vec![missing],
        ..Damage::default()
    }));
    assert!(told.contains(&Effect::Repair(Step::PassOver(vec![missing]))));
    assert!(replica.is_damaged() && replica.repair().is_given_up());
    assert_eq!(tick(&mut replica), []);
}

/// Counterexample: the last block of a log that takes sends grew with each step, and there was no rest between two walks.
#[test]
fn only_what_is_new_ends_the_rest_between_two_walks() {
    let mut replica = slave();
    damaged(&mut replica, &[span(0, 10), span(100, 110)]);
    nobody_has(&mut replica);
    nobody_has(&mut replica);
    let given_up = tick(&mut replica);
    assert!(matches!(given_up[..], [Effect::Repair(Step::PassOver(_))]));
    replica.step(Input::Damaged(Damage {
        bytes: vec![span(0, 10)],
        blocks: vec![span(0, 20)],
        ..Damage::default()
    }));
    assert_eq!(replica.step(Input::RepairDue), []);
    damaged(&mut replica, &[span(0, 10), span(50, 60)]);
    assert!(dials(&replica.step(Input::RepairDue), 1));
}

#[test]
fn who_does_not_answer_may_have_it_and_readers_go_on_waiting() {
    let mut replica = slave();
    damaged(&mut replica, &[span(0, 10)]);
    assert!(dials(&tick(&mut replica), 1));
    replica.step(Input::DialFailed);
    assert!(dials(&tick(&mut replica), 3));
    replica.step(Input::Dialed(LINK));
    let _unanswered = asked(&mut replica);
    assert_eq!(tick(&mut replica), [Effect::Disconnect(LINK)], "too slow");
    assert!(dials(&tick(&mut replica), 1), "the next walk");
    assert!(!replica.repair().is_given_up());
    replica.step(Input::Dialed(LINK));
    let _unanswered = asked(&mut replica);
    replica.step(Input::Disconnected(LINK));
    assert!(dials(&tick(&mut replica), 3));
}

#[test]
fn answer_to_another_question_or_with_other_bytes_than_were_summed_ends_the_link() {
    let wrong: [fn(&mut Range); 5] = [
        |range| range.offset = range.offset.plus(1),
        |range| range.bytes = range.bytes.slice(1..),
        |range| range.bytes = vec![8; range.bytes.len()].into(),
        |range| range.checksums.push(0),
        |range| range.checksums.clear(),
    ];
    for spoil in wrong {
        let mut replica = slave();
        damaged(&mut replica, &[span(0, 100_000)]);
        let fetch = asked(&mut replica);
        let mut range = range(&fetch);
        spoil(&mut range);
        assert_eq!(answer(&mut replica, range), [Effect::Disconnect(LINK)]);
        assert!(dials(&tick(&mut replica), 3));
    }
    let mut replica = slave();
    damaged(&mut replica, &[span(0, 10)]);
    let fetch = asked(&mut replica);
    answer(&mut replica, range(&fetch));
    replica.step(Input::Repaired(Outcome::Refused));
    let effects = tick(&mut replica);
    assert!(dials(&effects, 3), "not what was written here");
    replica.step(Input::Dialed(LINK));
    let fetch = asked(&mut replica);
    answer(&mut replica, range(&fetch));
    replica.step(Input::Repaired(Outcome::Later));
    for _ in 0..LATER_TICKS {
        assert_eq!(replica.step(Input::RepairDue), []);
    }
    assert_eq!(asked(&mut replica), fetch, "the same again");
}

/// I5: equal entries mean equal bytes, and nothing else does.
#[test]
fn only_bytes_of_the_same_epoch_are_given() {
    let mut holder = slave_of(&[(1, 0), (3, 500), (4, 900)]);
    let mut ask_group = |group, offset, length, epoch, start| {
        let fetch = Fetch {
            group_uid: GroupUid(group),
            offset: PhysicalOffset(offset),
            length,
            bytes_epoch: EpochStart {
                epoch: Epoch(epoch),
                start: PhysicalOffset(start),
            },
        };
        let effects = holder.step(Input::Received(LINK, Message::Fetch(fetch)));
        match &effects[..] {
            [Effect::Repair(Step::SendRange { link, .. })] => *link == LINK,
            [Effect::Send(LINK, Message::Range(range))] => {
                assert!(range.bytes.is_empty() && range.checksums.is_empty());
                false
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(!ask_group(8, 0, 500, 1, 0), "another group");
    let mut ask = |offset, length, epoch, start| ask_group(9, offset, length, epoch, start);
    assert!(ask(0, 500, 1, 0) && ask(400, 500, 3, 500) && ask(900, 10, 4, 900));
    assert!(!ask(400, 501, 3, 500), "the last byte is of epoch 4");
    assert!(!ask(400, 200, 1, 0), "longer there");
    assert!(!ask(600, 10, 2, 500), "another epoch");
    assert!(!ask(600, 10, 3, 400), "that began elsewhere");
    let last = u32::try_from(END - 900).unwrap();
    assert!(!ask(900, last + 1, 4, 900), "beyond the end");
    assert!(!ask(0, 0, 1, 0), "nothing");
    assert!(!ask(900, FETCH_BYTES_MAX + 1, 4, 900), "too much");
    assert!(!ask(u64::MAX, 2, 4, 900));
}

#[test]
fn question_names_the_epoch_of_its_last_byte() {
    let mut replica = slave_of(&[(1, 0), (3, 500)]);
    damaged(&mut replica, &[span(400, 600)]);
    let fetch = asked(&mut replica);
    assert_eq!(
        (fetch.bytes_epoch.epoch, fetch.bytes_epoch.start.0),
        (Epoch(3), 500)
    );
    // What lies beyond the log's end is of no epoch.
    let mut replica = slave();
    damaged(&mut replica, &[span(END - 10, END + 1)]);
    for _ in 0..4 {
        let effects = replica.step(Input::RepairDue);
        assert!(
            !effects
                .iter()
                .any(|e| matches!(e, Effect::Repair(Step::Dial { .. })))
        );
    }
}

#[test]
fn slave_tells_its_master_and_gives_the_link_up() {
    let mut replica = slave();
    let master = LinkId(3);
    replica.step(Input::Connected(master));
    let welcome = crate::messages::Welcome {
        member: memory::member(1),
        epoch: Epoch(1),
        start: PhysicalOffset(0),
        epochs: epochs(&[(1, 0)]),
        log_min: PhysicalOffset(0),
        log_end: PhysicalOffset(END),
        confirm: PhysicalOffset(END),
    };
    let welcomed = replica.step(Input::Received(master, Message::Welcome(welcome)));
    assert!(matches!(
        welcomed[..],
        [.., Effect::Send(_, Message::Ack(_))]
    ));
    let effects = damaged(&mut replica, &[span(0, 10)]);
    let [
        Effect::Send(to, Message::Refuse(refuse)),
        Effect::Disconnect(closed),
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (*to, *closed, refuse.reason),
        (master, master, Reason::Stopping)
    );
    assert_eq!(damaged(&mut replica, &[span(0, 20)]), [], "told once");
}

/// Counterexample: between question and answer the log was cut amid the piece, and what lies there now is a later epoch's.
#[test]
fn answer_for_what_was_cut_off_meanwhile_is_not_written() {
    let changes: [fn(&mut Core); 3] = [
        |core| core.log.end = PhysicalOffset(590),
        |core| core.log.epochs = epochs(&[(1, 0), (3, 500), (5, 590)]),
        |core| core.log.min = PhysicalOffset(450),
    ];
    for change in changes {
        let mut replica = slave_of(&[(1, 0), (3, 500)]);
        damaged(&mut replica, &[span(400, 600)]);
        let fetch = asked(&mut replica);
        replica.core.log.confirm = PhysicalOffset(450);
        change(&mut replica.core);
        assert_eq!(answer(&mut replica, range(&fetch)), []);
        let again = damaged(&mut replica, &[span(400, 590)]);
        assert_eq!(again, []);
    }
    let mut replica = slave_of(&[(1, 0), (3, 500)]);
    damaged(&mut replica, &[span(400, 600)]);
    let fetch = asked(&mut replica);
    replica.core.log.epochs = epochs(&[(1, 0), (3, 500), (5, 700)]);
    let effects = answer(&mut replica, range(&fetch));
    assert!(matches!(effects[..], [Effect::Repair(Step::Write { .. })]));
}

/// A master counts for all that came with its mastership, and of its own appends for what it has.
#[test]
fn master_counts_to_the_first_damage_of_its_own_appends_that_is_not_committed() {
    let mut replica = slave();
    let core = &mut replica.core;
    core.log.confirm = PhysicalOffset(1_000);
    let mut counts = |bytes: &[Span], start| {
        core.damage.bytes = bytes.to_vec();
        core.counts_from(PhysicalOffset(start)).0
    };
    assert_eq!(counts(&[span(100, 1_000)], 500), END, "others have it");
    assert_eq!(counts(&[span(100, 1_001)], 500), 1_000);
    assert_eq!(counts(&[span(0, 10), span(2_000, 2_001)], 500), 2_000);
    assert_eq!(counts(&[span(2_000, 2_001)], 3_000), END);
    assert_eq!(counts(&[span(2_000, 4_000)], 3_000), 3_000);
    assert_eq!(counts(&[], 500), END);
}
