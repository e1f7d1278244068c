//! Holes of another broker's failover (docs/replication.md §13.4), each told as the story in which it would lose something.
//!
//! Every story begins with a group in which all is well and two values, 1 and 2, are committed. With the feature `mutants`
//! those that have a switch are told again with the rule broken that closes the hole, and must then end badly.

use std::collections::BTreeSet;

use rocket_replication::effect::Input;
use rocket_replication::memory::Fate;
use rocket_replication::messages::{Ack, LinkId, Message};
use rocket_replication::mutations::Mutations;
use rocket_replication::replica::{Flush, Writes};
use rocket_replication::{Member, PhysicalOffset};

use crate::scenarios::{LINK, calm_within, replica};
use crate::world::{Action, Bounds, Crash, World};

type Story = fn(&mut World, &Bounds);

fn group(replicas: usize, m: u8, flush: Flush, mutations: Mutations) -> (World, Bounds) {
    let bounds = Bounds {
        values: 100,
        epochs: 9,
        mutations,
        ..Bounds::quiet(replicas, m, flush)
    };
    let world = calm_within(&bounds, 2);
    assert_eq!(world.ghost.violation, None);
    assert_eq!(world.ghost.committed, [1, 2]);
    (world, bounds)
}

fn tell(replicas: usize, m: u8, flush: Flush, story: Story) {
    let (mut world, bounds) = group(replicas, m, flush, Mutations::default());
    story(&mut world, &bounds);
}

fn member(world: &mut World, n: usize) -> Member {
    replica(world, n).member().expect("registered")
}

fn confirm(world: &mut World, n: usize) -> u64 {
    replica(world, n).log().confirm.0
}

fn link_of(world: &World, slave: usize) -> LinkId {
    let mut wires = world.wires.iter();
    let found = wires.find(|(_, wire)| wire.slave == slave);
    *found.expect("a link").0
}

/// The link of a slave is gone, with what was on its way, and both ends know.
fn part(world: &mut World, slave: usize) {
    let link = link_of(world, slave);
    let wire = world.wires.remove(&link).expect("a link");
    world.step(wire.master, Input::Disconnected(link));
    world.step(slave, Input::Disconnected(link));
}

/// Faults are over: nothing was broken on the way, and every replica holds what was committed and no more.
fn ends_well(world: &mut World, bounds: &Bounds, committed: &[u8]) {
    world.calm(bounds);
    assert_eq!(world.ghost.violation, None);
    assert_eq!(world.is_healed(), Ok(()));
    assert_eq!(world.ghost.committed, committed);
    for (n, node) in world.nodes.iter().enumerate() {
        assert_eq!(node.disk.log, committed, "replica {n}");
    }
}

/// Hole 1.
fn growing_set(world: &mut World, bounds: &Bounds) {
    let learner = member(world, 1);
    part(world, 1);
    world.step(0, Input::Lagging(learner));
    world.cas(0, Fate::Answered);
    assert!(!world.state().in_sync.contains(&learner));
    // It is back and has everything; the write that takes it into S again is on its way.
    world.act(bounds, Action::Retry(1));
    let link = link_of(world, 1);
    for action in [
        Action::ToMaster(link),
        Action::ToSlave(link),
        Action::ToMaster(link),
    ] {
        world.act(bounds, action);
    }
    world.act(bounds, Action::Cas(0, Fate::Late));
    world.act(bounds, Action::Send(0));
    assert_eq!(confirm(world, 0), 2, "it may be the next master");
    world.act(bounds, Action::Arrive(0));
    assert!(world.state().in_sync.contains(&learner));
    world.crash(0, Crash::Kill);
    world.act(bounds, Action::Decide);
    assert_eq!(world.state().master, Some(learner));
    world.act(bounds, Action::Look(1));
    ends_well(world, bounds, &[1, 2]);
}

#[test]
fn set_that_grows_binds_before_the_answer_comes() {
    tell(2, 1, Flush::Async, growing_set);
}

