use super::*;

fn topic() -> TopicName {
    TopicName::parse("t").unwrap()
}

fn group() -> GroupName {
    GroupName::parse("g").unwrap()
}

const Q: QueueId = QueueId(3);

#[test]
fn a_committed_position_survives_a_restart_and_a_pulled_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(dir.path()).unwrap();
    assert_eq!(offsets.committed("t", "g", Q), None);
    offsets.pulled(&topic(), &group(), Q, 9);
    assert!(offsets.to_body().offset_table.is_empty());
    assert!(offsets.commit(&topic(), &group(), Q, 5));
    offsets.flush(UnixMillis(1)).unwrap();
    let again = Offsets::open(dir.path()).unwrap();
    let position = again.position("t", "g", Q);
    assert_eq!((position.committed, position.pulled), (Some(5), None));
    assert_eq!(again.to_body(), offsets.to_body());
}

#[test]
fn apaches_file_with_bare_keys_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":1},"offsetTable":{"%RETRY%g@g":{0:5,1:7},"broken":{0:1}}}"#;
    std::fs::write(dir.path().join("consumerOffset.json"), text).unwrap();
    let offsets = Offsets::open(dir.path()).unwrap();
    assert_eq!(offsets.committed("%RETRY%g", "g", QueueId(1)), Some(7));
    assert_eq!(
        offsets.topics_of("g"),
        [TopicName::parse("%RETRY%g").unwrap()]
    );
}

#[test]
fn a_lower_position_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(dir.path()).unwrap();
    offsets.commit(&topic(), &group(), Q, 5);
    offsets.commit(&topic(), &group(), Q, 2);
    assert_eq!(offsets.committed("t", "g", Q), Some(2));
}

#[test]
fn a_reset_holds_against_commits_until_the_group_has_pulled_there() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(dir.path()).unwrap();
    offsets.reset(&topic(), &group(), &[(Q, 2)]);
    assert!(!offsets.commit(&topic(), &group(), Q, 50));
    assert_eq!(offsets.committed("t", "g", Q), Some(2));
    assert_eq!(offsets.take_reset(&topic(), &group(), Q), Some(2));
    assert_eq!(offsets.take_reset(&topic(), &group(), Q), None);
    assert!(offsets.commit(&topic(), &group(), Q, 3));
}

#[test]
fn the_last_order_of_an_administrator_counts() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(dir.path()).unwrap();
    offsets.reset(&topic(), &group(), &[(Q, 2)]);
    offsets.reset(&topic(), &group(), &[(Q, 7)]);
    assert_eq!(offsets.committed("t", "g", Q), Some(7));
    let other = GroupName::parse("h").unwrap();
    offsets.commit(&topic(), &other, Q, 4);
    offsets.copy(&topic(), &other, &group());
    assert_eq!(offsets.committed("t", "g", Q), Some(4));
    assert_eq!(offsets.take_reset(&topic(), &group(), Q), None);
}

#[test]
fn an_order_ends_with_its_topic_or_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(dir.path()).unwrap();
    offsets.reset(&topic(), &group(), &[(Q, 2)]);
    offsets.forget_group("g");
    assert!(offsets.commit(&topic(), &group(), Q, 1));
    offsets.reset(&topic(), &group(), &[(Q, 2)]);
    offsets.forget_topic("t");
    assert!(offsets.commit(&topic(), &group(), Q, 1));
    assert_eq!(offsets.take_reset(&topic(), &group(), Q), None);
}

#[test]
fn deleted_topics_and_groups_leave_no_position() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(dir.path()).unwrap();
    offsets.commit(&topic(), &group(), Q, 5);
    offsets.copy(&topic(), &group(), &GroupName::parse("h").unwrap());
    offsets.forget_group("g");
    assert_eq!(offsets.groups_of("t"), [GroupName::parse("h").unwrap()]);
    offsets.forget_topic("t");
    assert!(offsets.groups_of("t").is_empty());
}

#[test]
fn positions_behind_the_ends_of_their_queues_are_lowered_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let offsets = Offsets::open(dir.path()).unwrap();
    for (queue, position) in [(0, 4), (1, 5), (2, 6)] {
        offsets.commit(&topic(), &group(), QueueId(queue), position);
    }
    offsets.pulled(&topic(), &group(), Q, 9);
    offsets.flush(UnixMillis(1)).unwrap();
    assert_eq!(offsets.lower(&|_, _| 5), 1);
    assert_eq!(offsets.lower(&|_, _| 5), 0);
    offsets.flush(UnixMillis(2)).unwrap();
    let again = Offsets::open(dir.path()).unwrap();
    let committed = [0, 1, 2, 3].map(|queue| again.committed("t", "g", QueueId(queue)));
    assert_eq!(committed, [Some(4), Some(5), Some(5), None]);
}
