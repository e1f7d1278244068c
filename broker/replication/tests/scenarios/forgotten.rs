//! The coordinator forgot (§8.16): a sentence of that paragraph each, and the new object from its making to its use.

use rocket_replication::coordinator::ReadAnswer;
use rocket_replication::effect::{Effect, Input};
use rocket_replication::memory::Fate;
use rocket_replication::messages::{Message, RoleName};
use rocket_replication::rebuild::Said;
use rocket_replication::replica::Flush;
use rocket_replication::{Former, GroupUid, Proposal, State};

use super::{LINK, calm_world, master_of, replica};
use crate::world::{Action, Bounds, Crash, World};

const NEW: GroupUid = GroupUid(2);

/// Somebody deleted the object and made one of the name: nobody's.
fn forget(world: &mut World) {
    let other = State::new(GroupUid(7), 1, Proposal(3));
    world.memory.replace(Some(other));
}

fn role(world: &mut World, n: usize) -> RoleName {
    replica(world, n).role()
}

/// Replica `n` looks, as it does from time to time; noticing that the coordinator forgot is what these stories are about.
fn look(world: &mut World, n: usize) {
    let answer = world.memory.read();
    world.step(n, Input::Read(answer));
    let violation = world.ghost.violation.take();
    assert!(
        violation.is_none_or(|what| what == "the coordinator forgot"),
        "{violation:?}"
    );
}

/// A send at node `n` and all that follows from it without the coordinator. Returns what is committed then.
fn send(world: &mut World, bounds: &Bounds, n: usize) -> usize {
    world.act(bounds, Action::Send(n));
    loop {
        let mut actions = Vec::new();
        world.progress(bounds, &mut actions);
        let local = actions.into_iter().find(|action| {
            matches!(
                action,
                Action::Flush(_) | Action::ToMaster(_) | Action::ToSlave(_)
            )
        });
        match local {
            Some(action) if world.ghost.violation.is_none() => world.act(bounds, action),
            _ => return world.ghost.committed.len(),
        };
    }
}

/// What node `n` says to a survey.
fn said(world: &mut World, n: usize) -> Said {
    let effects = replica(world, n).step(Input::Received(LINK, Message::Survey));
    let [Effect::Send(LINK, Message::Holding(holding))] = &effects[..] else {
        panic!("{effects:?}");
    };
    Said {
        address: format!("{n}"),
        holding: **holding,
    }
}

fn rebuilt(world: &mut World) -> State {
    rebuilt_as(world, NEW)
}

fn rebuilt_as(world: &mut World, group_uid: GroupUid) -> State {
    let nodes = 0..world.nodes.len();
    let all: Vec<Said> = nodes.map(|n| said(world, n)).collect();
    let nobodys = State::new(group_uid, 1, Proposal(3));
    nobodys.rebuilt(&all).expect("everybody said what it holds")
}

/// Nobody has the object any more, and nobody is master: node 0, which was, began anew.
fn lost(world: &mut World, bounds: &Bounds) {
    forget(world);
    world.crash(0, Crash::Kill);
    let links: Vec<_> = world.wires.keys().copied().collect();
    for link in links {
        world.wires.remove(&link);
        world.step(1, Input::Disconnected(link));
    }
    world.start(bounds, 0, Flush::Async);
    world.ghost.violation = None;
    look(world, 1);
}

#[test]
fn running_master_finishes_under_the_s_that_it_knows() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    let master = master_of(&world);
    forget(&mut world);
    for n in [0, 1] {
        look(&mut world, n);
    }
    assert_eq!(role(&mut world, master), RoleName::Master);
    assert_eq!(role(&mut world, 1 - master), RoleName::InSync);
    assert_eq!(send(&mut world, &bounds, master), 2);
}

