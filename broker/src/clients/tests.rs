use rocket_protocol::body::{ConsumerData, SubscriptionData};
use rocket_protocol::{GroupName, Language, TopicName, UnixMillis};

use super::consumers::{Consumers, Full, Member, Notice};
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

/// What a heartbeat of `channel` brings `group`, taken if there is room.
fn bring(
    consumers: &mut Consumers<u64>,
    group: &str,
    channel: u64,
    topics: &[(&str, &str, i64)],
) -> Result<(), Full> {
    let group = GroupName::parse(group).unwrap();
    let (member, data) = (member(channel, 0), wants(topics));
    consumers.check_room(&group, channel, &member, &data)?;
    consumers.heartbeat(UnixMillis(0), &group, channel, member, &data);
    Ok(())
}

#[test]
fn what_all_consumer_groups_take_is_bounded_and_given_back() {
    const MAX: usize = 101_000;
    let mut consumers = Consumers::bounded(MAX);
    let text = "t".repeat(16 << 10);
    let (long, newer, short) = ([("t", &*text, 1)], [("t", &*text, 3)], [("u", "*", 2)]);
    let mut groups = 0;
    while groups < 100 && bring(&mut consumers, &format!("g{groups}"), groups, &long).is_ok() {
        groups += 1;
    }
    // Each takes twice its text and a little.
    assert_eq!(groups, 3);
    let mut members = groups;
    while members < 100 && bring(&mut consumers, "g0", members, &long).is_ok() {
        members += 1;
    }
    assert!((groups + 1..100).contains(&members), "{members}");
    assert!(consumers.bytes() <= MAX);
    // Who takes no more than before needs no room, and leaves some who takes less.
    for group in ["g1", "g2"] {
        let channel = if group == "g1" { 1 } else { 2 };
        assert_eq!(bring(&mut consumers, group, channel, &long), Ok(()));
        assert_eq!(bring(&mut consumers, group, channel, &short), Ok(()));
    }
    assert_eq!(bring(&mut consumers, "g9", 1, &long), Ok(()));
    assert_eq!(bring(&mut consumers, "g1", 1, &newer), Err(Full(MAX)));
    consumers.unregister(&GroupName::parse("g9").unwrap(), 1);
    assert_eq!(bring(&mut consumers, "g1", 1, &newer), Ok(()));
    for channel in (0..members).step_by(2) {
        consumers.closed(channel);
    }
    consumers.expire(UnixMillis(2), 1);
    assert_eq!((consumers.groups().count(), consumers.bytes()), (0, 0));
}

#[test]
fn an_older_subscription_counts_as_what_is_kept_for_it() {
    let mut consumers = Consumers::bounded(10_000);
    let long = "t".repeat(4_000);
    assert_eq!(bring(&mut consumers, "g", 1, &[("t", &*long, 5)]), Ok(()));
    // The newer one is kept, however short the other one is.
    let older = [("t", "a", 4), ("u", "u", 4)];
    assert_eq!(bring(&mut consumers, "g", 1, &older), Ok(()));
    assert!(consumers.bytes() > 8_000, "{}", consumers.bytes());
    let too_much = [("t", "a", 4), ("u", &*long, 6)];
    assert!(bring(&mut consumers, "g", 1, &too_much).is_err());
}

#[test]
fn what_all_producers_take_is_bounded_and_given_back() {
    let mut producers = Producers::bounded(1_000);
    for channel in 0..100 {
        producers.heartbeat(&group(), channel, member(channel, 0));
    }
    let count = producers.members("g").count();
    assert!((2..10).contains(&count), "{count}");
    assert!(producers.bytes() <= 1_000);
    // Who is there may go on, and one more comes when one has left.
    producers.heartbeat(&group(), 0, member(0, 9));
    producers.unregister(&group(), 1);
    producers.heartbeat(&group(), 100, member(1, 9));
    assert_eq!(producers.members("g").count(), count);
    producers.closed(2);
    assert_eq!(producers.expire(UnixMillis(9), 1).len(), count - 3);
    assert_eq!(producers.members("g").count(), 2);
    producers.closed(0);
    producers.closed(100);
    assert_eq!((producers.groups().count(), producers.bytes()), (0, 0));
}
