use super::*;
use crate::epochs::EpochStart;
use crate::identity::{GroupUid, Incarnation, Version};
use crate::memory::{group, member};
use crate::policy::{Flush, Policy, Replication};

/// Replica 1 is the fixed master, restarted, in a group whose S was {1, 2, 3} in epoch 4.
fn restarted(is_entitled: bool) -> State {
    let mut state = group(3);
    state.epoch = Epoch(4);
    state.version = Version(20);
    state.in_sync = (1..=3).map(member).collect();
    state.last_complete = (1..=3).map(ReplicaId).collect();
    let heir = now(1);
    state.master = None;
    state.in_sync.remove(&member(1));
    state.replicas.get_mut(&ReplicaId(1)).unwrap().incarnation = heir.incarnation;
    if is_entitled {
        state.in_sync.insert(heir);
    }
    assert_eq!(state.check(), Ok(()));
    state
}

/// The member that replica 1 is after its restart.
fn now(id: u32) -> Member {
    Member {
        incarnation: Incarnation(100 + u128::from(id)),
        ..member(id)
    }
}

fn report(member: Member, last: u64, end: u64) -> Report {
    Report {
        member,
        role: RoleName::Idle,
        max_epoch: Epoch(4),
        last: Some(EpochStart {
            epoch: Epoch(last),
            start: PhysicalOffset(0),
        }),
        log_end: PhysicalOffset(end),
        durable_end: PhysicalOffset(end),
        confirm: PhysicalOffset(0),
        version: Version(20),
        master_linked: false,
        damaged: false,
    }
}

fn step(state: &State, me: Report, reports: &[Report], waited: bool) -> Step {
    let seen = Circumstances {
        me,
        reports,
        waited,
        expected_replicas: 3,
    };
    let step = decide(state, &seen, Proposal(77), Mutations::default());
    if let Step::Elect(new) = &step {
        assert_eq!(State::check_transition(state, new), Ok(()));
        assert!(new.epoch > state.epoch, "every mastership has its epoch");
    }
    step
}

