use super::*;

const NOW: UnixMillis = UnixMillis(7);

fn name(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn open(dir: &tempfile::TempDir, config: &BrokerConfig) -> Topics {
    let topics = Topics::open(dir.path(), None).unwrap();
    topics.ensure_system(config, NOW).unwrap();
    topics
}

#[test]
fn a_send_creates_its_topic_from_the_template_with_as_many_queues_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let config = BrokerConfig::default();
    let topics = open(&dir, &config);
    let before = topics.version().counter;
    let create = |topic: &str, queues| {
        topics
            .create_by_send(&name(topic), "TBW102", queues, 0, &config, NOW)
            .unwrap()
    };
    let (four, is_new) = create("four", 4);
    assert!(is_new);
    assert_eq!(
        (four.write_queue_nums, four.read_queue_nums, four.perm),
        (4, 4, 6)
    );
    assert_eq!(create("many", 99).0.write_queue_nums, 8);
    assert!(!create("four", 2).1);
    assert_eq!(topics.version().counter, before + 2);
    let again = Topics::open(dir.path(), None).unwrap();
    assert_eq!(again.get("four").as_deref(), Some(&*four));
    assert_eq!(again.version(), topics.version());
}

#[test]
fn without_auto_create_only_the_other_templates_serve() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::default();
    drop(open(&dir, &config));
    config.auto_create_topic_enable = false;
    let topics = open(&dir, &config);
    let create = |template: &str| topics.create_by_send(&name("t"), template, 4, 0, &config, NOW);
    assert!(matches!(create("TBW102"), Err(CreateError::NoTemplate(_))));
    assert!(matches!(
        create("BenchmarkTest"),
        Err(CreateError::NoTemplate(_))
    ));
    assert!(matches!(create("none"), Err(CreateError::NoTemplate(_))));
    assert!(create("DefaultCluster").is_ok());
}

#[test]
fn sends_create_no_more_topics_than_they_may_and_administrators_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::default();
    let topics = open(&dir, &config);
    config.auto_create_topics_max = topics.names().len() + 2;
    let create = |topic: &str| topics.create_by_send(&name(topic), "TBW102", 4, 0, &config, NOW);
    assert!(create("a").is_ok() && create("b").is_ok());
    assert!(matches!(create("c"), Err(CreateError::TooMany(max)) if max > 2));
    let retry = TopicName::retry_topic(&rocket_protocol::GroupName::parse("g").unwrap());
    let made = topics.create_if_absent(&retry, TopicConfig::default(), NOW);
    assert!(made.unwrap().1, "it comes with its group");
    topics
        .update([(name("c"), TopicConfig::default())], NOW)
        .unwrap();
    assert!(create("c").is_ok() && create("d").is_err());
}

#[test]
fn a_first_registration_carries_more_than_one_topic() {
    let dir = tempfile::tempdir().unwrap();
    let topics = open(&dir, &BrokerConfig::default());
    assert!(topics.names().len() >= 2);
    assert!(topics.contains("TBW102") && topics.contains("DefaultCluster"));
}

#[test]
fn a_deleted_topic_stays_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let topics = open(&dir, &BrokerConfig::default());
    topics
        .update([(name("t"), TopicConfig::default())], NOW)
        .unwrap();
    assert!(topics.delete("t", NOW).unwrap());
    assert!(!topics.delete("t", NOW).unwrap());
    assert!(!Topics::open(dir.path(), None).unwrap().contains("t"));
}

#[test]
fn attribute_lists_add_and_remove() {
    let mut attributes = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    apply_attributes(&mut attributes, "+message.type=FIFO,-a").unwrap();
    assert_eq!(
        attributes,
        BTreeMap::from([("message.type".to_owned(), "FIFO".to_owned())])
    );
    assert!(apply_attributes(&mut attributes, "b=1").is_err());
    assert!(apply_attributes(&mut attributes, "b").is_err());
}
