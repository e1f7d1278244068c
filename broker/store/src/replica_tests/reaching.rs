//! Copies that begin behind the last message of a queue: which offsets were given before they can only be told.

use super::*;
use crate::mutant::{self, Mutant};
use crate::{Aside, QueueEnd};

/// A queue to which little is sent.
const SELDOM: u32 = 2;

/// Log files of 4096 bytes, of which retention leaves two or three.
fn expires() -> StoreConfig {
    let mut expires = config(4096);
    expires.retention.bytes_max = 2 * 4096;
    expires
}

/// A master whose queue [`SELDOM`] had three messages, all of which expired.
fn master_of_old() -> Node {
    let (master, _) = Node::open(MemoryDirectory::default(), expires(), 0).unwrap();
    master.lead();
    for number in 0..40 {
        let queue = if number < 3 { SELDOM } else { 0 };
        master.send(number, queue, 300);
    }
    settle(&master);
    assert!(master.engine.positions().min.0 > 4096);
    assert_eq!(range(&master, SELDOM), Some((3, 3)));
    master
}

/// All that it has is committed, in its queues and secured, and what is due is removed.
fn settle(node: &Node) {
    node.flush();
    node.confirm(node.end());
    node.dispatch();
    node.engine.checkpoint_step();
    node.engine.retention_step();
}

/// A copy that begins where the log of `master` does now.
fn newcomer(master: &Node) -> Node {
    let copy = Node::new(4096);
    let begin = master.engine.positions().min;
    copy.engine.start_anew(begin, 2, Aside::Nothing).unwrap();
    copy.copy(master, master.end(), 1 << 20);
    copy.confirm(copy.end());
    copy.flush();
    copy.dispatch();
    copy
}

fn range(node: &Node, queue: u32) -> Option<(u64, u64)> {
    let topic = TopicName::parse(TOPIC).unwrap();
    let range = node.engine.queue_range(&topic, QueueId(queue))?;
    Some((range.min.0, range.max.0))
}

fn end(topic: &str, queue: u32, next: u64) -> QueueEnd {
    QueueEnd {
        topic: TopicName::parse(topic).unwrap(),
        queue_id: QueueId(queue),
        next: rocket_protocol::QueueOffset(next),
    }
}

/// Which offset the next message of a queue gets.
fn next(node: &Node, queue: u32) -> u64 {
    node.send(100 + u64::from(queue), queue, 0);
    let (_, record) = node.records().pop().unwrap();
    let (view, _) = RecordView::parse(&record).unwrap();
    assert_eq!(view.queue_id().0, queue);
    view.queue_offset().0
}

#[test]
fn a_copy_that_began_behind_a_queue_gives_its_offsets_on_and_none_again() {
    let master = master_of_old();
    let copy = newcomer(&master);
    assert_eq!(range(&copy, SELDOM), None);
    let (_, end) = range(&master, 0).unwrap();
    assert!(copy.engine.reach(&master.engine.queue_ends()));
    assert_eq!(range(&copy, SELDOM), Some((3, 3)));
    assert_eq!(range(&copy, 0).unwrap().1, end);
    copy.lead();
    assert_eq!([next(&copy, SELDOM), next(&copy, 0)], [3, end]);
    copy.confirm(copy.end());
    copy.dispatch();
    assert_eq!(range(&copy, SELDOM), Some((3, 4)));
    // The old one follows, and has its messages too.
    master.follow();
    master.copy(&copy, copy.end(), 1 << 20);
    settle(&master);
    assert_eq!(range(&master, SELDOM), Some((3, 4)));
    assert_eq!(master.engine.stats().messages_misplaced, 0);
    assert_eq!(
        master.seen().get(&(SELDOM, 3)),
        copy.seen().get(&(SELDOM, 3))
    );
}

#[test]
fn a_master_that_does_not_say_where_queues_go_on_is_seen() {
    let test = a_copy_that_began_behind_a_queue_gives_its_offsets_on_and_none_again;
    let failed = std::panic::catch_unwind(|| mutant::with(Some(Mutant::EndsUntold), test)).is_err();
    mutant::with(None, || ());
    assert!(failed);
}

#[test]
fn who_is_told_after_it_became_master_gives_none_again_either() {
    let master = master_of_old();
    let copy = newcomer(&master);
    copy.lead();
    assert!(copy.engine.reach(&master.engine.queue_ends()));
    assert_eq!(next(&copy, SELDOM), 3);
}

