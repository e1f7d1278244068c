use rocket_protocol::body::{ConsumerData, SubscriptionData};
use rocket_protocol::{GroupName, Language, TopicName, UnixMillis};

use super::consumers::{Consumers, Member, Notice};
use super::producers::Producers;

fn group() -> GroupName {
    GroupName::parse("g").unwrap()
}

fn member(channel: u64, seen: i64) -> Member<u64> {
    Member {
        channel,
        client_id: format!("client{channel}").into(),
        language: Language::JAVA,
        version: 1,
        last_seen: UnixMillis(seen),
    }
}

fn wants(topics: &[(&str, &str, i64)]) -> ConsumerData {
    ConsumerData {
        group_name: "g".to_owned(),
        subscription_data_set: topics
            .iter()
            .map(|(topic, sub_string, sub_version)| SubscriptionData {
                topic: (*topic).to_owned(),
                sub_string: (*sub_string).to_owned(),
                sub_version: *sub_version,
                ..SubscriptionData::default()
            })
            .collect(),
        ..ConsumerData::default()
    }
}

fn told(notice: Option<Notice<u64>>) -> Option<Vec<u64>> {
    notice.map(|notice| {
        let mut channels = notice.channels;
        channels.sort_unstable();
        channels
    })
}

#[test]
fn all_members_hear_of_a_new_one_and_nobody_of_a_repeated_heartbeat() {
    let mut consumers = Consumers::default();
    let data = wants(&[("t", "*", 1)]);
    let now = UnixMillis(0);
    assert_eq!(
        told(consumers.heartbeat(now, &group(), 1, member(1, 0), &data)),
        Some(vec![1])
    );
    assert_eq!(
        told(consumers.heartbeat(now, &group(), 2, member(2, 0), &data)),
        Some(vec![1, 2])
    );
    assert_eq!(
        told(consumers.heartbeat(now, &group(), 1, member(1, 5), &data)),
        None
    );
}

#[test]
fn a_changed_set_of_topics_is_told_and_the_newer_expression_counts() {
    let mut consumers = Consumers::default();
    let now = UnixMillis(0);
    consumers.heartbeat(now, &group(), 1, member(1, 0), &wants(&[("t", "a", 5)]));
    let older = wants(&[("t", "b", 4)]);
    assert_eq!(
        told(consumers.heartbeat(now, &group(), 1, member(1, 0), &older)),
        None
    );
    let expression = |consumers: &Consumers<u64>| {
        let group = consumers.group("g").unwrap();
        group.subscription("t").unwrap().data.sub_string.clone()
    };
    assert_eq!(expression(&consumers), "a");
    let newer = wants(&[("t", "b", 6), ("u", "*", 6)]);
    assert_eq!(
        told(consumers.heartbeat(now, &group(), 1, member(1, 0), &newer)),
        Some(vec![1])
    );
    assert_eq!(expression(&consumers), "b");
    let fewer = wants(&[("u", "*", 6)]);
    assert_eq!(
        told(consumers.heartbeat(now, &group(), 1, member(1, 0), &fewer)),
        Some(vec![1])
    );
    assert!(
        consumers
            .group("g")
            .unwrap()
            .subscription(TopicName::parse("t").unwrap().as_str())
            .is_none()
    );
}

#[test]
fn who_leaves_is_told_to_those_who_stay() {
    let mut consumers = Consumers::default();
    let data = wants(&[("t", "*", 1)]);
    for id in 1..=3 {
        consumers.heartbeat(UnixMillis(0), &group(), id, member(id, 0), &data);
    }
    assert_eq!(told(consumers.unregister(&group(), 1)), Some(vec![2, 3]));
    assert_eq!(told(consumers.unregister(&group(), 1)), None);
    assert_eq!(
        consumers.closed(2).into_iter().next().unwrap().channels,
        [3]
    );
    assert!(consumers.closed(3).is_empty());
    assert!(consumers.group("g").is_none());
}

#[test]
fn the_silent_expire_and_the_others_hear_of_it() {
    let mut consumers = Consumers::default();
    let data = wants(&[("t", "*", 1)]);
    consumers.heartbeat(UnixMillis(0), &group(), 1, member(1, 0), &data);
    consumers.heartbeat(UnixMillis(0), &group(), 2, member(2, 50), &data);
    let (notices, gone) = consumers.expire(UnixMillis(120), 120);
    assert!(notices.is_empty() && gone.is_empty());
    let (notices, gone) = consumers.expire(UnixMillis(121), 120);
    assert_eq!(gone, [1]);
    assert_eq!(notices.first().unwrap().channels, [2]);
}

#[test]
fn a_producer_is_found_by_its_client_id_until_it_is_silent() {
    let mut producers = Producers::default();
    producers.heartbeat(&group(), 1, member(1, 0));
    producers.heartbeat(&group(), 2, member(2, 50));
    assert_eq!(producers.channel_of("client1"), Some(&1));
    assert_eq!(producers.expire(UnixMillis(121), 120), [1]);
    assert_eq!(producers.channel_of("client1"), None);
    producers.closed(2);
    assert_eq!(producers.members("g").count(), 0);
}

#[test]
fn producer_groups_beyond_the_bound_are_passed_over() {
    let mut producers = Producers::default();
    for index in 0..=super::producers::GROUPS_MAX {
        let group = GroupName::parse(&format!("g{index}")).unwrap();
        producers.heartbeat(&group, 1, member(1, 0));
    }
    assert_eq!(producers.groups().count(), super::producers::GROUPS_MAX);
    let known = GroupName::parse("g0").unwrap();
    producers.heartbeat(&known, 2, member(2, 0));
    assert_eq!(producers.members("g0").count(), 2);
}
