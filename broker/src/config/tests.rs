//! What a person sees when a configuration is right, odd or wrong.

use std::path::Path;
use std::time::Duration;

use super::load::from_entries;
use super::*;

fn of(text: &str) -> Result<Loaded<BrokerConfig>, String> {
    let at = |line| Place::Line("broker.conf".into(), line);
    let entries = source::properties(text, at).map_err(|error| error.to_string())?;
    from_entries(entries).map_err(|error| error.to_string())
}

fn of_toml(text: &str) -> Result<Loaded<BrokerConfig>, String> {
    let at = |line| Place::Line("broker.toml".into(), line);
    let entries = source::toml(text, at).map_err(|error| error.to_string())?;
    from_entries(entries).map_err(|error| error.to_string())
}

#[test]
fn defaults_obey_their_own_rules_and_show_as_written() {
    for key in BrokerConfig::KEYS {
        assert_eq!(
            BrokerConfig::default().get(key.name).as_deref(),
            Some(key.default),
            "{}",
            key.name
        );
    }
    for key in NamesrvConfig::KEYS {
        assert_eq!(
            NamesrvConfig::default().get(key.name).as_deref(),
            Some(key.default),
            "{}",
            key.name
        );
    }
    assert!(
        BrokerConfig::default()
            .contradictions(&|_| false)
            .is_empty()
    );
}

#[test]
fn every_key_is_in_one_table_only_and_once() {
    let mut names: Vec<&str> = BrokerConfig::KEYS
        .iter()
        .map(|key| key.name)
        .chain(ignored::BROKER.iter().map(|key| key.name))
        .collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_usual_broker_conf_is_read() {
    let loaded = of("# the master\n! also a comment\nbrokerClusterName = DefaultCluster\nbrokerName=broker-a\nbrokerId=0\n\
                     deleteWhen=04;16\nfileReservedTime : 48\nbrokerRole=SYNC_MASTER\nflushDiskType SYNC_FLUSH\n\
                     namesrvAddr=ns-0.ns:9876;\\\n    ns-1.ns:9876\nmessageDelayLevel=1s 5s 2h\n")
    .unwrap();
    let config = loaded.config;
    assert!(loaded.warnings.is_empty());
    assert_eq!(config.name(), "broker-a");
    assert_eq!(config.delete_when, Hours(vec![4, 16]));
    assert_eq!(config.file_reserved_time, Duration::from_hours(48));
    assert_eq!(config.flush_disk_type, FlushDiskType::Sync);
    assert_eq!(
        config.replication(),
        Replication {
            mode: ReplicationMode::Sync,
            in_sync_min: 1
        }
    );
    assert_eq!(config.namesrv_addr.len(), 2);
    assert_eq!(config.namesrv_addr[1].to_string(), "ns-1.ns:9876");
    assert_eq!(
        config.message_delay_level.0.last(),
        Some(&Duration::from_hours(2))
    );
}

#[test]
fn toml_gives_the_same_configuration_as_properties() {
    let config = of_toml("brokerName = \"broker-a\"\nfileReservedTime = 48\nautoCreateTopicEnable = false\nnamesrvAddr = [\"a:9876\", \"b:9876\"]\n").unwrap().config;
    let same = of("brokerName=broker-a\nfileReservedTime=48\nautoCreateTopicEnable=false\nnamesrvAddr=a:9876;b:9876").unwrap().config;
    assert_eq!(config.to_properties(), same.to_properties());
    assert!(!config.auto_create_topic_enable);
}

#[test]
fn an_unknown_key_names_file_line_key_and_the_nearest_known_key() {
    assert_eq!(
        of("brokerName=a\n\nflushDiskTyp=SYNC_FLUSH").unwrap_err(),
        "broker.conf:3: unknown key `flushDiskTyp`; did you mean `flushDiskType`?"
    );
    assert_eq!(
        of("LISTENPORT=1").unwrap_err(),
        "broker.conf:1: unknown key `LISTENPORT`; did you mean `listenPort`?"
    );
    assert_eq!(
        of("qqqqqqqqqqqqqqqqqqqq=1").unwrap_err(),
        "broker.conf:1: unknown key `qqqqqqqqqqqqqqqqqqqq`; `rocket-broker config` lists all keys"
    );
    assert_eq!(
        of_toml("brokerName = \"a\"\nlistenPrt = 1\n").unwrap_err(),
        "broker.toml:2: unknown key `listenPrt`; did you mean `listenPort`?"
    );
}

#[test]
fn a_bad_value_names_what_is_allowed() {
    let cases = [
        (
            "flushDiskType=SYNC",
            "broker.conf:1: flushDiskType = `SYNC`: must be one of ASYNC_FLUSH, SYNC_FLUSH",
        ),
        (
            "listenPort=70000",
            "broker.conf:1: listenPort = `70000`: must be an integer from 0 to 65535",
        ),
        (
            "maxMessageSize=4m",
            "broker.conf:1: maxMessageSize = `4m`: must be an integer from 1024 to 16711680 (bytes)",
        ),
        (
            "autoCreateTopicEnable=yes",
            "broker.conf:1: autoCreateTopicEnable = `yes`: must be true or false",
        ),
        (
            "deleteWhen=24",
            "broker.conf:1: deleteWhen = `24`: must be hours from 00 to 23 with `;` between them",
        ),
        (
            "namesrvAddr=ns",
            "broker.conf:1: namesrvAddr = `ns`: `ns` must be host:port",
        ),
        (
            "brokerPermission=7",
            "broker.conf:1: brokerPermission = `7`: must be one of 2, 4, 6",
        ),
        (
            "brokerName=a b",
            "broker.conf:1: brokerName = `a b`: must be 1 to 127 letters, digits, `-`, `_` or `.`",
        ),
        (
            "messageDelayLevel=1x",
            "broker.conf:1: messageDelayLevel = `1x`: must be delays such as `1s 5s 1m 2h`, blanks between them",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(of(text).unwrap_err(), message);
    }
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let message = of("listenPort=x\nfoo=1\nbrokerId=-1").unwrap_err();
    assert_eq!(message.lines().count(), 3, "{message}");
}

#[test]
fn broken_text_names_its_line() {
    assert_eq!(
        of("brokerName=a\n=b").unwrap_err(),
        "broker.conf:2: no key before the `=`"
    );
    assert!(
        of_toml("brokerName = \"a\"\nlistenPort = \n")
            .unwrap_err()
            .starts_with("broker.toml:2: ")
    );
    assert_eq!(
        of_toml("[broker]\nlistenPort = 1").unwrap_err(),
        "broker.toml:1: `broker` must be a string, a number, a boolean or an array of them"
    );
}

#[test]
fn an_unreadable_file_is_named() {
    let error = load::<BrokerConfig>(
        Vec::new(),
        Some(Path::new("/nowhere/broker.conf")),
        Vec::new(),
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.starts_with("/nowhere/broker.conf: cannot be read: "),
        "{error}"
    );
}

#[test]
fn keys_without_effect_are_accepted_and_named() {
    let loaded = of("waitTimeMillsInSendQueue=300").unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].starts_with("broker.conf:1: waitTimeMillsInSendQueue has no effect: ")
    );
}

