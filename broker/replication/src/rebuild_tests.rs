use rocket_protocol::ids::PhysicalOffset;

use super::*;
use crate::changes::{Registering, Registration};
use crate::elector::{Circumstances, Decision, decide};
use crate::epochs::EpochStart;
use crate::identity::{Epoch, Former, Member, Proposal, ReplicaId, Version};
use crate::messages::{Report, RoleName};
use crate::mutations::Mutations;
use crate::recovery::Evidence;

const FORMER: GroupUid = GroupUid(9);
const NEW: GroupUid = GroupUid(10);

/// Replica `id`, which saw `epoch` and `version` and has a log to `end`.
fn said(id: u32, (epoch, version): (u64, u64), end: u64) -> Said {
    Said {
        address: format!("orders-0-{}.test:10912", id - 1),
        holding: Holding {
            disk_id: DiskId(u128::from(id)),
            group: Some((FORMER, ReplicaId(id))),
            former: None,
            incarnation: Incarnation(u128::from(id)),
            role: RoleName::Booting,
            max_epoch: Epoch(epoch),
            version: Version(version),
            last: Some(EpochStart {
                epoch: Epoch(epoch),
                start: PhysicalOffset(0),
            }),
            log_end: PhysicalOffset(end),
            damaged: false,
        },
    }
}

fn rebuilt(all: &[Said]) -> Result<State, Unfit> {
    State::new(NEW, 2, Proposal(1)).rebuilt(all)
}

fn registration(said: &Said) -> Registration {
    let held = said.holding;
    Registration {
        group_uid: held.group.map(|(uid, _)| uid),
        disk_id: held.disk_id,
        incarnation: held.incarnation,
        address: said.address.clone(),
        durable: true,
        evidence: Evidence::default(),
        max_epoch: held.max_epoch,
        max_version: held.version,
    }
}

fn register(state: &State, who: &Said) -> Registering {
    let who = registration(who);
    state.registering(Proposal(2), &who, Mutations::default())
}

#[test]
fn new_object_is_above_everything_that_anybody_saw_and_promises_nothing() {
    let mut empty = said(7, (0, 0), 0);
    empty.holding.group = None;
    let all = [said(3, (4, 90), 500), said(1, (6, 20), 400), empty.clone()];
    let state = rebuilt(&all).unwrap();
    assert_eq!(
        (state.epoch, state.version, state.next_replica_id),
        (Epoch(7), Version(91), ReplicaId(4))
    );
    assert_eq!((state.group_uid, state.master), (NEW, None));
    assert!(state.complete().next().is_none() && state.unclean.is_empty());
    assert_eq!(state.last_complete, [1, 3].map(ReplicaId).into());
    assert_eq!(state.replicas[&ReplicaId(3)].disk_id, DiskId(3));
    assert_eq!(state.check(), Ok(()));
    // Each that was named adopts it, and the others join as new ones.
    for (who, id) in [(&all[0], 3), (&all[1], 1), (&empty, 4)] {
        let Registering::Write(new) = register(&state, who) else {
            panic!("{who:?} does not register");
        };
        assert_eq!(State::check_transition(&state, &new), Ok(()));
        let id = ReplicaId(id);
        assert_eq!(new.replicas[&id].disk_id, who.holding.disk_id);
    }
    // Who saw more than was said then, or is not named, does not.
    for late in [said(3, (7, 90), 0), said(3, (4, 91), 0), said(2, (1, 1), 0)] {
        assert_eq!(register(&state, &late), Registering::Forgot, "{late:?}");
    }
}

/// §8.16, then §8.14: it waits for all, and who has the most is elected; that is told for ever.
#[test]
fn nobody_is_elected_before_all_have_registered() {
    let all = [
        said(1, (6, 20), 400),
        said(2, (6, 21), 500),
        said(3, (5, 21), 900),
    ];
    let mut state = rebuilt(&all).unwrap();
    let reports = all.clone().map(|said| Report {
        member: Member {
            replica_id: ReplicaId(u32::try_from(said.holding.disk_id.0).unwrap()),
            incarnation: said.holding.incarnation,
        },
        role: RoleName::Idle,
        max_epoch: said.holding.max_epoch,
        last: said.holding.last,
        log_end: said.holding.log_end,
        durable_end: said.holding.log_end,
        confirm: PhysicalOffset(0),
        version: said.holding.version,
        master_linked: false,
        damaged: false,
    });
    let elect = |state: &State| {
        let seen = Circumstances {
            reports: &reports,
            master_suspected: true,
            waited: true,
            expected_replicas: 3,
            ..Circumstances::default()
        };
        decide(state, &seen, Proposal(3), Mutations::default())
    };
    assert_eq!(elect(&state), Decision::Wait);
    for (at, who) in all.iter().enumerate() {
        let Registering::Write(new) = register(&state, who) else {
            panic!("{who:?} does not register");
        };
        state = *new;
        let decided = elect(&state);
        assert_eq!(
            matches!(decided, Decision::Elect(_)),
            at == 2,
            "{decided:?}"
        );
    }
    let Decision::Elect(elected) = elect(&state) else {
        panic!("nobody is elected");
    };
    assert_eq!(elected.epoch, Epoch(8));
    assert_eq!(elected.unclean[0].chosen.replica_id, ReplicaId(2));
    assert_eq!(elected.unclean[0].kept_end, PhysicalOffset(500));
}

