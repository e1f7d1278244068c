//! Built objects, one snapshot per shape of cluster, and what must hold for every shape.

use rocket_api::{Flush, GroupRule, ReplicationMode, RocketCluster, label};
use serde_json::json;

use super::*;
use crate::address::Home;
use crate::names::CONFIG_HASH;
use crate::observe::Observed;
use crate::validate::{Settings, validate};

const QUICKSTART: &str = include_str!("../../../examples/quickstart.yaml");
const PRODUCTION: &str = include_str!("../../../examples/production.yaml");
const EVERYTHING: &str = include_str!("testdata/everything.yaml");

/// A cluster whose masters are fixed, whoever began it: an operator that has others elect changes no byte of it.
fn cluster(yaml: &str) -> ValidatedCluster {
    let mut cluster: RocketCluster = serde_yaml::from_str(yaml).unwrap();
    cluster.metadata.namespace = Some("mq".into());
    cluster.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
    let settings = Settings {
        elections: false,
        ..Settings::default()
    };
    validate(&cluster, &Observed::default(), &settings).unwrap()
}

fn objects(yaml: &str) -> Vec<Desired> {
    build(
        &cluster(yaml),
        &Present {
            pod_monitors: true,
            ..Present::default()
        },
    )
}

fn text(objects: &[Desired]) -> String {
    objects.iter().fold(String::new(), |text, object| {
        text + "---\n" + &serde_yaml::to_string(&object.object).unwrap() + "\n"
    })
}

#[test]
fn quickstart() {
    insta::assert_snapshot!(text(&objects(QUICKSTART)));
}

/// Only what differs between groups is worth reading twice, so one group of the three is shown.
#[test]
fn production() {
    let all = objects(PRODUCTION);
    let shown: Vec<Desired> = all
        .into_iter()
        .filter(|object| {
            !object.key.1.starts_with("orders-1") && !object.key.1.starts_with("orders-2")
        })
        .collect();
    insta::assert_snapshot!(text(&shown));
}

#[test]
fn everything_set() {
    insta::assert_snapshot!(text(&objects(EVERYTHING)));
}

/// What differs in a cluster whose groups elect: the record, the rights, the file, the way in, the pods.
#[test]
fn elected() {
    let kinds = [
        Kind::BrokerGroup,
        Kind::Role,
        Kind::ConfigMap,
        Kind::NetworkPolicy,
        Kind::PodDisruptionBudget,
        Kind::StatefulSet,
    ];
    let mut shown = electing_objects();
    shown.retain(|object| {
        kinds.contains(&object.key.0) && !object.key.1.starts_with("elected-namesrv")
    });
    insta::assert_snapshot!(text(&shown));
}

fn electing() -> ValidatedCluster {
    let cluster = json!({"apiVersion": "rocketcluster.io/v1alpha1", "kind": "RocketCluster", "metadata": {"name": "elected", "namespace": "mq", "uid": "11111111-2222-3333-4444-555555555555"}, "spec": {"groups": {"replicas": 3}}});
    let settings = Settings {
        elections: true,
        ..Settings::default()
    };
    let cluster = serde_json::from_value(cluster).unwrap();
    validate(&cluster, &Observed::default(), &settings).unwrap()
}

fn electing_objects() -> Vec<Desired> {
    let claim = ("data-elected-0-0".to_owned(), "uid-of-claim".to_owned());
    let present = Present {
        claims: [(0, vec![claim])].into(),
        strained: [0].into(),
        ..Present::default()
    };
    build(&electing(), &present)
}

#[test]
fn service_of_a_group_that_elects_leads_where_the_operator_says_if_it_may() {
    let home = Home {
        pod: "elected-0-1".into(),
        uid: "p".into(),
        ip: "10.0.0.2".into(),
        node: Some("n1".into()),
    };
    let address = Address { epoch: 3, home };
    let present = Present {
        addresses: Some([(0, address)].into()),
        ..Present::default()
    };
    let find = |present: &Present, kind, name: &str| {
        let mut objects = build(&electing(), present).into_iter();
        let found = objects.find(|object| object.key == (kind, name.to_owned()));
        found.map(|object| object.object)
    };
    let service = find(&present, Kind::Service, "elected-0").unwrap();
    let slice = find(&present, Kind::EndpointSlice, "elected-0-master").unwrap();
    let labels = &slice["metadata"]["labels"];
    assert_eq!(labels[label::SERVICE], service["metadata"]["name"]);
    let ports = &service["spec"]["ports"];
    assert_eq!(slice["ports"][0]["name"], ports[0]["name"]);
    let endpoint = &slice["endpoints"][0];
    assert_eq!(endpoint["addresses"], json!(["10.0.0.2"]));
    assert_eq!(endpoint["conditions"]["ready"], true);
    // Were a pod found by the selector, Kubernetes would lead there too.
    let role = &service["spec"]["selector"][label::ROLE];
    assert!(role != label::ROLE_MASTER && role != label::ROLE_STANDBY);
    let refused = Present::default();
    let service = find(&refused, Kind::Service, "elected-0").unwrap();
    assert_eq!(service["spec"]["selector"][label::ROLE], label::ROLE_MASTER);
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
    assert_eq!(
        find(&refused, Kind::EndpointSlice, "elected-0-master"),
        None
    );
}