/// Hole 2, of one replica.
fn fresh_link(world: &mut World, bounds: &Bounds) {
    world.act(bounds, Action::Send(0));
    part(world, 1);
    world.act(bounds, Action::Retry(1));
    let link = link_of(world, 1);
    world.act(bounds, Action::ToMaster(link));
    // The link is there, and nothing was acknowledged on it.
    world.act(bounds, Action::Send(0));
    assert_eq!(confirm(world, 0), 2);
    ends_well(world, bounds, &[1, 2, 3, 4]);
}

#[test]
fn member_with_a_fresh_link_is_waited_for() {
    tell(2, 1, Flush::Async, fresh_link);
}

/// Hole 2, of a partition.
fn replaced_with_a_slave(world: &mut World, bounds: &Bounds) {
    let chosen = member(world, 2);
    let others = BTreeSet::from([member(world, 0), member(world, 1)]);
    part(world, 2);
    world.act(bounds, Action::Elect(chosen, others));
    world.act(bounds, Action::Look(2));
    // The two others have not heard of it, and are as many as m.
    let link = link_of(world, 1);
    for action in [
        Action::Send(0),
        Action::ToSlave(link),
        Action::ToMaster(link),
        Action::Beat(0),
        Action::ToSlave(link),
    ] {
        world.act(bounds, action);
    }
    assert_eq!(world.nodes[1].disk.log, [1, 2, 3]);
    assert_eq!((confirm(world, 0), confirm(world, 1)), (2, 2));
    ends_well(world, bounds, &[1, 2]);
}

#[test]
fn replaced_master_commits_nothing_with_a_slave_on_its_side() {
    tell(3, 2, Flush::Async, replaced_with_a_slave);
}

/// Hole 5.
fn isolated_master(world: &mut World, bounds: &Bounds) {
    let (old, slave) = (member(world, 0), member(world, 1));
    part(world, 1);
    // One copy would be enough, and nobody hears that it wants to go on alone.
    world.step(0, Input::Lagging(slave));
    world.act(bounds, Action::Cas(0, Fate::Late));
    world.act(bounds, Action::Elect(slave, BTreeSet::from([old])));
    world.act(bounds, Action::Look(1));
    world.act(bounds, Action::Cas(1, Fate::Answered));
    for n in [0, 1] {
        assert_eq!(replica(world, n).writes(), Writes::Open, "two masters");
        world.act(bounds, Action::Send(n));
    }
    assert_eq!((confirm(world, 0), confirm(world, 1)), (2, 3));
    ends_well(world, bounds, &[1, 2, 4]);
}

#[test]
fn isolated_master_commits_nothing_though_one_copy_is_enough() {
    tell(2, 1, Flush::Async, isolated_master);
}

/// Hole 6: what comes before a handshake moves nothing. That bytes of a stranger are no message at all is for `rocket-link` to show.
#[test]
fn acknowledgement_without_a_handshake_completes_no_send() {
    let (mut world, bounds) = group(2, 1, Flush::Async, Mutations::default());
    part(&mut world, 1);
    world.act(&bounds, Action::Send(0));
    let epoch = world.state().epoch;
    for offset in [2, 3, u64::MAX] {
        let ack = Message::Ack(Ack {
            epoch,
            offset: PhysicalOffset(offset),
        });
        world.step(0, Input::Received(LINK, ack));
        assert_eq!(confirm(&mut world, 0), 2);
    }
    ends_well(&mut world, &bounds, &[1, 2, 3]);
}

/// Hole 9.
fn learner_for_a_member(world: &mut World, bounds: &Bounds) {
    let learner = member(world, 2);
    world.step(0, Input::Lagging(learner));
    world.cas(0, Fate::Answered);
    assert!(!world.state().in_sync.contains(&learner));
    part(world, 1);
    let link = link_of(world, 2);
    for action in [
        Action::Send(0),
        Action::ToSlave(link),
        Action::ToMaster(link),
    ] {
        world.act(bounds, action);
    }
    assert_eq!(world.nodes[2].disk.log, [1, 2, 3]);
    assert_eq!(confirm(world, 0), 2, "two copies, and not those of S");
    ends_well(world, bounds, &[1, 2, 3]);
}

