//! Handshakes: who is refused, what is cut, and what is never cut (§8.4, §8.5).

use std::sync::Arc;

use rocket_replication::coordinator::ReadAnswer;
use rocket_replication::effect::{Effect, Halt, Input};
use rocket_replication::memory::Fate;
use rocket_replication::messages::{Hello, Message, Reason, Welcome};
use rocket_replication::replica::{Flush, Replica, Writes};
use rocket_replication::{Epoch, GroupUid, Incarnation, Member, PhysicalOffset, Proposal, State};

use super::{LINK, calm_world, epochs, greeting_slave, hello, refusal, replica};
use crate::world::{Action, Crash, World};

/// §8.4.1, §8.13: news of a higher epoch stops the answers before the object is read.
#[test]
fn master_that_hears_of_a_higher_epoch_answers_nothing_more() {
    let (mut world, _) = calm_world(2, 1, Flush::Async, 1);
    let greeting = Hello {
        max_epoch: Epoch(99),
        ..hello(&mut world, 1)
    };
    let master = replica(&mut world, 0);
    let effects = master.step(Input::Received(LINK, Message::Hello(greeting)));
    assert_eq!(refusal(&effects), Some(Reason::StaleEpoch));
    assert!(effects.contains(&Effect::Read));
    assert_eq!(master.writes(), Writes::NotMaster);
    let confirm = master.log().confirm;
    master.step(Input::Appended(confirm.plus(5)));
    assert_eq!(master.log().confirm, confirm);
}

/// §8.4.1, §8.4.2.
#[test]
fn strangers_are_refused() {
    let (mut world, _) = calm_world(2, 1, Flush::Async, 1);
    let good = hello(&mut world, 1);
    let master = replica(&mut world, 0);
    let other_group = Hello {
        group_uid: GroupUid(77),
        ..good.clone()
    };
    let effects = master.step(Input::Received(LINK, Message::Hello(other_group)));
    assert_eq!(refusal(&effects), Some(Reason::WrongGroup));
    let other_run = Hello {
        member: Member {
            incarnation: Incarnation(5),
            ..good.member
        },
        ..good
    };
    let effects = master.step(Input::Received(LINK, Message::Hello(other_run)));
    assert_eq!(refusal(&effects), Some(Reason::UnknownReplica));
}

/// §8.5.1.
#[test]
fn cut_below_what_is_known_to_be_committed_halts_instead() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 3);
    world.act(&bounds, Action::Beat(0));
    world.calm(&bounds);
    let (mut slave, welcome) = greeting_slave(&mut world);
    let confirm = slave.log().confirm;
    assert_eq!(confirm, PhysicalOffset(3));
    let parted = Welcome {
        epochs: epochs(&[(1, 0)]),
        log_end: PhysicalOffset(1),
        ..welcome
    };
    let effects = slave.step(Input::Received(LINK, Message::Welcome(parted)));
    let why = Halt::CommittedCutRefused {
        common: PhysicalOffset(1),
        confirm,
    };
    assert!(effects.contains(&Effect::Halt(why)), "{effects:?}");
    assert!(!effects.iter().any(|e| matches!(e, Effect::Cut { .. })));
}

/// The counterexample to the second text of §8.5.1: the unclean mastership was followed by another before it opened, so the
/// master's list does not hold its epoch. What was given up is given up by everyone all the same.
#[test]
fn cut_after_an_unclean_election_whose_master_never_opened_is_made_and_told() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    world.act(&bounds, Action::Flush(0));
    let slave = replica(&mut world, 1).member().expect("registered");
    world.step(0, Input::Lagging(slave));
    world.cas(0, Fate::Answered);
    let link = *world.wires.keys().next().expect("a link");
    // The learner copies two more and hears that they are committed; then their only complete copy loses power.
    let actions = [
        Action::Send(0),
        Action::ToSlave(link),
        Action::ToMaster(link),
    ];
    for action in actions.iter().chain(&actions) {
        world.act(&bounds, action.clone());
    }
    world.act(&bounds, Action::Beat(0));
    world.act(&bounds, Action::ToSlave(link));
    assert_eq!(replica(&mut world, 1).log().confirm, PhysicalOffset(3));
    world.crash(0, Crash::Power);
    world.start(&bounds, 0, Flush::Async);
    world.cas(0, Fate::Answered);
    // A human does not want the learner, which has the most.
    let wanted = |world: &mut World, is_cordoned| {
        let state = world.state();
        let new = state.cordoned(Proposal(7), slave.replica_id, is_cordoned);
        world.memory.replace(Some(new));
    };
    wanted(&mut world, true);
    world.act(&bounds, Action::Decide);
    assert_eq!(world.state().unclean.len(), 1);
    let chosen = world.state().master.expect("chosen");
    assert_ne!(chosen.replica_id, slave.replica_id);
    world.act(
        &bounds,
        Action::Elect(chosen, std::collections::BTreeSet::new()),
    );
    wanted(&mut world, false);
    world.calm(&bounds);
    assert_eq!(world.is_healed(), Ok(()));
    assert_eq!(world.nodes[1].disk.log.len(), 1);
}