fn elected(step: Step) -> State {
    match step {
        Step::Elect(new) => *new,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn start_that_proves_what_it_acknowledged_leads_at_once_and_keeps_s() {
    let state = restarted(true);
    let new = elected(step(&state, report(now(1), 4, 500), &[], false));
    assert_eq!(new.master, Some(now(1)));
    assert_eq!(new.in_sync, [now(1), member(2), member(3)].into());
    assert_eq!(new.unclean, []);
}

#[test]
fn start_without_proof_leads_when_it_has_as_much_as_who_is_complete() {
    let state = restarted(false);
    let me = report(now(1), 4, 500);
    let (two, three) = (report(member(2), 4, 400), report(member(3), 4, 500));
    let Step::Wait(Hindrance::Missing(silent)) = step(&state, me, &[two], false) else {
        unreachable!("it waits for all at first")
    };
    assert_eq!(silent, [ReplicaId(3)].into());
    let new = elected(step(&state, me, &[two, three], false));
    assert_eq!(new.master, Some(now(1)));
    assert_eq!(new.in_sync, [now(1), member(2), member(3)].into());
    assert_eq!(new.unclean, [], "nothing is given up");
    // One that has everything is enough, when the others do not come.
    let new = elected(step(&state, me, &[two], true));
    assert_eq!(new.master, Some(now(1)));
    assert_eq!(new.in_sync, [now(1), member(2)].into());
}

#[test]
fn start_that_lost_something_lets_who_has_most_lead_until_it_is_copied_back() {
    let state = restarted(false);
    let reports = [report(member(2), 4, 400), report(member(3), 4, 500)];
    for me in [report(now(1), 4, 499), report(now(1), 3, 900)] {
        let new = elected(step(&state, me, &reports, false));
        assert_eq!(new.master, Some(member(3)));
        assert!(!new.is_complete(now(1)), "it comes back as a learner");
    }
    // Nobody who is complete is there: none leads, whatever the master has.
    let me = report(now(1), 4, 900);
    let waiting = step(&state, me, &[], true);
    assert_eq!(
        waiting,
        Step::Wait(Hindrance::Missing([ReplicaId(2), ReplicaId(3)].into()))
    );
    // As little as a learner that answers.
    let mut state = state;
    state.in_sync.remove(&member(3));
    state.last_complete.remove(&ReplicaId(3));
    let waiting = step(&state, me, &[reports[1]], true);
    assert_eq!(
        waiting,
        Step::Wait(Hindrance::Missing([ReplicaId(2)].into()))
    );
}

#[test]
fn damaged_master_is_no_candidate_and_a_damaged_slave_no_measure() {
    let state = restarted(false);
    let damaged = |r: Report| Report { damaged: true, ..r };
    let reports = [report(member(2), 4, 400), report(member(3), 4, 500)];
    let me = damaged(report(now(1), 4, 900));
    let new = elected(step(&state, me, &reports, false));
    assert_eq!(new.master, Some(member(3)));
    let reports = [reports[0], damaged(reports[1])];
    let new = elected(step(&state, report(now(1), 4, 450), &reports, false));
    assert_eq!(new.master, Some(now(1)));
    assert_eq!(new.in_sync, [now(1), member(2)].into());
}

/// Its report is from before an election that it has not heard of: until then it may acknowledge more.
#[test]
fn slave_that_may_still_acknowledge_to_a_former_master_is_no_measure() {
    let state = restarted(false);
    let behind = Report {
        max_epoch: Epoch(3),
        ..report(member(2), 3, 400)
    };
    let new = elected(step(&state, report(now(1), 4, 500), &[behind], true));
    assert_eq!(new.master, Some(member(2)));
}

#[test]
fn master_under_a_caretaker_is_not_elected_from_outside() {
    let mut state = restarted(false);
    (state.epoch, state.master) = (Epoch(5), Some(member(2)));
    let me = report(now(1), 4, 500);
    let two = Report {
        max_epoch: Epoch(5),
        ..report(member(2), 4, 500)
    };
    let new = elected(step(&state, me, &[two], true));
    assert_eq!(new.master, Some(member(2)), "it may commit until it hears");
}

#[test]
fn w8_holds_for_a_master_that_is_not_durable_yet() {
    let policy = Policy {
        flush: Flush::Sync,
        replication: Replication::Sync,
    };
    let mut state = restarted(false).begun_with(policy);
    state.replicas.get_mut(&ReplicaId(1)).unwrap().durable = false;
    let reports = [report(member(2), 4, 400), report(member(3), 4, 400)];
    let new = elected(step(&state, report(now(1), 4, 500), &reports, false));
    assert_eq!(new.master, Some(member(2)));
}

#[test]
fn group_begins_when_all_are_there_and_with_what_the_master_has() {
    let mut state = group(3);
    (state.epoch, state.version, state.master) = (Epoch(0), Version(20), None);
    state.in_sync.clear();
    state.last_complete.clear();
    let empty = |id| Report {
        last: None,
        max_epoch: Epoch(0),
        ..report(member(id), 0, 0)
    };
    let waiting = step(&state, empty(1), &[empty(2)], true);
    let (there, expected) = (2, 3);
    assert_eq!(waiting, Step::Wait(Hindrance::NewGroup { there, expected }));
    let new = elected(step(&state, empty(1), &[empty(2), empty(3)], false));
    assert_eq!(new.in_sync, [member(1)].into());
    let holds = report(member(3), 0, 70);
    let waiting = step(&state, empty(1), &[empty(2), holds], true);
    assert_eq!(waiting, Step::Wait(Hindrance::HeldElsewhere(ReplicaId(3))));
    let adopts = report(member(1), 0, 70);
    let new = elected(step(&state, adopts, &[empty(2), empty(3)], false));
    assert_eq!(new.master, Some(member(1)));
}

#[test]
fn when_nobody_is_complete_what_may_be_lost_is_written_down() {
    let mut state = restarted(false);
    state.in_sync.clear();
    state.last_complete = [ReplicaId(1)].into();
    let me = report(now(1), 4, 500);
    let new = elected(step(&state, me, &[], true));
    assert_eq!(new.master, Some(now(1)));
    assert_eq!(new.unclean.last().unwrap().kept_end, PhysicalOffset(500));
    // A learner that has more goes first, and is copied from.
    let new = elected(step(&state, me, &[report(member(2), 4, 501)], true));
    assert_eq!(new.master, Some(member(2)));
    assert_eq!(new.unclean.len(), 1);
    // What others acknowledged is not given up while they may come back.
    state.last_complete = [ReplicaId(1), ReplicaId(2)].into();
    assert!(matches!(
        step(&state, me, &[], true),
        Step::Wait(Hindrance::Missing(_))
    ));
}

#[test]
fn report_of_a_newer_state_or_an_older_self_starts_again() {
    let state = restarted(true);
    let newer = Report {
        version: Version(21),
        ..report(member(2), 4, 400)
    };
    let me = report(now(1), 4, 500);
    assert_eq!(step(&state, me, &[newer], true), Step::StartAgain);
    let me = report(member(1), 4, 500);
    assert_eq!(step(&state, me, &[], true), Step::StartAgain);
}

fn disk(id: u32) -> DiskId {
    DiskId(u128::from(id))
}

/// Whether replica 2, a slave of 1, may make this change.
fn may(change: impl Fn(&mut State)) -> bool {
    let mut old = group(3);
    old.in_sync.insert(member(2));
    old.last_complete.insert(ReplicaId(2));
    let mut new = old.following(Proposal(5));
    change(&mut new);
    may_write(&old, &new, disk(2))
}

#[test]
fn slave_writes_its_own_entry_and_takes_itself_out() {
    let entry = |state: &mut State| {
        let replica = state.replicas.get_mut(&ReplicaId(2)).unwrap();
        (replica.incarnation, replica.durable) = (Incarnation(8), false);
        replica.address = "elsewhere:1".to_owned();
        state.in_sync.remove(&member(2));
    };
    assert!(may(|_| ()) && may(entry));
    assert!(may(|state| {
        entry(state);
        let heir = state.member(ReplicaId(2)).unwrap();
        state.in_sync.insert(heir);
    }));
    let mut old = group(1);
    old.version = Version(9);
    let mut new = old.following(Proposal(5));
    let fresh = group(2).replicas.remove(&ReplicaId(2)).unwrap();
    new.replicas.insert(ReplicaId(2), fresh);
    new.next_replica_id = ReplicaId(3);
    assert!(may_write(&old, &new, disk(2)), "it registers");
    assert!(!may_write(&old, &new, disk(3)), "and nobody else");
    new.in_sync.insert(member(2));
    assert!(!may_write(&old, &new, disk(2)), "as a learner");
}

#[test]
fn slave_writes_nothing_else() {
    type Change = fn(&mut State);
    let changes: [Change; 11] = [
        |state| state.epoch = state.epoch.next(),
        |state| state.master = None,
        |state| {
            state.epoch = state.epoch.next();
            state.master = Some(member(2));
        },
        |state| {
            state.in_sync.insert(member(3));
        },
        |state| {
            state.in_sync.remove(&member(1));
        },
        |state| {
            state.eligible.insert(member(2));
        },
        |state| state.min_in_sync = 2,
        |state| state.handover = Some(ReplicaId(2)),
        |state| state.replicas.get_mut(&ReplicaId(3)).unwrap().durable = false,
        |state| state.replicas.get_mut(&ReplicaId(2)).unwrap().cordoned = true,
        |state| state.next_replica_id = ReplicaId(9),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert!(!may(change), "change {number}");
    }
}

#[test]
fn caretaker_writes_as_a_master_and_passes_on_to_whom_the_object_asks_for() {
    let mut old = group(3);
    old.in_sync = [member(1), member(2)].into();
    old.last_complete = [ReplicaId(1), ReplicaId(2)].into();
    old.master = Some(member(2));
    let may = |old: &State, new: &State| may_write(old, new, disk(2));
    let grown = old.grown(Proposal(5), member(3), Mutations::default());
    assert!(may(&old, &grown));
    assert!(!may_write(&old, &grown, disk(3)), "nor does a learner");
    let shrunk = old.shrunk(Proposal(5), member(1), Mutations::default());
    assert!(may(&old, &shrunk));
    assert!(may(&old, &old.left(Proposal(5), member(2))));
    let passed = old.handed_over(Proposal(6), member(1));
    assert!(!may(&old, &passed), "nobody asked");
    assert!(!may(
        &old,
        &old.handover_asked(Proposal(5), Some(ReplicaId(3)))
    ));
    let asked = old.handover_asked(Proposal(5), Some(ReplicaId(1)));
    assert!(may(&asked, &asked.handed_over(Proposal(6), member(1))));
    assert!(!may(&asked, &asked.handed_over(Proposal(6), member(3))));
    assert!(may(&asked, &asked.handover_asked(Proposal(6), None)));
    // A run that begins is no master any more.
    let mut again = old.following(Proposal(5));
    again.replicas.get_mut(&ReplicaId(2)).unwrap().incarnation = Incarnation(8);
    again.in_sync.remove(&member(2));
    again.master = None;
    assert!(may(&old, &again));
    let other = State::new(GroupUid(1), 1, Proposal(1));
    assert!(!may(&old, &other), "another object");
}
