//! Copying and acknowledging, and what a disk refuses (§8.6, §8.15).

use bytes::Bytes;
use rocket_replication::effect::{Effect, Halt, Input};
use rocket_replication::epochs::EpochStart;
use rocket_replication::messages::{Ack, Data, LinkId, Message};
use rocket_replication::replica::{Flush, Replica};
use rocket_replication::{Epoch, PhysicalOffset};

use super::{LINK, calm_world, greeting_slave, hello, replica};

/// §8.4.4, §8.6: the first acknowledgement must say the common point, and none may pass what was sent.
#[test]
fn acknowledgement_of_what_was_not_sent_closes_the_link() {
    let (mut world, _) = calm_world(2, 1, Flush::Async, 2);
    let greeting = hello(&mut world, 1);
    let epoch = world.state().epoch;
    for offset in [0, 1, 3, 1_000_000] {
        let mut master = replica(&mut world, 0).clone();
        master.step(Input::Received(LINK, Message::Hello(greeting.clone())));
        let ack = Ack {
            epoch,
            offset: PhysicalOffset(offset),
        };
        let effects = master.step(Input::Received(LINK, Message::Ack(ack)));
        assert_eq!(effects, [Effect::Disconnect(LINK)], "offset {offset}");
    }
}

/// A slave that its master has welcomed, with one byte in its log, and the next one as the master sends it.
fn welcomed_slave(flush: Flush) -> (Replica, Data) {
    let (mut world, _) = calm_world(2, 1, flush, 1);
    let (mut slave, welcome) = greeting_slave(&mut world);
    let next = Data {
        epoch: welcome.epoch,
        bytes_epoch: welcome.epochs.last().expect("an epoch"),
        offset: PhysicalOffset(1),
        file_end: PhysicalOffset(9),
        confirm: PhysicalOffset(1),
        bytes: Bytes::from_static(b"x"),
    };
    slave.step(Input::Received(LINK, Message::Welcome(welcome)));
    (slave, next)
}

/// §8.6.
#[test]
fn bytes_with_a_gap_or_of_another_epoch_close_the_link() {
    let (mut slave, good) = welcomed_slave(Flush::Async);
    let ack = Ack {
        epoch: good.epoch,
        offset: PhysicalOffset(2),
    };
    let gap = Data {
        offset: PhysicalOffset(2),
        ..good.clone()
    };
    let old = Data {
        epoch: Epoch(0),
        ..good.clone()
    };
    let newer_than_master = Data {
        bytes_epoch: EpochStart {
            epoch: Epoch(50),
            start: PhysicalOffset(1),
        },
        ..good.clone()
    };
    for bad in [gap, old, newer_than_master] {
        assert_eq!(
            slave
                .clone()
                .step(Input::Received(LINK, Message::Data(bad))),
            [Effect::Disconnect(LINK)]
        );
    }
    let effects = slave.step(Input::Received(LINK, Message::Data(good)));
    assert!(effects.contains(&Effect::Send(LINK, Message::Ack(ack))));
}

/// I12.
#[test]
fn durable_slave_acknowledges_only_after_the_flush() {
    let (mut slave, data) = welcomed_slave(Flush::Sync);
    let is_ack = |e: &Effect| matches!(e, Effect::Send(_, Message::Ack(_)));
    let effects = slave.step(Input::Received(LINK, Message::Data(data)));
    assert!(effects.contains(&Effect::Flush) && !effects.iter().any(is_ack));
    assert!(
        slave
            .step(Input::Flushed(PhysicalOffset(2)))
            .iter()
            .any(is_ack)
    );
}