/// A crash at each change of the disk, from what was told on to the table that holds it, over and over.
#[test]
fn what_was_told_outlasts_a_crash_wherever_it_comes() {
    let master = master_of_old();
    let ends = master.engine.queue_ends();
    for built_again in [false, true] {
        let mut copy = newcomer(&master);
        copy.engine.checkpoint_step();
        for round in 0..4 {
            if round == 0 {
                assert!(copy.engine.reach(&ends));
            } else {
                copy.engine.checkpoint_step();
            }
            for dir in [copy.dir.killed(), copy.dir.crashed(round)] {
                if built_again {
                    dir.replace("rocket/queues/damaged", b"read error").unwrap();
                }
                // Nothing is visible at first, as in a group.
                let (again, _) = Node::open(dir, config(4096), 0).unwrap();
                again.confirm(again.end());
                again.dispatch();
                assert_eq!(range(&again, SELDOM), Some((3, 3)), "{round}");
                again.engine.checkpoint_step();
                again.lead();
                assert_eq!(next(&again, SELDOM), 3, "{round}");
            }
            let confirm = copy.end();
            copy = Node::open(copy.dir.killed(), config(4096), confirm)
                .unwrap()
                .0;
        }
        let note = copy.dir.read("rocket/queue-offsets.json").unwrap();
        assert_eq!(note, None, "a table holds it");
    }
}

#[test]
fn what_is_told_between_a_table_and_its_end_is_in_the_next_one() {
    let master = master_of_old();
    let copy = newcomer(&master);
    let position = copy.end();
    assert!(copy.engine.reach(&[end("first", 7, 5)]));
    let settled = copy.engine.carried.settle(&copy.engine.queues, position);
    assert!(copy.engine.reach(&[end("second", 7, 6)]));
    copy.engine.carried.end(settled.unwrap().unwrap()).unwrap();
    let (again, _) = Node::open(copy.dir.killed(), config(4096), position).unwrap();
    for (topic, next) in [("first", 5), ("second", 6)] {
        let topic = TopicName::parse(topic).unwrap();
        let range = again.engine.queue_range(&topic, QueueId(7)).unwrap();
        assert_eq!((range.min.0, range.max.0), (next, next));
    }
}

#[test]
fn what_a_cut_takes_away_is_given_again_though_it_was_told() {
    let master = master_of_old();
    let to = master.end();
    for number in 50..53 {
        master.send(number, SELDOM, 10);
    }
    let copy = newcomer(&master);
    assert!(copy.engine.reach(&master.engine.queue_ends()));
    assert_eq!(range(&copy, SELDOM), Some((3, 6)));
    let cut = copy.engine.cut(at(to), 3, Aside::Nothing);
    assert!(matches!(cut, Err(crate::CutError::NeedsRestart)), "{cut:?}");
    assert!(!copy.engine.reach(&[end(TOPIC, SELDOM, 9)]), "too late");
    let (again, _) = Node::open(copy.dir.killed(), config(4096), to).unwrap();
    again.dispatch();
    again.engine.checkpoint_step();
    assert_eq!(range(&again, SELDOM), Some((3, 3)));
    again.lead();
    assert_eq!(next(&again, SELDOM), 3);
}

/// The counterexample: a copy that was told nothing gives offsets again, and who has messages there passes the new ones over.
#[test]
fn an_offset_that_is_given_twice_is_told_and_what_a_start_puts_again_is_not() {
    let master = master_of_old();
    let copy = newcomer(&master);
    copy.lead();
    assert_eq!(next(&copy, SELDOM), 0);
    copy.confirm(copy.end());
    master.follow();
    master.copy(&copy, copy.end(), 1 << 20);
    let killed = Node::open(master.dir.killed(), expires(), master.end())
        .unwrap()
        .0;
    for node in [&master, &killed] {
        settle(node);
        assert_eq!(node.engine.stats().messages_misplaced, 1);
    }
    let again = Node::open(killed.dir.killed(), expires(), killed.end())
        .unwrap()
        .0;
    settle(&again);
    assert_eq!(again.engine.stats().messages_misplaced, 0);
}

#[test]
fn retention_takes_nothing_before_the_broker_says_what_it_may() {
    let held = StoreConfig {
        kept_from: at(0),
        ..expires()
    };
    let (node, _) = Node::open(MemoryDirectory::default(), held, 0).unwrap();
    node.lead();
    for number in 0..40 {
        node.send(number, 0, 300);
    }
    settle(&node);
    assert_eq!(node.engine.positions().min.0, 0);
    node.engine.keep_from(at(u64::MAX));
    settle(&node);
    assert!(node.engine.positions().min.0 > 4096);
}