/// Neither a full disk, which keeps its pod from being ready, nor an operator that is away may hide a master.
#[test]
fn fixed_master_is_reached_by_its_name_ready_or_not() {
    let mut cluster = cluster(QUICKSTART);
    cluster.masters = vec![Some(2)];
    let mut objects = build(&cluster, &Present::default()).into_iter();
    let service = objects.find(|object| object.key == (Kind::Service, "quickstart-0".into()));
    let spec = &service.unwrap().object["spec"];
    let selector = json!({
        label::CLUSTER: "quickstart",
        label::COMPONENT: label::COMPONENT_BROKER,
        label::GROUP: "0",
        label::POD_NAME: "quickstart-0-2",
    });
    assert_eq!(spec["selector"], selector);
    assert_eq!(spec["publishNotReadyAddresses"], true);
}

#[test]
fn another_number_of_replicas_or_copies_or_other_modes_restart_no_broker_that_elects() {
    let template = |change: &dyn Fn(&mut ValidatedCluster)| {
        let mut cluster = electing();
        change(&mut cluster);
        let objects = build(&cluster, &Present::default());
        let set = objects
            .into_iter()
            .find(|object| object.key == (Kind::StatefulSet, "elected-0".into()));
        set.unwrap().object["spec"]["template"].clone()
    };
    let before = template(&|_| {});
    assert_eq!(
        before,
        template(&|cluster| cluster.spec.groups.replicas = 5)
    );
    assert_eq!(before, template(&|cluster| cluster.min_in_sync = 3));
    let unflushed = |cluster: &mut ValidatedCluster| cluster.spec.flush = Flush::Async;
    assert_eq!(before, template(&unflushed));
    assert_eq!(
        before,
        template(&|cluster| cluster.spec.replication.mode = ReplicationMode::Async)
    );
    let fixed = |cluster: &mut ValidatedCluster| cluster.rule = GroupRule::Static;
    assert_ne!(
        template(&fixed),
        template(&|cluster| {
            fixed(cluster);
            unflushed(cluster);
        }),
        "a broker that stands alone reads its modes at start"
    );
    assert_eq!(before, template(&|cluster| cluster.masters = vec![Some(2)]));
    assert_ne!(
        before,
        template(&|cluster| cluster.spec.retention.hours = 1)
    );
}

/// An operator of this version restarts no pod that one of an earlier version made.
#[test]
fn file_keeps_the_name_that_an_earlier_version_gave_it_until_it_changes() {
    let mounted = |unhashed: Option<&str>, hours: i32| {
        let mut cluster = cluster(QUICKSTART);
        cluster.spec.retention.hours = hours;
        let present = Present {
            unhashed: unhashed
                .map(|hash| (0, hash.to_owned()))
                .into_iter()
                .collect(),
            ..Present::default()
        };
        let objects = build(&cluster, &present);
        let find = |kind, name: &str| {
            let mut found = objects.iter().filter(|object| object.key.0 == kind);
            found.find(|object| object.key.1.starts_with(name)).unwrap()
        };
        let set = &find(Kind::StatefulSet, "quickstart-0").object;
        let template = &set["spec"]["template"];
        let hash = template["metadata"]["annotations"][CONFIG_HASH].clone();
        let map = find(Kind::ConfigMap, "quickstart-0").key.1.clone();
        let volumes = template["spec"]["volumes"].as_array().unwrap();
        let config = volumes.iter().find(|volume| volume["name"] == "config");
        assert_eq!(config.unwrap()["configMap"]["name"], map);
        (map, hash.as_str().unwrap().to_owned())
    };
    let (map, hash) = mounted(None, 72);
    assert_eq!(map, format!("quickstart-0-config-{hash}"));
    assert_eq!(mounted(Some(&hash), 72).0, "quickstart-0-config");
    let (next, other) = mounted(Some(&hash), 1);
    assert_eq!(next, format!("quickstart-0-config-{other}"));
    assert_ne!(other, hash);
}