/// §8.6: what the log refused to append is not held: no later link may begin behind it.
#[test]
fn refused_append_is_not_taken_for_held() {
    let (mut world, _) = calm_world(2, 1, Flush::Async, 2);
    let (mut slave, welcome) = greeting_slave(&mut world);
    let bytes_epoch = welcome.epochs.last().expect("an epoch");
    let epoch = welcome.epoch;
    slave.step(Input::Received(LINK, Message::Welcome(welcome)));
    let before = slave.log().clone();
    let data = Data {
        epoch,
        bytes_epoch,
        offset: before.end,
        file_end: before.end.plus(9),
        confirm: before.end.plus(3),
        bytes: Bytes::from_static(b"abc"),
    };
    slave.step(Input::Received(LINK, Message::Data(data)));
    assert_eq!(slave.log().confirm, before.end.plus(3));
    let effects = slave.step(Input::NotAppended(before.end));
    assert_eq!(
        effects,
        [Effect::Confirmed(before.end), Effect::Disconnect(LINK)]
    );
    assert_eq!(slave.log().end, before.end);
    slave.step(Input::Retry);
    let hello = slave.step(Input::Connected(LinkId(901)));
    assert!(
        matches!(&hello[..], [Effect::Send(_, Message::Hello(hello))] if hello.log_end == before.end)
    );
}

/// §8.6: what no link can ever bring is not asked for again and again.
#[test]
fn slave_whose_file_ends_elsewhere_than_the_masters_halts() {
    let (mut world, _) = calm_world(2, 1, Flush::Async, 2);
    let (mut slave, welcome) = greeting_slave(&mut world);
    let bytes_epoch = welcome.epochs.last().expect("an epoch");
    let epoch = welcome.epoch;
    slave.step(Input::Received(LINK, Message::Welcome(welcome)));
    let before = slave.log().clone();
    let data = Data {
        epoch,
        bytes_epoch,
        offset: before.end,
        file_end: before.end.plus(9),
        confirm: before.end.plus(3),
        bytes: Bytes::from_static(b"abc"),
    };
    slave.step(Input::Received(LINK, Message::Data(data)));
    let (ours, theirs) = (before.end.plus(7), before.end.plus(9));
    let end = before.end;
    let effects = slave.step(Input::OtherFile { end, ours, theirs });
    assert!(effects.contains(&Effect::Disconnect(LINK)));
    assert!(effects.contains(&Effect::Halt(Halt::OtherFile { ours, theirs })));
    assert_eq!(slave.log().end, end, "nothing of it is held");
    assert!(slave.step(Input::Retry).is_empty());
}

/// Counterexample found by a seed of the simulation: retention passed what a learner needed next, the master had no epoch
/// for those bytes any more and sent nothing, and the learner waited on its link for ever.
#[test]
fn learner_that_retention_passes_on_its_link_has_to_come_again() {
    let (world, _) = calm_world(2, 1, Flush::Async, 2);
    let node = (0..2).find(|n| {
        let replica = world.nodes[*n].replica.as_ref();
        replica.is_some_and(|r| r.leading().is_some())
    });
    let mut master = world.nodes[node.unwrap()].replica.clone().unwrap();
    let end = master.log().end.0;
    let effects = master.step(Input::Appended(PhysicalOffset(end + 10)));
    let sends = effects.iter().find_map(|effect| match effect {
        Effect::SendData { link, from, .. } => Some((*link, from.0)),
        _ => None,
    });
    let (link, from) = sends.expect("the slave is sent what is new");
    assert_eq!(from, end);
    let _ = master.step(Input::Retained(PhysicalOffset(end + 10)));
    let effects = master.step(Input::Appended(PhysicalOffset(end + 20)));
    assert!(effects.contains(&Effect::Disconnect(link)), "{effects:?}");
}

/// §8.15: nothing is acknowledged after a failed flush, and the replica takes itself out.
#[test]
fn replica_whose_disk_failed_leaves_s_and_gives_up_its_mastership() {
    let (mut world, _) = calm_world(2, 1, Flush::Sync, 1);
    let mut master = replica(&mut world, 0).clone();
    let effects = master.step(Input::DiskFailed);
    assert!(
        effects.contains(&Effect::StepDown) && effects.contains(&Effect::Halt(Halt::DiskFailed))
    );
    let written = effects.iter().find_map(|e| {
        if let Effect::Cas(cas) = e {
            Some(&cas.new)
        } else {
            None
        }
    });
    let written = written.expect("one try to leave");
    assert_eq!(written.master, None);
    assert_eq!(written.in_sync.len(), 1);
    assert_eq!(master.step(Input::Flushed(PhysicalOffset(9))), []);
}