/// The same of one that had seen `before` of its group when it adopted an object that is lost by now, too.
fn adopted(id: u32, uid: GroupUid, seen: (u64, u64), before: u64) -> Said {
    let mut said = said(id, seen, 400);
    said.holding.group = Some((uid, ReplicaId(id)));
    said.holding.former = Some(Former {
        group_uid: FORMER,
        max_epoch: Epoch(before),
    });
    said
}

const LOST: GroupUid = GroupUid(20);

#[test]
fn object_that_is_lost_before_all_adopted_it_has_a_successor() {
    let all = [
        said(1, (6, 20), 500),
        adopted(2, LOST, (7, 22), 6),
        said(3, (5, 20), 300),
    ];
    let state = rebuilt(&all).unwrap();
    assert_eq!((state.epoch, state.version), (Epoch(8), Version(23)));
    assert_eq!(state.last_complete, [1, 2, 3].map(ReplicaId).into());
    for who in &all {
        let registering = register(&state, who);
        assert!(
            matches!(registering, Registering::Write(_)),
            "{registering:?}"
        );
    }
    // One that had seen less says less; another one may have seen more.
    let late = [said(1, (6, 20), 500), adopted(2, LOST, (7, 22), 5)];
    let unfit = rebuilt(&late);
    assert!(matches!(unfit, Err(Unfit::OtherGroup { .. })), "{unfit:?}");
    let [one, other] = late;
    let third = adopted(3, LOST, (8, 25), 6);
    assert_eq!(rebuilt(&[one, other, third]).unwrap().epoch, Epoch(9));
}

/// Two histories that were one may have the same epochs.
#[test]
fn two_objects_in_the_place_of_one_do_not_go_together() {
    let one = || adopted(1, LOST, (7, 22), 6);
    let twin = adopted(2, GroupUid(21), (7, 22), 6);
    let (address, other) = (twin.address.clone(), one().address);
    assert_eq!(
        rebuilt(&[one(), twin.clone()]),
        Err(Unfit::OtherGroup { address, other })
    );
    // Nor does a third that both are linked to make them one; the two are named, not that.
    let (address, other) = (twin.address.clone(), one().address);
    assert_eq!(
        rebuilt(&[one(), said(3, (6, 20), 300), twin]),
        Err(Unfit::OtherGroup { address, other })
    );
    // What was before the former one nobody knows any more.
    let mut older = said(3, (1, 2), 300);
    older.holding.group = Some((GroupUid(8), ReplicaId(3)));
    let unfit = rebuilt(&[one(), older]);
    assert!(matches!(unfit, Err(Unfit::OtherGroup { .. })), "{unfit:?}");
    // An id that both objects gave.
    let mut twice = said(3, (6, 20), 300);
    twice.holding.group = Some((FORMER, ReplicaId(1)));
    let unfit = rebuilt(&[one(), twice]);
    assert!(matches!(unfit, Err(Unfit::Twice { .. })), "{unfit:?}");
}

#[test]
fn what_does_not_fit_together_makes_no_object() {
    let one = || said(1, (6, 20), 400);
    let (here, there) = (
        "orders-0-0.test:10912".to_owned(),
        "orders-0-1.test:10912".to_owned(),
    );
    let mut foreign = said(2, (1, 1), 9_000);
    foreign.holding.group = Some((GroupUid(77), ReplicaId(2)));
    let (address, other) = (there.clone(), here.clone());
    let unfit = Unfit::OtherGroup { address, other };
    assert_eq!(rebuilt(&[one(), foreign]), Err(unfit));
    let mut copied = said(2, (6, 20), 400);
    copied.holding.disk_id = DiskId(1);
    let (address, other) = (there, here);
    assert_eq!(
        rebuilt(&[one(), copied]),
        Err(Unfit::Twice { address, other })
    );
    let mut empty = one();
    empty.holding.group = None;
    assert_eq!(rebuilt(&[empty.clone()]), Err(Unfit::Nothing));
    // A copy that never registered is one all the same.
    empty.holding.incarnation = Incarnation(7);
    empty.address = "orders-0-1.test:10912".to_owned();
    let twice = rebuilt(&[one(), empty]);
    assert!(matches!(twice, Err(Unfit::Twice { .. })), "{twice:?}");
    // One process in two places says nothing about whoever is to be there, whatever else is wrong.
    let mut stray = said(2, (1, 1), 9_000);
    stray.holding.group = Some((GroupUid(77), ReplicaId(2)));
    let mut again = stray.clone();
    again.address = "orders-0-2.test:10912".to_owned();
    let twice = rebuilt(&[one(), stray, again]);
    assert!(matches!(twice, Err(Unfit::OneProcess { .. })), "{twice:?}");
    assert_eq!(rebuilt(&[]), Err(Unfit::Nothing));
}