/// The counterexample to the first text of §8.5: nothing is cut, yet an epoch without a byte must go.
#[test]
fn epoch_without_a_byte_at_the_slaves_end_is_dropped_before_older_bytes_are_copied() {
    let (mut world, bounds) = calm_world(2, 1, Flush::Async, 1);
    world.crash(1, Crash::Kill);
    world.act(&bounds, Action::Send(0));
    // The slave had begun epoch 2 at its end when it was superseded by epoch 3 of node 0, whose log goes on in epoch 1.
    world.nodes[1].disk.epochs = epochs(&[(1, 0), (2, 1)]);
    world.nodes[1].disk.max_epoch = Epoch(2);
    let master = world.state().master.expect("a master");
    for _ in 0..2 {
        world.act(
            &bounds,
            Action::Elect(master, std::collections::BTreeSet::new()),
        );
    }
    world.calm(&bounds);
    assert_eq!(world.is_healed(), Ok(()));
    assert_eq!(world.nodes[1].disk.epochs.entries()[0].epoch, Epoch(1));
    assert!(
        world.nodes[1]
            .disk
            .epochs
            .entries()
            .iter()
            .all(|e| e.epoch != Epoch(2))
    );
}

/// §8.5: retention has passed what a learner would need; a member of S ∪ E must not start anew.
#[test]
fn slave_behind_retention_starts_anew_as_a_learner_and_halts_as_a_member() {
    let (mut world, _) = calm_world(2, 1, Flush::Async, 3);
    let (mut member, welcome) = greeting_slave(&mut world);
    let ahead = Welcome {
        log_min: PhysicalOffset(50),
        log_end: PhysicalOffset(60),
        epochs: epochs(&[(1, 0)]),
        ..welcome
    };
    // The object may say something newer, so it is read again before the next try.
    let now = || Input::Read(ReadAnswer::State(world.state()));
    let effects = member.step(Input::Received(LINK, Message::Welcome(ahead.clone())));
    assert_eq!(effects, [Effect::Read, Effect::Disconnect(LINK)]);
    let again = |member: &mut Replica| {
        let _ = member.step(Input::Retry);
        let _ = member.step(Input::Connected(LINK));
        member.step(Input::Received(LINK, Message::Welcome(ahead.clone())))
    };
    // One answer may be to a question from before.
    let _ = member.step(now());
    assert_eq!(again(&mut member), [Effect::Read, Effect::Disconnect(LINK)]);
    let _ = member.step(now());
    let effects = again(&mut member);
    assert!(effects.contains(&Effect::Halt(Halt::BehindRetention)));

    let state = world.state();
    let slave = replica(&mut world, 1).member().expect("registered");
    let shrunk = Arc::new(state.shrunk(
        Proposal(7),
        slave,
        rocket_replication::mutations::Mutations::default(),
    ));
    world.memory.replace(Some(State::clone(&shrunk)));
    world.step(1, Input::Watched(shrunk));
    let (mut learner, _) = greeting_slave(&mut world);
    let effects = learner.step(Input::Received(LINK, Message::Welcome(ahead.clone())));
    let at = PhysicalOffset(50);
    assert!(
        effects.contains(&Effect::StartAnew {
            at,
            epochs: epochs(&[(1, 0)])
        }),
        "{effects:?}"
    );
    assert_eq!((learner.log().min, learner.log().end), (at, at));

    // A master that parts from this log below what is known to be committed has lost it (§8.5.1).
    let (mut learner, _) = greeting_slave(&mut world);
    let (common, confirm) = (PhysicalOffset(1), learner.log().confirm);
    assert!(common < confirm);
    let elsewhere = Welcome {
        log_min: common,
        epochs: epochs(&[(2, 0)]),
        ..ahead
    };
    let effects = learner.step(Input::Received(LINK, Message::Welcome(elsewhere)));
    let refused = Halt::CommittedCutRefused { common, confirm };
    assert!(effects.contains(&Effect::Halt(refused)), "{effects:?}");
    assert_eq!(learner.log().confirm, confirm, "nothing was emptied");
}
