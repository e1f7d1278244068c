//! One story per paragraph, told through the front door: inputs in, effects and the object out.

mod copying;
mod forgotten;
mod handshake;
mod leading;
mod registering;

use rocket_replication::PhysicalOffset;
use rocket_replication::effect::{Effect, Input};
use rocket_replication::epochs::{EpochStart, Epochs};
use rocket_replication::identity::*;
use rocket_replication::messages::{Hello, LINK_VERSION, LinkId, Message, Reason, Welcome};
use rocket_replication::replica::{Flush, Replica};

use crate::world::{Action, Bounds, World};

pub(crate) const LINK: LinkId = LinkId(900);

pub(crate) fn calm_world(replicas: usize, m: u8, flush: Flush, values: u8) -> (World, Bounds) {
    let bounds = Bounds {
        values: 100,
        epochs: 9,
        ..Bounds::quiet(replicas, m, flush)
    };
    (calm_within(&bounds, values), bounds)
}

/// All replicas in S, and so many values committed.
pub(crate) fn calm_within(bounds: &Bounds, values: u8) -> World {
    let mut world = World::new(bounds);
    for _ in 0..values {
        let master = master_of(&world);
        world.act(bounds, Action::Send(master));
        world.calm(bounds);
    }
    assert_eq!(world.is_healed(), Ok(()));
    world
}

pub(crate) fn master_of(world: &World) -> usize {
    world
        .alive(world.state().master.expect("a master"))
        .expect("alive")
}

pub(crate) fn replica(world: &mut World, n: usize) -> &mut Replica {
    world.nodes[n].replica.as_mut().expect("alive")
}

pub(crate) fn hello(world: &mut World, n: usize) -> Hello {
    let state = world.state();
    let replica = replica(world, n);
    Hello {
        version: LINK_VERSION,
        group_uid: state.group_uid,
        member: replica.member().expect("registered"),
        disk_id: DiskId(n as u128 + 1),
        max_epoch: replica.seen().0,
        log_min: PhysicalOffset(0),
        log_end: replica.log().end,
        epochs: replica.log().epochs.clone(),
        confirm: replica.log().confirm,
        durable: false,
    }
}

pub(crate) fn refusal(effects: &[Effect]) -> Option<Reason> {
    effects.iter().find_map(|e| match e {
        Effect::Send(LINK, Message::Refuse(refuse)) => Some(refuse.reason),
        _ => None,
    })
}

/// A slave of node 0 that has just greeted on [`LINK`], with what it holds.
pub(crate) fn greeting_slave(world: &mut World) -> (Replica, Welcome) {
    let mut slave = replica(world, 1).clone();
    let old = slave
        .following()
        .and_then(|_| world.wires.keys().next().copied())
        .expect("a link");
    slave.step(Input::Disconnected(old));
    assert!(
        slave
            .step(Input::Retry)
            .iter()
            .any(|e| matches!(e, Effect::Connect { .. }))
    );
    slave.step(Input::Connected(LINK));
    let epoch = world.state().epoch;
    let log = replica(world, 0).log().clone();
    let welcome = Welcome {
        member: world.state().master.expect("a master"),
        epoch,
        start: log.epochs.last().expect("an epoch").start,
        epochs: log.epochs.clone(),
        log_min: log.min,
        log_end: log.end,
        confirm: log.confirm,
    };
    (slave, welcome)
}

pub(crate) fn epochs(entries: &[(u64, u64)]) -> Epochs {
    let entry = |(e, s): &(u64, u64)| EpochStart {
        epoch: Epoch(*e),
        start: PhysicalOffset(*s),
    };
    Epochs::new(entries.iter().map(entry).collect()).expect("in order")
}
