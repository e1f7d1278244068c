//! mqadmin 5.4.0, run by people and scripts: what it prints has to be what it prints of Apache's cluster.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use conformance::facts::Facts;
use conformance::process::scratch;
use conformance::programs::{Programs, java, programs_or_skip};

use crate::cluster::{Cluster, cluster};
use crate::runs::Client;

const PATIENCE: Duration = Duration::from_mins(2);

/// In this order, in one JVM; `NS`, `BROKER` and `CLUSTER` stand for the cluster under test.
const COMMANDS: [&str; 11] = [
    "clusterList -n NS",
    "updateTopic -n NS -c CLUSTER -t adm_topic -r 4 -w 4",
    "topicRoute -n NS -t adm_topic",
    "sendMessage -n NS -t adm_topic -p hello -k key1 -c tag1",
    "topicStatus -n NS -t adm_topic",
    "topicList -n NS",
    "consumeMessage -n NS -t adm_topic",
    "updateSubGroup -n NS -c CLUSTER -g adm_group",
    "brokerStatus -n NS -b BROKER",
    "deleteTopic -n NS -c CLUSTER -t adm_topic",
    "topicRoute -n NS -t adm_topic -l",
];

fn run(programs: &Programs, cluster: &Cluster, commands: &[&str]) -> anyhow::Result<Vec<String>> {
    let (ns, broker) = (cluster.namesrv().to_string(), cluster.broker().to_string());
    let line = |c: &&str| {
        c.replace("NS", &ns)
            .replace("BROKER", &broker)
            .replace("CLUSTER", "DefaultCluster")
            .replace(' ', "\t")
            + "\n"
    };
    let mut command = java(
        &programs.apache,
        256,
        &scratch("mqadmin")?,
        &BTreeMap::new(),
    );
    let facts = Facts::of(
        command.arg("Admin"),
        &commands.iter().map(line).collect::<String>(),
        PATIENCE,
    )?;
    let outputs: Vec<String> = facts
        .all()
        .iter()
        .filter_map(|f| f["output"].as_str())
        .map(str::to_owned)
        .collect();
    anyhow::ensure!(
        outputs.len() == commands.len(),
        "{} of {} commands ran: {}",
        outputs.len(),
        commands.len(),
        facts.complaint()
    );
    Ok(outputs)
}

/// What a command of the shared run printed, and the cluster.
fn printed(command: &str) -> Option<(String, &'static Cluster)> {
    static RUN: OnceLock<Result<Vec<String>, String>> = OnceLock::new();
    let programs = programs_or_skip(&format!("mqadmin {command}"))?;
    let cluster = cluster(programs);
    let outputs = RUN
        .get_or_init(|| run(programs, cluster, &COMMANDS).map_err(|e| format!("{e:#}")))
        .as_ref()
        .unwrap();
    let at = COMMANDS.iter().position(|c| *c == command).unwrap();
    Some((outputs[at].clone(), cluster))
}

fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

#[test]
fn cluster_list_shows_the_broker() {
    let Some((text, cluster)) = printed("clusterList -n NS") else {
        return;
    };
    assert_contains(&text, &["DefaultCluster", &cluster.broker().to_string()]);
    let row = text
        .lines()
        .find(|l| l.starts_with("DefaultCluster"))
        .unwrap();
    assert_eq!(
        row.split_whitespace().nth(2),
        Some("0"),
        "broker id of the master in: {row}"
    );
}

#[test]
fn a_topic_is_created_routed_and_listed() {
    let Some((text, cluster)) = printed("updateTopic -n NS -c CLUSTER -t adm_topic -r 4 -w 4")
    else {
        return;
    };
    let broker = cluster.broker().to_string();
    assert_contains(
        &text,
        &[
            &format!("create topic to {broker} success."),
            "readQueueNums=4, writeQueueNums=4, perm=RW-",
        ],
    );
    let (route, _) = printed("topicRoute -n NS -t adm_topic").unwrap();
    assert_contains(
        &route,
        &[
            &broker,
            "\"readQueueNums\":4",
            "\"writeQueueNums\":4",
            "\"perm\":6",
            "DefaultCluster",
        ],
    );
    let (list, _) = printed("topicList -n NS").unwrap();
    assert!(list.lines().any(|l| l == "adm_topic"), "{list}");
}