#[test]
fn secret_is_text_of_its_random_bytes_and_cannot_be_changed() {
    let secret = replication_secret(&electing(), &[0xa5; 32]);
    assert_eq!(secret.string_data.unwrap()["secret"], "a5".repeat(32));
    assert_eq!(secret.immutable, Some(true));
}

#[test]
fn the_same_cluster_gives_the_same_bytes() {
    assert_eq!(text(&objects(EVERYTHING)), text(&objects(EVERYTHING)));
}

#[test]
fn every_object_carries_its_owner_its_labels_and_a_hash() {
    for object in objects(EVERYTHING) {
        let metadata = &object.object["metadata"];
        assert_eq!(
            metadata["ownerReferences"][0]["uid"], "11111111-2222-3333-4444-555555555555",
            "{:?}",
            object.key
        );
        assert_eq!(
            metadata["labels"][label::MANAGED_BY],
            label::MANAGED_BY_VALUE,
            "{:?}",
            object.key
        );
        assert_eq!(
            metadata["labels"][label::CLUSTER],
            "everything",
            "{:?}",
            object.key
        );
        assert_eq!(
            metadata["annotations"][APPLIED_HASH]
                .as_str()
                .unwrap()
                .len(),
            16,
            "{:?}",
            object.key
        );
    }
}

#[test]
fn pods_meet_the_restricted_level_and_only_brokers_that_elect_get_a_token() {
    let (fixed, electing) = (objects(PRODUCTION), electing_objects());
    let sets = fixed.iter().chain(&electing);
    for object in sets.filter(|object| object.key.0 == Kind::StatefulSet) {
        let pod = &object.object["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(
            pod["automountServiceAccountToken"],
            object.key.1 == "elected-0",
            "{:?}",
            object.key
        );
    }
}

#[test]
fn a_changed_configuration_changes_the_pod_and_another_number_of_name_servers_does_not() {
    let template = |change: &dyn Fn(&mut ValidatedCluster)| {
        let mut cluster = cluster(QUICKSTART);
        change(&mut cluster);
        let objects = build(&cluster, &Present::default());
        objects
            .into_iter()
            .find(|object| object.key == (Kind::StatefulSet, "quickstart-0".into()))
            .unwrap()
            .object["spec"]["template"]
            .clone()
    };
    let before = template(&|_| {});
    assert_ne!(
        before,
        template(&|cluster| cluster.spec.retention.hours = 1)
    );
    assert_eq!(
        before,
        template(&|cluster| cluster.spec.name_servers.replicas = 5)
    );
    assert_eq!(before, template(&|cluster| cluster.spec.groups.count = 5));
    assert_eq!(
        before,
        template(&|cluster| cluster.spec.groups.storage.size = "9Gi".into())
    );
}

#[test]
fn a_program_is_told_to_end_before_it_is_killed() {
    for (period, grace) in [(1, "1"), (2, "1"), (12, "11"), (60, "55"), (3600, "3595")] {
        let mut cluster = cluster(QUICKSTART);
        cluster.spec.pod_template.termination_grace_period_seconds = period;
        let mut objects = build(&cluster, &Present::default());
        objects.retain(|object| object.key.0 == Kind::StatefulSet);
        assert_eq!(objects.len(), 2);
        for object in objects {
            let pod = &object.object["spec"]["template"]["spec"];
            let args = pod["containers"][0]["args"].as_array().unwrap();
            let place = args.iter().position(|arg| arg == "--grace").unwrap();
            assert_eq!(args[place + 1], grace, "{period}");
            assert_eq!(pod["terminationGracePeriodSeconds"], period);
        }
    }
}

#[test]
fn a_value_cannot_bring_in_another_key() {
    let mut cluster = cluster(QUICKSTART);
    cluster.spec.config = [
        ("a".to_owned(), "x\\".to_owned()),
        ("b".to_owned(), "y".to_owned()),
    ]
    .into();
    let text = super::broker_conf::broker(&cluster, 0, Some(0));
    assert!(text.ends_with("a=x\\\\\nb=y\n"), "{text}");
}
