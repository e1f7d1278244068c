use super::*;

fn member(id: u32, incarnation: u128) -> Member {
    Member {
        replica_id: ReplicaId(id),
        incarnation: Incarnation(incarnation),
    }
}

fn group() -> State {
    let mut state = State::new(GroupUid(9), 2, Proposal(1));
    for id in 1..=3 {
        let disk_id = DiskId(u128::from(id) + 100);
        let address = format!("replica-{id}:10912");
        let replica = Replica {
            disk_id,
            incarnation: Incarnation(u128::from(id)),
            address,
            durable: true,
            cordoned: false,
            lost: false,
        };
        state.replicas.insert(ReplicaId(id), replica);
    }
    state.next_replica_id = ReplicaId(4);
    state.epoch = Epoch(1);
    state.master = Some(member(1, 1));
    state.in_sync = BTreeSet::from([member(1, 1), member(2, 2)]);
    state.last_complete = BTreeSet::from([ReplicaId(1), ReplicaId(2)]);
    state
}

fn next(old: &State, change: impl FnOnce(&mut State)) -> Result<(), Violation> {
    let mut new = old.clone();
    new.version = old.version.next();
    change(&mut new);
    State::check_transition(old, &new)
}

#[test]
fn well_formed_change_passes() {
    let old = group();
    assert_eq!(old.check(), Ok(()));
    assert_eq!(next(&old, |_| ()), Ok(()));
    assert_eq!(
        next(&old, |s| {
            s.epoch = Epoch(2);
            s.master = Some(member(2, 2));
        }),
        Ok(())
    );
}

#[test]
fn each_rule_refuses_what_breaks_it() {
    let old = group();
    assert_eq!(next(&old, |s| s.version = Version(3)), Err(Violation::W1));
    assert_eq!(next(&old, |s| s.epoch = Epoch(0)), Err(Violation::W1));
    assert_eq!(
        next(&old, |s| s.next_replica_id = ReplicaId(3)),
        Err(Violation::W1)
    );
    assert_eq!(
        next(&old, |s| s.master = Some(member(2, 2))),
        Err(Violation::W2)
    );
    assert_eq!(
        next(&old, |s| {
            s.in_sync.remove(&member(1, 1));
        }),
        Err(Violation::W3)
    );
    assert_eq!(
        next(&old, |s| {
            s.in_sync.insert(member(3, 77));
            s.last_complete.insert(ReplicaId(3));
        }),
        Err(Violation::W4)
    );
    assert_eq!(
        next(&old, |s| {
            s.replicas.get_mut(&ReplicaId(2)).unwrap().lost = true;
        }),
        Err(Violation::W4)
    );
    assert_eq!(
        next(&old, |s| {
            s.eligible.insert(member(3, 3));
            s.last_complete.insert(ReplicaId(3));
        }),
        Err(Violation::W5)
    );
    assert_eq!(
        next(&old, |s| {
            s.last_complete.clear();
        }),
        Err(Violation::W6)
    );
    assert_eq!(next(&old, |s| s.min_in_sync = 0), Err(Violation::MinInSync));
    assert_eq!(
        next(&old, |s| s.group_uid = GroupUid(1)),
        Err(Violation::GroupUid)
    );
}

#[test]
fn unclean_list_only_grows() {
    let mut old = group();
    let entry = Unclean {
        epoch: Epoch(1),
        chosen: member(1, 1),
        kept_end: PhysicalOffset(5),
        reason: "test".to_owned(),
    };
    old.unclean.push(entry);
    assert_eq!(next(&old, |s| s.unclean.clear()), Err(Violation::W7));
    assert_eq!(
        next(&old, |s| {
            let again = s.unclean[0].clone();
            s.unclean.push(again);
        }),
        Ok(())
    );
}

#[test]
fn restart_of_the_master_needs_a_new_epoch_even_for_the_same_replica() {
    let old = group();
    let taken = next(&old, |s| {
        s.replicas.get_mut(&ReplicaId(1)).unwrap().incarnation = Incarnation(11);
        s.in_sync = BTreeSet::from([member(1, 11), member(2, 2)]);
        s.master = Some(member(1, 11));
    });
    assert_eq!(taken, Err(Violation::W2));
}

#[test]
fn json_is_camel_case_with_hexadecimal_identities() {
    let state = group();
    let json = serde_json::to_value(&state).unwrap();
    assert_eq!(json["inSync"][0]["replicaId"], 1);
    assert_eq!(
        json["inSync"][0]["incarnation"],
        "00000000000000000000000000000001"
    );
    assert_eq!(json["replicas"]["2"]["address"], "replica-2:10912");
    assert_eq!(json["minInSync"], 2);
    assert_eq!(serde_json::from_value::<State>(json).unwrap(), state);
}

/// Counterexample to a list that was S ∪ E after every write: a replica registers as unclean, the master's machine loses
/// power, somebody changes m, and §8.14 no longer asks the one replica that still has everything.
#[test]
fn change_of_m_forgets_no_replica_that_registered_as_unclean() {
    let mut state = group();
    state.in_sync.remove(&member(2, 2));
    let new = state.with_min_in_sync(Proposal(2), 1, crate::mutations::Mutations::default());
    assert_eq!(new.last_complete, state.last_complete);
    assert!(State::check_transition(&state, &new).is_ok());
}