#[test]
fn nobody_shrinks_grows_or_declares_anything() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    let (master, slave) = (master_of(&world), 1 - master_of(&world));
    let member = replica(&mut world, slave).member().expect("registered");
    forget(&mut world);
    look(&mut world, master);
    world.step(master, Input::Lagging(member));
    world.step(master, Input::Retry);
    world.ghost.violation = None;
    assert!(
        world.nodes[master].cas.is_none(),
        "no write to what is not there"
    );
    // The slave is gone, and the master cannot go on without it.
    world.crash(slave, Crash::Kill);
    let before = world.ghost.committed.len();
    assert_eq!(send(&mut world, &bounds, master), before);
    assert!(world.nodes[master].cas.is_none());
}

/// A write that was open when the object went back would be decided on what nobody knows to be true.
#[test]
fn open_write_is_not_tried_again_on_an_object_that_went_back() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    let (master, slave) = (master_of(&world), 1 - master_of(&world));
    let member = replica(&mut world, slave).member().expect("registered");
    let old = State::clone(&world.state());
    world.act(&bounds, Action::SetMin(2));
    world.calm(&bounds);
    world.step(master, Input::Lagging(member));
    world.cas(master, Fate::Late);
    world.memory.replace(Some(old));
    look(&mut world, master);
    world.step(master, Input::Retry);
    assert!(world.nodes[master].cas.is_none());
}

#[test]
fn nobody_registers_and_who_has_lost_its_master_waits() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    lost(&mut world, &bounds);
    for n in [0, 1] {
        assert_eq!(role(&mut world, n), RoleName::Booting);
        world.step(n, Input::Retry);
        assert!(world.nodes[n].cas.is_none());
    }
    assert_eq!(world.ghost.violation, None, "that is told once");
}

#[test]
fn object_that_is_not_there_is_no_other_case() {
    let (mut world, _) = calm_world(2, 1, Flush::Async, 1);
    let master = master_of(&world);
    for n in [0, 1] {
        let effects = replica(&mut world, n).step(Input::Read(ReadAnswer::Gone));
        assert_eq!(effects, [Effect::Forgot]);
        let effects = replica(&mut world, n).step(Input::Retry);
        assert_eq!(effects[0], Effect::Read);
        let effects = replica(&mut world, n).step(Input::Read(ReadAnswer::Gone));
        assert_eq!(effects, [], "told once");
    }
    assert_eq!(role(&mut world, master), RoleName::Master);
    let links: Vec<_> = world.wires.keys().copied().collect();
    for link in links {
        replica(&mut world, 1 - master).step(Input::Disconnected(link));
    }
    replica(&mut world, 1 - master).step(Input::Read(ReadAnswer::Gone));
    assert_eq!(role(&mut world, 1 - master), RoleName::Booting);
}

#[test]
fn object_that_is_itself_again_is_obeyed_again() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    let before = State::clone(&world.state());
    lost(&mut world, &bounds);
    world.memory.replace(Some(before));
    for n in [0, 1] {
        look(&mut world, n);
    }
    world.calm(&bounds);
    assert_eq!(world.is_healed(), Ok(()));
    assert!(world.state().unclean.is_empty());
}

/// Processes that stayed and one that began anew adopt the new object, elect, and hold what was committed.
#[test]
fn object_that_is_made_from_all_that_was_said_is_adopted() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 2);
    let epoch = world.state().epoch;
    lost(&mut world, &bounds);
    let new = rebuilt(&mut world);
    assert_eq!(new.epoch, epoch.next());
    world.memory.replace(Some(new));
    for n in [0, 1] {
        look(&mut world, n);
    }
    world.calm(&bounds);
    assert_eq!(world.ghost.violation, None);
    assert_eq!(world.is_healed(), Ok(()));
    assert_eq!(world.state().unclean.len(), 1, "§8.14 records it");
    for node in &world.nodes {
        assert_eq!(node.disk.meta.expect("registered").0, NEW);
        assert_eq!(node.disk.log, [1, 2]);
    }
}