#[test]
fn what_this_broker_does_not_protect_is_not_taken_as_protected() {
    for key in [
        "aclEnable",
        "authenticationEnabled",
        "authorizationEnabled",
        "useTLS",
        "tlsEnable",
    ] {
        assert!(of(&format!("{key}=false")).is_ok(), "{key}");
        for value in ["true", "TRUE", "", "yes"] {
            let message = of(&format!("{key}={value}")).unwrap_err();
            let start = format!("broker.conf:1: {key} = `{value}`: must be false: ");
            assert!(message.starts_with(&start), "{message}");
        }
        assert!(of(&format!("{key}=true\n{key}=false")).is_ok(), "{key}");
    }
}

#[test]
fn data_is_where_the_configuration_says_or_the_start_ends() {
    let root = "storePathRootDir=/data/store\n";
    for (key, folder) in [
        ("storePathCommitLog", "commitlog"),
        ("storePathConsumeQueue", "consumequeue"),
        ("storePathIndex", "index"),
    ] {
        for path in [
            format!("/data/store/{folder}"),
            format!("/data//store/{folder}/"),
        ] {
            assert!(of(&format!("{key}={path}\n{root}")).is_ok(), "{path}");
        }
        assert_eq!(
            of(&format!("{key}=/fast/{folder}\n{root}")).unwrap_err(),
            format!(
                "broker.conf:1: {key} = `/fast/{folder}`: must be /data/store/{folder}: all data lies below storePathRootDir"
            )
        );
    }
}

