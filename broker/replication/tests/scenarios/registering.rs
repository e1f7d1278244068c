//! Registering: what a run inherits, and an object that is not the one it knew (§8.2, §8.3, §8.16).

use rocket_replication::memory::Fate;
use rocket_replication::replica::Flush;
use rocket_replication::{GroupUid, Proposal, State};

use super::{calm_world, replica};
use crate::world::{Action, Crash};

/// N1, N2, §8.3: what a killed master was entitled to passes on, its mastership does not.
#[test]
fn restarted_master_keeps_its_place_in_s_but_not_its_mastership() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 2);
    let old = world.state().master.expect("a master");
    world.crash(0, Crash::Kill);
    world.start(&bounds, 0, Flush::Async);
    world.cas(0, Fate::Answered);
    let state = world.state();
    assert_eq!(state.master, None);
    assert!(!state.is_current(old));
    let heir = state.member(old.replica_id).expect("registered");
    assert!(state.in_sync.contains(&heir) && !state.in_sync.contains(&old));
    world.calm(&bounds);
    assert_eq!(world.is_healed(), Ok(()));
    assert!(world.state().epoch > state.epoch);
}

/// §8.2.7, §8.3: an acknowledgement that a power cut may have taken back ends with leaving S.
#[test]
fn unclean_replica_removes_itself_from_s_and_comes_back_as_a_learner() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 2);
    let slave = replica(&mut world, 1).member().expect("registered");
    world.crash(1, Crash::Power);
    world.start(&bounds, 1, Flush::Async);
    world.cas(1, Fate::Answered);
    assert!(
        world
            .state()
            .complete()
            .all(|m| m.replica_id != slave.replica_id)
    );
    assert!(world.state().last_complete.contains(&slave.replica_id));
    world.calm(&bounds);
    assert_eq!(world.is_healed(), Ok(()));
}

/// §8.16: an object that went back is not obeyed, neither by a lower epoch (M28) nor, within one epoch, by a lower version.
#[test]
fn restored_or_recreated_object_is_refused_by_those_who_know_better() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    let before = State::clone(&world.state());
    world.act(&bounds, Action::SetMin(2));
    world.calm(&bounds);
    let recreated = State::new(GroupUid(2), 1, Proposal(3));
    for restored in [before, recreated] {
        let mut copy = world.clone();
        copy.crash(1, Crash::Kill);
        copy.memory.replace(Some(restored));
        copy.start(&bounds, 1, Flush::Async);
        assert_eq!(copy.ghost.violation, Some("the coordinator forgot"));
        assert!(copy.nodes[1].cas.is_none());
    }
}