#[test]
fn learner_that_has_everything_stands_in_for_no_member() {
    tell(3, 2, Flush::Async, learner_for_a_member);
}

/// Hole 10.
#[test]
fn send_taken_before_a_shrink_is_not_committed_with_too_few() {
    let (mut world, bounds) = group(2, 2, Flush::Sync, Mutations::default());
    let slave = member(&mut world, 1);
    assert_eq!(replica(&mut world, 0).writes(), Writes::Open);
    world.act(&bounds, Action::Send(0));
    world.act(&bounds, Action::Flush(0));
    part(&mut world, 1);
    world.step(0, Input::Lagging(slave));
    world.cas(0, Fate::Answered);
    assert_eq!(world.state().in_sync.len(), 1);
    assert_eq!(replica(&mut world, 0).writes(), Writes::TooFewInSync);
    assert_eq!(confirm(&mut world, 0), 2);
    world.crash(0, Crash::Power);
    world.act(&bounds, Action::Decide);
    assert_eq!(world.state().master, Some(slave));
    world.act(&bounds, Action::Look(1));
    ends_well(&mut world, &bounds, &[1, 2]);
}

/// Hole 11.
fn back_before_anyone_noticed(world: &mut World, bounds: &Bounds) {
    let epoch = world.state().epoch;
    world.crash(0, Crash::Power);
    world.start(bounds, 0, Flush::Async);
    assert!(world.nodes[0].disk.log.is_empty(), "nothing was flushed");
    world.cas(0, Fate::Answered);
    assert_eq!(world.state().master, None);
    ends_well(world, bounds, &[1, 2]);
    assert!(world.state().epoch > epoch);
}

#[test]
fn master_that_is_back_before_anyone_noticed_is_a_slave_and_cuts_nobody() {
    tell(2, 1, Flush::Async, back_before_anyone_noticed);
}

/// Hole 12.
#[test]
fn complete_replicas_stay_electable_after_an_election() {
    let (mut world, bounds) = group(3, 1, Flush::Sync, Mutations::default());
    let (first, second) = (member(&mut world, 1), member(&mut world, 2));
    world.crash(0, Crash::Power);
    world.act(&bounds, Action::Decide);
    assert_eq!(world.state().master, Some(first));
    assert_eq!(world.state().in_sync, BTreeSet::from([first, second]));
    // Gone before it did anything as master.
    world.crash(1, Crash::Power);
    world.act(&bounds, Action::Decide);
    assert_eq!(world.state().master, Some(second));
    assert_eq!(world.state().unclean.len(), 0);
    ends_well(&mut world, &bounds, &[1, 2]);
}

#[cfg(feature = "mutants")]
#[test]
fn stories_end_badly_when_their_rule_is_broken() {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rocket_replication::mutations::Mutant;

    let stories: [(Mutant, usize, u8, Story); 6] = [
        (Mutant::M4, 2, 1, growing_set),
        (Mutant::M16, 2, 1, fresh_link),
        (Mutant::M17, 3, 2, replaced_with_a_slave),
        (Mutant::M3, 2, 1, isolated_master),
        (Mutant::M17, 3, 2, learner_for_a_member),
        (Mutant::M2, 2, 1, back_before_anyone_noticed),
    ];
    for (mutant, replicas, m, story) in stories {
        let broken = Mutations::default().with(mutant);
        let (mut world, bounds) = group(replicas, m, Flush::Async, broken);
        let told = catch_unwind(AssertUnwindSafe(|| story(&mut world, &bounds)));
        assert!(told.is_err(), "{mutant:?} is not seen");
    }
}