#[test]
fn a_message_is_sent_counted_and_shown() {
    let Some((sent, _)) = printed("sendMessage -n NS -t adm_topic -p hello -k key1 -c tag1") else {
        return;
    };
    assert_contains(&sent, &["SEND_OK"]);
    let id = sent
        .lines()
        .find(|l| l.contains("SEND_OK"))
        .and_then(|l| l.split_whitespace().last())
        .unwrap();
    let (status, _) = printed("topicStatus -n NS -t adm_topic").unwrap();
    let rows: Vec<Vec<&str>> = status
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().collect())
        .filter(|r: &Vec<&str>| r.len() >= 4)
        .collect();
    let bounds: Vec<(u32, u32)> = rows
        .iter()
        .filter_map(|r| Some((r[2].parse().ok()?, r[3].parse().ok()?)))
        .collect();
    assert_eq!(bounds.len(), 4, "{status}");
    assert_eq!(
        bounds.iter().fold((0, 0), |s, b| (s.0 + b.0, s.1 + b.1)),
        (0, 1),
        "{status}"
    );
    let (shown, _) = printed("consumeMessage -n NS -t adm_topic").unwrap();
    assert_contains(&shown, &[id, "KEYS=key1", "TAGS=tag1", "topic='adm_topic'"]);
}

#[test]
fn broker_status_tells_of_the_store() {
    let Some((text, _)) = printed("brokerStatus -n NS -b BROKER") else {
        return;
    };
    for key in [
        "brokerVersionDesc",
        "bootTimestamp",
        "runtime",
        "putTps",
        "getTotalTps",
        "commitLogMaxOffset",
        "commitLogMinOffset",
    ] {
        assert!(
            text.lines().any(|l| l.starts_with(key) && l.contains(':')),
            "no {key} in:\n{text}"
        );
    }
}

#[test]
fn a_subscription_group_is_created() {
    let Some((text, cluster)) = printed("updateSubGroup -n NS -c CLUSTER -g adm_group") else {
        return;
    };
    assert_contains(
        &text,
        &[
            &format!("create subscription group to {} success.", cluster.broker()),
            "groupName=adm_group",
        ],
    );
}

#[test]
fn a_deleted_topic_has_no_route() {
    let Some((text, _)) = printed("deleteTopic -n NS -c CLUSTER -t adm_topic") else {
        return;
    };
    assert_contains(
        &text,
        &[
            "delete topic [adm_topic] from cluster [DefaultCluster] success.",
            "delete topic [adm_topic] from NameServer success.",
        ],
    );
    let (route, _) = printed("topicRoute -n NS -t adm_topic -l").unwrap();
    assert_contains(
        &route,
        &[
            "CODE: 17",
            "No topic route info in name server for the topic: adm_topic",
        ],
    );
}

#[test]
fn consumer_progress_tells_what_a_group_has_read() {
    let client = Client::Java5_4_0;
    if client.facts("mqadmin consumerProgress").is_none() {
        return;
    }
    let programs = programs_or_skip("mqadmin consumerProgress").unwrap();
    let command = format!("consumerProgress -n NS -g {}_cluster", client.prefix());
    let text = &run(programs, cluster(programs), &[&command]).unwrap()[0];
    let topic = format!("{}_cluster", client.prefix());
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|l| l.split_whitespace().collect())
        .filter(|r: &Vec<&str>| r.first() == Some(&topic.as_str()))
        .collect();
    assert_eq!(rows.len(), 4, "{text}");
    let (mut written, mut read) = (0, 0);
    for row in rows {
        written += row[3].parse::<u32>().unwrap();
        read += row[4].parse::<u32>().unwrap();
        assert_eq!(row[5], "0", "{text}");
    }
    assert_eq!((written, read), (50, 50), "{text}");
}