#[test]
fn keys_of_what_is_refused_say_so() {
    for (key, value, why) in [
        (
            "transactionTimeOut",
            "6000",
            "transactional sends are refused",
        ),
        ("enablePropertyFilter", "true", "SQL92 are refused"),
        ("reviveQueueNum", "8", "POP is refused"),
    ] {
        let warnings = of(&format!("{key}={value}")).unwrap().warnings;
        assert!(warnings[0].contains(why), "{warnings:?}");
    }
}

#[test]
fn a_key_given_twice_counts_last_and_is_named() {
    let loaded = of("listenPort=1\nlistenPort=2").unwrap();
    assert_eq!(loaded.config.listen_port, 2);
    assert_eq!(
        loaded.warnings,
        ["broker.conf:2: listenPort was given before, at broker.conf:1; this one counts"]
    );
}

#[test]
fn set_overrides_the_file_and_names_itself_when_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.conf");
    std::fs::write(&file, "listenPort=1\n").unwrap();
    let set = |text| vec![Entry::from_flag(text).unwrap()];
    assert_eq!(
        load::<BrokerConfig>(Vec::new(), Some(&file), set("listenPort=7"))
            .unwrap()
            .config
            .listen_port,
        7
    );
    let error = load::<BrokerConfig>(Vec::new(), Some(&file), set("listenPort=a")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--set: listenPort = `a`: must be an integer from 0 to 65535"
    );
    assert_eq!(
        Entry::from_flag("listenPort").unwrap_err().to_string(),
        "--set: `listenPort` must be key=value"
    );
}

#[test]
fn contradictions_are_refused() {
    let both = of("brokerRole=ASYNC_MASTER\nreplicationMode=SYNC").unwrap_err();
    assert!(
        both.starts_with("brokerRole and replicationMode contradict each other"),
        "{both}"
    );
    assert!(
        of("diskSpaceWarningLevelRatio=80")
            .unwrap_err()
            .contains("must rise in this order")
    );
    assert!(
        of("mappedFileSizeCommitLog=1048576")
            .unwrap_err()
            .contains("too small for maxMessageSize")
    );
    assert_eq!(
        of("namesrvAddr=a:1;a:1").unwrap_err(),
        "namesrvAddr names a:1 twice"
    );
}

#[test]
fn roles_and_replica_counts_become_one_promise() {
    let replication = |text: &str| of(text).unwrap().config.replication();
    assert_eq!(
        replication(""),
        Replication {
            mode: ReplicationMode::Async,
            in_sync_min: 1
        }
    );
    assert_eq!(
        replication("replicationMode=SYNC\nminInSyncReplicas=2"),
        Replication {
            mode: ReplicationMode::Sync,
            in_sync_min: 2
        }
    );
    assert_eq!(
        replication("brokerRole=SYNC_MASTER\ninSyncReplicas=2"),
        Replication {
            mode: ReplicationMode::Sync,
            in_sync_min: 2
        }
    );
}

#[test]
fn a_replica_that_is_not_the_fixed_master_is_a_standby() {
    let standby = |text: &str| of(text).unwrap().config.is_standby();
    assert!(!standby(""));
    assert!(!standby("fixedMaster=c-0-0\nreplicaName=c-0-0"));
    assert!(standby("fixedMaster=c-0-0\nreplicaName=c-0-1"));
    assert!(standby("fixedMaster=c-0-0"));
    assert!(standby("brokerRole=SLAVE"));
}

#[test]
fn a_running_broker_takes_hot_keys_only_and_all_or_none() {
    let live = LiveConfig::new(BrokerConfig::default());
    assert_eq!(
        live.update("autoCreateTopicEnable=false\nlistenPort=10911")
            .unwrap(),
        ["autoCreateTopicEnable"]
    );
    assert!(!live.load().auto_create_topic_enable);
    let error = live
        .update("autoCreateTopicEnable=true\nlistenPort=1")
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "request: listenPort is read at start only; change it in the configuration and restart"
    );
    assert!(!live.load().auto_create_topic_enable);
    assert!(live.update("nope=1").is_err());
    assert_eq!(
        live.update("autoCreateTopicEnable=true\naclEnable=true")
            .unwrap_err()
            .to_string(),
        "request: aclEnable has no effect: this broker has no access control"
    );
    assert!(!live.load().auto_create_topic_enable);
}

#[test]
fn the_configuration_page_is_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page::markdown(),
        "docs/configuration.md is stale; rewrite it with: cargo run -p rocket-broker -- config --markdown > docs/configuration.md"
    );
}
