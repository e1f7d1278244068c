//! The coordinator forgot (docs/replication.md §8.16): processes stay, and join the object that is made anew from what they hold.

use rocket_ha::News;
use rocket_replication::memory::Fate;
use rocket_replication::messages::RoleName;
use rocket_replication::rebuild::Said;
use rocket_replication::{GroupUid, Proposal, State, Version};

use super::slaves_of;
use crate::world::{End, Plan, World};

/// Somebody deleted the object and made one of the name: nobody's.
fn forget(world: &mut World) {
    let other = State::new(GroupUid(77), 2, Proposal(1));
    world.memory.replace(Some(other));
}

fn wait(world: &mut World) {
    for _ in 0..30 {
        world.calm();
        world.pass(200);
    }
}

/// What all say, at the addresses that they had.
fn rebuilt(world: &World, former: &State) -> State {
    let said = |n: usize| {
        let holding = world.replica(n).holding();
        let (_, replica) = former.replica_of(holding.disk_id).expect("it was known");
        let address = replica.address.clone();
        Said { address, holding }
    };
    let all: Vec<Said> = (0..world.machines.len()).map(said).collect();
    // Another one each time.
    let nobodys = State::new(GroupUid(former.group_uid.0 + 71), 2, Proposal(2));
    nobodys.rebuilt(&all).expect("everybody said what it holds")
}

#[test]
fn processes_stay_and_join_the_object_that_is_made_anew() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    world.send(master, 10).unwrap();
    world.calm();
    let former = world.state();
    forget(&mut world);
    world.crash(master, End::Kill);
    wait(&mut world);
    world.start(master);
    wait(&mut world);
    for n in 0..3 {
        assert!(world.is_up(n));
        assert_eq!(world.replica(n).role(), RoleName::Booting);
        let told = world.news.iter().filter(|news| **news == (n, News::Forgot));
        assert_eq!(told.count(), 1, "{n} tells it once");
    }
    let halts = |(_, news): &(usize, News)| matches!(news, News::Halted(_));
    assert!(!world.news.iter().any(halts));
    assert_eq!(world.state().version, Version(1), "nobody registers");
    let new = rebuilt(&world, &former);
    world.memory.replace(Some(new));
    wait(&mut world);
    world.heal();
    let state = world.state();
    assert_eq!(state.group_uid, GroupUid(78));
    assert_eq!(state.unclean.len(), 1);
    world.check_acked();
}

/// A master that runs is superseded by the object that was made beside it, and what it answered is there.
#[test]
fn master_goes_on_until_there_is_a_new_object() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    let former = world.state();
    forget(&mut world);
    world.send(master, 10).unwrap();
    world.calm();
    assert_eq!(world.acked.len(), 1);
    let new = rebuilt(&world, &former);
    // It has not seen it.
    world.send(master, 10).unwrap();
    world.memory.replace(Some(new));
    for n in slaves_of(&world, master) {
        assert_eq!(world.replica(n).role(), RoleName::InSync);
    }
    wait(&mut world);
    world.heal();
    assert_eq!(world.state().group_uid, GroupUid(78));
    world.check_acked();
}

/// It is lost again before all have adopted it: on the disk of who had lies what it was before.
#[test]
fn object_that_is_lost_again_before_all_adopted_it_is_made_anew() {
    let mut world = World::healthy(Plan::sync(3, 2));
    let master = world.open_master().unwrap();
    world.send(master, 10).unwrap();
    world.calm();
    let former = world.state();
    forget(&mut world);
    world.crash(master, End::Kill);
    wait(&mut world);
    world.start(master);
    wait(&mut world);
    let first = rebuilt(&world, &former);
    world.memory.replace(Some(first.clone()));
    // One of them looks, registers, and is told so.
    let early = slaves_of(&world, master)[0];
    let adopts = |world: &World| world.replica(early).holding().former.is_some();
    for _ in 0..100 {
        world.pass(100);
        while !adopts(&world) && world.request(early, Fate::Answered) {
            world.answer(early);
        }
    }
    assert!(adopts(&world), "{:?}", world.replica(early).holding());
    forget(&mut world);
    world.crash(early, End::Power(3));
    world.start(early);
    wait(&mut world);
    let second = rebuilt(&world, &first);
    assert_eq!(second.group_uid, GroupUid(149));
    world.memory.replace(Some(second));
    wait(&mut world);
    world.heal();
    assert_eq!(world.state().group_uid, GroupUid(149));
    for n in 0..3 {
        world.hint(n, world.state());
    }
    world.calm();
    for n in 0..3 {
        assert_eq!(world.replica(n).holding().former, None, "{n}");
    }
    world.check_acked();
}
