//! Masters: how they come to be, whom they count on, how they go (§8.9 to §8.13, §8.17).

use rocket_replication::coordinator::CasAnswer;
use rocket_replication::effect::Input;
use rocket_replication::memory::Fate;
use rocket_replication::replica::{Flush, Writes};

use super::{calm_world, replica};
use crate::world::{Action, Crash};

/// §8.9, §8.10: a member that left while too few remained is still complete, and is elected when the rest is gone.
#[test]
fn eligible_member_takes_over_when_all_of_s_is_gone() {
    let (mut world, bounds) = calm_world(2, 2, Flush::Sync, 2);
    let slave = replica(&mut world, 1).member().expect("registered");
    // Cut off first, so that it does not grow back at once.
    let link = *world.wires.keys().next().expect("a link");
    world.wires.clear();
    world.step(0, Input::Disconnected(link));
    world.step(0, Input::Lagging(slave));
    world.cas(0, Fate::Answered);
    assert!(world.state().eligible.contains(&slave));
    assert_eq!(replica(&mut world, 0).writes(), Writes::TooFewInSync);
    world.crash(0, Crash::Power);
    world.act(&bounds, Action::Decide);
    assert_eq!(world.state().master, Some(slave));
    assert_eq!(world.state().unclean.len(), 0);
    world.step(1, Input::Disconnected(link));
    world.calm(&bounds);
    assert_eq!(world.is_healed(), Ok(()));
    assert_eq!(world.ghost.committed, [1, 2]);
}

/// §8.11.3, I16: being named is not enough; a write of its own must be applied first.
#[test]
fn named_master_takes_no_sends_before_its_own_write_is_applied() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    world.crash(0, Crash::Kill);
    world.act(&bounds, Action::Decide);
    world.act(&bounds, Action::Look(1));
    assert_eq!(replica(&mut world, 1).writes(), Writes::Busy);
    world.cas(1, Fate::AnswerLost);
    assert_eq!(
        replica(&mut world, 1).writes(),
        Writes::Open,
        "the read after the lost answer shows the write"
    );
}

/// C6: a coordinator that refuses at once is not asked again at once, and is asked again after the pause.
#[test]
fn write_that_was_refused_waits_for_the_pause_between_tries() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    world.crash(0, Crash::Kill);
    world.act(&bounds, Action::Decide);
    world.act(&bounds, Action::Look(1));
    for _ in 0..3 {
        let refused = world.nodes[1].cas.take().expect("it wants to open");
        let (proposal, answer) = (refused.new.proposal, CasAnswer::Unsent);
        world.step(1, Input::Cas { proposal, answer });
        // What else happens meanwhile is no reason either.
        let end = replica(&mut world, 1).log().end;
        world.step(1, Input::Flushed(end));
        assert_eq!(world.nodes[1].cas, None);
        world.step(1, Input::Retry);
    }
    world.cas(1, Fate::Answered);
    assert_eq!(replica(&mut world, 1).writes(), Writes::Open);
}

/// §8.12.
#[test]
fn handover_moves_the_mastership_and_cuts_nothing() {
    let (mut world, bounds) = calm_world(3, 2, Flush::Sync, 3);
    let successor = replica(&mut world, 2).member().expect("registered");
    world.act(&bounds, Action::AskHandover(successor.replica_id));
    world.calm(&bounds);
    assert_eq!(world.state().master, Some(successor));
    assert_eq!(world.state().handover, None);
    assert_eq!(world.is_healed(), Ok(()));
    assert_eq!(world.ghost.committed, [1, 2, 3]);
}

/// §8.12: the successor is not there; the wait is over; the master opens again.
#[test]
fn handover_that_cannot_be_done_is_given_up_and_sends_are_taken_again() {
    let (mut world, bounds) = calm_world(3, 2, Flush::Sync, 1);
    let successor = replica(&mut world, 2).member().expect("registered");
    world.crash(2, Crash::Power);
    world.wires.clear();
    world.act(&bounds, Action::Send(0));
    world.act(&bounds, Action::AskHandover(successor.replica_id));
    world.act(&bounds, Action::Look(0));
    assert_eq!(replica(&mut world, 0).writes(), Writes::Busy);
    world.act(&bounds, Action::HandoverWaited(0));
    world.cas(0, Fate::Answered);
    assert_eq!(world.state().handover, None);
    assert_eq!(replica(&mut world, 0).writes(), Writes::Open);
}

/// §8.13: a master that cannot reach the coordinator goes on while all of S acknowledges.
#[test]
fn master_without_a_coordinator_goes_on() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    let answer = rocket_replication::coordinator::ReadAnswer::Unreachable;
    world.step(0, Input::Read(answer));
    world.act(&bounds, Action::Send(0));
    world.calm(&bounds);
    assert_eq!(world.ghost.committed, [1, 2]);
}

/// §8.17, M9.
#[test]
fn lowering_m_empties_the_eligible_set() {
    let (mut world, bounds) = calm_world(2, 2, Flush::Sync, 1);
    let slave = replica(&mut world, 1).member().expect("registered");
    world.step(0, Input::Lagging(slave));
    world.cas(0, Fate::Answered);
    assert!(!world.state().eligible.is_empty());
    world.act(&bounds, Action::SetMin(1));
    assert!(world.state().eligible.is_empty());
}

/// §8.9, §15: the watch asks a member out when its link is gone or it does not reach what was current, and not before.
#[test]
fn member_is_asked_out_after_the_limits_and_not_before() {
    use rocket_replication::timers::{LagWatch, Limits};
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    let slave = replica(&mut world, 1).member().expect("registered");
    let mut watch = LagWatch::new(Limits::default());
    for now in (0..10_000).step_by(200) {
        assert_eq!(
            watch.look(now, replica(&mut world, 0)),
            [],
            "a member that keeps up"
        );
    }
    world.act(&bounds, Action::Send(0));
    assert_eq!(watch.look(10_000, replica(&mut world, 0)), []);
    assert_eq!(watch.look(12_900, replica(&mut world, 0)), []);
    assert_eq!(
        watch.look(13_000, replica(&mut world, 0)),
        [Input::Lagging(slave)]
    );
    let link = *world.wires.keys().next().expect("a link");
    world.step(0, Input::Disconnected(link));
    let mut watch = LagWatch::new(Limits::default());
    assert_eq!(watch.look(0, replica(&mut world, 0)), []);
    assert_eq!(watch.look(999, replica(&mut world, 0)), []);
    assert_eq!(
        watch.look(1_000, replica(&mut world, 0)),
        [Input::Lagging(slave)]
    );
}
