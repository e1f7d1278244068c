//! What a broker of a group says about its log: which messages are hidden, and what retention is to leave.

use super::*;
use crate::Retention;

fn send_many(node: &Node, numbers: std::ops::Range<u64>) {
    for number in numbers {
        node.send(number, u32::try_from(number).unwrap() % QUEUES, 100);
    }
    node.confirm(node.end());
}

#[test]
fn hidden_messages_are_gone_and_their_queues_go_on_whenever_a_copy_is_told() {
    let topic = TopicName::parse(TOPIC).unwrap();
    let master = Node::new(4096);
    master.lead();
    send_many(&master, 0..20);
    let until = PhysicalOffset(master.end());
    send_many(&master, 20..30);
    // Told before any of it is there.
    let early = Node::new(4096);
    early.engine.hide_before(&topic, until);
    early.copy(&master, master.end(), 700);
    early.confirm(early.end());
    early.dispatch();
    master.dispatch();
    assert_eq!(master.seen().len(), 30);
    master.engine.hide_before(&topic, until);
    let mut left = master.records();
    left.retain(|(start, _)| *start >= until.0);
    let expected = master.to_be_seen(&left);
    assert_eq!(expected.len(), 10);
    assert_eq!(master.seen(), expected);
    assert_eq!(early.seen(), expected);
    // An older order takes nothing back.
    master.engine.hide_before(&topic, PhysicalOffset(0));
    assert_eq!(master.seen(), expected);

    send_many(&master, 30..31);
    master.dispatch();
    assert_eq!(master.seen().get(&(0, 10)), Some(&30));
    master.flush();
    let again = Node::open(master.dir.crashed(1), config(4096), master.end())
        .unwrap()
        .0;
    again.engine.hide_before(&topic, until);
    assert_eq!(again.seen(), master.seen());
}

#[test]
fn a_topic_that_is_hidden_whole_is_empty_and_not_unknown() {
    let topic = TopicName::parse(TOPIC).unwrap();
    let node = Node::new(4096);
    node.lead();
    send_many(&node, 0..6);
    node.dispatch();
    node.engine.hide_before(&topic, PhysicalOffset(node.end()));
    let range = node.engine.queue_range(&topic, QueueId(1)).unwrap();
    assert_eq!((range.min.0, range.max.0), (2, 2));
    assert_eq!(node.seen(), BTreeMap::new());
}

#[test]
fn retention_leaves_what_the_broker_keeps_however_large_the_log_is() {
    let small = StoreConfig {
        retention: Retention {
            bytes_max: 0,
            ..StoreConfig::default().retention
        },
        ..config(4096)
    };
    let (node, _) = Node::open(MemoryDirectory::default(), small, 0).unwrap();
    node.lead();
    send_many(&node, 0..60);
    node.flush();
    node.dispatch();
    node.engine.keep_from(PhysicalOffset(5000));
    node.engine.retention_step();
    assert_eq!(node.engine.positions().min.0, 4096);
    node.engine.keep_from(PhysicalOffset(u64::MAX));
    node.engine.retention_step();
    assert!(node.engine.positions().min.0 > 4096);
}