/// What a running master commits after it was asked, and before it has seen the new object, is there afterwards: nobody is elected
/// before it has stepped down.
#[test]
fn master_that_goes_on_beside_the_new_object_loses_nothing() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    let master = master_of(&world);
    let new = rebuilt(&mut world);
    world.memory.replace(Some(new));
    assert_eq!(send(&mut world, &bounds, master), 2);
    look(&mut world, 1 - master);
    assert!(world.nodes[1 - master].cas.is_some(), "it registers");
    world.cas(1 - master, Fate::Answered);
    // Alone in its S no more than before: what it takes now is not committed.
    assert_eq!(send(&mut world, &bounds, master), 2);
    world.act(&bounds, Action::Decide);
    assert_eq!(world.state().master, None);
    look(&mut world, master);
    assert_eq!(role(&mut world, master), RoleName::Booting);
    assert!(world.nodes[master].cas.is_some(), "it registers");
    world.calm(&bounds);
    assert_eq!(world.ghost.violation, None);
    assert_eq!(world.is_healed(), Ok(()));
    assert!(world.state().epoch.0 >= 3);
    for node in &world.nodes {
        assert_eq!(node.disk.log[..2], [1, 2]);
    }
}

/// The epoch must lie above all that was seen, and the object must name the disk.
#[test]
fn object_that_does_not_take_up_where_the_former_ended_is_not_adopted() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    lost(&mut world, &bounds);
    let new = rebuilt(&mut world);
    let seen = new.epoch.0 - 1;
    let mut nameless = new.clone();
    nameless.replicas.clear();
    nameless.last_complete.clear();
    for not_it in [
        State {
            epoch: rocket_replication::Epoch(seen),
            ..new.clone()
        },
        nameless,
    ] {
        let mut copy = world.clone();
        copy.memory.replace(Some(not_it));
        for n in [0, 1] {
            look(&mut copy, n);
            assert_eq!(role(&mut copy, n), RoleName::Booting);
            assert!(copy.nodes[n].cas.is_none());
        }
    }
}

/// Who adopted it says what it was before, also after a start, and is of one group with those who are that still. When all are in S
/// nobody needs that any more.
#[test]
fn object_that_is_lost_again_before_all_adopted_it_is_made_anew() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 2);
    let (former_uid, seen) = (world.state().group_uid, world.state().epoch);
    lost(&mut world, &bounds);
    let first = rebuilt(&mut world);
    world.memory.replace(Some(first));
    look(&mut world, 1);
    world.cas(1, Fate::Answered);
    let former = Former {
        group_uid: former_uid,
        max_epoch: seen,
    };
    assert_eq!(world.nodes[1].disk.meta.expect("registered").0, NEW);
    assert_eq!(world.nodes[1].disk.former, Some(former));
    assert_eq!(world.nodes[0].disk.meta.expect("it was").0, former_uid);
    forget(&mut world);
    look(&mut world, 0);
    world.crash(1, Crash::Kill);
    world.start(&bounds, 1, Flush::Async);
    world.ghost.violation = None;
    let second = rebuilt_as(&mut world, GroupUid(3));
    assert!(second.epoch > seen.next());
    world.memory.replace(Some(second));
    for n in [0, 1] {
        look(&mut world, n);
    }
    world.calm(&bounds);
    assert_eq!(world.ghost.violation, None);
    assert_eq!(world.is_healed(), Ok(()));
    for n in [0, 1] {
        look(&mut world, n);
        let disk = &world.nodes[n].disk;
        assert_eq!(disk.meta.expect("registered").0, GroupUid(3));
        assert_eq!(disk.former, None, "all have adopted it");
        assert_eq!(disk.log, [1, 2]);
    }
}

/// Wherever a process ends while it adopts the object, its next start goes on.
#[test]
fn adopting_may_be_cut_short_anywhere() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    lost(&mut world, &bounds);
    let new = rebuilt(&mut world);
    world.memory.replace(Some(new));
    for effects in 0..4 {
        let mut copy = world.clone();
        look(&mut copy, 1);
        copy.nodes[1].fuse = Some((effects, Crash::Kill));
        copy.cas(1, Fate::Answered);
        copy.calm(&bounds);
        copy.nodes[1].fuse = None;
        copy.calm(&bounds);
        assert_eq!(copy.ghost.violation, None, "after {effects} effects");
        assert_eq!(copy.is_healed(), Ok(()), "after {effects} effects");
    }
}
